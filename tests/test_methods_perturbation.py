"""Occlusion, RISE, ablation and Shapley values: twins, captum, closed forms, exact costs."""

import numpy as np
import pytest
import torch
from nets import Linear, build, pictures
from perturbing import TARGETS, explain, linear_parts, score_function
from reference import perturbation_reference as twin

from xbench.classifier import Classifier
from xbench.errors import ParameterError
from xbench.operations import segments as ops
from xbench.operations.pixels import gaussian_blur
from xbench.registry import METHODS


@pytest.fixture(scope="module")
def linear():
    return Classifier(build(Linear), batch_size=64)


CHEAP = {
    "occlusion": "occlusion",
    "occlusion_pixels": "occlusion[window=6,stride=4,baseline=blur]",
    "occlusion_share": "occlusion[window=0.4,stride=0.25,baseline=black,output=probability]",
    "rise": "rise[n_masks=31]",
    "rise_plain": "rise_plain[n_masks=30,s=5,output=logit]",
    "sobol": "sobol[n_designs=4,grid=3]",
    "sobol_plain": "sobol[n_designs=2,grid=8,scramble=false,baseline=blur,output=probability]",
    "hsic": "hsic[n_samples=21,grid=4,baseline=black]",
    "ablation": "feature_ablation[n_segments=12]",
    "ablation_grid": "feature_ablation[n_segments=10,segmentation=grid,baseline=segment]",
    "ablation_quickshift": "feature_ablation[n_segments=9,segmentation=quickshift]",
    "shapley": "shapley_sampling[n_permutations=3,n_segments=9,baseline=blur]",
    "shapley_slic": "shapley_sampling[n_permutations=2,segmentation=slic,n_segments=11]",
}


@pytest.mark.parametrize("name", CHEAP.values(), ids=CHEAP.keys())
def test_cost_is_exact_batch_is_irrelevant_model_is_restored(name, cnn, streams):
    images = pictures()
    method = METHODS.create(name).value
    before, weights = cnn.counter.read(), cnn.fingerprint()
    maps = method.explain(cnn, images, TARGETS, streams=streams)
    spent = cnn.counter.read() - before
    assert spent == method.cost({"height": 20, "width": 17, "classes": 5}) * 3
    assert cnn.fingerprint() == weights
    assert maps.shape == (3, 20, 17)
    assert torch.isfinite(maps).all()
    alone = method.explain(cnn, images[1:2], TARGETS[1:2], streams=streams.select([1]))
    assert torch.allclose(maps[1:2], alone, atol=1e-6)
    assert torch.equal(maps, method.explain(cnn, images, TARGETS, streams=streams))


@pytest.mark.parametrize("name", CHEAP.values(), ids=CHEAP.keys())
def test_gray_and_tiny_images(name, streams):
    model = Classifier(build(Linear, shape=(1, 6, 5)), batch_size=8)
    images = pictures(channels=1, height=6, width=5)
    maps = explain(
        name.replace("window=6", "window=3").replace("stride=4", "stride=2"), model, images, streams
    )
    assert maps.shape == (3, 6, 5)
    assert torch.isfinite(maps).all()


class TestOcclusion:
    @pytest.mark.parametrize(
        ("name", "window", "stride"),
        [
            ("occlusion[window=5,stride=3,baseline=black]", 5, 3),
            ("occlusion[window=5,stride=5,baseline=black]", 5, 5),
            ("occlusion[baseline=black]", 8, 4),
            ("occlusion[window=0.3,baseline=black]", 5, 2),
        ],
    )
    def test_equals_the_twin(self, name, window, stride, cnn, streams):
        images = pictures()
        maps = explain(name, cnn, images, streams)
        for i, image in enumerate(images.double().numpy()):
            score = score_function(cnn, TARGETS[i])
            expected = twin.occlusion(score, image, np.zeros_like(image), window, stride)
            assert np.allclose(maps[i].numpy(), expected, atol=1e-5)

    def test_equals_captum_where_windows_fit(self, cnn, streams):
        attr = pytest.importorskip("captum.attr")
        images = pictures(height=20, width=16)
        ours = explain("occlusion[window=8,stride=4,baseline=black]", cnn, images, streams)
        theirs = attr.Occlusion(cnn.network).attribute(
            images, sliding_window_shapes=(3, 8, 8), strides=(3, 4, 4), target=TARGETS
        )
        assert torch.allclose(ours, theirs[:, 0], atol=1e-5)

    @pytest.mark.parametrize("baseline", ["black", "mean", "blur"])
    def test_one_pixel_on_a_linear_model_is_w_times_x_minus_b(self, baseline, linear, streams):
        images = pictures(height=12, width=12)
        fills = {
            "black": torch.zeros_like(images),
            "mean": torch.zeros_like(images),  # the color 0 of a model that normalizes nothing
            "blur": gaussian_blur(images, 20 * 12 / 224),
        }[baseline]
        maps = explain(f"occlusion[window=1,stride=1,baseline={baseline}]", linear, images, streams)
        assert torch.allclose(maps, linear_parts(linear, images, fills), atol=1e-5)

    @pytest.mark.parametrize(
        ("size", "window", "stride"),
        [
            ((224, 224), 32, 16),
            ((64, 64), 8, 4),
            ((48, 48), 8, 4),
            ((32, 40), 8, 4),
            ((6, 9), 3, 1),
        ],
    )
    def test_defaults_follow_the_size(self, size, window, stride):
        sized = METHODS.create("occlusion").value.in_pixels(*size)
        assert (sized.window, sized.stride) == (window, stride)

    def test_default_cost_at_224(self):
        cost = METHODS.create("occlusion").value.cost({"height": 224, "width": 224})
        assert cost.forwards == 13 * 13 + 1

    @pytest.mark.parametrize(
        "text", ["window=-1", "window=1.5", "stride=2.5", "baseline=pink", "output=loss"]
    )
    def test_wrong_parameters_are_refused(self, text):
        with pytest.raises(ParameterError):
            METHODS.create(f"occlusion[{text}]")

    def test_a_stride_that_leaves_gaps_is_refused(self, cnn, streams):
        with pytest.raises(ParameterError, match="between windows"):
            explain("occlusion[window=4,stride=6]", cnn, pictures(), streams)


