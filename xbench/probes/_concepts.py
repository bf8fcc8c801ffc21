"""Concepts as masks: colors from pixels, shapes from labeled masks, textures of planted scenes."""

from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from xbench.classifier import Classifier
from xbench.contracts import ConceptMasks, Samples
from xbench.errors import ParameterError
from xbench.probes._edits import COLORS, SHAPES, Edit
from xbench.registry import DATASETS
from xbench.streams import seed_of

TEXTURES = ("stripes across", "stripes down", "checks", "dots")
PLAIN = ("red", "green", "blue", "yellow", "magenta", "cyan")
_UNIONS = ("others",)  # masks of several things at once, no concept
_RARE = 1e-3  # share of all pixels below which a concept cannot be found
_SATURATION, _DARK, _BRIGHT = 0.25, 0.2, 0.8
_HUES = {"red": 0, "yellow": 60, "green": 120, "cyan": 180, "blue": 240, "magenta": 300}


@dataclass(frozen=True)
class Concepts:
    """Images with the masks of concepts.

    Attributes:
        images: float32 (N, C, H, W) in [0, 1].
        masks: bool (N, H, W) by name.
        kinds: "shape", "color", "texture", "object" ... by name.
        labeled: bool (N,) by name: images on which the concept's mask is known.
    """

    images: Tensor
    masks: Mapping[str, Tensor]
    kinds: Mapping[str, str]
    labeled: Mapping[str, Tensor] = field(default_factory=dict)


