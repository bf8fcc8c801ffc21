"""Camera-like changes, Lipschitz, relative stability and input invariance."""

import nets
import pytest
import torch
from explainers import Gradient, Noise, OfImage, Wrapped, case_of, part, streams_of
from reference import randomization_reference, robustness_reference
from xbench.metrics.robustness_changes import KINDS, ChangeStability, jpeg, shift
from xbench.metrics.robustness_relative import InputInvariance, LocalLipschitz, RelativeStability

from xbench.classifier import Classifier
from xbench.classifier.shifted import shifted
from xbench.errors import ParameterError
from xbench.registry import METHODS, METRICS
from xbench.streams import Streams

SIZES = [(3, 12, 12), (1, 12, 13), (3, 15, 11)]
ALL = [
    *[ChangeStability(kind) for kind in KINDS],
    LocalLipschitz(draws=3),
    *[RelativeStability(kind, draws=3) for kind in ("input", "output", "representation")],
    InputInvariance(),
]
STABILITY = [*[ChangeStability(kind) for kind in KINDS], InputInvariance()]


def small(channels=3, batch_size=4):
    return Classifier(nets.build(nets.SmallCNN, channels=channels), batch_size=batch_size)


def score(metric, case):
    return metric.score(case, streams=streams_of(case, type(metric).__name__))


def own_map(model, target):
    return lambda image: model.gradients(image[None], torch.tensor([target]))[0].sum(dim=0)


def uniform(case, radius, draws):
    shared = Streams(0, case.image_ids, "shared")
    shape = tuple(case.images.shape[1:])
    return [radius * (2 * shared.uniform(shape, "noise", i) - 1) for i in range(draws)]


@pytest.mark.parametrize(("channels", "height", "width"), SIZES)
def test_lipschitz_agrees_with_the_transcription(channels, height, width):
    model = small(channels)
    case = case_of(Gradient(), model, nets.pictures(3, channels, height, width))
    found = score(LocalLipschitz(draws=3, radius=0.1), case)
    for row in range(3):
        noises = [noise[row] for noise in uniform(case, 0.1, 3)]
        explain = own_map(model, int(case.targets[row]))
        expected = robustness_reference.lipschitz(explain, case.images[row], noises)
        assert found.values[row].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("channels", "height", "width"), SIZES)
@pytest.mark.parametrize("kind", ["input", "output", "representation"])
def test_relative_stability_agrees_with_the_transcription(kind, channels, height, width):
    model = small(channels, batch_size=1)  # the rounding of the transcription
    case = case_of(Gradient(), model, nets.pictures(3, channels, height, width))
    found = score(RelativeStability(kind, draws=3, radius=0.1), case)
    layer = model.layer("last_conv", case.images)

    def distance(image, other):
        if kind == "input":
            return robustness_reference.percent(image, other)
        if kind == "output":
            return robustness_reference.norm(
                model.logits(image[None]).double() - model.logits(other[None]).double()
            )
        return robustness_reference.percent(
            model.activations(image[None], layer), model.activations(other[None], layer)
        )

    for row in range(3):
        clean = int(model.logits(case.images[row : row + 1]).argmax())
        expected = robustness_reference.relative(
            own_map(model, int(case.targets[row])),
            case.images[row],
            [noise[row] for noise in uniform(case, 0.1, 3)],
            distance,
            lambda other, clean=clean: int(model.logits(other[None]).argmax()) == clean,
        )
        assert found.values[row].item() == pytest.approx(expected, rel=1e-5, nan_ok=True)


