"""Regions of an image (grid cells, superpixels) and the outputs of the model without some of them.

Outputs without given regions do not depend on the map: they are computed once an image through the
bank, and every method and every metric that asks for the same ones shares them.
"""

import torch
from torch import Tensor

from xbench.contracts import Case
from xbench.errors import ParameterError
from xbench.operations.imputers import check_imputer, imputed_logits
from xbench.operations.segments import segment
from xbench.operations.subsets import random_subsets, region_sums
from xbench.streams import Streams

from ._removal import Outputs, clean_outputs, draw_of, imputer_of, targets_key

NO_CORRELATION = "the map is constant or not finite, or removing pixels never changes the output"
GRID_CELLS = "min(grid, height) * min(grid, width)"


def check_grid(grid: int, imputer: str) -> None:
    """Refuse a grid without at least two cells a side, or an unknown imputer.

    Raises:
        ParameterError: with the reason.
    """
    if grid < 2:
        raise ParameterError(f"grid counts the cells of one side and is at least 2, not {grid}.")
    check_imputer(imputer)


def grid_regions(case: Case, grid: int) -> Tensor:
    """Grid cells numbered from 0, int64 (N, H, W); min(grid, H) rows, min(grid, W) columns."""
    found: Tensor = case.bank.get(
        ("regions", "grid", grid), lambda: segment(case.images, "grid", grid * grid)
    )
    return found


def superpixels(case: Case, how: str, segments: int) -> Tensor:
    """Segments of each image numbered from 0, int64 (N, H, W)."""
    found: Tensor = case.bank.get(
        ("regions", how, segments), lambda: segment(case.images, how, segments)
    )
    return found


def count_regions(regions: Tensor) -> int:
    """The largest number of regions of any image."""
    return int(regions.max()) + 1


def region_counts(regions: Tensor) -> Tensor:
    """Pixels of each region, float64 (N, M), on the CPU; 0 for regions that an image lacks."""
    ones = torch.ones(regions.shape, dtype=torch.float64)
    return region_sums(ones, regions, count_regions(regions))


def cell_sums(case: Case, maps: Tensor, grid: int) -> Tensor:
    """Sum of a map over the cells of a grid, float64 (N, cells), on the CPU."""
    regions = grid_regions(case, grid)
    return region_sums(maps, regions, count_regions(regions))


def subset_drops(
    case: Case, streams: Streams, items: int, size: int, draws: int, row: int = 0
) -> Tensor:
    """Random subsets shared by all methods and metrics, bool (N, draws, items)."""
    key = ("subsets", items, size, draws, row, streams.repetition)
    found: Tensor = case.bank.get(
        key, lambda: random_subsets(streams.shared(), items, size, draws, row)
    )
    return found


def outputs_without(
    case: Case,
    regions: Tensor,
    dropped: Tensor,
    imputer: str,
    streams: Streams,
    draw: int = 0,
) -> Outputs:
    """Outputs while sets of regions are imputed, D forwards an image; not memoized.

    Args:
        case: the case.
        regions: int64 (N, H, W).
        dropped: bool (N, D, M), the regions that go in each of the D variants.
        imputer: what takes their place.
        streams: of the metric.
        draw: which draw of the imputer's noise.
    """
    bound = imputer_of(case, imputer, streams, draw)
    device = case.images.device
    flat, sets = regions.to(device).flatten(1), dropped.to(device)
    n, d = sets.shape[:2]

    def select(index: Tensor) -> tuple[Tensor, Tensor]:
        owner = index // d
        drop = sets[owner, index % d].gather(1, flat[owner])
        return owner, drop.view(-1, 1, *case.images.shape[-2:])

    logits = imputed_logits(case.model, bound, n * d, select)
    return Outputs.of(logits.view(n, d, -1), case.targets)


def subset_logit_drops(
    case: Case,
    grid: int,
    subsets: Tensor,
    key: tuple[object, ...],
    imputer: str,
    streams: Streams,
    draw: int = 0,
) -> Tensor:
    """f(x) - f(x without the subset) of the target's logit, float64 (N, D), once for all methods.

    Args:
        case: the case.
        grid: cells a side.
        subsets: bool (N, D, cells).
        key: names the subsets.
        imputer: what takes their place.
        streams: of the metric.
        draw: which draw of the imputer's noise.
    """

    def compute() -> Outputs:
        return outputs_without(case, grid_regions(case, grid), subsets, imputer, streams, draw)

    what = draw_of(imputer, streams, draw)
    name = ("outputs", "subsets", grid, key, what, targets_key(case))
    found: Outputs = case.bank.get(name, compute)
    return clean_outputs(case).logit - found.logit


def cell_logit_drops(
    case: Case, grid: int, imputer: str, streams: Streams, draw: int = 0
) -> Tensor:
    """The drop of the target's logit without each single cell, float64 (N, cells)."""
    cells = count_regions(grid_regions(case, grid))
    single = torch.eye(cells, dtype=torch.bool).expand(len(case), -1, -1)
    return subset_logit_drops(case, grid, single, ("single",), imputer, streams, draw)


def constant_maps(maps: Tensor) -> Tensor:
    """Which maps say the same of every pixel, bool (N,), on the CPU."""
    flat = maps.flatten(1)
    return (flat.amax(dim=1) == flat.amin(dim=1)).cpu()
