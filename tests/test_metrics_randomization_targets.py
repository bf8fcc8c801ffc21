import nets
import numpy as np
import pytest
import scipy.stats
import torch
from explainers import Gradient, Noise, OfImage, Wrapped, case_of, part, streams_of
from reference import randomization_reference as reference
from xbench.metrics.randomization_entropy import EntropyRise, histogram_entropy
from xbench.metrics.randomization_targets import ClassSensitivity, LabelRandomization

from xbench.classifier import Classifier
from xbench.errors import ParameterError
from xbench.streams import Streams, seed_of

SIZES = [(3, 12, 12), (1, 12, 13), (3, 15, 11)]
METRICS = [ClassSensitivity(), LabelRandomization(), EntropyRise()]


def small(channels=3, batch_size=4, seed=0):
    network = nets.build(nets.SmallCNN, seed=seed, channels=channels)
    return Classifier(network, batch_size=batch_size)


def case_with_twin(method, channels=3, height=20, width=17, n=3, batch_size=4):
    model = small(channels, batch_size)
    twin = Classifier(nets.build(nets.SmallCNN, seed=9, channels=channels), batch_size=batch_size)
    return case_of(method, model, nets.pictures(n, channels, height, width), twin=twin)


def score(metric, case):
    return metric.score(case, streams=streams_of(case, type(metric).__name__))


@pytest.mark.parametrize(("channels", "height", "width"), SIZES)
def test_class_sensitivity_agrees_with_the_transcription(channels, height, width):
    case = case_with_twin(Gradient(), channels, height, width)
    found = score(ClassSensitivity(), case)
    draws = Streams(0, case.image_ids, "shared").integers(4, (1,), "other class")[:, 0]
    logits = case.model.logits(case.images)
    for row in range(3):
        target = int(case.targets[row])
        others = [k for k in range(5) if k != target]
        chosen = {
            "random": others[int(draws[row])],
            "second": max(others, key=lambda k: logits[row, k].item()),
        }
        for name, other in chosen.items():
            theirs = reference.gradient_map(case.model.module, case.images[row], other)
            signed = reference.rank_correlation(case.maps[row], theirs)
            absolute = reference.rank_correlation(case.maps[row].abs(), theirs.abs())
            assert found.details[name][row].item() == pytest.approx(signed, abs=1e-5)
            assert found.details[f"{name}_abs"][row].item() == pytest.approx(absolute, abs=1e-5)
    assert torch.equal(found.values, found.details["random"])
    second = score(ClassSensitivity(other="second"), case)
    assert torch.equal(second.values, found.details["second"])


@pytest.mark.parametrize(("channels", "height", "width"), SIZES)
def test_label_randomization_agrees_with_the_transcription(channels, height, width):
    case = case_with_twin(Gradient(), channels, height, width)
    found = score(LabelRandomization(), case)
    for row in range(3):
        target = int(case.targets[row])
        theirs = reference.gradient_map(case.twin.module, case.images[row], target)
        expected = reference.rank_correlation(case.maps[row], theirs)
        assert found.values[row].item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("channels", "height", "width"), SIZES)
def test_entropy_rise_agrees_with_the_transcription(channels, height, width):
    case = case_with_twin(Gradient(), channels, height, width)
    found = score(EntropyRise(bins=10), case)
    names = [name for name, _ in case.model.module.named_parameters()]
    random = reference.with_random_weights(
        case.model.module,
        names,
        lambda name: seed_of(0, "shared", 0, "randomize", "permutation", name),
    )
    for row in range(3):
        theirs = reference.gradient_map(random, case.images[row], int(case.targets[row]))
        before = reference.histogram_entropy(case.maps[row], 10)
        after = reference.histogram_entropy(theirs, 10)
        assert found.values[row].item() == pytest.approx((after - before) / before, abs=1e-5)


def test_histogram_entropy_agrees_with_numpy():
    maps = torch.randn(4, 21, 30, generator=torch.Generator().manual_seed(0))
    expected = [scipy.stats.entropy(np.histogram(m.double().numpy(), bins=100)[0]) for m in maps]
    assert histogram_entropy(maps, 100).tolist() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("metric", METRICS)
def test_independent_of_batch_size_and_neighbors(metric):
    whole = score(metric, case_with_twin(Gradient(), batch_size=3))
    alone = score(metric, part(case_with_twin(Gradient(), batch_size=1), [2]))
    assert alone.values[0].item() == pytest.approx(whole.values[2].item(), abs=1e-5)


@pytest.mark.parametrize("metric", METRICS)
def test_counted_calls_are_the_cost_formula(metric):
    case = case_with_twin(Gradient())
    facts = case.model.facts(case.images.shape[1:])
    before = case.model.counter.read()
    score(metric, case)
    spent = case.model.counter.read() - before
    assert spent.backwards == 3 * metric.explains(facts)
    assert spent.forwards == 3 * (metric.cost(facts).forwards + metric.explains(facts))


@pytest.mark.parametrize("metric", METRICS)
def test_declared_invariances_hold(metric):
    plain = score(metric, case_with_twin(Gradient())).values
    changes = [lambda maps: 4 * maps]
    if "monotone" in metric.card.invariances:
        changes.append(lambda maps: maps.sign() * maps.abs().sqrt())
    for change in changes:
        changed = score(metric, case_with_twin(Wrapped(Gradient(), change))).values
        assert torch.allclose(changed, plain, atol=1e-5)


@pytest.mark.parametrize("metric", METRICS)
def test_controls_are_at_their_known_values(metric):
    fixed = score(metric, case_with_twin(OfImage())).values
    worst = 0.0 if isinstance(metric, EntropyRise) else 1.0
    assert fixed.tolist() == pytest.approx([worst] * 3)
    noise = score(metric, case_with_twin(Noise(), height=40, width=40)).values
    assert noise.abs().max() < 0.15


@pytest.mark.parametrize("metric", METRICS)
def test_constant_and_one_hot_maps(metric):
    for change in (torch.zeros_like, torch.ones_like):
        assert not score(metric, case_with_twin(Wrapped(Gradient(), change))).defined.any()

    def one_hot(maps):
        flat = maps.flatten(1)
        return (flat == flat.amax(dim=1, keepdim=True)).float().view_as(maps)

    assert score(metric, case_with_twin(Wrapped(Gradient(), one_hot))).defined.all()


def test_an_ordered_map_of_a_trained_network_has_room_to_rise():
    """Direction: disorder under random weights is what the metric rewards."""
    calls = []

    def ordered_first(maps):
        calls.append(1)
        return (maps > maps.mean()).float() + 1e-3 * maps if len(calls) == 1 else maps

    rising = score(EntropyRise(), case_with_twin(Wrapped(Gradient(), ordered_first)))
    assert (rising.values > 0.3).all()


def test_missing_twin_and_single_output_are_refused_with_a_reason():
    model = small()
    case = case_of(Gradient(), model, nets.pictures(1))
    assert "permuted labels" in LabelRandomization().supports(case)
    assert ClassSensitivity().supports(case) is None
    single = Classifier(nets.build(nets.SmallCNN, classes=1), batch_size=2)
    assert "single output" in ClassSensitivity().supports(
        case_of(Gradient(), single, nets.pictures(1))
    )


@pytest.mark.parametrize(
    ("metric", "wrong"),
    [(ClassSensitivity, {"other": "x"}), (EntropyRise, {"bins": 1}), (EntropyRise, {"how": "x"})],
)
def test_wrong_parameters_are_refused(metric, wrong):
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        metric(**wrong)
