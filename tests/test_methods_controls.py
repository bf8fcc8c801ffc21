"""Controls: known forms, re-seeded noise, no model calls."""

import numpy as np
import pytest
import torch
from nets import pictures
from scipy import ndimage

from xbench.contracts import TruthMethod
from xbench.errors import ParameterError, UnknownNameError, UnsupportedError
from xbench.registry import METHODS
from xbench.running.cases import bind

NAMES = ("random", "random_smooth", "center_prior", "edges", "intensity")


def explain(name, model, images, streams):
    targets = torch.zeros(len(images), dtype=torch.long)
    return METHODS.create(name).value.explain(model, images, targets, streams=streams)


@pytest.mark.parametrize("name", NAMES)
def test_costs_nothing_is_finite_and_batch_independent(name, cnn, streams):
    images = pictures()
    before = cnn.counter.read()
    maps = explain(name, cnn, images, streams)
    assert cnn.counter.read() == before
    assert maps.shape == (3, 20, 17)
    assert maps.dtype == torch.float32
    assert torch.isfinite(maps).all()
    alone = explain(name, cnn, images[1:2], streams.select([1]))
    assert torch.equal(maps[1:2], alone)
    card = METHODS.entry(name).card
    assert card.control
    assert card.class_agnostic
    assert METHODS.create(name).value.cost({"height": 20, "width": 17}).calls == 0


@pytest.mark.parametrize("name", ["random", "random_smooth"])
def test_noise_is_new_for_every_call_but_the_same_for_the_same_call(name, cnn, streams):
    images = pictures()
    first = explain(name, cnn, images, streams)
    assert torch.equal(first, explain(name, cnn, images, streams))
    again = explain(name, cnn, images, streams.called("perturbed 1"))
    correlation = np.corrcoef(first.flatten(), again.flatten())[0, 1]
    assert abs(correlation) < 0.2
    assert not torch.equal(first[0], first[1])


def test_random_is_standard_normal(cnn, streams):
    maps = explain("random", cnn, pictures(height=100, width=100), streams)
    assert abs(float(maps.mean())) < 0.02
    assert abs(float(maps.std()) - 1) < 0.02


def test_smooth_noise_is_smooth_and_its_cells_are_square(cnn, streams):
    images = pictures(height=56, width=112)
    smooth = explain("random_smooth", cnn, images, streams)
    steps_y = (smooth[:, 1:] - smooth[:, :-1]).abs().mean()
    steps_x = (smooth[:, :, 1:] - smooth[:, :, :-1]).abs().mean()
    assert float(steps_y) < 0.2 * float(smooth.std())
    assert 0.6 < float(steps_y / steps_x) < 1.7


def test_smooth_noise_with_one_cell_a_pixel_is_plain_noise(cnn, streams):
    maps = explain("random_smooth[grid=17]", cnn, pictures(height=17, width=17), streams)
    expected = streams.fresh().normal((17, 17), "random_smooth")
    assert torch.allclose(maps, expected, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(20, 17), (21, 21), (8, 8)])
def test_center_prior_peaks_in_the_center_and_is_symmetric(height, width, cnn, streams):
    maps = explain("center_prior", cnn, pictures(height=height, width=width), streams)
    assert torch.allclose(maps, maps.flip(1), atol=1e-6)
    assert torch.allclose(maps, maps.flip(2), atol=1e-6)
    assert float(maps[0, height // 2, width // 2]) == float(maps[0].max())
    expected = np.exp(-0.5 * ((0.5 / height - 0.5) ** 2 + (0.5 / width - 0.5) ** 2) / 0.25**2)
    assert float(maps[0, 0, 0]) == pytest.approx(expected, rel=1e-5)


def test_edges_are_scipy_s_sobel_magnitude(cnn, streams):
    images = pictures()
    maps = explain("edges", cnn, images, streams)
    gray = images.mean(dim=1).numpy()
    for ours, image in zip(maps.numpy(), gray, strict=True):
        magnitude = np.hypot(
            ndimage.sobel(image, 0, mode="nearest"), ndimage.sobel(image, 1, mode="nearest")
        )
        assert np.allclose(ours, magnitude / 8, atol=1e-6)


def test_edges_see_both_axes(cnn, streams):
    images = torch.zeros(3, 3, 20, 17)
    images[0, :, 10:] = 1
    images[1, :, :, 8:] = 1
    maps = explain("edges", cnn, images, streams)
    assert float(maps[0].max()) == pytest.approx(0.5)
    assert float(maps[1].max()) == pytest.approx(0.5)
    assert float(maps[2].abs().max()) == 0


def test_intensity_is_the_mean_of_channels(cnn, streams):
    images = pictures()
    assert torch.allclose(explain("intensity", cnn, images, streams), images.sum(1) / 3)


@pytest.mark.parametrize("name", ["random_smooth[grid=0]", "center_prior[sigma=0]"])
def test_wrong_parameters_are_refused(name):
    with pytest.raises(ParameterError):
        METHODS.create(name)


class TestInverse:
    @pytest.mark.parametrize(
        ("other", "name"),
        [
            ("edges", "inverse:edges"),
            ("random", "inverse[of=random]"),
            ("rise[n_masks=12]", "inverse[of=rise[n_masks=12]]"),
        ],
    )
    def test_is_the_negated_map_with_the_same_draws_and_cost(self, other, name, cnn, streams):
        images = pictures()
        inner, outer = METHODS.create(other), METHODS.create(name)
        plain = explain(other, cnn, images, streams.scoped(inner.identity))
        inverse = explain(name, cnn, images, streams.scoped(outer.identity))
        assert torch.equal(inverse, -plain)
        facts = {"height": 20, "width": 17}
        assert outer.value.cost(facts) == inner.value.cost(facts)

    def test_is_not_among_all_and_needs_a_known_method(self):
        names = [one.entry.name for one in METHODS.select("all")]
        assert "inverse" not in names
        assert set(NAMES) <= set(names)
        with pytest.raises(UnknownNameError, match="edges"):
            METHODS.create("inverse:edgse")
        with pytest.raises(ParameterError, match="oracle_inverse"):
            METHODS.create("inverse:oracle")


class TestOracle:
    def test_is_the_truth_that_the_runner_hands_over(self, cnn, streams):
        images, targets = pictures(), torch.zeros(3, dtype=torch.long)
        truth = torch.zeros(3, 20, 17, dtype=torch.bool)
        truth[0, 3:7, 2:9] = True
        truth[1, 10:, :5] = True
        for name, wanted in (("oracle", truth.float()), ("oracle_inverse", (~truth).float())):
            chosen = METHODS.create(name)
            assert chosen.card.needs == ("truth",)
            assert isinstance(chosen.value, TruthMethod)
            bound = bind(chosen.value, cnn, images, targets, streams, truth)
            assert torch.equal(bound(images), wanted)
            rows = torch.tensor([1, 1, 0])
            assert torch.equal(bound(images[rows], rows=rows), wanted[rows])

    def test_refuses_without_truth(self, cnn, streams):
        images, targets = pictures(), torch.zeros(3, dtype=torch.long)
        bound = bind(METHODS.create("oracle").value, cnn, images, targets, streams)
        with pytest.raises(UnsupportedError, match="masks"):
            bound(images)
