import nets
import pytest
import torch
from explainers import Gradient, Noise, OfImage, Wrapped, case_of, part, streams_of
from reference import randomization_reference, robustness_reference
from xbench.metrics.robustness import NoiseStability, Sensitivity

from xbench.classifier import Classifier
from xbench.errors import ParameterError
from xbench.streams import Streams

SIZES = [(3, 12, 12), (1, 12, 13), (3, 15, 11)]


def small(channels=3, batch_size=4):
    return Classifier(nets.build(nets.SmallCNN, channels=channels), batch_size=batch_size)


def score(metric, case):
    return metric.score(case, streams=streams_of(case, type(metric).__name__))


def shared(case):
    return Streams(0, case.image_ids, "shared", 0)


def own_map(model, target):
    def explain(image):
        return model.gradients(image[None], torch.tensor([target]))[0].sum(dim=0)

    return explain


def draws_of(case, kind, count):
    """The draws that the metrics make, one list of tensors an image."""
    shape = tuple(case.images.shape[1:])
    if kind == "normal":
        return [shared(case).normal(shape, "noise", i) for i in range(count)]
    return [2 * shared(case).uniform(shape, "noise", i) - 1 for i in range(count)]


@pytest.mark.parametrize(("channels", "height", "width"), SIZES)
@pytest.mark.parametrize("statistic", ["max", "mean"])
def test_sensitivity_agrees_with_the_transcription(channels, height, width, statistic):
    model = small(channels)
    case = case_of(Gradient(), model, nets.pictures(3, channels, height, width))
    found = score(Sensitivity(draws=4, radius=0.1, statistic=statistic), case)
    noises = draws_of(case, "uniform", 4)
    for row in range(3):
        changes = robustness_reference.sensitivity(
            own_map(model, int(case.targets[row])),
            case.images[row],
            [0.1 * noise[row] for noise in noises],
        )
        expected = max(changes) if statistic == "max" else sum(changes) / 4
        assert found.values[row].item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("channels", "height", "width"), SIZES)
def test_noise_stability_agrees_with_the_transcription(channels, height, width):
    model = small(channels)
    case = case_of(Gradient(), model, nets.pictures(3, channels, height, width))
    found = score(NoiseStability(), case)
    (noise,) = draws_of(case, "normal", 1)
    for row in range(3):
        explain = own_map(model, int(case.targets[row]))
        for column, level in enumerate((0.01, 0.02, 0.05, 0.1)):
            noisy = explain(case.images[row] + level * noise[row])
            rank = randomization_reference.rank_correlation(case.maps[row], noisy)
            overlap = robustness_reference.top_iou(case.maps[row], noisy, 0.1)
            assert found.curves["spearman"][row, column].item() == pytest.approx(rank, abs=1e-5)
            assert found.curves["iou"][row, column].item() == pytest.approx(overlap, abs=1e-5)
        assert found.values[row].item() == pytest.approx(
            found.curves["spearman"][row].mean().item(), abs=1e-9
        )


@pytest.mark.parametrize("metric", [NoiseStability(), Sensitivity(draws=3)])
def test_independent_of_batch_size_and_neighbors(metric):
    images = nets.pictures(3)
    whole = score(metric, case_of(Gradient(), small(batch_size=3), images))
    alone = score(metric, part(case_of(Gradient(), small(batch_size=1), images), [2]))
    assert alone.values[0].item() == pytest.approx(whole.values[2].item(), abs=1e-5)


@pytest.mark.parametrize("metric", [NoiseStability(draws=2), Sensitivity(draws=3)])
def test_counted_calls_are_the_cost_formula(metric):
    model, images = small(), nets.pictures(3)
    case = case_of(Gradient(), model, images)
    facts = model.facts(images.shape[1:])
    before = model.counter.read()
    score(metric, case)
    spent = model.counter.read() - before
    assert spent.backwards == 3 * metric.explains(facts)
    assert spent.forwards == 3 * (metric.cost(facts).forwards + metric.explains(facts))


