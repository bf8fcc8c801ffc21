"""GridPG, DiFull and focus against their slow twins, and what must hold by construction."""

from dataclasses import dataclass, replace
from typing import ClassVar

import explainers
import nets
import pytest
import torch
from reference import mosaic_reference as reference
from xbench.metrics.mosaic import DiFull, Focus, GridPg

import xbench
from xbench.classifier import Classifier
from xbench.classifier.disconnected import disconnect
from xbench.contracts import MethodCard, Samples, TruthMethod
from xbench.errors import ParameterError, UnsupportedError
from xbench.operations.mosaics import (
    build_mosaics,
    cell_masks,
    choose_partners,
    confident_pool,
    tile,
    untile,
)
from xbench.registry import METHODS, METRICS
from xbench.streams import Streams

SIZE = (12, 10)
TARGETS = torch.tensor([0, 1, 2, 3])


@dataclass(frozen=True)
class GradCam(explainers.Gradient):
    """The paper's formula at the last convolution."""

    card: ClassVar[MethodCard] = MethodCard(name="test_cam", summary="c", family="cam")

    def explain(self, model, images, targets, *, streams):
        layer = model.layer("last_conv", images)
        acts, grads, _ = model.activation_gradients(images, targets, layer)
        cam = (grads.mean(dim=(2, 3), keepdim=True) * acts).sum(dim=1).relu()
        return torch.nn.functional.interpolate(cam[:, None], images.shape[2:])[:, 0]


@dataclass(frozen=True)
class Truth(TruthMethod):
    card: ClassVar[MethodCard] = MethodCard(name="test_truth", summary="t", family="control")

    def from_truth(self, truth):
        return truth.float()


def pool_of(n=12, classes=5, channels=3):
    images = nets.pictures(n, channels, *SIZE, seed=9)
    return Samples(images, torch.arange(n) % classes, [f"pool-{i}" for i in range(n)])


def case_of(method, model, n=4, **more):
    images = nets.pictures(n, more.pop("channels", 3), *SIZE)
    pool = more.pop("pool", pool_of(channels=images.shape[1]))
    return explainers.case_of(method, model, images, TARGETS[:n], pool=pool, **more)


def streams(n=4):
    return Streams(0, [f"i{i}" for i in range(n)], "test")


def values(metric, case):
    assert metric.supports(case) is None
    return metric.score(case, streams=streams().select(range(len(case)))).values


@pytest.mark.parametrize("channels", [1, 3])
def test_tile_twin(channels):
    cells = torch.rand(2, 9, channels, 4, 5, generator=torch.Generator().manual_seed(0))
    whole = tile(cells)
    for i in range(2):
        assert whole[i].tolist() == reference.build(cells[i].tolist())
    assert torch.equal(untile(whole, 3), cells)


def test_cells_cover_odd_sizes():
    masks = cell_masks(2, 7, 5)
    assert torch.equal(masks.sum(dim=0), torch.ones(7, 5).long())
    assert [int(mask.sum()) for mask in masks] == [12, 8, 9, 6]


@pytest.mark.parametrize("n", [2, 3])
def test_gridpg_twin(cnn, n):
    case = case_of(explainers.Gradient(), cnn, pool=pool_of(classes=5 if n == 2 else 12))
    metric = GridPg(n=n, confidence=0)
    if n == 3:
        cnn = Classifier(nets.build(nets.SmallCNN, classes=12), batch_size=4)
        case = case_of(explainers.Gradient(), cnn, pool=pool_of(classes=12))
    mosaics = build_mosaics(case.images, TARGETS, case.pool, streams().shared(), n=n)
    expected = []
    for i in range(4):
        shares = []
        for cell, kind in enumerate(mosaics.classes[i]):
            maps = cnn.gradients(mosaics.images[i : i + 1], kind[None]).sum(dim=1)
            shares.append(reference.cell_share(maps[0].tolist(), n, {cell}))
        expected.append(sum(shares) / len(shares))
    assert values(metric, case).tolist() == pytest.approx(expected, abs=1e-5)


def test_mosaics_hold_the_image_and_partners_of_other_classes():
    images, pool = nets.pictures(4, 3, *SIZE), pool_of()
    mosaics = build_mosaics(images, TARGETS, pool, streams())
    cells = untile(mosaics.images, 2)
    for i in range(4):
        assert torch.equal(cells[i, mosaics.own[i]], images[i])
        kinds = mosaics.classes[i].tolist()
        assert len(set(kinds)) == 4
        assert kinds[mosaics.own[i]] == i
        for cell in set(range(4)) - {int(mosaics.own[i])}:
            (where,) = [p for p in range(12) if torch.equal(pool.images[p], cells[i, cell])]
            assert pool.labels[where] == kinds[cell]
    assert len(set(mosaics.own.tolist())) > 1
    assert mosaics.complete.all()


