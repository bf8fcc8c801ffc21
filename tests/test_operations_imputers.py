"""Imputers: exact equations, per-image independence, kept pixels, holes of every shape."""

import nets
import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch

from xbench.operations import solvers
from xbench.operations.imputers import SOLVED, STATIC, make_imputer
from xbench.operations.solvers import (
    FOUR_NEIGHBORS,
    ROAD_NEIGHBORS,
    neighborhood_mean,
    solve_by_tensors,
    solve_neighbors,
)
from xbench.optional import optional
from xbench.streams import Streams


def exact(image, hole, direct, diagonal):
    """The neighbor equations written down one by one and solved directly, (C, H, W) float64."""
    height, width = hole.shape
    unknown = [(y, x) for y in range(height) for x in range(width) if hole[y, x]]
    number = {place: i for i, place in enumerate(unknown)}
    if not unknown:
        return image
    matrix = scipy.sparse.lil_matrix((len(unknown), len(unknown)))
    right = np.zeros((len(unknown), image.shape[0]))
    for i, (y, x) in enumerate(unknown):
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                place = (y + dy, x + dx)
                weight = 0.0 if (dy, dx) == (0, 0) else (diagonal if dy and dx else direct)
                if not weight or not (0 <= place[0] < height and 0 <= place[1] < width):
                    continue
                matrix[i, i] += weight
                if place in number:
                    matrix[i, number[place]] -= weight
                else:
                    right[i] += weight * image[:, place[0], place[1]]
    solved = scipy.sparse.linalg.spsolve(matrix.tocsr(), right).reshape(len(unknown), -1)
    result = image.copy()
    for (y, x), values in zip(unknown, solved, strict=True):
        result[:, y, x] = values
    return result


def holes(n, height, width, share, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, 1, height, width, generator=generator) < share


SOLVERS = pytest.mark.parametrize("solve", [solve_neighbors, solve_by_tensors])


@SOLVERS
@pytest.mark.parametrize("shape", [(3, 20, 17), (1, 9, 23), (3, 32, 32), (1, 1, 7), (2, 6, 1)])
@pytest.mark.parametrize("weights", [ROAD_NEIGHBORS, FOUR_NEIGHBORS])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_the_solve_is_the_exact_sparse_solve(solve, shape, weights, share):
    images = nets.pictures(2, *shape)
    drop = holes(2, *shape[1:], share)
    drop[..., 0, 0] = False  # something is known
    got, rough = solve(images, drop, weights, tolerance=1e-6), solve(images, drop, weights)
    for i in range(2):
        want = exact(images[i].double().numpy(), drop[i, 0].numpy(), *weights)
        assert np.abs(got[i].numpy() - want).max() < 2e-5
        assert np.abs(rough[i].numpy() - want).max() < 1 / 255
    assert torch.equal(got[~drop.expand_as(got)], images[~drop.expand_as(images)])


@SOLVERS
@pytest.mark.parametrize("side", [64, 65])
def test_a_large_hole_is_solved_too(solve, side):
    images = nets.pictures(1, 3, side, side)
    drop = torch.zeros(1, 1, side, side, dtype=torch.bool)
    drop[..., 4:60, 0:58] = True
    want = exact(images[0].double().numpy(), drop[0, 0].numpy(), *ROAD_NEIGHBORS)
    assert np.abs(solve(images, drop, ROAD_NEIGHBORS)[0].numpy() - want).max() < 0.5 / 255
    fine = solve(images, drop, ROAD_NEIGHBORS, tolerance=1e-6)
    assert np.abs(fine[0].numpy() - want).max() < 2e-5


@SOLVERS
def test_large_and_small_holes_leave_the_batch_when_they_are_solved(solve):
    images = nets.pictures(3, 3, 40, 33)
    drop = holes(3, 40, 33, 0.1)
    drop[1, :, 3:37, 2:30] = True
    together = solve(images, drop, ROAD_NEIGHBORS)
    for i in range(3):
        alone = solve(images[i : i + 1], drop[i : i + 1], ROAD_NEIGHBORS)
        assert torch.allclose(together[i], alone[0], atol=1e-6)


def test_rows_of_images_take_their_noise_where_pixels_are_dropped(monkeypatch):
    images = nets.pictures(2, 3, 12, 15)
    noise = 0.01 * torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    owner, drop = torch.tensor([1, 0, 1]), holes(3, 12, 15, 0.4)
    drop[2] = True
    plain = solve_neighbors(images[owner], drop)
    want = plain + torch.where(drop, noise[owner], 0.0)
    got = solve_neighbors(images, drop, owner=owner, noise=noise)
    assert torch.allclose(got, want, atol=1e-7)
    assert torch.allclose(plain[2], images[1].mean(dim=(1, 2)).view(3, 1, 1), atol=1e-6)
    monkeypatch.setattr(solvers, "kernels", optional("xbench.no_such_module"))
    slow = solve_neighbors(images, drop, owner=owner, noise=noise)
    assert torch.allclose(slow, got, atol=1 / 255)


def test_neighborhood_mean_takes_the_smallest_window_with_content():
    images = nets.pictures(2, 3, 11, 9)
    drop = holes(2, 11, 9, 0.9, seed=4)
    got = neighborhood_mean(images, drop)
    for i in range(2):
        for y in range(11):
            for x in range(9):
                if not drop[i, 0, y, x]:
                    assert torch.equal(got[i, :, y, x], images[i, :, y, x])
                    continue
                radius = 1
                while True:
                    places = [
                        (a, b)
                        for a in range(max(0, y - radius), min(11, y + radius + 1))
                        for b in range(max(0, x - radius), min(9, x + radius + 1))
                        if not drop[i, 0, a, b]
                    ]
                    if places:
                        break
                    radius *= 2
                want = torch.stack([images[i, :, a, b] for a, b in places]).mean(dim=0)
                assert torch.allclose(got[i, :, y, x], want, atol=1e-5)


@pytest.mark.parametrize("name", [*STATIC, *SOLVED])
def test_kept_pixels_stay_and_neighbors_change_nothing(name):
    images = nets.pictures(3, 3, 16, 13)
    images[1] *= 0.1
    streams = Streams(seed=0, image_ids=["a", "b", "c"], scope="test")
    drop = holes(3, 16, 13, 0.6)
    drop[2] = True
    whole = make_imputer(name, images, mean=None, streams=streams)
    got = whole(torch.arange(3), drop)
    assert torch.isfinite(got).all()
    assert torch.equal(got[~drop.expand_as(got)], images[~drop.expand_as(images)])
    for i in range(3):
        alone = make_imputer(name, images[i : i + 1], mean=None, streams=streams.select([i]))
        own = alone(torch.zeros(1, dtype=torch.long), drop[i : i + 1])
        assert torch.allclose(own[0], got[i], atol=1e-6)


@pytest.mark.parametrize("name", [*STATIC, *SOLVED])
def test_grey_images_and_one_dropped_pixel(name):
    images = nets.pictures(1, 1, 10, 10)
    drop = torch.zeros(1, 1, 10, 10, dtype=torch.bool)
    drop[..., 0, 9] = True
    streams = Streams(seed=0, image_ids=["a"], scope="test")
    got = make_imputer(name, images, mean=None, streams=streams)(torch.zeros(1).long(), drop)
    assert (got != images).sum() <= 1
