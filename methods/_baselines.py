"""Baselines that attributions are measured against, and the completeness that follows from them."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from xbench.classifier import Classifier
from xbench.operations.imputers import mean_color
from xbench.operations.pixels import blur_sigma, fill, gaussian_blur
from xbench.streams import Streams

Baseline = Literal["mean", "black", "white", "gray", "blur", "random", "gaussian"]
RandomBaseline = Literal["random", "gaussian", "color", "blur", "shuffle"]

FIXED = ("mean", "black", "white", "gray", "blur")


def baselines(
    model: Classifier, images: Tensor, how: str, streams: Streams, draw: int = 0
) -> Tensor:
    """One baseline an image, (N, C, H, W), from the image and its stream alone.

    Args:
        model: gives the mean color.
        images: (N, C, H, W).
        how: "mean" (the normalization mean: zero for the network), "black", "white", "gray",
            "blur" (sigma 20 at 224 pixels); or drawn anew for every `draw`: "random" (uniform
            noise), "gaussian" (around gray).
        streams: one stream an image.
        draw: which of several baselines.
    """
    if how in FIXED:
        return fill(images, how, mean=mean_color(model), streams=streams)
    kind = "uniform" if how == "random" else how
    return fill(images, kind, streams=streams.scoped(f"{streams.scope}/baseline{draw}"))


def sampled_baselines(
    model: Classifier,
    images: Tensor,
    how: str,
    streams: Streams,
    owners: Tensor,
    draws: Tensor,
) -> Tensor:
    """Draws from a reference distribution, one a row, (B, C, H, W).

    Args:
        model: gives the mean color.
        images: (N, C, H, W).
        how: "random" and "gaussian" noise; "color", one uniform random color; "blur", the image
            blurred by a sigma drawn up to 20 at 224 pixels; "shuffle", the image's own pixels in
            random order.
        streams: one stream an image.
        owners: int64 (B,), the image of each row.
        draws: int64 (B,), which of its baselines.
    """
    rows = [
        _sampled(model, images[owner : owner + 1], how, streams.select([owner]), draw)
        for owner, draw in zip(owners.tolist(), draws.tolist(), strict=True)
    ]
    return torch.cat(rows)


def _sampled(model: Classifier, image: Tensor, how: str, streams: Streams, draw: int) -> Tensor:
    own = streams.scoped(f"{streams.scope}/baseline{draw}")
    channels, height, width = image.shape[1:]
    if how == "color":
        return own.uniform((channels, 1, 1), "color").to(image).expand_as(image)
    if how == "blur":
        sigma = float(own.uniform((1,), "sigma")) * blur_sigma(image)
        return gaussian_blur(image, max(sigma, 0.1))
    if how == "shuffle":
        order = own.permutation(height * width, "shuffle")[0].to(image.device)
        return image.flatten(2)[:, :, order].view_as(image)
    return baselines(model, image, how, streams, draw)


def difference(
    model: Classifier,
    images: Tensor,
    start: Tensor | Callable[[Tensor, Tensor], Tensor],
    targets: Tensor,
    draws: int = 1,
) -> Tensor:
    """f(x) - mean_k f(x'_k) of the target logit, float64 (N,); 1 + draws forwards an image.

    Args:
        model: the classifier f.
        images: x, (N, C, H, W).
        start: x', (N, C, H, W), or a function of (owners (B,), draws (B,)).
        targets: int64 (N,).
        draws: baselines an image.
    """

    def build(index: Tensor) -> Tensor:
        owner, draw = index // draws, index % draws
        return start[owner] if isinstance(start, Tensor) else start(owner, draw)

    own = model.logits(images).double().gather(1, targets[:, None])[:, 0]
    logits = model.rows(len(images) * draws, build, like=images).double()
    other = logits.gather(1, targets.repeat_interleave(draws)[:, None])
    return own - other.view(-1, draws).mean(dim=1)


def relative_residual(maps: Tensor, delta: Tensor, pooling: str) -> Tensor:
    """|sum of the map - delta| / |delta|, float64 (N,); NaN where delta is 0 or the sum is lost.

    Args:
        maps: (N, H, W), pooled by `pooling`.
        delta: float64 (N,), what the map promises to sum to.
        pooling: only "sum" keeps the promise.

    >>> relative_residual(torch.ones(1, 2, 2), torch.tensor([5.0]).double(), "sum").item()
    0.2
    """
    if pooling != "sum":
        return torch.full_like(delta, float("nan"))
    error = (maps.double().sum(dim=(1, 2)) - delta).abs() / delta.abs()
    return error.masked_fill(delta == 0, float("nan"))
