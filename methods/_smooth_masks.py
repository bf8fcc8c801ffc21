"""Smooth masks: the smooth maximum of bumps on a grid (Fong et al., 2019, section 3.2)."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

COLDNESS = 20.0


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

    def evaluate(self, bumps: Tensor) -> tuple[Tensor, Tensor]:
        """Masks with their margin m and how they answer to bumps.

        Args:
            bumps: (R, rows, columns).

        Returns:
            Masks (R, rows + 2 m, columns + 2 m), and d mask / d bump for the K bumps around every
            point, (R, K, points): with v the values and w their softmax at coldness c, the
            derivative of sum(w v) for v is w (1 + c (v - sum(w v))).
        """
        reach, around = self.radius, self.radius + self.margin
        offsets = torch.arange(-reach, reach + 1, device=bumps.device, dtype=bumps.dtype)
        distance = (offsets[:, None].square() + offsets[None, :].square()).sqrt()
        bump = torch.exp(-2 * (distance / self.sigma - 0.5).clamp(min=0).square()).view(-1, 1)
        values = F.unfold(F.pad(bumps, (around,) * 4)[:, None], 2 * reach + 1).mul_(bump)
        weights = (values * COLDNESS).exp_()  # values are at most 1: no overflow
        weights /= weights.sum(dim=1, keepdim=True)
        pooled = (weights * values).sum(dim=1)
        slopes = values.sub_(pooled[:, None]).mul_(COLDNESS).add_(1).mul_(weights).mul_(bump)
        return pooled.view(-1, *(side + 2 * self.margin for side in self.cells)), slopes

    def crop(self, masks: Tensor) -> Tensor:
        """Masks without their margin, (R, rows, columns)."""
        m = self.margin
        return masks[:, m : m + self.cells[0], m : m + self.cells[1]]

    def _order(self, masks: Tensor, gain: Tensor) -> Tensor:
        """Points from low to high values, ties from low to high gain, int64 (R, points)."""
        gains = gain.flatten(1)
        values = (masks.flatten(1) * 1000).round()
        first = gains.argsort(dim=1, stable=True)
        return first.gather(1, values.gather(1, first).argsort(dim=1, stable=True))

    def loss_gradient(
        self, masks: Tensor, slopes: Tensor, reward: Tensor, areas: Tensor, weight: float
    ) -> Tensor:
        """Gradient of weight * mean (sort(m) - r_a)^2 - reward for the bumps, (R, rows, columns).

        Points of the same value are sorted by the gradient of the reward. Full masks are one
        large tie, and in raster order the first step would favor the lower right corner.

        Args:
            masks, slopes: from `evaluate`.
            reward: gradient of what is maximized for the masks inside, (R, rows, columns).
            areas: the area of each mask as a share of the image, (R,).
            weight: of the area.
        """
        gain = F.pad(reward, (self.margin,) * 4)
        order, points = self._order(masks, gain), self.places
        ones = (areas * self.cells[0] * self.cells[1]).round().clamp(min=1)
        rank = torch.arange(points, device=masks.device)
        wanted = (rank >= points - ones[:, None]).to(masks)
        miss = 2 * weight / points * (masks.flatten(1).gather(1, order) - wanted)
        gradient = torch.empty_like(miss).scatter_(1, order, miss) - gain.flatten(1)
        reach, around = self.radius, self.radius + self.margin
        padded = (self.cells[0] + 2 * around, self.cells[1] + 2 * around)
        spread = F.fold(slopes * gradient[:, None], padded, 2 * reach + 1)[:, 0]
        return spread[:, around:-around, around:-around]
