"""Baselines that attributions are measured against, and the completeness that follows from them."""

from typing import Literal

import torch
from torch import Tensor

from xbench.classifier import Classifier
from xbench.operations.pixels import blur_sigma, fill, gaussian_blur
from xbench.streams import Streams

Baseline = Literal["mean", "black", "white", "gray", "blur", "random", "gaussian"]
RandomBaseline = Literal["random", "gaussian", "color", "blur", "shuffle"]

FIXED = ("mean", "black", "white", "gray", "blur")


def normalization_mean(model: Classifier) -> Tensor:
    """The color that the model sees as zero, (C,)."""
    return torch.tensor(model.normalization.mean)


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
        return fill(images, how, mean=normalization_mean(model), streams=streams)
    kind = "uniform" if how == "random" else how
    return fill(images, kind, streams=streams.scoped(f"{streams.scope}/baseline{draw}"))


def sampled_baselines(
    model: Classifier, images: Tensor, how: str, streams: Streams, draw: int
) -> Tensor:
    """One draw from a reference distribution, (N, C, H, W).

    Args:
        model: gives the mean color.
        images: (N, C, H, W).
        how: "random" and "gaussian" noise; "color", one uniform random color; "blur", the image
            blurred by a sigma drawn up to 20 at 224 pixels; "shuffle", the image's own pixels in
            random order.
        streams: one stream an image.
        draw: which of several baselines.
    """
    own = streams.scoped(f"{streams.scope}/baseline{draw}")
    channels, height, width = images.shape[1:]
    if how == "color":
        return own.uniform((channels, 1, 1), "color").to(images).expand_as(images).contiguous()
    if how == "blur":
        sigmas = (own.uniform((1,), "sigma")[:, 0] * blur_sigma(images)).clamp(min=0.1).tolist()
        pairs = zip(images.split(1), sigmas, strict=True)
        return torch.cat([gaussian_blur(image, sigma) for image, sigma in pairs])
    if how == "shuffle":
        order = own.permutation(height * width, "shuffle").to(images.device)
        order = order[:, None].expand(-1, channels, -1)
        return images.flatten(2).gather(2, order).view_as(images)
    return baselines(model, images, how, streams, draw)


def difference(model: Classifier, images: Tensor, references: Tensor, targets: Tensor) -> Tensor:
    """f(x) - mean_k f(x'_k) of the target logit, float64 (N,).

    Args:
        model: the classifier f.
        images: x, (N, C, H, W).
        references: x', (N, C, H, W) or (N, K, C, H, W).
        targets: int64 (N,).
    """
    count = references.shape[1] if references.ndim == 5 else 1
    flat = references.reshape(-1, *images.shape[1:])
    own = model.logits(images).double().gather(1, targets[:, None])[:, 0]
    owners = torch.arange(len(images), device=images.device).repeat_interleave(count)
    other = model.logits(flat).double().gather(1, targets[owners, None])[:, 0]
    return own - other.view(-1, count).mean(dim=1)


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
