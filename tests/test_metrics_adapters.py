"""Other packages' metrics as they are, and parity with them where their definition is sound."""

import explainers
import mapcases
import nets
import numpy as np
import pytest
import torch
from xbench.metrics import adapters

from xbench.classifier import Classifier
from xbench.errors import ParameterError, UnknownNameError
from xbench.optional import optional, seeded
from xbench.registry import METRICS
from xbench.streams import Streams

quantus = pytest.importorskip("quantus")
captum = pytest.importorskip("captum.metrics")
SIZE = (16, 13)


@pytest.fixture(scope="module", params=[1, 3])
def case(request):
    model = Classifier(nets.build(nets.SmallCNN, channels=request.param), batch_size=4)
    return explainers.case_of(
        explainers.Gradient(),
        model,
        nets.pictures(3, request.param, *SIZE),
        truth=mapcases.blobs(3, *SIZE),
    )


def run(name, case):
    metric = METRICS.create(name).value
    assert metric.supports(case) is None
    return metric.score(case, streams=Streams(0, case.image_ids, "test"))


# Ours, the factor between the two, and Quantus'.
PARITY = [
    ("sparseness", 1, "quantus:Sparseness"),
    ("complexity", 1, "quantus:Complexity"),
    ("effective_complexity[eps=1e-05]", 208, "quantus:EffectiveComplexity"),
    ("rank_accuracy", 1, "quantus:RelevanceRankAccuracy[abs=false]"),
    ("pointing_game[tolerance=0]", 1, "quantus:PointingGame"),
    ("mask_auc", 1, "quantus:AUC[abs=false]"),
]


@pytest.mark.parametrize(("ours", "factor", "theirs"), PARITY)
def test_parity_with_quantus(case, ours, factor, theirs):
    expected = run(theirs, case).values
    assert (factor * run(ours, case).values).tolist() == pytest.approx(expected.tolist(), abs=1e-4)


@pytest.mark.parametrize("k", [10, 50])
def test_parity_of_top_k(case, k):
    ours = run(f"top_k_intersection[share={k / 208}]", case).values
    theirs = run(f"quantus:TopKIntersection[abs=false,k={k}]", case).values
    assert ours.tolist() == pytest.approx(theirs.tolist(), abs=1e-4)


def test_parity_of_mass_on_maps_without_negative_values(case):
    positive = case.with_maps(case.maps.abs())
    ours, theirs = run("mass_accuracy", positive), run("quantus:RelevanceMassAccuracy", positive)
    assert ours.values.tolist() == pytest.approx(theirs.values.tolist(), abs=1e-4)


def test_mass_deviates_on_signed_maps(case):
    theirs = run("quantus:RelevanceMassAccuracy[normalise=false]", case).values
    ours = run("mass_accuracy", case).values
    assert (ours - theirs).abs().max() > 1e-3
    assert ((ours >= 0) & (ours <= 1)).all()


def test_pointing_deviates_on_ties(case):
    maps = torch.zeros_like(case.maps)
    maps[:, 0, 0] = 1.0
    maps[case.truth] = 1.0
    truth = case.truth.clone()
    truth[:, 0, 0] = False
    tied = explainers.case_of(
        explainers.OfImage(lambda images: maps), case.model, case.images, truth=truth
    )
    assert run("quantus:PointingGame", tied).values.tolist() == [1.0] * 3
    metric = METRICS.create("pointing_game[tolerance=0]").value
    hits = [metric.score(tied, streams=Streams(s, tied.image_ids)).values for s in range(40)]
    share = torch.stack(hits).mean().item()
    assert share == pytest.approx(5 / 6, abs=0.12)
    assert share < 1


@pytest.mark.parametrize(
    "name",
    [
        "quantus:PixelFlipping[features_in_step=13]",
        "quantus:MaxSensitivity[nr_samples=3]",
        "quantus:MPRT",
        "quantus:FaithfulnessCorrelation[nr_runs=20,subset_size=20]",
        "quantus:RandomLogit[num_classes=5]",
        "captum:infidelity",
        "captum:sensitivity_max",
    ],
)
def test_runs_repeatably_and_leaves_everything_as_it_was(case, name):
    maps, images, weights = case.maps.clone(), case.images.clone(), case.model.fingerprint()
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first, second = run(name, case).values, run(name, case).values
    assert torch.equal(first, second)
    assert torch.isfinite(first).all()
    assert torch.equal(case.maps, maps)
    assert torch.equal(case.images, images)
    assert case.model.fingerprint() == weights
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    alone = explainers.part(case, [2])
    assert run(name, alone).values.item() == pytest.approx(first[2].item(), rel=1e-4, abs=1e-9)