def test_controls_get_their_known_sensitivity():
    model, images = small(), nets.pictures(4, height=48, width=48)
    metric = Sensitivity(draws=4)
    center = Wrapped(Gradient(), lambda maps: torch.linspace(0, 1, 48).expand_as(maps))
    assert score(metric, case_of(center, model, images)).values.tolist() == [0.0] * 4
    uniform = score(metric, case_of(Noise(), model, images)).values
    normal = score(metric, case_of(Noise(normal=True), model, images)).values
    assert uniform.tolist() == pytest.approx([0.71] * 4, abs=0.03)
    assert normal.tolist() == pytest.approx([1.41] * 4, abs=0.08)


def test_directions():
    model, images = small(), nets.pictures(4, height=24, width=24)
    blurred = Wrapped(
        Gradient(), lambda maps: torch.nn.functional.avg_pool2d(maps[:, None], 9, 1, 4)[:, 0]
    )
    rough = Wrapped(Gradient(), lambda maps: torch.sin(300 * maps))
    for metric, sign in ((NoiseStability(), 1), (Sensitivity(draws=3), -1)):
        order = [
            sign * score(metric, case_of(method, model, images)).values.mean().item()
            for method in (blurred, rough)
        ]
        assert order[0] > order[1]


def test_declared_invariances_hold():
    model, images = small(), nets.pictures(3)
    plain = case_of(Gradient(), model, images)
    scaled = case_of(Wrapped(Gradient(), lambda maps: -3 * maps), model, images)
    curved = case_of(
        Wrapped(Gradient(), lambda maps: maps.sign() * maps.abs().sqrt()), model, images
    )
    metric = Sensitivity(draws=3)
    assert torch.allclose(score(metric, scaled).values, score(metric, plain).values, atol=1e-5)
    metric = NoiseStability()
    assert torch.allclose(score(metric, curved).values, score(metric, plain).values, atol=1e-5)


def test_constant_zero_and_one_hot_maps():
    model, images = small(), nets.pictures(2)
    zero = case_of(Wrapped(Gradient(), torch.zeros_like), model, images)
    ones = case_of(Wrapped(Gradient(), torch.ones_like), model, images)
    assert not score(Sensitivity(draws=2), zero).defined.any()
    assert score(Sensitivity(draws=2), ones).values.tolist() == [0.0, 0.0]
    assert not score(NoiseStability(), zero).defined.any()
    assert not score(NoiseStability(), ones).defined.any()
    hot = torch.zeros(2, 20, 17)
    hot[:, 3, 4] = 1
    fixed = case_of(Wrapped(Gradient(), lambda maps: hot[: len(maps)]), model, images)
    assert score(Sensitivity(draws=2), fixed).values.tolist() == [0.0, 0.0]
    assert score(NoiseStability(), fixed).values.tolist() == pytest.approx([1.0, 1.0])


def test_condition_that_the_prediction_stays():
    """A threshold network changes its class wherever the noise lifts the mean pixel."""

    class Threshold(torch.nn.Module):
        def forward(self, x):
            mean = x.flatten(1).mean(dim=1)
            return torch.stack([mean - 0.5, 0.5 - mean], dim=1) * 1000

    model = Classifier(Threshold(), batch_size=4)
    images = torch.stack([torch.full((3, 8, 8), 0.5001), torch.full((3, 8, 8), 0.9)])
    case = case_of(OfImage(), model, images)
    found = score(Sensitivity(draws=12), case)
    noises = draws_of(case, "uniform", 12)
    stays = [(0.5001 + 0.02 * noise[0].mean().item()) > 0.5 for noise in noises]
    assert 0 < sum(stays) < 12
    assert found.details["kept"].tolist() == pytest.approx([sum(stays) / 12, 1.0])
    changes = [0.02 * noise[0].mean(dim=0).norm() / (0.5001 * 8) for noise in noises]
    expected = max(c.item() for c, stay in zip(changes, stays, strict=True) if stay)
    assert found.details["same_prediction"][0].item() == pytest.approx(expected, abs=1e-5)
    assert found.details["same_prediction"][1].item() == found.values[1].item()


@pytest.mark.parametrize(
    ("metric", "wrong"),
    [
        (Sensitivity, {"draws": 0}),
        (Sensitivity, {"radius": 0.0}),
        (Sensitivity, {"statistic": "median"}),
        (NoiseStability, {"draws": 0}),
        (NoiseStability, {"top": 1.0}),
    ],
)
def test_wrong_parameters_are_refused(metric, wrong):
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        metric(**wrong)