def test_partners():
    pool = pool_of(6, 3)
    order = torch.tensor([0, 3, 1, 4, 2, 5])
    assert choose_partners(pool, 0, "x", order, 0, 2) == [1, 2]
    assert choose_partners(pool, 0, "pool-1", order, 0, 2) == [4, 2]
    assert choose_partners(pool, 0, "pool-0", order, 1, 2) == [3, 1, 2]
    assert choose_partners(pool, 0, "x", order, 0, 3) is None
    assert choose_partners(pool, 7, "x", order, 1, 2) is None


@pytest.mark.parametrize("metric", [GridPg(confidence=0), DiFull(confidence=0)])
def test_maps_that_ignore_the_class_get_chance_exactly(cnn, metric):
    case = case_of(explainers.OfImage(), cnn)
    assert values(metric, case).tolist() == pytest.approx([0.25] * 4, abs=1e-7)


@pytest.mark.parametrize("name", ["gridpg", "difull", "focus"])
def test_truth_is_one_and_its_inverse_zero(cnn, name):
    @dataclass(frozen=True)
    class Inverse(Truth):
        def from_truth(self, truth):
            return (~truth).float()

    metric = METRICS.create(f"{name}[confidence=0]").value
    case = case_of(explainers.OfImage(), cnn)
    assert values(metric, replace(case, method=Truth())).tolist() == [1.0] * 4
    assert values(metric, replace(case, method=Inverse())).tolist() == [0.0] * 4
    noise = values(metric, case_of(explainers.Noise(), cnn))
    assert noise.tolist() == pytest.approx([0.5 if name == "focus" else 0.25] * 4, abs=0.1)


def test_difull_by_construction(cnn):
    gradient = values(DiFull(confidence=0), case_of(explainers.Gradient(), cnn))
    assert gradient.tolist() == [1.0] * 4
    leaking = values(DiFull(confidence=0), case_of(GradCam(), cnn))
    assert (leaking < 0.9).all()


@pytest.mark.parametrize("kind", [nets.SmallCNN, nets.FunctionalCNN])
def test_disconnected_network_twin(kind):
    model = Classifier(nets.build(kind), batch_size=4)
    cells = nets.pictures(8, 3, *SIZE)
    grid = disconnect(model, cells, 2)
    expected = model.logits(cells).view(2, 20)
    found = grid.logits(tile(cells.view(2, 4, 3, *SIZE)))
    assert torch.allclose(found, expected, atol=1e-5)
    layer = grid.layer("last_conv", tile(cells.view(2, 4, 3, *SIZE)))
    assert layer.grid == tuple(2 * side for side in model.layer("last_conv", cells).grid)


def test_disconnected_without_feature_maps():
    model = Classifier(nets.build(nets.Linear, shape=(3, *SIZE), classes=4), batch_size=4)
    case = case_of(explainers.Gradient(), model, pool=pool_of(classes=4))
    assert values(DiFull(confidence=0), case).tolist() == [1.0] * 4
    assert "one size only" in GridPg().supports(case)
    shrunk = GridPg(confidence=0, cells="shrunk")
    assert ((values(shrunk, case) > 0) & (values(shrunk, case) < 1)).all()


def test_network_that_cannot_be_cut_is_refused():
    class Branching(nets.SmallCNN):
        def forward(self, x):
            return super().forward(x) if x.sum() > -1e9 else x

    model = Classifier(nets.build(Branching), batch_size=4)
    with pytest.raises(UnsupportedError, match="cannot be cut"):
        disconnect(model, nets.pictures(1, 3, *SIZE), 2)
    assert "cannot be cut" in DiFull().supports(case_of(explainers.Gradient(), model))


def test_focus_twin(cnn):
    case = case_of(explainers.Gradient(), cnn)
    mosaics = build_mosaics(case.images, TARGETS, case.pool, streams().shared(), same=1)
    maps = cnn.gradients(mosaics.images, TARGETS).sum(dim=1)
    expected = []
    for i in range(4):
        wanted = {cell for cell in range(4) if mosaics.classes[i, cell] == i}
        assert len(wanted) == 2
        expected.append(reference.cell_share(maps[i].tolist(), 2, wanted))
    assert values(Focus(confidence=0), case).tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", ["gridpg", "difull", "focus"])
def test_neighbors_and_batch_size_do_not_matter(cnn, name):
    metric = METRICS.create(f"{name}[confidence=0]").value
    whole = values(metric, case_of(explainers.Gradient(), cnn))
    images = nets.pictures(4, 3, *SIZE)
    for i in (3, 1):
        one = explainers.case_of(
            explainers.Gradient(),
            cnn,
            images[i : i + 1],
            TARGETS[i : i + 1],
            pool=pool_of(),
            image_ids=[f"i{i}"],
        )
        alone = metric.score(one, streams=streams().select([i])).values
        assert alone.item() == pytest.approx(whole[i].item(), abs=1e-5)


