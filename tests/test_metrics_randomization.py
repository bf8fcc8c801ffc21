import functools

import nets
import pytest
import torch
from explainers import Gradient, Noise, OfImage, Wrapped, case_of, part, streams_of
from reference import randomization_reference as reference
from xbench.metrics.randomization import CascadingRandomization

from xbench.classifier import Classifier
from xbench.classifier.randomize import (
    RandomizedNetwork,
    randomized,
    spread,
    stages,
    weights_in_order,
)
from xbench.errors import InvalidMapError, ParameterError
from xbench.models.loading import load_classifier
from xbench.registry import DATASETS, METHODS, METRICS
from xbench.streams import Streams, seed_of

PARAMETERS = [
    ["features.0.weight", "features.0.bias", "features.1.weight", "features.1.bias"],
    ["features.4.weight", "features.4.bias", "features.5.weight", "features.5.bias"],
    ["head.weight", "head.bias"],
]


def small(channels=3, batch_size=4):
    return Classifier(nets.build(nets.SmallCNN, channels=channels), batch_size=batch_size)


def score(case, **parameters):
    metric = CascadingRandomization(**parameters)
    return metric.score(case, streams=streams_of(case, "cascading_randomization"))


class Tokens(torch.nn.Module):
    """Patches, class token, position embedding, one block of attention; head registered first."""

    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(8, 3)
        self.token = torch.nn.Parameter(torch.randn(1, 1, 8))
        self.position = torch.nn.Parameter(torch.randn(1, 17, 8))
        self.norm = torch.nn.LayerNorm(8)
        self.attention = torch.nn.MultiheadAttention(8, 2, batch_first=True)
        self.patches = torch.nn.Conv2d(3, 8, 4, stride=4)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1) + self.position
        x = self.norm(x)
        return self.head((x + self.attention(x, x, x)[0])[:, 0])


def test_layers_come_in_order_of_execution_with_every_parameter_once():
    module = nets.build(Tokens)
    layers = weights_in_order(module, torch.rand(1, 3, 16, 16))
    assert [layer.name for layer in layers] == [
        "patches",
        "token",
        "position",
        "attention.in_proj_weight",
        "attention.out_proj",
        "head",
    ]
    named = [name for layer in layers for name in layer.parameters]
    assert sorted(named) == sorted(name for name, _ in module.named_parameters())
    assert "norm.weight" in layers[2].parameters


def test_stages_include_logits_and_full_network():
    assert stages(3, 6, "top_down") == [[2], [2, 1], [2, 1, 0]]
    assert stages(3, 2, "bottom_up") == [[0], [0, 1, 2]]
    assert stages(3, 6, "independent") == [[2], [1], [0]]
    assert spread(53, 6) == [1, 11, 22, 32, 43, 53]


def test_permutation_keeps_the_weights_and_normal_their_moments():
    values = torch.randn(40, 50, generator=torch.Generator().manual_seed(0)) * 3 + 1
    shuffled = randomized(values, "permutation", torch.Generator().manual_seed(1))
    assert torch.equal(shuffled.flatten().sort().values, values.flatten().sort().values)
    assert (shuffled != values).float().mean() > 0.99
    drawn = randomized(values, "normal", torch.Generator().manual_seed(1))
    assert drawn.mean().item() == pytest.approx(values.mean().item(), abs=0.2)
    assert drawn.std().item() == pytest.approx(values.std().item(), rel=0.05)
    constant = torch.full((5,), 2.0)
    assert torch.equal(randomized(constant, "normal", torch.Generator()), constant)


def test_equal_layers_get_different_weights_and_buffers_stay():
    module = torch.nn.Sequential(*[torch.nn.Conv2d(3, 3, 3, padding=1) for _ in range(2)])
    module.add_module("norm", torch.nn.BatchNorm2d(3))
    module.add_module("pool", torch.nn.AdaptiveAvgPool2d(1))
    module.add_module("flat", torch.nn.Flatten())
    module[1].load_state_dict(module[0].state_dict())
    module[2].running_mean.normal_()
    model = Classifier(module.eval(), batch_size=2)
    network = RandomizedNetwork(model, torch.rand(1, 3, 8, 8), "permutation", Streams(0, []))
    other = network.at([0, 1]).module
    assert not torch.equal(other[0].weight, other[1].weight)
    assert torch.equal(other[2].running_mean, model.module[2].running_mean)


def test_going_back_restores_the_trained_weights_and_the_model_is_untouched():
    model = small()
    before = model.fingerprint()
    network = RandomizedNetwork(model, nets.pictures(1), "permutation", Streams(0, []))
    full = network.at([0, 1, 2]).fingerprint()
    assert full != before
    assert network.at([2]).fingerprint() != full
    assert network.at([]).fingerprint() == before
    assert network.at([0, 1, 2]).fingerprint() == full
    assert model.fingerprint() == before


