"""Maps from the attention of vision transformers: raw, rolled out, weighed by gradients.

Symbols: A_b are the attention weights of block b (rows are queries), r a row of relevance over
tokens that starts at the tokens the logits are read from (the class token, or all of them in equal
shares) and is handed down block by block. In Swin the weights act within shifted windows, and a
merged token hands its relevance in equal shares to the four it came from; padding holds none.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from xbench.classifier import Classifier
from xbench.contracts import Method, MethodCard
from xbench.errors import ParameterError, UnsupportedError
from xbench.registry import METHODS
from xbench.streams import Streams

from ._attention import attention, reaching, refuse_without_attention
from ._cam import to_pixels
from ._tokens import Site, finer, through, token_map

Heads = Literal["mean", "max", "min"]


def fuse_heads(site: Site, how: str) -> Tensor:
    """One matrix a window, (N, windows, T, T), whose rows sum to 1 over tokens that are real."""
    weights = site.weights
    if how == "mean":
        fused = weights.mean(dim=2)
    else:
        fused = weights.amax(dim=2) if how == "max" else weights.amin(dim=2)
    fused = fused * (site.windows.index >= 0)[:, None, :]
    total = fused.sum(dim=-1, keepdim=True)
    return fused / total.masked_fill(total == 0, 1.0)


def _check_heads(name: str, heads: str) -> None:
    if heads not in get_args(Heads):
        raise ParameterError(f"{name}[heads=...] is mean, max or min, not '{heads}'.")


@METHODS.register
@dataclass(frozen=True)
class RawAttention(Method):
    """L = r A_b for one block: where the tokens that the logits are read from look.

    Attributes:
        block: which block, negative from the end.
        heads: how heads become one: "mean", "max" or "min" (rows scaled to sum to 1 again).
    """

    card: ClassVar[MethodCard] = MethodCard(
        name="raw_attention",
        summary="Attention of the class token in one block.",
        paper="Dosovitskiy et al. 2021, An Image is Worth 16x16 Words",
        limitations="Blind to the class, to the values and to all other blocks. As coarse as the "
        "tokens.",
        family="attention",
        needs=("attention",),
        signed=False,
        class_agnostic=True,
        forwards="1",
    )
    block: int = -1
    heads: Heads = "mean"

    def __post_init__(self) -> None:
        """Refuses other words."""
        _check_heads("raw_attention", self.heads)

    def supports(self, model: Classifier) -> str | None:
        """Refuses models without attention."""
        return refuse_without_attention(model)

    def explain(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """Maps (N, H, W), the same for every class; one forward an image."""
        start = reaching(model, images)
        maps = []
        for _, sites, _ in attention(model, images):
            if not -len(sites) <= self.block < len(sites):
                raise UnsupportedError(
                    f"The model has {len(sites)} attention blocks; raw_attention[block=...] takes "
                    f"-{len(sites)} to {len(sites) - 1}."
                )
            site = sites[self.block]
            row = start if len(start) == site.tokens else start.new_full((site.tokens,), 1.0)
            row = (row / row.sum()).expand(site.weights.shape[0], -1)
            relevance = through(row, fuse_heads(site, self.heads), site)
            maps.append(token_map(relevance, site, model, images))
        return to_pixels(torch.cat(maps), images, relu=False)


@METHODS.register
@dataclass(frozen=True)
class AttentionRollout(Method):
    """L = r (s A_B + (1 - s) I) ... (s A_1 + (1 - s) I): attention followed through all blocks.

    Attributes:
        share: s, the part that goes through attention; the rest takes the residual connection.
        heads: how heads become one: "mean", "max" or "min" (rows scaled to sum to 1 again).
    """

    card: ClassVar[MethodCard] = MethodCard(
        name="attention_rollout",
        summary="Attention multiplied through all blocks with the residual connection.",
        paper="Abnar and Zuidema 2020, Quantifying Attention Flow in Transformers",
        limitations="Blind to the class and to the values. As coarse as the tokens.",
        family="attention",
        needs=("attention",),
        signed=False,
        class_agnostic=True,
        forwards="1",
    )
    share: float = 0.5
    heads: Heads = "mean"

    def __post_init__(self) -> None:
        """Refuses other words and shares outside (0, 1]."""
        _check_heads("attention_rollout", self.heads)
        if not 0 < self.share <= 1:
            raise ParameterError("attention_rollout[share=...] takes a number in (0, 1].")

    def supports(self, model: Classifier) -> str | None:
        """Refuses models without attention."""
        return refuse_without_attention(model)

    def explain(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """Maps (N, H, W), the same for every class; one forward an image."""
        start = reaching(model, images)
        maps = []
        for _, sites, _ in attention(model, images):
            relevance = start.expand(sites[0].weights.shape[0], -1)
            below = sites[-1]
            for site in reversed(sites):
                relevance = finer(relevance, below, site)
                handed = through(relevance, fuse_heads(site, self.heads), site)
                relevance = self.share * handed + (1 - self.share) * relevance
                below = site
            maps.append(token_map(relevance, below, model, images))
        return to_pixels(torch.cat(maps), images, relu=False)


@METHODS.register
@dataclass(frozen=True)
class AttentionGradient(Method):
    """L = r ((I + E_B) ... (I + E_1) - I), E_b = mean over heads of ReLU(dY/dA_b * A_b).

    Y is the class's raw score. Tokens keep what they have and add what they attend to, weighed by
    how much the class's score rests on that attention.
    """

    card: ClassVar[MethodCard] = MethodCard(
        name="attention_gradient",
        summary="Attention weighed by the class's gradient, followed through all blocks.",
        paper="Chefer et al. 2021, Generic Attention-model Explainability",
        limitations="Blind to the values; negative evidence is dropped. As coarse as the tokens.",
        family="attention",
        needs=("attention", "gradients"),
        signed=False,
        forwards="1",
        backwards="1",
    )

    def supports(self, model: Classifier) -> str | None:
        """Refuses models without attention."""
        return refuse_without_attention(model)

    def explain(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """Maps (N, H, W); one forward and one backward an image."""
        start = reaching(model, images)
        maps = []
        for _, sites, gradients in attention(model, images, targets):
            assert gradients is not None
            relevance, first = _weighed(start, sites, gradients)
            maps.append(token_map(relevance, first, model, images))
        return to_pixels(torch.cat(maps), images, relu=False)


def _weighed(start: Tensor, sites: list[Site], gradients: list[Tensor]) -> tuple[Tensor, Site]:
    """What attention adds to the relevance of the first block's tokens, and that block."""
    relevance = start.expand(sites[0].weights.shape[0], -1)
    kept, below = relevance, sites[-1]  # kept: the part that never went through attention
    for site, gradient in zip(reversed(sites), reversed(gradients), strict=True):
        relevance, kept = finer(relevance, below, site), finer(kept, below, site)
        evidence = (gradient * site.weights).relu().mean(dim=2)
        relevance = relevance + through(relevance, evidence, site)
        below = site
    return relevance - kept, below
