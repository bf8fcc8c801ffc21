"""Removing image patches from a transformer by leaving their tokens out, not by painting them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from torch import Tensor, nn

from xbench.errors import UnsupportedError

if TYPE_CHECKING:
    from xbench.classifier import Classifier

_HALF = 0.5


class TokenMask:
    """Which tokens the batch under way does without; attention reads it.

    Args:
        grid: rows and columns of patches.
        prefix: leading tokens that stand for no place; they always stay.
    """

    def __init__(self, grid: tuple[int, int], prefix: int) -> None:
        self.grid = grid
        self.prefix = prefix
        self._drop: Tensor | None = None

    def set(self, drop: Tensor) -> None:
        """Leave out the patches of which at least half of the pixels are dropped.

        Args:
            drop: bool (B, 1, H, W).
        """
        share = F.adaptive_avg_pool2d(drop.float(), self.grid)
        self._drop = F.pad((share >= _HALF).flatten(1), (self.prefix, 0), value=False)

    def of(self, tokens: Tensor) -> Tensor:
        """The mask of the tokens (B, L, D) that reach an attention module, bool (B, L).

        Raises:
            UnsupportedError: attention over something else than all patches.
        """
        drop = self._drop
        if drop is None or tokens.ndim != 3 or tuple(tokens.shape[:2]) != tuple(drop.shape):
            raise UnsupportedError(
                "Tokens cannot be dropped: attention does not run over all patches at once."
            )
        return drop


@contextmanager
def dropping_tokens(model: "Classifier", images: Tensor) -> Iterator[TokenMask]:
    """Inside the block, attention ignores the tokens that the mask names.

    A token that no other token attends to, the class token included, is as good as removed.

    Args:
        model: a vision transformer with a class token whose attention is torch's
            `MultiheadAttention`, or takes an `attn_mask` like timm's.
        images: any images of the right shape.

    Raises:
        UnsupportedError: the model is no such transformer.
    """
    layer = model.find_layer("last_conv", images)
    if layer is None or layer.layout != "tokens":
        raise UnsupportedError("Tokens can only be dropped from a vision transformer.")
    pooled = getattr(model.module, "global_pool", "token") not in ("token", "")
    if layer.prefix == 0 or pooled:
        raise UnsupportedError(
            "Tokens cannot be dropped: the model averages over patches instead of reading a class "
            "token."
        )
    mask = TokenMask(layer.grid, layer.prefix)
    handles = []
    for child in model.module.modules():
        if isinstance(child, nn.MultiheadAttention):
            hook = _torch_hook(mask)
        elif "Attention" in type(child).__name__ and hasattr(child, "qkv"):
            hook = _timm_hook(mask)
        else:
            continue
        handles.append(child.register_forward_pre_hook(hook, with_kwargs=True))
    try:
        if not handles:
            raise UnsupportedError("Tokens cannot be dropped: the attention modules are unknown.")
        yield mask
    finally:
        for handle in handles:
            handle.remove()


def _torch_hook(mask: TokenMask) -> Any:
    def hook(_: nn.Module, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
        query = arguments[0] if arguments else named["query"]
        return arguments, {**named, "key_padding_mask": mask.of(query)}

    return hook


def _timm_hook(mask: TokenMask) -> Any:
    def hook(_: nn.Module, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
        keep = ~mask.of(arguments[0])[:, None, None, :]
        return arguments, {**named, "attn_mask": keep}

    return hook