def test_sparseness_does_not_write_into_the_maps(case):
    maps = case.maps.clone()
    run("quantus:Sparseness[abs=false,normalise=false]", case)
    assert torch.equal(case.maps, maps)


def test_captum_is_called_as_documented(case):
    streams = Streams(0, case.image_ids, "test")
    found = run("captum:infidelity[n_perturb_samples=7,noise=0.1,normalize=true]", case).values
    for i in range(3):
        image = case.images[i : i + 1]
        attribution = case.maps[i : i + 1, None].expand_as(image) / image.shape[1]

        def perturb(inputs):
            noise = 0.1 * torch.randn(inputs.shape)
            return noise, inputs - noise

        with seeded(streams.seed_for(i, "captum")):
            expected = captum.infidelity(
                case.model.network,
                perturb,
                image,
                attribution,
                target=case.targets[i : i + 1],
                n_perturb_samples=7,
                normalize=True,
            )
        assert found[i].item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("samples", [1, 5, 11])
@pytest.mark.parametrize("name", ["infidelity", "sensitivity_max"])
def test_captum_cost(case, name, samples):
    metric = METRICS.create(f"captum:{name}[n_perturb_samples={samples}]").value
    before = case.model.counter.read()
    metric.score(case, streams=Streams(0, case.image_ids))
    spent = case.model.counter.read() - before
    explains = metric.explains({})
    assert spent.forwards == 3 * (metric.cost({}).forwards + explains)
    assert spent.backwards == 3 * explains


def test_undefined_images(case):
    maps = case.maps.clone()
    maps[0] = 0.3
    truth = case.truth.clone()
    truth[1] = False
    changed = explainers.case_of(
        explainers.OfImage(lambda images: maps), case.model, case.images, truth=truth
    )
    scores = run("quantus:RelevanceRankAccuracy", changed)
    assert scores.defined.tolist() == [False, False, True]
    assert "RelevanceRankAccuracy" in scores.reason


def test_refusals(case):
    bare = explainers.case_of(explainers.Gradient(), case.model, case.images)
    assert "needs masks" in METRICS.create("quantus:PointingGame").value.supports(bare)
    assert "no metric 'Nothing'" in METRICS.create("quantus:Nothing").value.supports(case)
    assert "no score an image" in METRICS.create("quantus:SensitivityN").value.supports(case)
    with pytest.raises(ParameterError, match="has no parameter 'k'"):
        run("quantus:Sparseness[k=3]", case)
    with pytest.raises(ParameterError, match="infidelity"):
        METRICS.create("captum:saliency")
    with pytest.raises(ParameterError, match="needs name"):
        METRICS.create("quantus")
    with pytest.raises(UnknownNameError):
        METRICS.create("quantum:Sparseness")


def test_a_missing_library_takes_only_its_own_metrics(case, monkeypatch):
    monkeypatch.setattr(adapters, "_quantus", optional("no_such_library"))
    monkeypatch.setattr(adapters, "_captum", optional("no_such_library"))
    assert "no_such_library" in METRICS.create("quantus:Sparseness").value.supports(case)
    assert "no_such_library" in METRICS.create("captum:infidelity").value.supports(case)


def test_numpy_without_trapz(case, monkeypatch):
    monkeypatch.delattr(np, "trapz", raising=False)
    scores = run("quantus:PixelFlipping[features_in_step=13]", case)
    assert scores.defined.all()
    assert not hasattr(np, "trapz")


def test_cards_name_the_defects():
    chosen = METRICS.create("quantus:Sparseness[normalise=false]")
    assert chosen.label == "quantus:Sparseness[normalise=false]"
    assert "RegionPerturbation: declared lower-is-better" in chosen.card.limitations
    assert "scale of the map" in METRICS.entry("captum").card.limitations
    listed = {*adapters.DEFECTS, *adapters.REFUSED}
    assert all(hasattr(quantus, name) for name in listed)
    assert not {"quantus", "captum"} & {one.entry.name for one in METRICS.select("all")}