@pytest.mark.parametrize("name", ["gridpg", "difull", "focus"])
def test_cost_is_counted(cnn, name):
    metric = METRICS.create(f"{name}[confidence=0]").value
    case = case_of(explainers.Gradient(), cnn)
    assert metric.supports(case) is None
    facts = cnn.facts((3, *SIZE))
    before = cnn.counter.read()
    metric.score(case, streams=streams())
    spent = cnn.counter.read() - before
    explains = 4 * metric.explains(facts)
    assert spent.forwards == 4 * metric.cost(facts).forwards + explains
    assert spent.backwards == explains


@pytest.mark.parametrize("name", ["gridpg", "difull", "focus"])
def test_undefined_images(cnn, name):
    case = case_of(explainers.Gradient(), cnn)
    sure = METRICS.create(f"{name}[confidence=0.99]").value
    assert torch.isnan(values(sure, case)).all()
    metric = METRICS.create(f"{name}[confidence=0]").value
    few = replace(case, pool=pool_of(2))
    scores = metric.score(few, streams=streams())
    assert not scores.defined.any()
    assert "partners" in scores.reason
    zero = case_of(explainers.OfImage(lambda images: 0 * images.mean(dim=1)), cnn)
    assert torch.isnan(values(metric, zero)).all()
    assert "sure of" in metric.supports(replace(case, pool=None))
    assert "sure of" in metric.supports(replace(case, pool=pool_of(0)))


def test_confident_pool():
    model = Classifier(nets.build(nets.Linear, shape=(3, *SIZE)), batch_size=4)
    with torch.no_grad():
        model.module.head.weight.mul_(60)
    images = nets.pictures(60, 3, *SIZE)
    top, predicted = model.probabilities(images).max(dim=1)
    labels = predicted.clone()
    labels[::2] = -1
    labels[1] = (predicted[1] + 1) % 4
    before = model.counter.read()
    samples = Samples(images, labels, [f"p{i}" for i in range(60)])
    pool = confident_pool(model, samples, enough=5)
    wanted = [i for i in range(60) if top[i] >= 0.9 and i != 1]
    assert pool.ids == [f"p{i}" for i in wanted]
    assert pool.labels.tolist() == predicted[wanted].tolist()
    assert model.counter.read() == before
    loose = confident_pool(model, samples, enough=60, size=7)
    assert loose.ids == [f"p{i}" for i in range(60) if top[i] >= 0.5 and i != 1][:7]


@pytest.mark.parametrize(
    "text", ["gridpg[n=1]", "gridpg[confidence=1]", "difull[cells=shrunk]", "focus[n=3]"]
)
def test_bad_parameters(text):
    with pytest.raises(ParameterError, match=text.partition("[")[0]):
        METRICS.create(text)


@pytest.mark.slow
def test_published_order_on_a_real_network(imagenet_sample):
    model, images = nets.mobilenet(imagenet_sample), nets.photographs(imagenet_sample, 24)
    ids = [f"photo-{i}" for i in range(24)]
    pool = confident_pool(model, Samples(images, torch.full((24,), -1), ids))
    keep = [ids.index(name) for name in pool.ids[:4]]
    means = {}
    for name in ("random", "edges", "gradient_abs", "guided_backprop_abs", "gradcam"):
        case = explainers.case_of(
            METHODS.create(name).value,
            model,
            images[keep],
            image_ids=[ids[i] for i in keep],
            pool=pool,
        )
        assert GridPg().supports(case) is None
        scores = GridPg().score(case, streams=Streams(0, case.image_ids, "gridpg"))
        assert scores.defined.all()
        means[name] = scores.values.mean().item()
    assert means["random"] == pytest.approx(0.25, abs=1e-6)
    assert means["edges"] == pytest.approx(0.25, abs=1e-6)
    assert 0.25 < means["gradient_abs"] < 0.6
    assert 0.25 < means["guided_backprop_abs"] < 0.6
    assert means["gradcam"] > 0.6


@pytest.mark.parametrize("method", ["fullgrad", "fusedcam"])
def test_methods_of_several_layers_are_refused_where_layers_see_single_cells(
    method, tmp_path
) -> None:
    """The network of DiFull runs its first layers on every cell by itself."""
    run = xbench.run(
        "reference", "planted", methods=method, metrics="difull", limit=2, out=tmp_path
    )
    rows = run.records.query("metric == 'difull'")
    assert set(rows["status"]) == {"unsupported"}
    assert "rows of their own" in rows["reason"].iloc[0]
