"""Mosaics: a grid of images of known classes, so that any model has localization with a truth.

An image's evidence for its class lies in its own cell. Partners come from a fixed pool and are
drawn by the image's own identity, so no batch neighbor changes a mosaic.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from xbench.contracts import Samples
from xbench.streams import Streams

if TYPE_CHECKING:
    from xbench.classifier import Classifier


@dataclass(frozen=True)
class Mosaics:
    """One mosaic an image.

    Attributes:
        images: (N, C, H', W'), the mosaics.
        classes: int64 (N, n * n), the class of each cell, row by row.
        own: int64 (N,), the cell of the image itself.
        complete: bool (N,), whether the pool had all partners; other rows hold repeated images.
    """

    images: Tensor
    classes: Tensor
    own: Tensor
    complete: Tensor


def confident_pool(
    model: "Classifier", samples: Samples, *, size: int = 64, enough: int = 16
) -> Samples:
    """The images of some samples that the model is sure of, as a pool of partners for mosaics.

    Images whose predicted class is their label (where known) with a probability of at least 0.9;
    where these are fewer than `enough`, at least 0.5. Calls of the model are not counted.

    Args:
        model: the classifier.
        samples: candidates, in a fixed order, for example the first 256 images of the source.
        size: at most so many, the first ones.
        enough: see above.

    Returns:
        Samples whose `labels` are the predicted classes, on the model's device.
    """
    images = samples.images.to(model.device)
    labels = samples.labels.to(model.device)
    with model.counter.paused():
        confidence, predicted = model.probabilities(images).max(dim=1)
    right = (labels < 0) | (labels == predicted)
    chosen = right & (confidence >= 0.9)
    if int(chosen.sum()) < enough:
        chosen = right & (confidence >= 0.5)
    index = chosen.nonzero()[:size, 0]
    return Samples(
        images=images[index],
        labels=predicted[index],
        ids=[samples.ids[i] for i in index.tolist()],
    )


def choose_partners(
    pool: Samples, target: int, image_id: str, order: Tensor, same: int, others: int
) -> list[int] | None:
    """Positions in the pool of an image's partners, None where it has too few.

    Args:
        pool: candidates.
        target: class of the image.
        image_id: the image itself is no partner.
        order: int64 (P,), the order in which candidates are asked.
        same: how many partners of the image's class come first.
        others: how many partners follow, each of a class of its own.
    """
    classes = pool.labels.tolist()
    alike: list[int] = []
    different: list[int] = []
    taken = {target}
    for candidate in order.tolist():
        if pool.ids[candidate] == image_id:
            continue
        if classes[candidate] == target:
            alike.append(candidate)
        elif classes[candidate] not in taken:
            taken.add(classes[candidate])
            different.append(candidate)
    if len(alike) < same or len(different) < others:
        return None
    return alike[:same] + different[:others]


def build_mosaics(
    images: Tensor, targets: Tensor, pool: Samples, streams: Streams, *, n: int = 2, same: int = 0
) -> Mosaics:
    """A mosaic of n x n cells for every image: itself, `same` of its class, others of their own.

    Cells are in a seeded order.

    Args:
        images: (N, C, H, W) in [0, 1].
        targets: int64 (N,).
        pool: partners, of the same size.
        streams: one stream an image; draws depend on the image's identifier alone.
        n: cells a side.
        same: partners of the image's own class.
    """
    cells = n * n
    order = streams.permutation(len(pool), "partners")
    places = streams.permutation(cells, "cells").to(images.device)
    pieces, classes, complete = [], [], []
    for i, (image, target) in enumerate(zip(images, targets.tolist(), strict=True)):
        chosen = choose_partners(
            pool, target, streams.image_ids[i], order[i], same, cells - 1 - same
        )
        complete.append(chosen is not None)
        index = torch.tensor(chosen or [], dtype=torch.long, device=images.device)
        group = torch.cat([image[None], pool.images[index]])
        kinds = torch.cat([targets[i : i + 1], pool.labels[index]])
        at = places[i] if chosen is not None else torch.zeros_like(places[i])
        pieces.append(group[at])
        classes.append(kinds[at])
    return Mosaics(
        images=tile(torch.stack(pieces)),
        classes=torch.stack(classes),
        own=(places == 0).int().argmax(dim=1),
        complete=torch.tensor(complete, device=images.device),
    )


def tile(cells: Tensor) -> Tensor:
    """Cells (N, n * n, C, H, W), row by row, as one image (N, C, n H, n W)."""
    count, total, channels, height, width = cells.shape
    n = round(total**0.5)
    grid = cells.view(count, n, n, channels, height, width).permute(0, 3, 1, 4, 2, 5)
    return grid.reshape(count, channels, n * height, n * width)


def untile(images: Tensor, n: int) -> Tensor:
    """The cells (N, n * n, C, H / n, W / n) of images (N, C, H, W); the inverse of `tile`."""
    count, channels, height, width = images.shape
    grid = images.view(count, channels, n, height // n, n, width // n).permute(0, 2, 4, 1, 3, 5)
    return grid.reshape(count, n * n, channels, height // n, width // n)


def shrink(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Images at another size by area averages, (N, C, *size)."""
    return F.interpolate(images, size=size, mode="area")


def cell_masks(n: int, height: int, width: int) -> Tensor:
    """Where each cell of an n x n mosaic lies, bool (n * n, height, width), row by row."""
    rows = torch.arange(height) * n // height
    columns = torch.arange(width) * n // width
    number = rows[:, None] * n + columns
    return number == torch.arange(n * n)[:, None, None]
