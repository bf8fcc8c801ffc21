"""LIME against its library, segmentations by name."""

import itertools

import numpy as np
import pytest
import torch
from nets import Linear, build, pictures
from reference import perturbation_reference as twin
from skimage.data import astronaut
from skimage.transform import resize
from xbench.methods.surrogate import shap_coalitions, solve_shap

from xbench.classifier import Classifier
from xbench.errors import ParameterError
from xbench.operations import segments as ops
from xbench.optional import seeded
from xbench.registry import METHODS

TARGETS = torch.tensor([0, 3, 1])


def explain(name, model, images, streams, targets=TARGETS):
    return METHODS.create(name).value.explain(model, images, targets, streams=streams)


@pytest.fixture(scope="module")
def photo():
    image = resize(astronaut(), (64, 48), anti_aliasing=True).astype(np.float32)
    return torch.from_numpy(image).permute(2, 0, 1)[None]


class TestSegments:
    @pytest.mark.parametrize("how", ops.SEGMENTATIONS)
    def test_numbered_without_gaps_and_independent_of_the_batch(self, how, photo):
        images = torch.cat([photo, photo.flip(3), photo * 0.5])
        found = ops.segment(images, how, 20)
        assert found.shape == (3, 64, 48)
        for i, count in enumerate(ops.segment_counts(found)):
            assert sorted(found[i].unique().tolist()) == list(range(count))
            assert count > 1
        assert torch.equal(found[1:2], ops.segment(images[1:2], how, 20))

    def test_numbers_of_segments(self, photo):
        assert ops.segment_counts(ops.segment(photo, "grid", 50)) == [49]
        assert ops.segment_counts(ops.segment(photo, "grid", 9)) == [9]
        (count,) = ops.segment_counts(ops.segment(photo, "slic", 50))
        assert 40 <= count <= 60
        assert ops.segment_counts(ops.segment(photo[:, :, :3, :4], "grid", 50)) == [12]

    def test_cells_of_the_grid_are_as_equal_as_can_be(self, photo):
        cells = ops.segment(photo, "grid", 49)[0].flatten().bincount()
        assert int(cells.min()) >= 9 * 6
        assert int(cells.max()) <= 10 * 7

    def test_computed_once_an_image(self, photo, monkeypatch):
        ops.segment(photo * 0.9, "slic", 12)
        monkeypatch.setattr(ops, "_compute", None)
        ops.segment(photo * 0.9, "slic", 12)
        with pytest.raises(TypeError):
            ops.segment(photo * 0.9, "slic", 13)

    def test_gray_images(self, photo):
        for how in ops.SEGMENTATIONS:
            assert ops.segment(photo[:, :1], how, 20).shape == (1, 64, 48)

    def test_means_and_paint(self):
        segments = torch.tensor([[[0, 0, 1], [2, 2, 1]]])
        values = torch.tensor([[[[1.0, 3.0, 5.0], [0.0, 1.0, 7.0]]]])
        means = ops.segment_means(values, segments)
        assert means.tolist() == [[[[2.0, 2.0, 6.0], [0.5, 0.5, 6.0]]]]
        painted = ops.paint(torch.tensor([[10.0, 20.0, 30.0]]), segments)
        assert painted.tolist() == [[[10.0, 10.0, 20.0], [30.0, 30.0, 20.0]]]

    @pytest.mark.parametrize("how", ops.SEGMENTATIONS)
    def test_never_more_than_asked_for(self, how, photo):
        for most in (1, 3, 8, 20):
            (count,) = ops.segment_counts(ops.segment(photo, how, most))
            assert 1 <= count <= most

    def test_the_smallest_segment_goes_to_the_neighbor_with_the_longest_border(self):
        labels = np.array([[0, 0, 0, 0], [0, 1, 2, 2], [0, 1, 2, 2], [0, 0, 2, 2]])
        expected = np.array([[0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1]])
        assert (ops._merge(labels, 2) == expected).all()
        assert (ops._merge(labels, 3) == labels).all()
        assert (ops._merge(labels, 1) == 0).all()

    def test_unknown_names_are_refused(self, photo):
        with pytest.raises(ParameterError, match="slic"):
            ops.segment(photo, "voronoi", 5)
        with pytest.raises(ParameterError, match="n_segments"):
            ops.segment(photo, "grid", 0)


class FixedState(np.random.RandomState):
    """Hands the library the coalitions that xbench drew."""

    def __init__(self, samples):
        super().__init__(0)
        self.samples = samples

    def randint(self, low, high=None, size=None, **_):
        if size is None:
            return 0
        assert size == self.samples.size
        return self.samples.copy().ravel()


