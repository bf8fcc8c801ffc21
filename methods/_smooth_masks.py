"""Smooth masks: the smooth maximum of bumps on a grid (Fong et al., 2019, section 3.2)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

COLDNESS = 20.0
_ROWS = 16  # masks whose graph is held at a time


@dataclass(frozen=True)
class SmoothMasks:
    """Masks m(u) = smax over bumps i of k(|u - u_i| / sigma) p_i, k(z) = exp(-2 max(0, z - 1/2)^2).

    smax is the average weighted by softmax at coldness 20. Bumps stand in the centers of square
    cells; m is evaluated there too, and in a margin of sigma around the image, which counts for
    the area, so that a region at the border is no cheaper than one inside.

    Attributes:
        cells: rows and columns of cells.
        sigma: in cells.
    """

    cells: tuple[int, int]
    sigma: float

    @staticmethod
    def of(size: tuple[int, int], grid: int, sigma: float) -> "SmoothMasks":
        """Masks of images of this size.

        Args:
            size: height and width in pixels.
            grid: cells along the shorter side, at most half its pixels.
            sigma: in pixels.
        """
        cell = max(2.0, min(size) / grid)
        rows, columns = (max(1, round(side / cell)) for side in size)
        return SmoothMasks((rows, columns), sigma / cell)

    @property
    def radius(self) -> int:
        """Cells around a point whose bumps count."""
        return 1 + math.ceil(self.sigma)

    @property
    def margin(self) -> int:
        """Cells around the image."""
        return math.ceil(self.sigma)

    @property
    def places(self) -> int:
        """Points at which masks are evaluated, the margin included."""
        return math.prod(side + 2 * self.margin for side in self.cells)

    def everywhere(self, bumps: Tensor) -> Tensor:
        """Masks with their margin m, (R, rows, columns) to (R, rows + 2 m, columns + 2 m)."""
        reach, around = self.radius, self.radius + self.margin
        offsets = torch.arange(-reach, reach + 1, device=bumps.device, dtype=bumps.dtype)
        distance = (offsets[:, None].square() + offsets[None, :].square()).sqrt()
        bump = torch.exp(-2 * (distance / self.sigma - 0.5).clamp(min=0).square())
        near = F.unfold(F.pad(bumps, (around,) * 4)[:, None], 2 * reach + 1)  # (R, K, places)
        values = bump.view(-1, 1) * near
        pooled = (values * (COLDNESS * values).softmax(dim=1)).sum(dim=1)
        return pooled.view(-1, *(side + 2 * self.margin for side in self.cells))

    def crop(self, masks: Tensor) -> Tensor:
        """Masks without their margin, (R, rows, columns)."""
        m = self.margin
        return masks[:, m : m + self.cells[0], m : m + self.cells[1]]

    def inside(self, bumps: Tensor) -> Tensor:
        """Masks without margin and without a graph."""
        with torch.no_grad():
            return torch.cat([self.crop(self.everywhere(part)) for part in bumps.split(_ROWS)])

    def _order(self, masks: Tensor, gain: Tensor) -> Tensor:
        """Points from low to high values, ties from low to high gain, int64 (R, points)."""
        gains = F.pad(gain, (self.margin,) * 4).flatten(1)
        values = (masks.flatten(1) * 1000).round()
        first = gains.argsort(dim=1, stable=True)
        return first.gather(1, values.gather(1, first).argsort(dim=1, stable=True))

    def loss_gradient(
        self, bumps: Tensor, reward: Tensor, areas: Sequence[float], weight: float
    ) -> Tensor:
        """Gradient of weight * mean (sort(m) - r_a)^2 - reward for the bumps.

        Points of the same value are sorted by the gradient of the reward. Full masks are one
        large tie, and in raster order the first step would favor the lower right corner.

        Args:
            bumps: (R, rows, columns).
            reward: gradient of what is maximized for the masks inside, (R, rows, columns).
            areas: the area of each mask, as a share of the image.
            weight: of the area.
        """
        found, inside = [], self.cells[0] * self.cells[1]
        pieces = zip(bumps.split(_ROWS), reward.split(_ROWS), strict=True)
        for number, (part, gain) in enumerate(pieces):
            with torch.enable_grad():
                leaf = part.detach().requires_grad_(True)
                masks = self.everywhere(leaf)
                ordered = masks.flatten(1).gather(1, self._order(masks.detach(), gain))
                wanted = torch.zeros_like(ordered)
                for row, area in enumerate(areas[number * _ROWS :][: len(part)]):
                    wanted[row, -max(1, round(area * inside)) :] = 1
                miss = (ordered - wanted).square().mean(dim=1).sum() * weight
                total = miss - (self.crop(masks) * gain).sum()
                found.append(torch.autograd.grad(total, leaf)[0])
        return torch.cat(found)
