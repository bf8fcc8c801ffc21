"""Mosaics: localization with a truth on any labeled images, for a team's own model.

Each image stands in a grid with confident images of other classes; evidence for its class lies in
its own cell. The runner supplies the pool of partners, `Case.pool`; which of them an image meets,
and in which cell, depends on its identifier alone.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from xbench.classifier import Classifier
from xbench.classifier.disconnected import disconnect
from xbench.contracts import Case, Metric, MetricCard, Scores, TruthMethod
from xbench.errors import ParameterError, UnsupportedError
from xbench.operations.mosaics import Mosaics, build_mosaics, cell_masks, shrink
from xbench.registry import METRICS
from xbench.streams import Streams

from ._removal import clean_outputs, targets_key
from ._truth import positive_share

Cells = Literal["full", "shrunk"]
_NEEDS = ("model", "explain", "pool")
_REASON = (
    "the model is not sure of the image, the pool has no partners for it, or the maps of the "
    "mosaic have no positive value"
)


@dataclass(frozen=True)
class MosaicMetric(Metric):
    """Share of the positive mass of a mosaic's map that lies in the right cells.

    Attributes:
        n: cells a side.
        confidence: images whose target has a lower probability are undefined; the papers ask for
            0.99, which few images of a run reach.
        cells: "full" keeps the size of the images, so the mosaic is n times larger; "shrunk" keeps
            the size of the input, for models that take no other.
    """

    n: int = 2
    confidence: float = 0.5
    cells: Cells = "full"

    same: ClassVar[int] = 0

    def __post_init__(self) -> None:
        if self.n < 2:
            raise ParameterError(f"{self.card.name}[n=...] is the cells a side, at least 2.")
        if not 0 <= self.confidence < 1:
            raise ParameterError(f"{self.card.name}[confidence=...] is a probability below 1.")

    @abstractmethod
    def shares(self, case: Case, mosaics: Mosaics) -> Tensor:
        """Share of each explained map in the right cells, float64 (N, maps), NaN without mass."""

    def supports(self, case: Case) -> str | None:
        """Refuses runs without a pool of images that the model is sure of."""
        if case.pool is None or len(case.pool) == 0:
            return "The run has no images that the model is sure of, to build mosaics with."
        return None

    def score(self, case: Case, *, streams: Streams) -> Scores:
        """Mean share over the maps explained of each image's mosaic."""
        sure = clean_outputs(case).probability[:, 0]
        mosaics = self.mosaics(case, streams.shared())
        shares = self.shares(case, mosaics)
        empty = shares.isnan()
        values = shares.masked_fill(empty, 0.0).mean(dim=1)
        undefined = (sure.to(empty.device) < self.confidence) | ~mosaics.complete | empty.all(dim=1)
        return Scores.of(values.masked_fill(undefined, torch.nan), reason=_REASON)

    def mosaics(self, case: Case, streams: Streams) -> Mosaics:
        """The mosaics of the case's images, built once for all methods and metrics."""
        pool = case.pool
        assert pool is not None
        draws = (streams.seed, streams.repetition, *pool.ids)
        key = ("mosaics", self.n, self.cells, self.same, draws, targets_key(case))

        def compute() -> Mosaics:
            built = build_mosaics(
                case.images, case.targets, pool, streams, n=self.n, same=self.same
            )
            if self.cells == "full":
                return built
            size = (case.images.shape[2], case.images.shape[3])
            return Mosaics(shrink(built.images, size), built.classes, built.own, built.complete)

        found: Mosaics = case.bank.get(key, compute)
        return found


@METRICS.register
@dataclass(frozen=True)
class GridPg(MosaicMetric):
    """Grid pointing game: mean over the cells of the share of the cell's own class map inside it.

    For each cell k with class c_k: L_k = sum_{p in k} A+_p(c_k) / sum_p A+_p(c_k). A map without
    positive values has L_k = 0, as in the paper; an image all of whose maps are so is undefined.
    A map that is the same for every class scores exactly 1 / n^2.
    """

    card: ClassVar[MetricCard] = MetricCard(
        name="gridpg",
        summary="Share of the positive mass in the own cell of a 2x2 mosaic of confident images.",
        paper="Bohle et al. 2021, Convolutional dynamic alignment networks; Rao et al. 2022",
        limitations="Mosaics are unlike training images; needs images that the model is sure of.",
        property="localization",
        direction="higher",
        range=(0.0, 1.0),
        needs=_NEEDS,
        forwards="1",
        shared="1",
        explains="n ** 2",
        invariances=("scale",),
        chance="1 / n^2, exactly for maps that do not depend on the class",
    )

    def supports(self, case: Case) -> str | None:
        """Refuses runs without a pool, and models that do not take the mosaic's size."""
        return super().supports(case) or _size_refusal(case, self)

    def shares(self, case: Case, mosaics: Mosaics) -> Tensor:
        """One map a cell."""
        return _own_cells(case, mosaics, mosaics.classes, None)