CHEAP = {
    "lime": "lime[n_samples=40,n_segments=12]",
    "lime_grid": "lime[n_samples=41,segmentation=grid,n_segments=9,baseline=black,output=logit]",
    "lime_lasso": "lime[n_samples=60,n_features=7,selection=lasso_path,baseline=blur]",
    "lime_quickshift": "lime[n_samples=20,segmentation=quickshift,baseline=mean]",
    "kernelshap": "kernelshap[n_samples=60,n_segments=12]",
    "kernelshap_grid": "kernelshap[n_samples=33,n_segments=9,segmentation=grid,baseline=black]",
}


@pytest.mark.parametrize("name", CHEAP.values(), ids=CHEAP.keys())
def test_cost_is_exact_batch_is_irrelevant_model_is_restored(name, cnn, streams, photo):
    images = torch.cat([photo, photo.flip(2), photo.roll(10, 3)])
    method = METHODS.create(name).value
    before, weights = cnn.counter.read(), cnn.fingerprint()
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    maps = method.explain(cnn, images, TARGETS, streams=streams)
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002
    spent = cnn.counter.read() - before
    assert spent == method.cost({"height": 64, "width": 48, "classes": 5}) * 3
    assert cnn.fingerprint() == weights
    assert maps.shape == (3, 64, 48)
    assert maps.dtype == torch.float32
    assert torch.isfinite(maps).all()
    alone = method.explain(cnn, images[1:2], TARGETS[1:2], streams=streams.select([1]))
    assert torch.allclose(maps[1:2], alone, atol=1e-5 * float(maps.abs().max()))
    other = method.explain(cnn, images, TARGETS, streams=type(streams)(7, streams.image_ids))
    assert not torch.allclose(maps, other)


class TestLime:
    @pytest.mark.parametrize("hide", [None, 0])
    @pytest.mark.parametrize("segmentation", ["slic", "quickshift", "grid"])
    def test_equals_the_library(self, hide, segmentation, cnn, streams, photo):
        library = pytest.importorskip("lime.lime_image")
        fill = "segment" if hide is None else "black"
        name = f"lime[n_samples=150,segmentation={segmentation},n_segments=16,baseline={fill}]"
        streams = streams.select([0])
        ours = explain(name, cnn, photo, streams, torch.tensor([2]))
        segments = ops.segment(photo, segmentation, 16)[0]
        players = int(segments.max()) + 1
        samples = torch.randint(
            2, (150, players), generator=streams.generator(0, "lime"), dtype=torch.bool
        )
        explainer = library.LimeImageExplainer(random_state=FixedState(samples.numpy().astype(int)))

        def classify(batch):
            pixels = torch.from_numpy(batch).float().permute(0, 3, 1, 2)
            return cnn.probabilities(pixels).double().numpy()

        found = explainer.explain_instance(
            photo[0].permute(1, 2, 0).double().numpy(),
            classify,
            labels=(2,),
            top_labels=None,
            hide_color=hide,
            num_samples=150,
            segmentation_fn=lambda _: segments.numpy(),
        )
        weights = np.zeros(players)
        for feature, weight in found.local_exp[2]:
            weights[feature] = weight
        theirs = weights[segments.numpy()]
        assert np.allclose(ours[0].numpy(), theirs, atol=1e-5 * np.abs(theirs).max() + 1e-8)

    def test_n_features_leaves_the_others_at_zero(self, cnn, streams, photo):
        one = explain(
            "lime[n_samples=80,segmentation=grid,n_segments=16,n_features=3]",
            cnn,
            photo,
            streams.select([0]),
            TARGETS[:1],
        )
        values = one.unique()
        assert int((values != 0).sum()) == 3

    def test_weights_of_a_linear_model_without_shrinkage(self, streams):
        """With many samples the ridge penalty is small next to the data."""
        model = Classifier(build(Linear), batch_size=64)
        images = pictures(height=12, width=12)
        maps = explain(
            "lime[n_samples=4000,segmentation=grid,n_segments=4,baseline=black,output=logit,"
            "kernel_width=10.0]",
            model,
            images,
            streams,
        )
        parts = model.module.head.weight[TARGETS].view(images.shape) * images
        for y in (0, 6):
            for x in (0, 6):
                exact = parts[:, :, y : y + 6, x : x + 6].sum((1, 2, 3))
                assert torch.allclose(maps[:, y, x], exact, rtol=0.01, atol=2e-3)

    @pytest.mark.parametrize(
        "text",
        [
            "n_samples=1",
            "segmentation=x",
            "baseline=x",
            "selection=x",
            "kernel_width=0",
            "n_features=-1",
            "n_segments=0",
            "output=x",
        ],
    )
    def test_wrong_parameters_are_refused(self, text):
        with pytest.raises(ParameterError):
            METHODS.create(f"lime[{text}]")


