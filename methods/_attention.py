"""Attention weights of any transformer, caught while it runs.

Fused kernels never form the weights. A function mode watches the calls of one forward pass: where
a fused kernel is asked for, the same attention is computed openly, and where weights are formed by
a softmax they are taken from there. Nothing in the model is changed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from xbench.classifier import Classifier
from xbench.errors import UnsupportedError

from ._tokens import Site, Windows, merge

_SOFTMAX = (torch.softmax, F.softmax, Tensor.softmax)
_READ: WeakKeyDictionary[Classifier, dict[tuple[int, ...], Tensor]] = WeakKeyDictionary()


class _Recorder(TorchFunctionMode):
    """Notes the weights of every self-attention that runs."""

    def __init__(self, grad: bool) -> None:
        super().__init__()
        self.grad = grad
        self.weights: list[tuple[Tensor, Windows | None]] = []
        self.windows: Windows | None = None

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            return self._open(*args, **kwargs)
        if func is F.multi_head_attention_forward:
            return self._multi_head(*args, **kwargs)
        output = func(*args, **kwargs)
        if func in _SOFTMAX and output.ndim == 4 and output.shape[-1] == output.shape[-2]:
            return self._note(output)
        return output

    def _note(self, weights: Tensor) -> Tensor:
        if weights.ndim != 4 or weights.shape[-1] != weights.shape[-2]:
            raise UnsupportedError(
                "The model's attention is not from tokens to the same tokens (it pools or crosses)."
            )
        if self.grad and not weights.requires_grad:
            weights = weights.detach().requires_grad_(True)
        self.weights.append((weights, self.windows))
        return weights

    def _open(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        **options: Any,
    ) -> Tensor:
        """Attention with its weights formed; dropout is 0 in eval mode."""
        if is_causal or options.get("enable_gqa"):
            raise UnsupportedError("The model's attention is causal or grouped, not that of a ViT.")
        scale = options.get("scale") or query.shape[-1] ** -0.5
        scores = query @ key.transpose(-2, -1) * scale
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            scores = scores.masked_fill(~attn_mask, float("-inf"))
        elif attn_mask is not None:
            scores = scores + attn_mask
        return self._note(scores.softmax(dim=-1)) @ value

    def _multi_head(self, *args: Any, **kwargs: Any) -> tuple[Tensor, None]:
        """`nn.MultiheadAttention` on one packed projection, as vision transformers use it."""
        query, key, value, _, heads, weight, bias, bias_k, bias_v, zero = args[:10]
        out_weight, out_bias = args[11:13]
        plain = (
            query is key
            and key is value
            and weight is not None
            and bias_k is None
            and bias_v is None
            and not zero
            and query.ndim == 3
            and kwargs.get("attn_mask") is None
            and kwargs.get("key_padding_mask") is None
        )
        if not plain:
            raise UnsupportedError(
                "The model's nn.MultiheadAttention has masks, extra keys or separate inputs; its "
                "weights cannot be taken."
            )
        tokens, batch, width = query.shape
        packed = F.linear(query, weight, bias).view(tokens, batch, 3, heads, width // heads)
        q, k, v = packed.permute(2, 1, 3, 0, 4).unbind(0)  # (N, heads, T, d)
        mixed = self._open(q, k, v).permute(2, 0, 1, 3).reshape(tokens, batch, width)
        return F.linear(mixed, out_weight, out_bias), None


def refuse_without_attention(model: Classifier) -> str | None:
    """A sentence if the model has no attention, else None."""
    for module in model.module.modules():
        if isinstance(module, nn.MultiheadAttention) or "Attention" in type(module).__name__:
            return None
    return "The model has no self-attention, so there are no attention weights to read."


@contextmanager
def _recording(model: Classifier, *, grad: bool) -> Iterator[_Recorder]:
    """Record attention inside the block; window geometry is noted by hooks, removed afterwards."""
    recorder = _Recorder(grad)

    def enter(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        recorder.windows = _windows(module, inputs[0])

    def leave(*_: object) -> None:
        recorder.windows = None

    with ExitStack() as stack:
        for module in model.module.modules():
            if hasattr(module, "window_size") and hasattr(module, "shift_size"):
                stack.callback(module.register_forward_pre_hook(enter).remove)
                stack.callback(module.register_forward_hook(leave).remove)
        stack.enter_context(recorder)
        yield recorder


def _windows(module: nn.Module, x: Tensor) -> Windows:
    """Where the tokens of a grid (N, H, W, C) go, by sending their numbers the same way."""
    height, width = int(x.shape[1]), int(x.shape[2])
    rows, columns = (int(size) for size in module.window_size)  # type: ignore[union-attr]
    shift = [int(size) for size in module.shift_size]  # type: ignore[union-attr]
    numbers = torch.arange(height * width, device=x.device).view(height, width)
    pad = (0, -width % columns, 0, -height % rows)
    if type(module).__name__.startswith("ShiftedWindow"):  # torchvision pads, then shifts
        numbers = F.pad(numbers, pad, value=-1)
        shift[0] = 0 if rows >= numbers.shape[0] else shift[0]
        shift[1] = 0 if columns >= numbers.shape[1] else shift[1]
        numbers = numbers.roll((-shift[0], -shift[1]), (0, 1))
    else:  # timm shifts, then pads
        numbers = F.pad(numbers.roll((-shift[0], -shift[1]), (0, 1)), pad, value=-1)
    blocks = numbers.unflatten(1, (-1, columns)).unflatten(0, (-1, rows)).transpose(1, 2)
    return Windows(blocks.reshape(-1, rows * columns), (height, width))


def attention(
    model: Classifier, images: Tensor, targets: Tensor | None = None
) -> Iterator[tuple[slice, list[Site], list[Tensor] | None]]:
    """Attention of every block in order, a batch at a time.

    Args:
        model: the classifier.
        images: (N, C, H, W).
        targets: int64 (N,); with them the gradients of the raw score for the weights come too.

    Yields:
        The slice of the images, the sites, and their gradients (None without targets).

    Raises:
        UnsupportedError: no self-attention ran, or it is of another kind.
    """
    size = model.size("forward" if targets is None else "backward", images)
    for start in range(0, images.shape[0], size):
        piece = slice(start, start + size)
        with torch.set_grad_enabled(targets is not None):
            with _recording(model, grad=targets is not None) as recorder:
                logits = model.network(images[piece])
            noted = recorder.weights
            if not noted:
                raise UnsupportedError(
                    "No attention weights were formed in the model's forward pass."
                )
            gradients = None
            if targets is not None:
                scores = logits.gather(1, targets[piece, None])
                gradients = list(torch.autograd.grad(scores.sum(), [w for w, _ in noted]))
        sites = [_site(w.detach(), windows, logits.shape[0]) for w, windows in noted]
        if gradients is not None:
            gradients = [g.view_as(s.weights) for g, s in zip(gradients, sites, strict=True)]
        yield piece, sites, gradients


def _site(weights: Tensor, windows: Windows | None, images: int) -> Site:
    if windows is None:
        whole = torch.arange(weights.shape[-1], device=weights.device)[None]
        windows = Windows(whole, (0, 0))
    count = windows.index.shape[0]
    if weights.shape[0] != images * count or windows.index.shape[1] != weights.shape[-1]:
        raise UnsupportedError("The model's attention runs in windows of an unknown layout.")
    return Site(weights.view(images, count, *weights.shape[1:]), windows)


def reaching(model: Classifier, images: Tensor) -> Tensor:
    """The tokens of the last block that the logits are read from, each with an equal share.

    Found by differentiating, since class tokens, distillation tokens and averages look alike from
    outside: a query that no logit depends on has no gradient. One image once a model and shape,
    not counted.

    Returns:
        float32 (tokens,), sums to 1.
    """
    known = _READ.setdefault(model, {})
    shape = tuple(images.shape[1:])
    if shape not in known:
        known[shape] = _reaching(model, images)
    return known[shape]


def _reaching(model: Classifier, images: Tensor) -> Tensor:
    with model.counter.paused(), torch.enable_grad():
        with _recording(model, grad=True) as recorder:
            logits = model.network(images[:1])
        if not recorder.weights:
            raise UnsupportedError("No attention weights were formed in the model's forward pass.")
        weights, windows = recorder.weights[-1]
        mix = torch.arange(logits.shape[1], device=logits.device).cos()
        (gradient,) = torch.autograd.grad((logits * mix).sum(), weights)
    site = _site(gradient.detach(), windows, 1)
    read = site.weights.abs().amax(dim=(2, 4))[0]  # (windows, T)
    total = merge(read[None], site)[0]
    share = (total > 1e-6 * total.amax()).float()
    if not bool(total.amax() > 0):
        share = torch.ones_like(total)
    return share / share.sum()
