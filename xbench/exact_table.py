"""Which methods recover which structure: maps against the exact attribution of closed-form nets."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from xbench.contracts import Method, Samples
from xbench.errors import XbenchError
from xbench.explaining import explain_samples
from xbench.models.exact import STRUCTURES, ExactCase, exact_case, exact_classifier, gather
from xbench.registry import Chosen
from xbench.statistics.intervals import mean_interval

TRUTH = "truth"
"""Name of the row that holds the exact attribution itself."""

_ZERO = 1e-6
Interval = tuple[float, float, float]


@dataclass(frozen=True)
class ExactRow:
    """How well one method recovers one structure.

    Attributes:
        structure: one of `STRUCTURES`.
        method: its label, or "truth".
        correlation: mean and 95 % interval over images of Pearson's r between the map, summed over
            cells, and the exact Shapley values; 1 is perfect, a random map gets 0, NaN where the
            map is flat. For `blind`: 1 where the map is zero everywhere, else 0.
        found: the same for the relevant set: the share of the |R| cells of largest magnitude that
            are relevant, rescaled so that a random map gets 0 and a perfect one 1.
        undefined: images whose map is flat over the cells.
        reason: why there are no values, a sentence, or empty.
    """

    structure: str
    method: str
    correlation: Interval
    found: Interval
    undefined: int = 0
    reason: str = ""


def exact_table(
    methods: Sequence[Chosen[Method]],
    *,
    structures: Sequence[str] = tuple(STRUCTURES),
    images: int = 32,
    seed: int = 0,
) -> list[ExactRow]:
    """One row a structure and method, the truth first.

    Args:
        methods: from `METHODS.select`.
        structures: which closed-form networks.
        images: images a structure.
        seed: of the images and of stochastic methods.
    """
    rows: list[ExactRow] = []
    for structure in structures:
        case = exact_case(structure, list(range(images)), seed=seed)
        rows.append(_row(structure, TRUTH, case, case.maps))
        rows += [_method_row(structure, method, case, seed) for method in methods]
    return rows


def _method_row(structure: str, method: Chosen[Method], case: ExactCase, seed: int) -> ExactRow:
    model = exact_classifier(structure, batch_size=256)
    samples = Samples(
        images=case.images,
        labels=case.targets,
        ids=[f"exact-{structure}-{number:06d}" for number in range(len(case.targets))],
        truth=case.truth,
    )
    missing = (float("nan"),) * 3
    try:
        maps = explain_samples(model, samples, method, case.targets, seed)
    except XbenchError as error:
        return ExactRow(structure, method.label, missing, missing, reason=str(error))
    except Exception as error:  # a method that breaks takes only its own row with it
        reason = f"{type(error).__name__}: {error}"
        return ExactRow(structure, method.label, missing, missing, reason=reason)
    return _row(structure, method.label, case, maps)


def _row(structure: str, label: str, case: ExactCase, maps: Tensor) -> ExactRow:
    if structure == "blind":
        silent = (maps.flatten(1).abs().amax(dim=1) <= _ZERO).double()
        interval = mean_interval(silent.numpy())
        return ExactRow(structure, label, interval, interval)
    sums = gather(maps.cpu()).flatten(1)
    r = correlations(sums, case.cells.flatten(1))
    found = relevant_found(sums, case.relevant.flatten(1))
    return ExactRow(
        structure,
        label,
        mean_interval(r.numpy()),
        mean_interval(found.numpy()),
        undefined=int(r.isnan().sum()),
    )


def correlations(first: Tensor, second: Tensor) -> Tensor:
    """Pearson's r of rows, float64 (N,); NaN where a row is flat.

    >>> correlations(torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([[1.0, 3.0, 5.0]])).item()
    1.0
    """
    a, b = (x.double() - x.double().mean(dim=1, keepdim=True) for x in (first, second))
    spread_a, spread_b = a.norm(dim=1), b.norm(dim=1)
    flat = (spread_a <= 1e-9 * first.double().norm(dim=1)) | (spread_b == 0)
    r = (a * b).sum(dim=1) / (spread_a * spread_b)
    r = r.round(decimals=12)  # equal up to rounding is equal
    found: Tensor = r.masked_fill(flat, float("nan"))
    return found


def relevant_found(values: Tensor, relevant: Tensor) -> Tensor:
    """Share of the relevant entries among as many of largest magnitude, 0 chance, 1 all; (N,).

    Entries that tie at the border count with the share of them that fits.

    >>> relevant_found(torch.tensor([[0.1, -2.0, 1.0, 0.0]]), torch.tensor([[0, 1, 1, 0]]) > 0)
    tensor([1.], dtype=torch.float64)
    """
    size = values.abs().double()
    size = torch.where(size <= 1e-9 * size.amax(dim=1, keepdim=True), 0, size)
    count = relevant.sum(dim=1, keepdim=True)
    border = size.sort(dim=1, descending=True).values.gather(1, (count - 1).clamp(min=0))
    above, level = size > border, size == border
    room = (count - above.sum(dim=1, keepdim=True)).double() / level.sum(dim=1, keepdim=True)
    hits = ((above + level * room) * relevant).sum(dim=1)
    share, chance = hits / count[:, 0], count[:, 0] / values.shape[1]
    found: Tensor = (share - chance) / (1 - chance)
    return found


def exact_markdown(rows: Sequence[ExactRow]) -> str:
    """The rows as one Markdown table: a line a method, a column a structure.

    Each cell reads correlation / relevant set found; `flat` stands for a map without contrast
    between cells on every image, a dash for a method that cannot run on these networks.
    """
    structures = list(dict.fromkeys(row.structure for row in rows))
    methods = list(dict.fromkeys(row.method for row in rows))
    by_place = {(row.method, row.structure): row for row in rows}
    lines = [
        "| method | " + " | ".join(structures) + " |",
        "|---|" + "---|" * len(structures),
    ]
    for method in methods:
        cells = [_cell(by_place.get((method, structure))) for structure in structures]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(row: ExactRow | None) -> str:
    if row is None or row.reason:
        return "–"
    correlation, found = row.correlation[0], row.found[0]
    shown = "flat" if math.isnan(correlation) else f"{correlation:.2f}"
    return f"{shown} / {found:.2f}"