class TestKernelShap:
    @pytest.mark.parametrize("players", [2, 5, 8])
    def test_all_coalitions_have_the_kernel_s_weights(self, players, streams):
        rows, weights = shap_coalitions(players, 2**players + 3, streams.generator(0))
        assert len(rows) == len(weights) == 2**players + 3
        used = rows[weights > 0]
        assert len(used) == len(used.unique(dim=0)) == 2**players - 2
        for row, weight in zip(used, weights[weights > 0], strict=True):
            size = int(row.sum())
            subsets = len(list(itertools.combinations(range(players), size)))
            kernel = (players - 1) / (subsets * size * (players - size))
            assert float(weight) == pytest.approx(kernel)

    @pytest.mark.parametrize("players", [10, 50])
    def test_drawn_coalitions_come_with_their_complement_and_keep_the_mass(self, players, streams):
        rows, weights = shap_coalitions(players, 301, streams.generator(0))
        assert not rows[0].any()
        assert rows[1].all()
        assert len(rows) == 301
        used = weights > 0
        sizes = rows[used].sum(1).double()
        assert float((sizes * weights[used]).sum() / weights[used].sum()) == pytest.approx(
            players / 2
        )
        mass = sum((players - 1) / (k * (players - k)) for k in range(1, players))
        assert float(weights.sum()) == pytest.approx(mass)
        singles = rows[rows.sum(1) == 1]
        assert (len(singles.unique(dim=0)) == players) == (players == 10)

    def test_all_coalitions_give_the_exact_values(self, streams):
        generator = torch.Generator().manual_seed(3)
        worth = torch.rand(256, generator=generator).double().numpy()

        def value(chosen):
            return worth[sum(1 << i for i in chosen)]

        rows, weights = shap_coalitions(8, 256, streams.generator(0))
        values = torch.tensor([value(np.flatnonzero(row.numpy())) for row in rows])
        found = solve_shap(rows, weights, values)
        assert np.allclose(found.numpy(), twin.shapley(value, 8), atol=1e-9)

    def test_few_coalitions_come_close(self, streams):
        generator = torch.Generator().manual_seed(3)
        linear, noise = (
            torch.randn(12, generator=generator),
            torch.randn(12, 12, generator=generator),
        )

        def value(row):
            z = row.double()
            return float(z @ linear.double() + 0.1 * z @ noise.double() @ z)

        rows, weights = shap_coalitions(12, 400, streams.generator(0))
        values = torch.tensor([value(row) for row in rows], dtype=torch.float64)
        found = solve_shap(rows, weights, values)
        half = (noise + noise.T).double() / 2  # quadratic games are solved exactly by pairs
        exact = linear.double() + 0.1 * half.sum(1)
        assert torch.allclose(found, exact, atol=1e-6)
        assert float(found.sum()) == pytest.approx(float(values[1] - values[0]))

    def test_linear_model_is_exact_with_few_samples(self, streams):
        model = Classifier(build(Linear), batch_size=64)
        images = pictures(height=12, width=12)
        name = "kernelshap[n_samples=40,segmentation=grid,n_segments=9,baseline=black]"
        maps = explain(name, model, images, streams)
        parts = (model.module.head.weight[TARGETS].view(images.shape) * images).sum(1)
        cells = parts.unfold(1, 4, 4).unfold(2, 4, 4).sum((3, 4))
        assert torch.allclose(maps[:, ::4, ::4], cells, atol=1e-4)

    def test_agrees_with_captum(self, cnn, streams):
        attr = pytest.importorskip("captum.attr")
        images = pictures()[:1]
        ours = explain(
            "kernelshap[n_samples=64,segmentation=grid,n_segments=6,baseline=black]",
            cnn,
            images,
            streams.select([0]),
            TARGETS[:1],
        )
        with seeded(0):
            theirs = attr.KernelShap(cnn.network).attribute(
                images,
                target=0,
                n_samples=6000,
                perturbations_per_eval=64,
                feature_mask=ops.segment(images, "grid", 6)[None],
            )
        assert np.corrcoef(ours.flatten(), theirs[0, 0].flatten())[0, 1] > 0.999

    @pytest.mark.parametrize("text", ["n_samples=3", "segmentation=x", "baseline=x", "output=x"])
    def test_wrong_parameters_are_refused(self, text):
        with pytest.raises(ParameterError):
            METHODS.create(f"kernelshap[{text}]")