@METRICS.register
@dataclass(frozen=True)
class DiFull(MosaicMetric):
    """GridPG on a network of n x n disconnected copies, where other cells cannot matter at all.

    The logit of cell k is computed from cell k alone, so any positive mass elsewhere is wrong by
    construction: gradients score 1, methods that pool weights over the whole map leak.
    """

    card: ClassVar[MetricCard] = MetricCard(
        name="difull",
        summary="Share of the positive mass in the only cell that can influence the logit.",
        paper="Rao et al. 2022, Towards better understanding attribution methods",
        limitations="All of n x n cells are asked for; the paper asks for two corners. Tests that "
        "a method follows the computation, not that it explains a decision.",
        property="localization",
        direction="higher",
        range=(0.0, 1.0),
        needs=_NEEDS,
        forwards="1",
        shared="1",
        explains="n ** 2",
        invariances=("scale",),
        chance="1 / n^2, exactly for maps that do not depend on the class",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cells != "full":
            raise ParameterError(
                "difull gives each cell a network of its own; leave cells at full."
            )

    def supports(self, case: Case) -> str | None:
        """Refuses runs without a pool, and networks that cannot be taken apart."""
        try:
            self._network(case)
        except UnsupportedError as error:
            return str(error)
        return super().supports(case)

    def shares(self, case: Case, mosaics: Mosaics) -> Tensor:
        """One map a cell, of the disconnected network."""
        network, classes = self._network(case), case.model.classes(case.images)
        heads = torch.arange(self.n**2, device=case.images.device) * classes
        return _own_cells(case, mosaics, mosaics.classes + heads, network)

    def _network(self, case: Case) -> Classifier:
        found: Classifier = case.bank.get(
            ("disconnected", self.n), lambda: disconnect(case.model, case.images, self.n)
        )
        return found


@METRICS.register
@dataclass(frozen=True)
class Focus(MosaicMetric):
    """Focus: positive relevance in the cells of the target class over all positive relevance.

    The mosaic of 2 x 2 holds the image, another one of its class, and two of other classes.
    """

    same: ClassVar[int] = 1

    card: ClassVar[MetricCard] = MetricCard(
        name="focus",
        summary="Share of the positive mass in the two cells of the target class, of four.",
        paper="Arias-Duart et al. 2022, Focus! Rating XAI methods and finding biases",
        limitations="Needs two confident images of a class; undefined where a class has one.",
        property="localization",
        direction="higher",
        range=(0.0, 1.0),
        needs=_NEEDS,
        forwards="1",
        shared="1",
        explains="1",
        invariances=("scale",),
        chance="1/2",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n != 2:
            raise ParameterError("focus is defined for 2 x 2 cells; leave n at 2.")

    def supports(self, case: Case) -> str | None:
        """Refuses runs without a pool, and models that do not take the mosaic's size."""
        return super().supports(case) or _size_refusal(case, self)

    def shares(self, case: Case, mosaics: Mosaics) -> Tensor:
        """One map a mosaic, of the image's own class."""
        masks = cell_masks(2, *mosaics.images.shape[2:]).to(case.images.device)
        target = (mosaics.classes == case.targets[:, None]).to(masks.dtype)
        region = (target[:, :, None, None] & masks).any(dim=1)
        maps = _explained(case, mosaics.images, case.targets, region, None)
        return positive_share(maps, region)[:, None]


def _size_refusal(case: Case, metric: MosaicMetric) -> str | None:
    """Why a mosaic of full-size cells cannot be classified, found by trying a blank one."""
    if metric.cells == "shrunk":
        return None

    def attempt() -> str | None:
        height, width = case.images.shape[2:]
        blank = case.images.new_zeros(1, case.images.shape[1], metric.n * height, metric.n * width)
        try:
            with case.model.counter.paused():
                case.model.logits(blank)
        except (RuntimeError, AssertionError):
            return (
                "The model takes images of one size only; use "
                f"{metric.card.name}[cells=shrunk], which keeps that size."
            )
        return None

    found: str | None = case.bank.get(("mosaic", "refusal", metric.card.name, metric.n), attempt)
    return found


def _own_cells(case: Case, mosaics: Mosaics, targets: Tensor, model: Classifier | None) -> Tensor:
    """For every cell, the share of the map of its target inside it, float64 (N, n * n)."""
    count, cells = targets.shape
    masks = cell_masks(round(cells**0.5), *mosaics.images.shape[2:]).to(case.images.device)
    shares = []
    for cell in range(cells):
        region = masks[cell].expand(count, -1, -1)
        maps = _explained(case, mosaics.images, targets[:, cell], region, model)
        shares.append(positive_share(maps, region))
    return torch.stack(shares, dim=1)


def _explained(
    case: Case, images: Tensor, targets: Tensor, region: Tensor, model: Classifier | None
) -> Tensor:
    """Maps of mosaics; controls that are made from the truth are given the right cells."""
    if isinstance(case.method, TruthMethod):
        return case.method.from_truth(region)
    return case.explain(images, model=model, targets=targets, call="mosaic")