@pytest.mark.parametrize(("channels", "height", "width"), SIZES)
def test_shift_stability_agrees_with_the_transcription(channels, height, width):
    model = small(channels)
    case = case_of(Gradient(), model, nets.pictures(2, channels, height, width))
    found = score(ChangeStability("shift"), case)
    for row in range(2):
        explain = own_map(model, int(case.targets[row]))
        for column, (down, right) in enumerate([(0, 1), (1, 0), (0, -1), (-1, 0)]):
            image = robustness_reference.moved(case.images[row], down, right)
            assert torch.equal(shift(case.images[row : row + 1], down, right)[0], image)
            first, second = robustness_reference.pairs_after_move(
                case.maps[row], explain(image), down, right
            )
            expected = randomization_reference.correlation(
                randomization_reference.ranks(first), randomization_reference.ranks(second)
            )
            assert found.curves["spearman"][row, column].item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("kind", ["jpeg", "brightness", "blur"])
def test_changes_are_what_they_say(kind):
    images = nets.pictures(2, 3, 24, 31)
    seen = []
    model = small()
    record = OfImage(lambda x: (seen.append(x), x.mean(dim=1))[1])
    case = case_of(record, model, images)
    found = score(ChangeStability(kind), case)
    copies = seen[1:]
    assert len(copies) == 4
    assert all(copy.shape == images.shape for copy in copies)
    assert all(copy.amin() >= 0 and copy.amax() <= 1 for copy in copies)
    for column, copy in enumerate(copies):
        for row in range(2):
            expected = randomization_reference.rank_correlation(
                images[row].mean(dim=0), copy[row].mean(dim=0)
            )
            assert found.curves["spearman"][row, column].item() == pytest.approx(expected, abs=1e-5)
    if kind == "brightness":
        assert torch.equal(copies[1], 0.9 * images)
    else:
        distance = [(copy - images).square().mean().item() for copy in copies]
        assert distance == sorted(distance)


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_keeps_smooth_images_and_their_order(channels):
    ramp = torch.linspace(0, 1, 64).expand(channels, 48, 64)
    images = torch.stack([ramp, ramp.flip(2)])
    assert (jpeg(images, 95) - images).abs().max() < 0.05
    alone = jpeg(images[1:], 50)
    assert torch.equal(alone[0], jpeg(images, 50)[1])


@pytest.mark.parametrize("metric", ALL)
def test_independent_of_batch_size_and_neighbors(metric):
    images = nets.pictures(3)
    whole = score(metric, case_of(Gradient(), small(batch_size=3), images))
    alone = score(metric, part(case_of(Gradient(), small(batch_size=1), images), [2]))
    assert alone.values[0].item() == pytest.approx(whole.values[2].item(), rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("metric", ALL)
def test_counted_calls_are_the_cost_formula(metric):
    model, images = small(), nets.pictures(3)
    case = case_of(Gradient(), model, images)
    facts = model.facts(images.shape[1:])
    before = model.counter.read()
    score(metric, case)
    spent = model.counter.read() - before
    assert spent.backwards == 3 * metric.explains(facts)
    assert spent.forwards == 3 * (metric.cost(facts).forwards + metric.explains(facts))


@pytest.mark.parametrize("metric", ALL)
def test_declared_invariances_hold(metric):
    model, images = small(), nets.pictures(3)
    plain = score(metric, case_of(Gradient(), model, images)).values
    changes = {
        "scale": lambda maps: 4 * maps,
        "sign": lambda maps: -maps,
        "monotone": lambda maps: maps.sign() * maps.abs().sqrt(),
    }
    for name in set(changes) & set(metric.card.invariances):
        changed = score(metric, case_of(Wrapped(Gradient(), changes[name]), model, images)).values
        assert torch.allclose(changed, plain, rtol=1e-4, atol=1e-5), name


@pytest.mark.parametrize("metric", ALL)
def test_zero_constant_and_one_hot_maps(metric):
    model, images = small(), nets.pictures(2)
    zero = score(metric, case_of(Wrapped(Gradient(), torch.zeros_like), model, images))
    ones = score(metric, case_of(Wrapped(Gradient(), torch.ones_like), model, images))
    assert not zero.defined.any()
    if metric.card.direction == "lower":
        assert ones.values.tolist() == [0.0, 0.0]
    else:
        assert not ones.defined.any()
    hot = torch.zeros(2, 20, 17)
    hot[:, 9, 8] = 1
    fixed = score(metric, case_of(Wrapped(Gradient(), lambda m: hot[: len(m)]), model, images))
    assert fixed.defined.all()


@pytest.mark.parametrize("metric", ALL)
def test_direction(metric):
    """A map that is the same for every input is best, one drawn anew at each call is worst."""
    model, images = small(), nets.pictures(3)
    ramp = torch.linspace(1, 2, 20)[:, None] + torch.linspace(0, 0.01, 17)
    prior = Wrapped(Gradient(), lambda maps: ramp.expand_as(maps))
    still = score(metric, case_of(prior, model, images)).values
    noise = score(metric, case_of(Noise(), model, images)).values
    better = still > noise if metric.card.direction == "higher" else still < noise
    assert better.all()


def test_smooth_maps_move_along_with_the_content():
    images = torch.nn.functional.avg_pool2d(nets.pictures(2, 3, 30, 30), 3, 1, 1)
    moving = score(ChangeStability("shift"), case_of(OfImage(), small(), images))
    assert moving.values.tolist() == pytest.approx([1.0, 1.0])


def test_gradients_are_input_invariant_and_products_with_the_input_are_not():
    model, images = small(), nets.pictures(3)
    gradient = score(InputInvariance(), case_of(Gradient(), model, images))
    assert gradient.values.min() > 0.999
    assert gradient.details["relative_change"].max() < 1e-2

    class Product(Gradient):
        def explain(self, model, images, targets, *, streams):
            return (model.gradients(images, targets) * images).sum(dim=1)

    product = score(InputInvariance(), case_of(Product(), model, images))
    assert product.values.max() < 0.9


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("gradient", 0.999, 1), ("guided_backprop", 0.999, 1), ("input_x_gradient", -1, 0.9)],
)
def test_the_verdict_of_the_paper_on_three_methods(name, low, high):
    method = METHODS.create(name).value
    found = score(InputInvariance(), case_of(method, small(), nets.pictures(3)))
    assert found.values.min() >= low
    assert found.values.max() <= high + 1e-9


