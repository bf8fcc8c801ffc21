"""What must hold where the truth is planted: the embedded classifier on generated scenes."""

import pytest

from xbench.contracts import Case
from xbench.models.loading import load_classifier
from xbench.registry import DATASETS, METHODS, METRICS
from xbench.running.cases import bind
from xbench.streams import Streams

COUNT = 24
EXPLAINERS = ("gradient_abs", "input_x_gradient", "guided_backprop_abs", "gradcam")
METRIC_NAMES = sorted(
    entry.name
    for entry in METRICS
    if entry.card.property == "localization" and "truth" in entry.card.needs
)


@pytest.fixture(scope="module")
def table():
    """Mean of every metric of every method, by (method, metric)."""
    model = load_classifier("reference", device="cpu", batch_size=12)
    samples = (DATASETS.create("planted").value.open(model.geometry, limit=COUNT, seed=0)).read(
        range(COUNT)
    )
    targets, ids = model.logits(samples.images).argmax(dim=1), list(samples.ids)
    found = {}
    for name in ("oracle", "random", "center_prior", *EXPLAINERS):
        explain = bind(
            METHODS.create(name).value,
            model,
            samples.images,
            targets,
            Streams(0, ids, name),
            samples.truth,
        )
        maps = explain(samples.images)
        found |= scores(name, model, samples, targets, explain, maps)
        if name == "oracle":
            inverted = (~samples.truth).float()
            found |= scores("inverted", model, samples, targets, explain, inverted)
    found["area"] = samples.truth.double().mean().item()
    return found


def scores(name, model, samples, targets, explain, maps):
    case = Case(
        model=model,
        images=samples.images,
        targets=targets,
        maps=maps,
        explain=explain,
        image_ids=samples.ids,
        truth=samples.truth,
    )
    means = {}
    for metric in METRIC_NAMES:
        result = METRICS.create(metric).value.score(case, streams=Streams(0, samples.ids, metric))
        assert result.defined.all(), (name, metric)
        means[name, metric] = result.values.mean().item()
    return means


@pytest.mark.parametrize("metric", METRIC_NAMES)
def test_truth_beats_every_method_and_methods_beat_noise(table, metric):
    for explainer in EXPLAINERS:
        assert table["oracle", metric] >= table[explainer, metric] > table["random", metric]


@pytest.mark.parametrize("metric", METRIC_NAMES)
def test_truth_beats_noise_beats_inverted_truth(table, metric):
    assert table["oracle", metric] > table["random", metric]
    if metric == "pointing_game":
        # An inverted mask points next to the object as often as noise does.
        assert table["inverted", metric] < 0.3
    else:
        assert table["random", metric] > table["inverted", metric]


def test_noise_gets_the_area(table):
    assert table["random", "rank_accuracy"] == pytest.approx(table["area"], abs=0.02)
    assert table["random", "mass_accuracy"] == pytest.approx(table["area"], abs=0.01)
    assert table["random", "mask_auc"] == pytest.approx(0.5, abs=0.03)


def test_explainers_point_at_the_object(table):
    for explainer in EXPLAINERS:
        assert table[explainer, "pointing_game"] >= 0.6


def test_mass_punishes_coarse_maps_that_ranks_do_not(table):
    fine, coarse = "input_x_gradient", "gradcam"
    assert table[coarse, "rank_accuracy"] > table[fine, "rank_accuracy"]
    assert table[coarse, "mass_accuracy"] < table[fine, "mass_accuracy"]