@pytest.mark.parametrize(("channels", "height", "width"), [(3, 12, 12), (1, 12, 13), (3, 15, 11)])
def test_agrees_with_the_transcription(channels, height, width):
    model = small(channels)
    # watched networks are not folded: the twin's are not, and rounding swaps the ranks of near ties
    model.module.register_forward_hook(lambda *_: None)
    images = nets.pictures(3, channels, height, width)
    case = case_of(Gradient(), model, images)
    found = score(case)
    cascade = [[name for layer in PARAMETERS[i:] for name in layer] for i in (2, 1, 0)]
    for row in range(3):
        expected = reference.cascade(
            model.module,
            cascade,
            lambda name: seed_of(0, "shared", 0, "randomize", "permutation", name),
            images[row],
            int(case.targets[row]),
        )
        assert found.curves["spearman"][row].tolist() == pytest.approx(expected, abs=1e-5)
        assert found.values[row].item() == pytest.approx(sum(expected) / 3, abs=1e-5)
        assert found.details["after_logits"][row].item() == pytest.approx(expected[0], abs=1e-5)
        assert found.details["after_full"][row].item() == pytest.approx(expected[2], abs=1e-5)


def test_independent_of_batch_size_and_neighbors():
    images = nets.pictures(3)
    whole = score(case_of(Gradient(), small(batch_size=3), images))
    case = case_of(Gradient(), small(batch_size=1), images)
    alone = score(part(case, [2]))
    assert alone.values[0].item() == pytest.approx(whole.values[2].item(), abs=1e-5)
    assert torch.allclose(alone.curves["ssim"][0], whole.curves["ssim"][2], atol=1e-4)


def test_methods_that_ignore_the_weights_get_one_and_noise_gets_zero():
    model, images = small(), nets.pictures(8, height=32, width=32)
    fixed = score(case_of(OfImage(), model, images))
    assert fixed.values.tolist() == pytest.approx([1.0] * 8)
    assert fixed.curves["ssim"].flatten().tolist() == pytest.approx([1.0] * 24)
    noise = score(case_of(Noise(), model, images))
    assert noise.values.abs().max() < 0.1
    gradient = score(case_of(Gradient(), model, images))
    assert gradient.values.mean() < fixed.values.mean()


def test_declared_invariances_hold():
    model, images = small(), nets.pictures(3)
    plain = score(case_of(Gradient(), model, images)).values
    for change in (lambda maps: 4 * maps, lambda maps: maps.sign() * maps.abs().sqrt()):
        changed = score(case_of(Wrapped(Gradient(), change), model, images)).values
        assert torch.allclose(changed, plain, atol=1e-5)


def test_constant_and_one_hot_maps():
    model, images = small(), nets.pictures(2)
    for change in (torch.zeros_like, torch.ones_like):
        found = score(case_of(Wrapped(Gradient(), change), model, images))
        assert not found.defined.any()
        assert found.details["constant"].tolist() == [1.0, 1.0]

    def one_hot(maps):
        flat = maps.flatten(1)
        return (flat == flat.amax(dim=1, keepdim=True)).float().view_as(maps)

    found = score(case_of(Wrapped(Gradient(), one_hot), model, images))
    assert found.defined.all()


def test_a_map_that_collapses_at_one_stage_is_left_out_of_the_mean():
    model, images = small(), nets.pictures(2)
    calls = []

    def collapse(maps):
        calls.append(1)
        return torch.zeros_like(maps) if len(calls) == 3 else maps

    found = score(case_of(Wrapped(Gradient(), collapse), model, images))
    assert found.curves["spearman"].isnan().sum(dim=0).tolist() == [0, 2, 0]
    assert found.defined.all()
    assert found.details["constant"].tolist() == pytest.approx([1 / 3] * 2)


def test_counted_calls_are_the_cost_formula():
    model, images = small(), nets.pictures(3)
    case = case_of(Gradient(), model, images)
    for depths in (2, 6):
        metric = CascadingRandomization(depths=depths)
        facts = model.facts(images.shape[1:])
        before = model.counter.read()
        metric.score(part(case, [0, 1, 2]), streams=streams_of(case, "cascading_randomization"))
        spent = model.counter.read() - before
        explains = metric.explains(facts)
        assert explains == min(depths, 3)
        # part() explains the three images once more
        assert spent.forwards == 3 * (metric.cost(facts).forwards + explains + 1)
        assert spent.backwards == 3 * (explains + 1)


def test_methods_share_the_randomized_networks(monkeypatch):
    model, images = small(), nets.pictures(2)
    first = case_of(Gradient(), model, images)
    second = case_of(OfImage(), model, images)
    object.__setattr__(second, "bank", first.bank)
    built = []
    original = RandomizedNetwork.__init__
    monkeypatch.setattr(
        RandomizedNetwork, "__init__", lambda *a: (built.append(1), original(*a))[1]
    )
    score(first)
    score(second)
    assert built == [1]


@pytest.mark.parametrize(
    "name",
    ["cascading_randomization", "cascading_randomization_bottom_up", "independent_randomization"],
)
def test_variants_are_listed_and_run(name):
    metric = METRICS.create(f"{name}[depths=2]").value
    case = case_of(Gradient(), small(), nets.pictures(2))
    found = metric.score(case, streams=streams_of(case, name))
    assert found.defined.all()
    assert found.curves["spearman"].shape == (2, 2)


