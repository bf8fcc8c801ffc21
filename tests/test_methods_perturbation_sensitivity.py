"""Sobol indices and HSIC: twins from the papers and closed forms."""

import numpy as np
import pytest
import torch
from nets import Linear, build, pictures
from perturbing import TARGETS, explain, linear_parts, score_function
from reference import perturbation_reference as twin
from xbench.methods.perturbation_sensitivity import hsic

from xbench.classifier import Classifier
from xbench.errors import ParameterError
from xbench.registry import METHODS


@pytest.fixture(scope="module")
def linear():
    return Classifier(build(Linear), batch_size=64)


def grid_score(model, image, target, fill, grid):
    """The score of an image as a function of the visibility of its cells."""
    height, width = image.shape[1:]
    cell = (np.arange(height) * grid // height)[:, None] * grid + np.arange(width) * grid // width
    plain = score_function(model, target)

    def score(visible):
        mask = visible[cell]
        return plain(image * mask + fill * (1 - mask))

    return score


class TestSobol:
    def test_equals_the_twin(self, cnn, streams):
        images = pictures(height=21, width=21)
        method = METHODS.create("sobol[n_designs=8,grid=3]").value
        maps = method.explain(cnn, images, TARGETS, streams=streams)
        mean = np.array(cnn.normalization.mean)[:, None, None]
        for i, image in enumerate(images.double().numpy()):
            first, second = method.design(streams.seed_for(i, "sobol"))
            score = grid_score(cnn, image, TARGETS[i], mean, 3)
            expected = twin.sobol_total(score, first.double().numpy(), second.double().numpy())
            centers = maps[i, 3::7, 3::7].flatten().numpy()  # a center of a cell is not blended
            assert np.allclose(centers, expected, rtol=2e-3)

    def test_additive_score_gets_its_shares_of_the_variance(self, linear, streams):
        images = pictures(height=12, width=12)
        name = "sobol[n_designs=2048,grid=4,baseline=black]"
        maps = explain(name, linear, images, streams)[:, 1::3, 1::3].flatten(1)
        effect = linear_parts(linear, images, 0).unfold(1, 3, 3).unfold(2, 3, 3).sum((3, 4))
        shares = effect.square().flatten(1)
        shares = shares / shares.sum(1, keepdim=True)
        assert torch.allclose(maps, shares, atol=0.01)

    def test_scrambling_depends_on_the_seed_and_leaves_global_state(self, cnn, streams):
        state = torch.get_rng_state()
        images = pictures()
        one = explain("sobol[n_designs=4,grid=3]", cnn, images, streams)
        two = explain("sobol[n_designs=4,grid=3]", cnn, images, type(streams)(9, streams.image_ids))
        assert not torch.allclose(one, two)
        plain = "sobol[n_designs=4,grid=3,scramble=false]"
        three = explain(plain, cnn, images, streams)
        assert torch.equal(three, explain(plain, cnn, images, type(streams)(9, streams.image_ids)))
        assert torch.equal(state, torch.get_rng_state())

    def test_a_constant_score_gives_zero(self, streams):
        model = Classifier(build(Linear), batch_size=8)
        with torch.no_grad():
            model.module.head.weight.zero_()
        images = pictures(height=12, width=12)
        for name in ("sobol[n_designs=4,grid=3]", "hsic[n_samples=20,grid=3]"):
            assert not explain(name, model, images, streams).any()

    def test_rounding_is_no_variation(self, cnn, streams):
        flat = torch.full((1, 3, 21, 21), 0.37)
        for name in ("sobol[n_designs=8,grid=3,baseline=blur]", "hsic[n_samples=20,baseline=blur]"):
            assert not explain(name, cnn, flat, streams.select([0]), TARGETS[:1]).any()

    @pytest.mark.parametrize("text", ["n_designs=12", "n_designs=1", "grid=0", "baseline=x"])
    def test_wrong_parameters_are_refused(self, text):
        with pytest.raises(ParameterError):
            METHODS.create(f"sobol[{text}]")


class TestHsic:
    def test_equals_the_twin(self, cnn, streams):
        images = pictures(height=21, width=21)
        method = METHODS.create("hsic[n_samples=30,grid=3]").value
        maps = method.explain(cnn, images, TARGETS, streams=streams)
        masks = method.masks(streams).double().numpy()
        mean = np.array(cnn.normalization.mean)[:, None, None]
        for i, image in enumerate(images.double().numpy()):
            score = grid_score(cnn, image, TARGETS[i], mean, 3)
            expected = twin.hsic(masks[i], [score(row) for row in masks[i]])
            centers = maps[i, 3::7, 3::7].flatten().numpy()
            assert np.allclose(centers, expected, rtol=2e-3)

    def test_every_cell_is_visible_in_half_of_the_masks(self, streams):
        masks = METHODS.create("hsic[n_samples=20]").value.masks(streams)
        assert masks.shape == (3, 20, 49)
        assert (masks.sum(1) == 10).all()

    def test_dependence_is_found_and_independence_is_small(self, streams):
        masks = METHODS.create("hsic").value.masks(streams.select([0]))[0].double()
        scores = masks[:, 3] + 0.5 * masks[:, 7]
        found = hsic(masks, scores)
        assert found.topk(2).indices.tolist() == [3, 7]
        assert float(found[3]) > 10 * float(found[[i for i in range(49) if i not in (3, 7)]].max())
        assert (found > -1e-9).all()

    @pytest.mark.parametrize("text", ["n_samples=1", "grid=0", "baseline=x", "output=x"])
    def test_wrong_parameters_are_refused(self, text):
        with pytest.raises(ParameterError):
            METHODS.create(f"hsic[{text}]")
