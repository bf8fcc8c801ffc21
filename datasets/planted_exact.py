"""Images of the closed-form networks, with the cells that their logit depends on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from xbench.contracts import Dataset, DatasetCard, Geometry, Samples, Source
from xbench.errors import DataError, ParameterError
from xbench.models.exact import CELL, CLASS_NAMES, GRID, STRUCTURES, exact_case
from xbench.registry import DATASETS
from xbench.streams import seed_of

_SIDE = CELL * GRID


@DATASETS.register
@dataclass(frozen=True)
class PlantedExact(Dataset):
    """32x32 images of colored cells for `--model exact:NAME`; the truth is the relevant cells.

    See `xbench.models.exact` for the networks and their exact attribution.

    Attributes:
        structure: "linear", "and", "or", "xor", "saturating", "distractor", "color", "blind" or
            "places"; the model must be the one of the same name.
        count: number of images.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="planted-exact",
        summary="Images for the closed-form networks exact:NAME, whose attribution is known.",
        argument="NAME",
        layout="nothing on disk",
        truth="the cells that the logit depends on",
    )

    structure: str = "linear"
    count: int = 64

    def __post_init__(self) -> None:
        if self.structure not in STRUCTURES:
            raise ParameterError(
                f"planted-exact takes {', '.join(STRUCTURES)}, not '{self.structure}'."
            )
        if self.count < 1:
            raise ParameterError(f"planted-exact[count=...] is positive, not {self.count}.")

    def open(
        self, geometry: Geometry, *, limit: int | None, seed: int, classes: int | None = None
    ) -> Source:
        """See `Dataset.open`; the first `limit` images, whatever the seed.

        Raises:
            DataError: the model is none of the closed-form networks.
        """
        if geometry.crop not in (None, (_SIDE, _SIDE)) or classes not in (None, len(CLASS_NAMES)):
            raise DataError(
                f"planted-exact:{self.structure} belongs to --model exact:{self.structure}; "
                "its cells mean nothing to another network."
            )
        return PlantedExactSource(self.structure, min(self.count, limit or self.count))


class PlantedExactSource(Source):
    """Opened images of one closed-form network.

    Args:
        structure: which one.
        count: how many.
    """

    def __init__(self, structure: str, count: int) -> None:
        self.name = f"planted-exact:{structure}"
        self.structure = structure
        self.ids = [f"exact-{structure}-{number:06d}" for number in range(count)]
        self.labels = exact_case(structure, list(range(count))).targets.tolist()
        self.class_names = list(CLASS_NAMES)
        first = exact_case(structure, [0]).images
        self.digest = f"{seed_of(structure, count, first.numpy().tobytes().hex()):016x}"

    def read(self, indices: Sequence[int]) -> Samples:
        """The images at these positions, in this order."""
        case = exact_case(self.structure, [int(index) for index in indices])
        return Samples(
            images=case.images,
            labels=case.targets,
            ids=[self.ids[index] for index in indices],
            truth=case.truth,
            truth_defined=case.truth.flatten(1).any(dim=1),
        )
