"""Closed-form networks: small modules whose exact attribution is known (`--model exact:NAME`).

All of them look at a gray-centered image z = (x - 0.5) / 0.5 in [-1, 1] cut into cells of 8x8
pixels, and read the mean of each cell. The players of the attribution game are the cells; an
absent cell is mid-gray (z = 0), which is also the normalization mean, the fill of removed pixels
and the baseline of path methods. With a, b, c the mean of z in the cells A, B, C, the logit of
class 0 and its Shapley values (Shapley 1953) phi are, for images with a, b, c >= 0:

- `linear`: sum_j w_j z_j. Additive, so phi_j = w_j z_j.
- `and`: relu(a + b - 1). v(A) = v(B) = 0 for a, b <= 1, so phi_A = phi_B = f / 2.
- `or`: max(a, b). v(A) = a, v(B) = b, so phi_A = (a + f - b) / 2, phi_B = (b + f - a) / 2: the
  larger one gets its lead in full, and the rest is shared.
- `xor`: a + b - 2 relu(a + b - 1), which is a XOR b at 0 and 1. With a + b > 1: v(A) = a,
  v(B) = b, f = 2 - a - b, so phi_A = (a + f - b) / 2 = 1 - b and phi_B = 1 - a: either cell
  counts for the less, the more the other one would do alone.
- `saturating`: min(1, a + b + c) with any two of them above 1: phi_A = a / 3 + (2 - b - c) / 6
  (a where A joins first, 1 - b or 1 - c where it joins second, 0 where it joins last), and so on;
  every gradient at the image is 0.
- `distractor`: a. A bright cell D makes filters of its own fire, whose outgoing weights are 0:
  phi_A = a, and everything else gets 0.
- `color`: the sum over all cells of relu(redness), redness = z_r - (z_g + z_b) / 2: a shortcut
  that reads a color, wherever it is. Additive: phi_j = relu(redness_j).
- `blind`: a constant. All phi are 0.
- `places`: class 0 reads a, class 1 reads b: phi_A = a for class 0, phi_B = b for class 1.

A cell is relevant where it is no null player: some coalition's value changes when it joins.
"""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from xbench.classifier import Classifier, Normalization
from xbench.contracts import Geometry
from xbench.errors import UnknownNameError
from xbench.models.built import Built
from xbench.streams import seed_of

CELL: Final = 8
GRID: Final = 4
NORMALIZATION: Final = Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
CLASS_NAMES: Final = ("reads", "other")

A, B, C, D = (0, 0), (2, 0), (0, 2), (2, 2)  # row and column of the cells

STRUCTURES: Final = {
    "linear": "a masked linear sum",
    "and": "both of two cells",
    "or": "the larger of two cells",
    "xor": "one of two cells, but not both",
    "saturating": "a sum of three cells that saturates",
    "distractor": "one cell; another one only looks important",
    "color": "redness, wherever it is",
    "blind": "nothing: the input is ignored",
    "places": "two classes that read two places",
}

_BRIGHT, _DARK, _RED, _COPY = range(4)  # filters
_LOGICS = 1