class TestRise:
    @pytest.mark.parametrize("size", [(20, 17), (14, 21)])
    @pytest.mark.parametrize("centered", [True, False])
    def test_equals_the_twin(self, size, centered, cnn, streams):
        images = pictures(height=size[0], width=size[1])
        name = f"rise[n_masks=9,p=0.4,centered={str(centered).lower()}]"
        maps = explain(name, cnn, images, streams)
        shared = streams.shared()
        grids = (shared.uniform((9, 7, 7), "rise", "grid", 7) < 0.4).double().numpy()
        cells = [-(-side // 7) for side in size]
        dy = shared.integers(cells[0], (9,), "rise", "dy", 7)
        dx = shared.integers(cells[1], (9,), "rise", "dx", 7)
        mean = np.array(cnn.normalization.mean)[:, None, None]
        for i, image in enumerate(images.double().numpy()):
            score = score_function(cnn, TARGETS[i], "probability")
            offsets = list(zip(dy[i].tolist(), dx[i].tolist(), strict=True))
            expected = twin.rise(score, image, mean, grids[i], offsets, 0.4, centered)
            scale = np.abs(expected).max()
            assert np.allclose(maps[i].numpy(), expected, atol=2e-4 * scale)

    def test_masks_are_shared_by_methods_and_calls(self, cnn, streams):
        images = pictures()
        one = explain("rise[n_masks=20]", cnn, images, streams.scoped("rise"))
        two = explain("rise[n_masks=20]", cnn, images, streams.scoped("x").called("y"))
        assert torch.equal(one, two)
        assert not torch.allclose(
            one, explain("rise[n_masks=20]", cnn, images, type(streams)(1, streams.image_ids))
        )

    def test_finds_the_pixels_that_a_linear_model_uses(self, linear, streams):
        images = torch.full((3, 3, 12, 12), 0.7)
        with torch.no_grad():
            model = Classifier(linear.module, batch_size=64)
            model.module.head.weight.zero_()
            model.module.head.weight.view(4, 3, 12, 12)[:, :, 2:5, 7:10] = 1
        maps = explain("rise[n_masks=800,output=logit,baseline=black,s=4]", model, images, streams)
        peaks = maps.flatten(1).argmax(1)
        for peak in peaks.tolist():
            assert 1 <= peak // 12 <= 5
            assert 6 <= peak % 12 <= 10
        assert (maps[:, 2:5, 7:10].mean((1, 2)) > 3 * maps.mean((1, 2)).abs()).all()

    def test_a_constant_score_gives_a_zero_map_only_when_centered(self, linear, streams):
        model = Classifier(linear.module, batch_size=64)
        with torch.no_grad():
            model.module.head.weight.zero_()
        images = pictures(height=12, width=12)
        assert float(explain("rise[n_masks=40]", model, images, streams).abs().max()) < 1e-6
        assert float(explain("rise_plain[n_masks=40]", model, images, streams).min()) > 0

    def test_memory_is_bounded(self, streams):
        """2000 masks of 224 x 224 would be 400 MB; no batch sees more than its own rows."""
        seen = []

        class Spy(torch.nn.Module):
            def forward(self, x):
                seen.append(len(x))
                return x.mean((2, 3))

        model = Classifier(Spy(), batch_size=16)
        explain("rise[n_masks=50]", model, pictures(n=1), streams.select([0]), TARGETS[2:])
        assert max(seen) == 16
        assert sum(seen) == 50

    @pytest.mark.parametrize("text", ["n_masks=0", "p=1", "p=0", "s=0", "baseline=pink"])
    def test_wrong_parameters_are_refused(self, text):
        with pytest.raises(ParameterError):
            METHODS.create(f"rise[{text}]")


class Pairs(torch.nn.Module):
    """A game with interactions: products and maxima of the means of a 2 x 4 grid of cells."""

    def forward(self, x):
        cells = x.mean(1, keepdim=True).unfold(2, 4, 4).unfold(3, 4, 4).mean((4, 5)).flatten(1)
        one = cells[:, 0] * cells[:, 5] * 3 + cells[:, 1:4].amax(1) - 2 * cells[:, 6] ** 2
        return torch.stack([one, one * cells[:, 7], cells.prod(1), one.square()], dim=1)


@pytest.fixture(scope="module")
def game():
    """An 8-player game with its exact Shapley values for each image's target."""
    model = Classifier(Pairs(), batch_size=512)
    images = pictures(height=8, width=16)
    cells = ops.segment(images, "grid", 8)
    exact = []
    for i, image in enumerate(images):

        def value(chosen, image=image, i=i):
            shown = torch.isin(cells[i], torch.tensor(sorted(chosen), dtype=torch.long))
            return float(model.network((image * shown)[None])[0, TARGETS[i]])

        exact.append(twin.shapley(value, 8))
    return model, images, np.array(exact)


class TestFeatureAblation:
    def test_equals_captum(self, cnn, streams):
        attr = pytest.importorskip("captum.attr")
        images = pictures()
        for how in ("slic", "grid", "felzenszwalb"):
            name = f"feature_ablation[segmentation={how},n_segments=9,baseline=black]"
            ours = explain(name, cnn, images, streams)
            cells = ops.segment(images, how, 9)
            for i in range(3):
                theirs = attr.FeatureAblation(cnn.network).attribute(
                    images[i : i + 1], target=int(TARGETS[i]), feature_mask=cells[i][None, None]
                )
                assert torch.allclose(ours[i], theirs[0, 0], atol=1e-5)

    def test_on_a_linear_model_it_is_the_sum_of_w_times_x_minus_b(self, linear, streams):
        images = pictures(height=12, width=12)
        name = "feature_ablation[segmentation=grid,n_segments=9,baseline=black]"
        maps = explain(name, linear, images, streams)
        cells = linear_parts(linear, images, 0).unfold(1, 4, 4).unfold(2, 4, 4).sum((3, 4))
        assert torch.allclose(maps[:, ::4, ::4], cells, atol=1e-5)


class TestShapleySampling:
    def test_converges_to_the_exact_values_of_an_8_player_game(self, game, streams):
        model, images, exact = game
        errors = []
        for n in (20, 2000):
            name = f"shapley_sampling[n_permutations={n},n_segments=8,baseline=black]"
            maps = explain(name, model, images, streams)
            found = maps[:, ::4, ::4].flatten(1).numpy()
            assert np.allclose(found.sum(1), exact.sum(1), atol=1e-5)
            errors.append(np.abs(found - exact).max() / np.abs(exact).max())
        assert errors[1] < 0.02
        assert errors[1] < errors[0] / 4  # a hundred times the orders, a tenth of the noise

    def test_equals_captum_with_the_same_orders(self, cnn, streams):
        attr = pytest.importorskip("captum.attr")
        images = pictures()[:1]
        streams = streams.select([0])
        method = METHODS.create("shapley_sampling[n_permutations=5,n_segments=6]").value
        ours = explain(
            "shapley_sampling[n_permutations=5,n_segments=6,baseline=black]",
            cnn,
            images,
            streams,
            TARGETS[:1],
        )
        orders = method.orders(6, streams.generator(0, "shapley")).tolist()
        captum = attr.ShapleyValueSampling(cnn.network)
        captum.permutation_generator = lambda *_: orders
        theirs = captum.attribute(
            images, target=0, feature_mask=ops.segment(images, "grid", 6)[None], n_samples=5
        )
        assert torch.allclose(ours[0], theirs[0, 0], atol=1e-5)

    def test_on_a_linear_model_one_order_is_exact(self, linear, streams):
        images = pictures(height=12, width=12)
        name = "shapley_sampling[n_permutations=1,n_segments=9,baseline=black]"
        maps = explain(name, linear, images, streams)
        cells = linear_parts(linear, images, 0).unfold(1, 4, 4).unfold(2, 4, 4).sum((3, 4))
        assert torch.allclose(maps[:, ::4, ::4], cells, atol=1e-5)

    def test_one_player_gets_everything(self, cnn, streams):
        images = pictures()
        name = "shapley_sampling[n_permutations=2,n_segments=1,baseline=black]"
        maps = explain(name, cnn, images, streams)
        total = cnn.logits(images) - cnn.logits(images * 0)
        expected = total.gather(1, TARGETS[:, None]).view(3, 1, 1)
        assert torch.allclose(maps, expected.expand_as(maps), atol=1e-5)

    def test_orders_come_with_their_reverse(self, streams):
        orders = METHODS.create("shapley_sampling[n_permutations=5]").value.orders(
            7, streams.generator(0)
        )
        assert orders.shape == (5, 7)
        assert torch.equal(orders[0].flip(0), orders[1])
        assert torch.equal(orders[2].flip(0), orders[3])
        assert (orders.sort(dim=1).values == torch.arange(7)).all()
