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

_MOST_PREFIXES = 16  # class, distillation and register tokens


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
        grid = tokens.reshape(len(tokens), height, width, tokens.shape[2])  # no -1: may be no rows
        return grid.permute(0, 3, 1, 2)
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
    patches = next((output for _, _, output in order if output.ndim == 4), None)
    layers: dict[str, Layer] = {}
    outputs: dict[str, int] = {}
    for position, (name, child, output) in enumerate(order):
        layout, grid, prefix = _layout(output, sample, attention, patches)
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

    The last output with places, larger than one pixel, that no pooling made, whether a leaf gave
    it or a block (which may join branches, or end in a function); of the modules that hand on the
    same tensor the outermost one that ran once.
    """
    kinds = dict(module.named_modules())
    spatial = _unpooled(kinds, traced)
    if not spatial:
        return None
    last = max(spatial, key=lambda layer: layer.order)
    if last.layout == "tokens":
        return _last_tokens(kinds, traced, last)
    same = [
        layer
        for layer in spatial
        if traced.outputs[layer.name] == traced.outputs[last.name] and layer.calls == 1
    ]
    return min(same, key=lambda layer: layer.name.count(".")) if same else last


def stages(module: nn.Module, traced: Trace) -> list[Layer]:
    """The last feature maps of each resolution, from fine to coarse.

    Outputs inside a block that changes the resolution are left out, since the block may carry
    others around them.
    """
    kinds = dict(module.named_modules())
    grids = {layer.name: layer.grid for layer in traced.layers}
    found: dict[tuple[int, int], Layer] = {}
    for layer in sorted(_unpooled(kinds, traced), key=lambda layer: layer.order):
        if layer.calls == 1 and not _inside_another_grid(layer, kinds, grids):
            found[layer.grid] = layer
    last = last_spatial(module, traced)
    if last is not None:
        found[last.grid] = last
    return sorted(found.values(), key=lambda layer: layer.order)


def _unpooled(kinds: dict[str, nn.Module], traced: Trace) -> list[Layer]:
    """Layers whose output has places and was not made by pooling."""
    pooled = {
        traced.outputs[layer.name]
        for layer in traced.layers
        if isinstance(kinds[layer.name], _POOLS)
    }
    return [
        layer
        for layer in traced.layers
        if layer.grid not in ((0, 0), (1, 1)) and traced.outputs[layer.name] not in pooled
    ]


def _inside_another_grid(
    layer: Layer, kinds: dict[str, nn.Module], grids: dict[str, tuple[int, int]]
) -> bool:
    parts = layer.name.split(".")
    outer = [".".join(parts[:end]) for end in range(1, len(parts))]
    return any(
        type(kinds[name]) is not nn.Sequential
        and grids.get(name, (0, 0)) not in ((0, 0), layer.grid)
        for name in outer
    )


def _last_tokens(kinds: dict[str, nn.Module], traced: Trace, leaf: Layer) -> Layer:
    """For transformers: the first normalization of the last block, whose tokens still mix.

    After the last attention only the class token may reach the head, so later layers may have
    no gradient in the places of the image.
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


def _layout(
    output: Tensor, sample: Tensor, attention: bool, patches: Tensor | None
) -> tuple[str, tuple[int, int], int]:
    """Layout, grid and number of leading tokens of one output; `patches` is the first map."""
    height, width = sample.shape[-2:]
    if output.ndim == 4:
        a, b, c = output.shape[1:]
        if attention and not _is_grid(b, c, height, width) and _is_grid(a, b, height, width):
            return "nhwc", (a, b), 0
        if attention and _is_grid(a, b, height, width) and c > max(a, b) and c >= 8 * b:
            return "nhwc", (a, b), 0
        return "nchw", (b, c), 0
    if output.ndim == 3 and attention and output.shape[0] == sample.shape[0]:
        grid, prefix = _token_layout(output.shape[1], sample, patches)
        if grid != (0, 0):
            return "tokens", grid, prefix
    return "flat", (0, 0), 0


def _token_layout(
    tokens: int, sample: Tensor, patches: Tensor | None
) -> tuple[tuple[int, int], int]:
    """Grid of the tokens and how many lead; by the patch embedding's own grid where it fits."""
    if patches is not None:
        rows, columns = patches.shape[-2:]
        if 0 <= tokens - rows * columns <= _MOST_PREFIXES:
            return (rows, columns), tokens - rows * columns
    for prefix in (0, 1, 2, 5):
        grid = _token_grid(tokens - prefix, sample.shape[-2] / sample.shape[-1])
        if grid is not None:
            return grid, prefix
    return (0, 0), 0


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
