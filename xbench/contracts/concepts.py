"""Masks of many concepts, kept as maps of label numbers and drawn when asked for."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LabelName:
    """What a label number stands for.

    Attributes:
        name: of the concept.
        kind: the category under which it is shown: "object", "color", "texture" ...
    """

    name: str
    kind: str


class ConceptMasks(Mapping[str, Tensor]):
    """Masks bool (N, H, W) by name of the concept, each drawn when it is read.

    Attributes:
        maps: label numbers int16 (N, L, H, W), 0 where there is none.
        whole: label numbers int16 (N, S) that stand for all of an image, 0 for none.
        kinds: the kind of each concept by name.
        known: bool (N,) by kind: images on which concepts of that kind were labeled at all.
    """

    def __init__(
        self,
        maps: Tensor,
        whole: Tensor,
        labels: Mapping[int, LabelName],
        known: Mapping[str, Tensor],
    ) -> None:
        self.maps = maps
        self.whole = whole
        self.known = dict(known)
        self._area = _areas(maps, whole)
        self._numbers = _by_name({n: labels[n] for n in sorted(labels) if self._pixels(n)})
        self.kinds = {name: labels[number].kind for name, number in self._numbers.items()}

    def __getitem__(self, name: str) -> Tensor:
        number = self._numbers[name]
        mask = (self.maps == number).any(dim=1)
        mask |= (self.whole == number).any(dim=1)[:, None, None]
        return mask

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)

    def coverage(self) -> dict[str, float]:
        """The share of all pixels of all images that each concept covers."""
        height, width = self.maps.shape[2:]
        pixels = len(self.maps) * height * width
        return {name: min(1.0, self._pixels(n) / pixels) for name, n in self._numbers.items()}

    def _pixels(self, number: int) -> int:
        return int(self._area[number]) if 0 < number < len(self._area) else 0

    def only(self, names: Sequence[str]) -> "ConceptMasks":
        """The same with some of the concepts."""
        wanted = set(names)
        kept = {
            number: LabelName(name, self.kinds[name])
            for name, number in self._numbers.items()
            if name in wanted
        }
        return ConceptMasks(self.maps, self.whole, kept, self.known)


def _areas(maps: Tensor, whole: Tensor) -> Tensor:
    """Pixels by label number, image after image to keep memory small."""
    count = 1 + int(max(maps.max(), whole.max())) if len(maps) else 1
    height, width = maps.shape[2:]
    area = torch.zeros(count, dtype=torch.int64)
    for one, all_of_it in zip(maps, whole, strict=True):
        area += torch.bincount(one.flatten().int(), minlength=count)
        area += height * width * torch.bincount(all_of_it.int(), minlength=count)
    return area


def _by_name(labels: Mapping[int, LabelName]) -> dict[str, int]:
    """Numbers by name; of two alike, the later one also says its kind, or its number."""
    numbers: dict[str, int] = {}
    for number, label in labels.items():
        name = label.name if label.name not in numbers else f"{label.name} ({label.kind})"
        numbers[name if name not in numbers else f"{label.name} ({number})"] = number
    return numbers