def color_masks(images: Tensor) -> dict[str, Tensor]:
    """Pixels of each color: six hues where saturated enough, dark and bright where not."""
    top, low = images.amax(dim=1), images.amin(dim=1)
    span = top - low
    if images.shape[1] == 1:
        return {"dark": top < _DARK, "bright": top > _BRIGHT}
    red, green, blue = images.unbind(dim=1)
    safe = span.clamp(min=1e-6)
    hue = torch.where(
        top == red,
        (green - blue) / safe % 6,
        torch.where(top == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    colored = (span / top.clamp(min=1e-6) > _SATURATION) & (top > _DARK)
    found = {}
    for name, angle in _HUES.items():
        away = (hue * 60 - angle + 180) % 360 - 180
        found[name] = colored & (away.abs() <= 30)
    found["dark"] = top <= _DARK
    found["bright"] = ~colored & (low > _BRIGHT)
    return found


def concepts_of(
    samples: Samples, class_names: Sequence[str], drawn: ConceptMasks | None = None
) -> Concepts:
    """Concepts of read images.

    Args:
        samples: the images; where they have masks, the labels name objects, and further masks too.
        class_names: names of the labels.
        drawn: masks of every concept that the source knows by name; they replace those of the
            samples, and the colors read from pixels where some of them are colors.
    """
    if drawn is not None:
        return _drawn(samples, drawn)
    masks = dict(color_masks(samples.images))
    kinds = dict.fromkeys(masks, "color")
    if samples.truth is not None:
        for label in sorted(set(samples.labels.tolist()) - {-1}):
            name = class_names[label] if label < len(class_names) else f"class {label}"
            rows = (samples.labels == label)[:, None, None]
            masks[name], kinds[name] = samples.truth & rows, "object"
        for name, mask in samples.extras.items():
            if name not in _UNIONS:
                masks[name], kinds[name] = mask.bool(), "object"
    kept = {name: mask for name, mask in masks.items() if float(mask.float().mean()) > _RARE}
    return Concepts(samples.images, kept, {name: kinds[name] for name in kept})


def _drawn(samples: Samples, drawn: ConceptMasks) -> Concepts:
    kept = [name for name, share in drawn.coverage().items() if share > _RARE]
    masks: Mapping[str, Tensor] = drawn.only(kept)
    kinds = {name: drawn.kinds[name] for name in masks}
    known = {name: drawn.known[kind] for name, kind in kinds.items() if kind in drawn.known}
    if "color" not in kinds.values():
        found = color_masks(samples.images)
        colors = {name: mask for name, mask in found.items() if float(mask.float().mean()) > _RARE}
        masks = ChainMap(colors, masks)  # type: ignore[arg-type]
        kinds |= dict.fromkeys(colors, "color")
    return Concepts(samples.images, masks, kinds, known)


def opened(
    spec: str, option: str, model: Classifier, limit: int, seed: int
) -> tuple[Samples, ConceptMasks | None, Sequence[str]]:
    """So many images of a data set with the concepts that it names, and the names of its labels.

    Args:
        spec: such as voc:DIR.
        option: where it was written, for the sentence.
        model: whose input the images are brought to.
        limit, seed: which of them.

    Raises:
        XbenchError: no such data set, or nothing in it.
    """
    if spec.partition(":")[0].partition("[")[0].strip() not in DATASETS:
        raise ParameterError(
            f"{option} has no data set '{spec}'; write one such as broden:DIR, voc:DIR or "
            "images:DIR (see `xbench datasets`; words of a file need --clip)."
        )
    source = DATASETS.create(spec).value.open(model.geometry, limit=limit, seed=seed)
    rows = range(len(source))
    names = source.class_names or model.class_names
    return source.read(rows), source.concepts(rows), names


def scenes(count: int, height: int, width: int, channels: int, seed: int) -> Concepts:
    """Planted scenes: three patches each, of one shape, color and texture drawn independently.

    Args:
        count: number of scenes.
        height, width, channels: of the images.
        seed: another seed, other scenes.
    """
    images = torch.empty(count, channels, height, width)
    shapes: dict[str, Tensor] = {}
    for number in range(count):
        generator = torch.Generator().manual_seed(seed_of("concepts", seed, number))
        level = float(torch.rand(1, generator=generator)) * 0.4 + 0.3
        images[number] = level + 0.03 * torch.randn(1, height, width, generator=generator)
        for _ in range(3):
            _patch(images, shapes, number, generator)
    images = images.clamp(0, 1)
    masks = {**shapes, **color_masks(images)}
    kinds = {
        name: "shape" if name in SHAPES else "texture" if name in TEXTURES else "color"
        for name in masks
    }
    kept = {name: mask for name, mask in masks.items() if float(mask.float().mean()) > _RARE}
    return Concepts(images, kept, {name: kinds[name] for name in kept})


def _patch(
    images: Tensor, masks: dict[str, Tensor], number: int, generator: torch.Generator
) -> None:
    """Draw one patch into a scene; whatever it covers belongs to no concept any more."""
    count, channels, height, width = images.shape

    def draw(high: int) -> int:
        return int(torch.randint(high, (1,), generator=generator))

    side = round(min(height, width) * (0.25 + 0.2 * float(torch.rand(1, generator=generator))))
    top, left = draw(height - side + 1), draw(width - side + 1)
    shape, color = SHAPES[draw(len(SHAPES))], COLORS[PLAIN[draw(len(PLAIN))]]
    inside = Edit("paste", (left, top, left + side, top + side), shape).mask(height, width)
    tint = torch.tensor(color)
    tint = tint.mean().expand(channels) if channels == 1 else tint
    images[number][:, inside] = tint[:, None]
    for mask in masks.values():
        mask[number] &= ~inside
    empty = torch.zeros(count, height, width, dtype=torch.bool)
    masks.setdefault(shape, empty.clone())[number] |= inside
    texture = draw(len(TEXTURES) + 1)
    if texture < len(TEXTURES):
        name = TEXTURES[texture]
        ink = inside & _pattern(name, height, width, max(2, round(min(height, width) / 32)))
        images[number][:, ink] = 1 - tint[:, None]
        masks.setdefault(name, empty.clone())[number] |= inside


def _pattern(name: str, height: int, width: int, size: int) -> Tensor:
    y, x = torch.arange(height)[:, None] // size, torch.arange(width)[None] // size
    if name == "stripes across":
        return (y % 2 == 0).expand(height, width)
    if name == "stripes down":
        return (x % 2 == 0).expand(height, width)
    if name == "checks":
        return (x + y) % 2 == 0
    return (x % 2 == 0) & (y % 2 == 0)


def shrunk(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks (N, H, W) at another size: bool where at least half of a cell is covered."""
    pooled = F.adaptive_avg_pool2d(masks[:, None].float(), size)[:, 0]
    return pooled >= 0.5


def stacked(concepts: Concepts, size: tuple[int, int]) -> Tensor:
    """All masks at one size, bool (N, K, h, w), in the order of their names."""
    return torch.stack([shrunk(mask, size) for mask in concepts.masks.values()], dim=1)


def labeled(concepts: Concepts) -> Tensor:
    """Whether each concept's mask is known on each image, bool (N, K)."""
    every = torch.ones(len(concepts.images), dtype=torch.bool)
    return torch.stack([concepts.labeled.get(name, every) for name in concepts.masks], dim=1)
