"""Tokens of transformers: where they stand, and relevance handed from token to token."""

from dataclasses import dataclass

import torch
from torch import Tensor

from xbench.classifier import Classifier
from xbench.errors import UnsupportedError


@dataclass(frozen=True)
class Windows:
    """Which token stands where in the windows that attention is confined to.

    Attributes:
        index: int64 (windows, tokens a window), position in the flattened grid, -1 for padding.
        grid: height and width of the grid, (0, 0) where all tokens attend to all.
    """

    index: Tensor
    grid: tuple[int, int]


@dataclass(frozen=True)
class Site:
    """The attention of one block.

    Attributes:
        weights: (N, windows, heads, T, T), rows are queries and sum to 1.
        windows: where the tokens stand.
    """

    weights: Tensor
    windows: Windows

    @property
    def tokens(self) -> int:
        """Tokens of the whole block, without padding."""
        height, width = self.windows.grid
        return height * width or int(self.weights.shape[-1])


def split_windows(relevance: Tensor, site: Site) -> Tensor:
    """Relevance (N, tokens) as seen in the windows, (N, windows, T); padding has none."""
    index = site.windows.index
    return relevance[:, index.clamp(min=0)] * (index >= 0)


def merge(split: Tensor, site: Site) -> Tensor:
    """The way back of `split_windows`: (N, windows, T) to (N, tokens)."""
    index = site.windows.index.flatten()
    relevance = split.new_zeros(split.shape[0], site.tokens)
    return relevance.index_add_(1, index[index >= 0], split.flatten(1)[:, index >= 0])


def through(relevance: Tensor, matrices: Tensor, site: Site) -> Tensor:
    """Relevance of a block's tokens handed to the tokens they attend to.

    Args:
        relevance: (N, tokens), a row vector for each image.
        matrices: (N, windows, T, T).
        site: where the tokens stand.

    Returns:
        relevance @ matrices, (N, tokens).
    """
    split = split_windows(relevance, site)
    return merge(torch.einsum("nwq,nwqk->nwk", split, matrices), site)


def finer(relevance: Tensor, coarse: Site, fine: Site) -> Tensor:
    """Relevance of merged tokens handed to those each came from, in equal shares."""
    if coarse.tokens == fine.tokens:
        return relevance
    (height, width), (rows, columns) = coarse.windows.grid, fine.windows.grid
    if height == 0 or rows == 0 or height != -(-rows // 2) or width != -(-columns // 2):
        raise UnsupportedError("The model changes its tokens between blocks in an unknown way.")
    tall = torch.full((height,), 2, device=relevance.device)
    wide = torch.full((width,), 2, device=relevance.device)
    tall[-1] -= rows % 2  # the last of an odd number of tokens was merged with padding
    wide[-1] -= columns % 2
    shares = relevance.view(-1, height, width) / (tall[:, None] * wide)
    return shares.repeat_interleave(tall, dim=1).repeat_interleave(wide, dim=2).flatten(1)


def token_map(relevance: Tensor, site: Site, model: Classifier, images: Tensor) -> Tensor:
    """Relevance of tokens (N, tokens) on their grid (N, h, w); class tokens are left out.

    Raises:
        UnsupportedError: the tokens form no grid.
    """
    if site.windows.grid != (0, 0):
        return relevance.view(-1, *site.windows.grid)
    for layer in model.trace(images).layers:
        if layer.layout == "tokens" and layer.shape[0] == site.tokens:
            height, width = layer.grid
            places = relevance[:, layer.prefix : layer.prefix + height * width]
            return places.reshape(-1, height, width)
    raise UnsupportedError(
        f"The model's {site.tokens} tokens form no grid on images of "
        f"{images.shape[2]}x{images.shape[3]} pixels."
    )
