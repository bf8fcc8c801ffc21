"""Meaningful and extremal perturbation: twins by plain autograd, regions that are known."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from nets import pictures
from reference import perturbation_reference as twin
from xbench.methods._smooth_masks import SmoothMasks

from xbench.classifier import Classifier
from xbench.errors import ParameterError
from xbench.operations.pixels import gaussian_blur
from xbench.registry import METHODS

TARGETS = torch.tensor([0, 3, 1])

CHEAP = {
    "meaningful": "meaningful_perturbation[n_steps=4]",
    "meaningful_logit": "meaningful_perturbation[n_steps=3,grid=4,output=logit,jitter=40]",
    "extremal": "extremal_perturbation[n_steps=4]",
    "extremal_delete": "extremal_perturbation[n_steps=3,n_areas=1,variant=delete,grid=5]",
}


def explain(name, model, images, streams, targets=TARGETS):
    return METHODS.create(name).value.explain(model, images, targets, streams=streams)


@pytest.mark.parametrize("name", CHEAP.values(), ids=CHEAP.keys())
@pytest.mark.parametrize("size", [(20, 17), (9, 24)])
def test_cost_is_exact_batch_is_irrelevant_model_is_restored(name, size, cnn, streams):
    images = pictures(height=size[0], width=size[1])
    method = METHODS.create(name).value
    before, weights = cnn.counter.read(), cnn.fingerprint()
    maps = method.explain(cnn, images, TARGETS, streams=streams)
    spent = cnn.counter.read() - before
    assert spent == method.cost({"height": size[0], "width": size[1], "classes": 5}) * 3
    assert cnn.fingerprint() == weights
    assert not any(p.requires_grad or p.grad is not None for p in cnn.module.parameters())
    assert maps.shape == (3, *size)
    assert torch.isfinite(maps).all()
    assert not maps.requires_grad
    assert float(maps.min()) >= 0
    assert float(maps.max()) <= 1
    alone = method.explain(cnn, images[1:2], TARGETS[1:2], streams=streams.select([1]))
    assert torch.allclose(maps[1:2], alone, atol=1e-4)


class Patch(torch.nn.Module):
    """Contrast inside a square decides: blurring it takes the score away."""

    def forward(self, x):
        inside = x[:, :, 6:14, 16:24]
        contrast = (inside - inside.mean((2, 3), keepdim=True)).square().mean((1, 2, 3))
        return torch.stack([60 * contrast - 2, torch.zeros_like(contrast)], dim=1)


@pytest.fixture(scope="module")
def patch():
    images = (pictures(n=2, height=32, width=32) > 0.5).float()
    return Classifier(Patch(), batch_size=8), images, torch.tensor([0, 0])


def inside_share(maps):
    return maps[:, 6:14, 16:24].sum((1, 2)) / maps.sum((1, 2))


class TestMeaningful:
    def test_equals_the_twin(self, cnn, streams):
        images = pictures(height=20, width=16)
        name = "meaningful_perturbation[n_steps=6,l1=0.01,tv=0.05,output=logit]"
        method = METHODS.create(name).value
        blurred = gaussian_blur(images, 10 * 16 / 224)
        targets = (cnn.logits(images) - cnn.logits(blurred)).argmax(1)
        maps = method.explain(cnn, images, targets, streams=streams)
        start = method._start(cnn, images, blurred, targets)
        shifts = streams.integers(2, (6, 2), "jitter").tolist()
        for i in range(3):

            def score(x, i=i):
                return cnn.network(x[None])[0, targets[i]]

            expected = twin.meaningful_perturbation(
                score, images[i], blurred[i], start[i], shifts[i], method.settings()
            )
            assert torch.allclose(maps[i], expected, atol=2e-3)
            assert float(expected.std()) > 0.01

    def test_starts_from_the_smallest_sufficient_disk(self, streams):
        class Center(torch.nn.Module):
            def forward(self, x):
                return torch.stack([x[:, :, 15:17, 15:17].sum((1, 2, 3)), x.mean((1, 2, 3))], 1)

        method = METHODS.create("meaningful_perturbation[output=logit]").value
        images, fill = torch.ones(1, 3, 32, 32), torch.zeros(1, 3, 32, 32)
        model = Classifier(Center(), batch_size=8)
        small = method._start(model, images, fill, torch.tensor([0]))
        large = method._start(model, images, fill, torch.tensor([1]))
        assert small.shape == (1, 16, 16)
        assert 0.9 < float(small.mean()) < 1
        assert float(small[0, 8, 8]) == 0
        assert float(large.mean()) < 0.02

    def test_finds_the_region_that_decides(self, patch, streams):
        model, images, targets = patch
        name = "meaningful_perturbation[n_steps=150,l1=0.003,sigma=60]"
        maps = explain(name, model, images, streams.select([0, 1]), targets)
        assert (inside_share(maps) > 0.35).all()  # the square is 1/16 of the image
        assert (maps.mean((1, 2)) < 0.2).all()

    @pytest.mark.parametrize(
        "text",
        ["n_steps=0", "grid=0", "rate=0", "sigma=0", "l1=-1", "tv=-1", "beta=0.5"],
    )
    def test_wrong_parameters_are_refused(self, text):
        with pytest.raises(ParameterError):
            METHODS.create(f"meaningful_perturbation[{text}]")


class TestExtremal:
    @pytest.mark.parametrize(("cells", "sigma"), [((3, 4), 1.2), ((5, 2), 0.7)])
    def test_smooth_masks_equal_the_twin(self, cells, sigma, streams):
        bumps = streams.uniform(cells, "bumps")
        shape = SmoothMasks(cells, sigma)
        masks, slopes = shape.evaluate(bumps)
        for ours, one in zip(masks, bumps, strict=True):
            assert torch.allclose(ours, twin.smooth_mask(one, sigma), atol=1e-6)
        assert shape.crop(masks).shape == (3, *cells)
        moved, _ = shape.evaluate(bumps + 1e-3)  # every bump a little higher
        around = shape.radius + shape.margin
        rise = F.pad(torch.full_like(bumps, 1e-3), (around,) * 4)  # where there are bumps
        near = F.unfold(rise[:, None], 2 * shape.radius + 1)
        change = (slopes * near).sum(dim=1).view_as(masks)
        assert torch.allclose(moved - masks, change, rtol=0.05, atol=1e-5)

    @pytest.mark.parametrize("variant", ["preserve", "delete"])
    def test_equals_the_twin(self, variant, cnn, streams):
        images = pictures(height=12, width=10)
        name = f"extremal_perturbation[n_steps=4,area=0.2,n_areas=2,grid=5,variant={variant}]"
        maps = explain(name, cnn, images, streams)
        deepest = 20 * 10 / 224
        levels = [gaussian_blur(images, deepest * (1 - k / 7)) for k in range(7)] + [images]
        for i in range(2):

            def score(x, i=i):
                logit = cnn.network(x[None])[0, TARGETS[i]]
                return logit if variant == "preserve" else -logit

            pyramid = [level[i] for level in levels]
            if variant == "delete":
                pyramid = pyramid[::-1]
            found = [
                twin.extremal_perturbation(score, pyramid, (6, 5), 21 * 10 / 224 / 2, area, 4)
                for area in (0.2, 0.4)
            ]
            expected = torch.stack(found).mean(0)
            assert torch.allclose(maps[i], expected, atol=1e-3)
            assert float(expected.std()) > 0.001

    def test_finds_the_region_that_decides_and_keeps_its_area(self, patch, streams):
        model, images, targets = patch
        name = "extremal_perturbation[n_steps=200,area=0.1,n_areas=1,mirror=false]"
        maps = explain(name, model, images, streams.select([0, 1]), targets)
        assert (inside_share(maps) > 0.4).all()
        assert np.allclose(maps.mean((1, 2)), 0.1, atol=0.04)
        peaks = maps.flatten(1).argmax(1)
        assert ((peaks // 32 >= 6) & (peaks // 32 < 14)).all()
        assert ((peaks % 32 >= 16) & (peaks % 32 < 24)).all()

    @pytest.mark.parametrize(
        "text",
        [
            "n_steps=0",
            "grid=0",
            "sigma=0",
            "area=0",
            "area=0.3",
            "n_areas=0",
            "variant=x",
            "output=x",
        ],
    )
    def test_wrong_parameters_are_refused(self, text):
        with pytest.raises(ParameterError):
            METHODS.create(f"extremal_perturbation[{text}]")