class ExactNet(nn.Module):
    """Cells, then logic: a strided convolution, ReLU, a linear layer, ReLU, a linear head.

    The filters say, for each cell, relu(mean z), relu(-mean z), relu(redness) and once more
    relu(mean z) (read by nobody); the hidden layer combines them as the structure asks.

    Args:
        structure: one of `STRUCTURES`.
        grid: cells a side.
    """

    def __init__(self, structure: str, grid: int = GRID) -> None:
        super().__init__()
        if structure not in STRUCTURES:
            raise UnknownNameError(
                f"There is no closed-form network '{structure}'; there are {', '.join(STRUCTURES)}."
            )
        self.structure, self.grid = structure, grid
        cells = grid * grid
        self.features = nn.Sequential(nn.Conv2d(3, 4, CELL, stride=CELL), nn.ReLU())
        self.logic = nn.Sequential(nn.Linear(4 * cells, 2 * cells + _LOGICS), nn.ReLU())
        self.head = nn.Linear(2 * cells + _LOGICS, 2)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.zero_()
            self._set_filters()
            self._set_logic()
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, 2) of z (N, 3, 8 * grid, 8 * grid)."""
        logits: Tensor = self.head(self.logic(torch.flatten(self.features(images), 1)))
        return logits

    def _set_filters(self) -> None:
        weight = self.features[0].weight  # (4, 3, 8, 8)
        assert isinstance(weight, Tensor)
        area = CELL * CELL
        weight[_BRIGHT] = weight[_COPY] = 1 / (3 * area)
        weight[_DARK] = -1 / (3 * area)
        weight[_RED, 0] = 1 / area
        weight[_RED, 1:] = -0.5 / area

    def _set_logic(self) -> None:
        """Hidden units: relu(bright), relu(dark or red) of each cell, then combinations."""
        hidden, bias = self.logic[0].weight, self.logic[0].bias
        assert isinstance(hidden, Tensor)
        assert isinstance(bias, Tensor)
        cells = self.grid * self.grid
        inputs = hidden.view(-1, 4, cells)
        second = _RED if self.structure == "color" else _DARK
        for cell in range(cells):
            inputs[cell, _BRIGHT, cell] = 1
            inputs[cells + cell, second, cell] = 1
        head = self.head.weight
        a, b, c = (self._at(place) for place in (A, B, C))
        first = 2 * cells  # of the combinations
        if self.structure == "linear":
            head[0, :cells] = linear_weights(self.grid)
            head[0, cells : 2 * cells] = -linear_weights(self.grid)
        elif self.structure == "and":
            inputs[first, _BRIGHT, [a, b]] = 1
            bias[first] = -1
            head[0, first] = 1
        elif self.structure == "or":
            inputs[first, _BRIGHT, a], inputs[first, _BRIGHT, b] = 1, -1
            head[0, [first, b]] = 1  # relu(a - b) + b
        elif self.structure == "xor":
            inputs[first, _BRIGHT, [a, b]] = 1
            bias[first] = -1
            head[0, [a, b]] = 1
            head[0, first] = -2
        elif self.structure == "saturating":
            head[0, [a, b, c]] = 1
            inputs[first, _BRIGHT, [a, b, c]] = 1
            bias[first] = -1
            head[0, first] = -1
        elif self.structure == "color":
            head[0, cells : 2 * cells] = 1
        elif self.structure in ("distractor", "places"):
            head[0, a] = 1
        if self.structure == "places":
            head[1, b] = 1

    def _at(self, place: tuple[int, int]) -> int:
        return place[0] * self.grid + place[1]


def linear_weights(grid: int = GRID) -> Tensor:
    """The weights of `linear`, (grid * grid,): every third cell is masked, the rest differs."""
    cells = torch.arange(grid * grid)
    return ((cells * 7 % 5).float() - 1.5) / 2 * (cells % 3 != 1)


@dataclass(frozen=True)
class ExactCase:
    """Images of a structure with their exact answer.

    Attributes:
        images: float32 (N, 3, H, W) in [0, 1], each cell of one color.
        targets: int64 (N,), the class whose logit is explained.
        cells: Shapley values of the cells, float64 (N, grid, grid).
        relevant: bool (N, grid, grid), cells that are no null player.
    """

    images: Tensor
    targets: Tensor
    cells: Tensor
    relevant: Tensor

    @property
    def maps(self) -> Tensor:
        """The exact map: each cell's value spread evenly over its pixels, float32 (N, H, W)."""
        return spread(self.cells.float() / CELL**2)

    @property
    def truth(self) -> Tensor:
        """The relevant pixels, bool (N, H, W)."""
        return spread(self.relevant)


def spread(cells: Tensor) -> Tensor:
    """One value a cell to one value a pixel: (N, grid, grid) to (N, H, W)."""
    return cells.repeat_interleave(CELL, dim=1).repeat_interleave(CELL, dim=2)