def test_the_shifted_classifier_gives_the_same_logits():
    model, images = small(), nets.pictures(3)
    other = shifted(model, -1.0)
    assert torch.allclose(other.logits(images - 1), model.logits(images), atol=1e-5)
    assert torch.allclose(
        other.sibling(other.module).logits(images - 1), model.logits(images), atol=1e-5
    )
    assert torch.equal(model.network.mean, torch.zeros(1, 1, 1, 1))


def test_a_layer_that_runs_twice_is_refused():
    model = Classifier(nets.build(nets.FunctionalCNN), batch_size=2)
    case = case_of(Gradient(), model, nets.pictures(1))
    assert "more than once" in RelativeStability("representation", layer="relu").supports(case)
    assert RelativeStability("representation").supports(case) is None
    assert RelativeStability("input", layer="relu").supports(case) is None


@pytest.mark.parametrize(
    "name",
    [
        "jpeg_stability",
        "brightness_stability",
        "blur_stability",
        "shift_stability",
        "rising_noise_stability",
        "avg_sensitivity",
        "local_lipschitz",
        "relative_input_stability",
        "relative_output_stability",
        "relative_representation_stability",
        "input_invariance",
    ],
)
def test_every_variant_is_listed(name):
    chosen = METRICS.create(name)
    assert chosen.label == name
    assert chosen.card.property == "robustness"


@pytest.mark.parametrize(
    ("metric", "wrong"),
    [
        (ChangeStability, {"kind": "x"}),
        (ChangeStability, {"top": 0.0}),
        (LocalLipschitz, {"radius": 0.0}),
        (RelativeStability, {"kind": "x"}),
        (RelativeStability, {"draws": 0}),
        (RelativeStability, {"floor": 0.0}),
        (InputInvariance, {"offset": 0.0}),
    ],
)
def test_wrong_parameters_are_refused(metric, wrong):
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        metric(**wrong)
