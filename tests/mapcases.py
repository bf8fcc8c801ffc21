"""Maps, masks and cases that the tests of map metrics share."""

import torch
from torch import Tensor

from xbench.contracts import Case
from xbench.streams import Streams

SIZES = [(9, 7), (12, 12), (17, 20)]


def names(n: int) -> list[str]:
    return [f"image-{i}" for i in range(n)]


def noise(n: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Signed maps with distinct values."""
    return torch.randn(n, height, width, generator=torch.Generator().manual_seed(seed))


def blobs(n: int, height: int, width: int, seed: int = 0) -> Tensor:
    """One rectangle a mask, neither empty nor full, at varying places."""
    generator = torch.Generator().manual_seed(seed)
    masks = torch.zeros(n, height, width, dtype=torch.bool)
    for mask in masks:
        top = int(torch.randint(0, height - 3, (1,), generator=generator))
        left = int(torch.randint(0, width - 3, (1,), generator=generator))
        mask[top : top + 3, left : left + 2] = True
        mask[top, left] = False
    return masks


def case(maps: Tensor, truth: Tensor | None = None, **more: object) -> Case:
    """A case of a metric that looks at maps and masks only."""
    n = maps.shape[0]
    fields = {
        "model": None,
        "images": torch.zeros(n, 3, *maps.shape[1:]),
        "targets": torch.zeros(n, dtype=torch.long),
        "maps": maps,
        "explain": None,
        "image_ids": names(n),
        "truth": truth,
    }
    return Case(**{**fields, **more})


def streams(n: int, scope: str = "test", seed: int = 0) -> Streams:
    return Streams(seed=seed, image_ids=names(n), scope=scope)


def score(metric: object, maps: Tensor, truth: Tensor | None = None, seed: int = 0) -> Tensor:
    """Values of a metric, float64 (N,)."""
    return metric.score(case(maps, truth), streams=streams(len(maps), seed=seed)).values


def compare(metric: object, first: Tensor, second: Tensor) -> Tensor:
    """Values of a pair metric, float64 (N,)."""
    return metric.compare(first, second, streams=streams(len(first))).values


def transforms() -> dict[str, object]:
    """What a card may claim to be invariant to, by name."""
    return {
        "monotone": lambda maps: torch.where(maps > 0, 3 * maps, maps).double().exp(),
        "scale": lambda maps: 7.5 * maps,
        "shift": lambda maps: maps + 2.0,
        "sign": lambda maps: -maps,
    }