def gather(maps: Tensor) -> Tensor:
    """Sums over cells: (N, H, W) to float64 (N, grid, grid)."""
    count, height, width = maps.shape
    shape = (count, height // CELL, CELL, width // CELL, CELL)
    return maps.double().reshape(shape).sum(dim=(2, 4))


def exact_case(structure: str, numbers: list[int], *, seed: int = 0, grid: int = GRID) -> ExactCase:
    """Images by number with their exact Shapley values and relevant cells.

    Gray levels z are drawn from 9/16 to 15/16, all different, in the cells A, B and C, and in
    eighths from -1 to 1 elsewhere.

    Args:
        structure: one of `STRUCTURES`.
        numbers: which images; each depends on its own number alone.
        seed: another seed, other images.
        grid: cells a side.
    """
    if not numbers:
        empty = torch.zeros(0, grid, grid)
        images = torch.zeros(0, 3, grid * CELL, grid * CELL)
        return ExactCase(images, torch.zeros(0, dtype=torch.int64), empty.double(), empty > 0)
    z = torch.stack([_draw(structure, number, seed, grid) for number in numbers])
    targets = torch.tensor([n % 2 if structure == "places" else 0 for n in numbers])
    cells, relevant = zip(
        *(
            _answer(structure, one, int(target), grid)
            for one, target in zip(z, targets, strict=True)
        ),
        strict=True,
    )
    images = torch.stack([spread(one) for one in z]) / 2 + 0.5
    return ExactCase(images, targets, torch.stack(cells), torch.stack(relevant))


def _draw(structure: str, number: int, seed: int, grid: int) -> Tensor:
    """Z of the cells of one image, (3, grid, grid)."""
    generator = torch.Generator().manual_seed(seed_of("exact", structure, seed, number))

    def eighths(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high + 1, shape, generator=generator).float() / 8

    z = eighths(-8, 8, grid, grid).expand(3, grid, grid).clone()
    if structure == "color":
        red = torch.randperm(grid * grid, generator=generator)[:3]
        shade = torch.cat([eighths(2, 8, 1, 3), eighths(-8, 0, 2, 3)])
        z.view(3, -1)[:, red] = shade
        return z
    levels = (9 + torch.randperm(7, generator=generator).float()) / 16
    for place, level in zip((A, B, C), levels, strict=False):
        z[:, place[0], place[1]] = level
    if structure == "distractor":
        z[:, D[0], D[1]] = 1
    return z


def _answer(structure: str, z: Tensor, target: int, grid: int) -> tuple[Tensor, Tensor]:
    """Shapley values and relevant cells of one image by the formulas of the module's head."""
    mean = z.double().mean(dim=0)
    phi = torch.zeros(grid, grid, dtype=torch.float64)
    if structure == "linear":
        phi = linear_weights(grid).double().view(grid, grid) * mean
        return phi, phi != 0
    if structure == "color":
        phi = (z[0].double() - z[1:].double().mean(dim=0)).clamp(min=0)
        return phi, phi != 0
    a, b, c = (float(mean[place]) for place in (A, B, C))
    relevant = torch.zeros(grid, grid, dtype=torch.bool)
    for place, value in _places(structure, a, b, c, target).items():
        phi[place] = value
        relevant[place] = True
    return phi, relevant


def _places(
    structure: str, a: float, b: float, c: float, target: int
) -> dict[tuple[int, int], float]:
    """The relevant cells and their Shapley values."""
    if structure == "and":
        return {A: (a + b - 1) / 2, B: (a + b - 1) / 2}
    if structure == "or":
        return {A: (a + max(a, b) - b) / 2, B: (b + max(a, b) - a) / 2}
    if structure == "xor":
        return {A: 1 - b, B: 1 - a}
    if structure == "saturating":
        return {
            place: one / 3 + (2 - (a + b + c - one)) / 6 for place, one in ((A, a), (B, b), (C, c))
        }
    if structure == "places" and target == 1:
        return {B: b}
    return {} if structure == "blind" else {A: a}


def build_exact(structure: str, grid: int = GRID) -> Built:
    """A closed-form network, for `--model exact:NAME`.

    Raises:
        UnknownNameError: no such structure.
    """
    side = CELL * grid
    return Built(
        ExactNet(structure, grid),
        normalization=NORMALIZATION,
        geometry=Geometry(crop=(side, side), resize=side),
        class_names=CLASS_NAMES,
    )


def exact_classifier(
    structure: str,
    *,
    grid: int = GRID,
    device: torch.device | str = "cpu",
    batch_size: int | None = None,
) -> Classifier:
    """A closed-form network as the suite uses any other."""
    built = build_exact(structure, grid)
    return Classifier(
        built.module,
        name=f"exact:{structure}",
        normalization=built.normalization,
        geometry=built.geometry,
        class_names=built.class_names,
        device=device,
        batch_size=batch_size,
        own=True,
    )