@pytest.mark.parametrize("similarity", ["abs_spearman", "ssim", "hog", "top_k"])
def test_similarities_are_one_for_fixed_maps_and_less_for_gradients(similarity):
    model, images = small(), nets.pictures(2, height=32, width=32)
    run = functools.partial(score, similarity=similarity, depths=2)
    assert run(case_of(OfImage(), model, images)).values.tolist() == pytest.approx([1.0, 1.0])
    assert run(case_of(Gradient(), model, images)).values.max() < 0.95


def test_draws_depend_on_seed_and_repetition():
    case = case_of(Gradient(), small(), nets.pictures(2))
    metric = CascadingRandomization()

    def values(seed, repetition):
        return metric.score(case, streams=streams_of(case, "m", seed, repetition)).values

    assert torch.equal(values(0, 0), values(0, 0))
    assert not torch.equal(values(0, 0), values(1, 0))
    assert not torch.equal(values(0, 0), values(0, 1))


@pytest.mark.parametrize("wrong", [{"depths": 1}, {"how": "zero"}, {"order": "x"}])
def test_wrong_parameters_are_refused(wrong):
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        CascadingRandomization(**wrong)


def parameter_seed(name):
    return seed_of(0, "shared", 0, "randomize", "permutation", name)


def test_smooth_variant_agrees_with_the_transcription():
    model = small()
    images = nets.pictures(2, 3, 12, 11)
    case = case_of(Gradient(), model, images)
    found = score(case, smooth=3, depths=2)
    noise = [Streams(0, case.image_ids, "shared").normal((3, 12, 11), "noise", i) for i in range(3)]
    full = reference.with_random_weights(
        model.module, [name for layer in PARAMETERS for name in layer], parameter_seed
    )
    for row in range(2):
        image, target = images[row], int(case.targets[row])
        spread_of = image.max() - image.min()
        noises = [0.1 * spread_of * n[row] for n in noise]
        expected = reference.rank_correlation(
            reference.smoothed(model.module, image, target, noises).float(),
            reference.smoothed(full, image, target, noises).float(),
        )
        assert found.details["after_full"][row].item() == pytest.approx(expected, abs=1e-3)


def test_smooth_variant_costs_what_its_formula_says():
    model, images = small(), nets.pictures(2)
    case = case_of(Gradient(), model, images)
    metric = CascadingRandomization(smooth=2)
    facts = model.facts(images.shape[1:])
    before = model.counter.read()
    metric.score(case, streams=streams_of(case, "m"))
    spent = model.counter.read() - before
    assert metric.explains(facts) == 8
    assert (spent.forwards, spent.backwards) == (2 * (8 + 4), 2 * 8)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_traced_network_has_the_same_layers_and_values():
    images = nets.pictures(2)
    module = nets.build(nets.SmallCNN).requires_grad_(False)
    traced = torch.jit.trace(module, images[:1])
    layers = weights_in_order(traced, images[:1])
    assert [layer.parameters for layer in layers] == [tuple(names) for names in PARAMETERS]
    plain = score(case_of(Gradient(), Classifier(module, batch_size=2), images))
    found = score(case_of(Gradient(), Classifier(traced, batch_size=2), images))
    assert torch.allclose(found.values, plain.values, atol=1e-4)


def test_a_network_without_weights_is_refused_with_a_reason():
    module = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    case = case_of(OfImage(), Classifier(module, batch_size=2), nets.pictures(1))
    assert "no weights" in CascadingRandomization().supports(case)
    assert CascadingRandomization().supports(case_of(OfImage(), small(), nets.pictures(1))) is None


def test_a_map_with_nan_under_random_weights_is_an_invalid_map():
    calls = []

    def break_later(maps):
        calls.append(1)
        return maps if len(calls) == 1 else maps.log() * torch.nan

    case = case_of(Wrapped(Gradient(), break_later), small(), nets.pictures(1))
    with pytest.raises(InvalidMapError, match="NaN"):
        score(case)


def test_findings_on_planted_scenes():
    """Signed correlations: gradients fall behind the logits, guided backpropagation does not."""
    model = load_classifier("reference", device="cpu", batch_size=8)
    twin = load_classifier("reference-twin", device="cpu", batch_size=8)
    source = DATASETS.create("planted").value.open(model.geometry, limit=8, seed=0, classes=8)
    images = source.read(range(8)).images
    falling, kept = (
        case_of(METHODS.create(name).value, model, images, twin=twin)
        for name in ("gradient", "guided_backprop")
    )
    assert score(falling).details["after_logits"].mean().abs() < 0.3
    assert score(kept).details["after_logits"].mean() > 0.7
    labels = METRICS.create("label_randomization").value
    loose, tight = (labels.score(c, streams=streams_of(c, "m")).values for c in (falling, kept))
    assert loose.mean().abs() < 0.15
    assert tight.mean() > loose.mean()
