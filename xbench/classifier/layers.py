"""Layers by role: found from one forward pass, in order of execution, printable, overridable."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from xbench.errors import ModelError, UnsupportedError

_POOLS = (
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d,
    nn.LPPool2d,
    nn.FractionalMaxPool2d,
)


@dataclass(frozen=True)
class Layer:
    """One module as it ran.

    Attributes:
        name: dotted path inside the user's module.
        kind: class name of the module.
        shape: output shape without the batch.
        layout: "nchw", "nhwc", "tokens" or "flat".
        grid: height and width of the map that this layer can give, (0, 0) if none.
        prefix: leading tokens that stand for no place (class token), tokens only.
        order: position in order of execution (by completion).
        calls: how often the module ran in one forward pass.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    layout: str
    grid: tuple[int, int]
    prefix: int
    order: int
    calls: int

    @property
    def channels(self) -> int:
        """Number of feature maps."""
        return self.shape[0] if self.layout == "nchw" else self.shape[-1]


def to_nchw(output: Tensor, layer: Layer) -> Tensor:
    """A layer's output as feature maps (N, C, h, w)."""
    if layer.layout == "nchw":
        return output
    if layer.layout == "nhwc":
        return output.permute(0, 3, 1, 2)
    if layer.layout == "tokens":
        height, width = layer.grid
        tokens = output[:, layer.prefix : layer.prefix + height * width]
        return tokens.reshape(output.shape[0], height, width, -1).permute(0, 3, 1, 2)
    raise UnsupportedError(f"The layer '{layer.name}' has no spatial output.")


@dataclass
class Trace:
    """All layers of one forward pass, in order of completion."""

    layers: list[Layer]
    outputs: dict[str, int]  # layer name -> identity of its output tensor
    leaves: set[str]

    def named(self, name: str) -> Layer:
        """The layer of that dotted name.

        Raises:
            ModelError: no such layer; the message lists the candidates.
        """
        for layer in self.layers:
            if layer.name == name:
                return layer
        spatial = [layer.name for layer in self.layers if layer.grid != (0, 0)]
        raise ModelError(
            f"The model has no layer '{name}'. Layers with a spatial output: "
            f"{', '.join(spatial[-12:])}."
        )


@torch.no_grad()
def trace(module: nn.Module, sample: Tensor) -> Trace:
    """Run one image and note every module's output, in order of completion."""
    order: list[tuple[str, nn.Module, Tensor]] = []
    handles = []
    for name, child in module.named_modules():
        if name:
            handles.append(child.register_forward_hook(_note(order, name)))
    try:
        module(sample)
    finally:
        for handle in handles:
            handle.remove()
    attention = any(_is_attention(child) for child in module.modules())
    calls: dict[str, int] = {}
    for name, _, _ in order:
        calls[name] = calls.get(name, 0) + 1
    layers: dict[str, Layer] = {}
    outputs: dict[str, int] = {}
    for position, (name, child, output) in enumerate(order):
        layout, grid, prefix = _layout(output, sample, attention)
        layers.pop(name, None)
        layers[name] = Layer(
            name=name,
            kind=type(child).__name__,
            shape=tuple(output.shape[1:]),
            layout=layout,
            grid=grid,
            prefix=prefix,
            order=position,
            calls=calls[name],
        )
        outputs[name] = id(output)
    leaves = {name for name, child in module.named_modules() if not any(child.children())}
    return Trace(list(layers.values()), outputs, leaves)


def last_spatial(module: nn.Module, traced: Trace) -> Layer | None:
    """The role `last_conv`: the last feature maps before they are pooled or flattened.

    The last leaf with a spatial output larger than one pixel that is no pooling, then the
    outermost module that hands on the same tensor and ran once.
    """
    kinds = dict(module.named_modules())
    blocks = [
        layer
        for layer in traced.layers
        if layer.grid != (0, 0)
        and layer.grid != (1, 1)
        and layer.name in traced.leaves
        and not isinstance(kinds[layer.name], (*_POOLS, nn.Dropout, nn.Identity))
    ]
    if not blocks:
        return None
    leaf = max(blocks, key=lambda layer: layer.order)
    if leaf.layout == "tokens":
        return _last_tokens(kinds, traced, leaf)
    same = [
        layer
        for layer in traced.layers
        if traced.outputs[layer.name] == traced.outputs[leaf.name] and layer.calls == 1
    ]
    return min(same, key=lambda layer: layer.name.count(".")) if same else leaf


def _last_tokens(kinds: dict[str, nn.Module], traced: Trace, leaf: Layer) -> Layer:
    """For transformers: the first normalization of the last block, whose tokens still mix.

    After the last attention only the class token reaches the head, so later layers have no
    gradient in the places of the image.
    """
    attention = [
        layer
        for layer in traced.layers
        if _is_attention(kinds[layer.name]) and layer.grid != (0, 0)
    ]
    if not attention:
        return leaf
    last = max(attention, key=lambda layer: layer.order)
    before = [
        layer
        for layer in traced.layers
        if layer.order < last.order
        and isinstance(kinds[layer.name], nn.LayerNorm)
        and layer.layout == "tokens"
    ]
    return max(before, key=lambda layer: layer.order) if before else leaf


def _is_attention(module: nn.Module) -> bool:
    return isinstance(module, nn.MultiheadAttention) or "Attention" in type(module).__name__


def _note(order: list[tuple[str, nn.Module, Tensor]], name: str) -> Any:
    def hook(module: nn.Module, _: object, output: object) -> None:
        if isinstance(output, tuple) and output and isinstance(output[0], Tensor):
            output = output[0]
        if isinstance(output, Tensor):
            order.append((name, module, output))

    return hook


def _layout(output: Tensor, sample: Tensor, attention: bool) -> tuple[str, tuple[int, int], int]:
    height, width = sample.shape[-2:]
    if output.ndim == 4:
        a, b, c = output.shape[1:]
        if attention and not _is_grid(b, c, height, width) and _is_grid(a, b, height, width):
            return "nhwc", (a, b), 0
        if attention and _is_grid(a, b, height, width) and c > max(a, b) and c >= 8 * b:
            return "nhwc", (a, b), 0
        return "nchw", (b, c), 0
    if output.ndim == 3 and attention:
        tokens = output.shape[1]
        for prefix in (0, 1, 2, 5):
            grid = _token_grid(tokens - prefix, height / width)
            if grid is not None:
                return "tokens", grid, prefix
    return "flat", (0, 0), 0


def _token_grid(tokens: int, aspect: float) -> tuple[int, int] | None:
    if tokens < 1:
        return None
    rows = round(math.sqrt(tokens * aspect))
    for candidate in (rows, rows - 1, rows + 1):
        if candidate > 0 and tokens % candidate == 0:
            columns = tokens // candidate
            if abs(candidate / columns - aspect) <= 0.5 * aspect / max(1, min(candidate, columns)):
                return candidate, columns
    return None


def _is_grid(rows: int, columns: int, height: int, width: int) -> bool:
    return (
        rows <= height
        and columns <= width
        and abs(rows * width - columns * height) <= height + width
    )
