"""What every metric must do, whoever wrote it: found in the registry, never listed by hand."""

import typing
from dataclasses import MISSING, fields, replace

import explainers
import mapcases
import nets
import numpy as np
import pytest
import torch

from xbench.classifier import Classifier
from xbench.contracts import Case, PairMetric, Samples
from xbench.errors import UnsupportedError
from xbench.registry import METRICS, Entry
from xbench.streams import Streams

COUNT, SIZE = 5, (18, 21)
INVARIANCES = {"monotone", "scale", "shift", "sign"}
NEEDS = {
    "attention",
    "explain",
    "labels",
    "masked_training",
    "model",
    "pair",
    "pool",
    "retraining",
    "truth",
    "twin",
}
PROPERTIES = {
    "faithfulness",
    "randomization",
    "robustness",
    "localization",
    "agreement",
    "complexity",
    "axioms",
    "efficiency",
    "adapters",
}


def text_of(entry: Entry) -> str | None:
    """A name that creates the entry; the first choice where an argument is needed, else None."""
    hints = typing.get_type_hints(entry.factory)
    for field in fields(entry.factory):
        if field.default is MISSING and field.name not in entry.preset:
            choices = typing.get_args(hints[field.name])
            return f"{entry.name}:{choices[0]}" if choices else None
    return entry.name


ENTRIES = list(METRICS)
NAMES = sorted(filter(None, map(text_of, ENTRIES)))
PAIRS = [name for name in NAMES if isinstance(METRICS.create(name).value, PairMetric)]
SINGLE = [name for name in NAMES if name not in PAIRS]


def model_of(batch_size: int) -> Classifier:
    """A small network that is sure of what it says."""
    network = nets.build(nets.SmallCNN)
    with torch.no_grad():
        network.head.weight.mul_(40)
    return Classifier(network, batch_size=batch_size)


def case_of(batch_size: int = 7, method: object = None) -> Case:
    """Five images with masks, labels, a twin and a pool of partners."""
    model = model_of(batch_size)
    images = nets.pictures(COUNT, 3, *SIZE)
    return explainers.case_of(
        method or explainers.Gradient(),
        model,
        images,
        truth=mapcases.blobs(COUNT, *SIZE),
        labels=torch.arange(COUNT),
        twin=model.sibling(nets.build(nets.SmallCNN, seed=5).eval()),
        pool=Samples(nets.pictures(12, 3, *SIZE, seed=9), torch.arange(12) % 5, mapcases.names(12)),
        extras={
            name: mapcases.blobs(COUNT, *SIZE, seed=seed)
            for seed, name in enumerate(("distractors", "others", "watermark"), start=1)
        },
    )


def part_of(case: Case, keep: list[int]) -> Case:
    """The case of some of its images, as a smaller batch would hold them."""
    alone = explainers.case_of(
        case.method,
        case.model,
        case.images[keep],
        case.targets[keep],
        image_ids=[case.image_ids[i] for i in keep],
        truth=case.truth[keep],
        labels=case.labels[keep],
        twin=case.twin,
        pool=case.pool,
        extras={name: mask[keep] for name, mask in case.extras.items()},
    )
    return replace(alone, maps=case.maps[keep])


def scores_of(name: str, case: Case):
    """The scores, or a skip with the metric's own reason."""
    metric = METRICS.create(name).value
    try:
        reason = metric.supports(case)
        if reason is None:
            return metric.score(case, streams=Streams(0, case.image_ids, name))
    except UnsupportedError as error:
        reason = str(error)
    assert len(reason.split()) > 4
    assert reason.endswith(".")
    pytest.skip(reason)


def check_range(name: str, values: torch.Tensor) -> None:
    low, high = METRICS.create(name).card.range
    inside = (values >= low - 1e-9) & (values <= high + 1e-9)
    assert (torch.isnan(values) | inside).all(), values


def close(values: torch.Tensor) -> object:
    return pytest.approx(values.tolist(), rel=1e-3, abs=1e-4, nan_ok=True)


def test_nothing_is_broken():
    assert METRICS.broken == {}
    assert len(ENTRIES) >= 45


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_card_is_complete(entry):
    card = entry.card
    assert card.name == entry.name
    assert len(card.summary) > 15
    assert card.paper
    assert card.chance
    assert card.property in PROPERTIES
    assert card.direction in ("higher", "lower", "none")
    assert card.range[0] < card.range[1]
    assert set(card.invariances) <= INVARIANCES
    assert set(card.needs) <= NEEDS
    assert entry.factory.__doc__
    assert not entry.factory.__doc__.startswith(f"{entry.factory.__name__}(")


@pytest.mark.parametrize("name", SINGLE)
def test_scores_are_well_formed(name):
    case = case_of()
    scores = scores_of(name, case)
    assert scores.values.dtype == torch.float64
    assert scores.values.shape == scores.defined.shape == (COUNT,)
    assert scores.values.device.type == "cpu"
    assert torch.equal(torch.isfinite(scores.values), scores.defined)
    assert scores.defined.any(), scores.reason
    check_range(name, scores.values)
    for series in scores.curves.values():
        assert series.ndim == 2
        assert len(series) == COUNT
    for single in scores.details.values():
        assert single.shape == (COUNT,)
    again = scores_of(name, case_of())
    assert torch.equal(again.values.nan_to_num(9e9), scores.values.nan_to_num(9e9))


@pytest.mark.parametrize("name", SINGLE)
def test_cost_is_what_the_card_says(name):
    case = case_of()
    metric = METRICS.create(name).value
    scores_of(name, case_of())
    facts = case.model.facts((3, *SIZE))
    cost, explains = metric.cost(facts), metric.explains(facts)
    assert 0 <= metric.shared(facts) <= cost.forwards
    before = case.model.counter.read()
    scores_of(name, case)
    spent = case.model.counter.read() - before
    assert spent.forwards == COUNT * (cost.forwards + explains)
    assert spent.backwards == COUNT * (cost.backwards + explains)


@pytest.mark.parametrize("name", SINGLE)
def test_neighbors_do_not_matter(name):
    case = case_of()
    whole = scores_of(name, case).values
    for keep in ([3], [4, 0]):
        found = scores_of(name, part_of(case, keep)).values
        assert found.tolist() == close(whole[keep])


@pytest.mark.parametrize("name", SINGLE)
def test_batch_size_does_not_matter(name):
    assert scores_of(name, case_of(1)).values.tolist() == close(scores_of(name, case_of()).values)


def edge_maps() -> dict[str, torch.Tensor]:
    one = torch.zeros(COUNT, *SIZE)
    one[:, 9, 10] = 1.0
    steps = mapcases.noise(COUNT, *SIZE).sign()
    return {
        "zero": torch.zeros(COUNT, *SIZE),
        "constant": torch.full((COUNT, *SIZE), 0.5),
        "negative": torch.full((COUNT, *SIZE), -2.0),
        "one-hot": one,
        "two levels": steps,
        "loud": 1e12 * mapcases.noise(COUNT, *SIZE),
        "faint": 1e-12 * mapcases.noise(COUNT, *SIZE),
    }


@pytest.mark.parametrize("kind", sorted(edge_maps()))
@pytest.mark.parametrize("name", SINGLE)
def test_edge_maps_are_scored_or_undefined(name, kind):
    maps = edge_maps()[kind]
    still = explainers.OfImage(lambda images: maps[:1].expand(len(images), -1, -1))
    case = case_of(method=still) if METRICS.create(name).card.property != "localization" else None
    case = replace(case or case_of(), maps=maps)
    scores = scores_of(name, case)
    check_range(name, scores.values)
    assert scores.defined.all() or scores.reason


@pytest.mark.parametrize("name", SINGLE)
def test_everything_is_left_as_it_was(name):
    case = case_of()
    kept = case.maps.clone(), case.images.clone(), case.truth.clone()
    weights, hooks = case.model.fingerprint(), hooks_of(case.model)
    state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    scores_of(name, case)
    assert torch.equal(case.maps, kept[0])
    assert torch.equal(case.images, kept[1])
    assert torch.equal(case.truth, kept[2])
    assert case.model.fingerprint() == weights
    assert hooks_of(case.model) == hooks
    assert not any(p.requires_grad or p.grad is not None for p in case.model.module.parameters())
    assert not any(module.training for module in case.model.module.modules())
    assert torch.equal(torch.get_rng_state(), state[0])
    assert np.array_equal(np.random.get_state()[1], state[1])  # noqa: NPY002


def hooks_of(model: Classifier) -> int:
    return sum(
        len(hooks)
        for module in model.network.modules()
        for hooks in (
            module._forward_hooks,
            module._forward_pre_hooks,
            module._backward_hooks,
            module._backward_pre_hooks,
        )
    )


@pytest.mark.parametrize("name", SINGLE)
def test_claimed_invariances_hold(name):
    card = METRICS.create(name).card
    if not card.invariances:
        pytest.skip("the card claims none")
    before = scores_of(name, case_of()).values
    for invariance in card.invariances:
        change = mapcases.transforms()[invariance]
        changed = case_of(method=explainers.Wrapped(explainers.Gradient(), change))
        after = scores_of(name, changed).values
        assert after.tolist() == close(before), invariance


@pytest.mark.parametrize("name", [n for n in SINGLE if "truth" in METRICS.create(n).card.needs])
def test_mask_beats_noise_beats_inverted_mask(name):
    case, truth = case_of(), torch.zeros(COUNT, *SIZE, dtype=torch.bool)
    truth[:, 4:12, 5:15] = True
    sign = {"higher": 1, "lower": -1}[METRICS.create(name).card.direction]
    means = torch.zeros(3)
    for seed in range(8):
        noise = mapcases.noise(COUNT, *SIZE, seed=seed).abs()
        for place, maps in enumerate((truth.float(), noise, (~truth).float())):
            scores = scores_of(name, replace(case, maps=maps, truth=truth))
            assert scores.defined.all()
            means[place] += sign * scores.values.mean()
    assert means[0] > means[1] > means[2]


@pytest.mark.parametrize("name", PAIRS)
def test_pairs(name):
    metric = METRICS.create(name).value
    first, second = mapcases.noise(COUNT, *SIZE), mapcases.noise(COUNT, *SIZE, seed=1)

    def compare(a, b, rows=slice(None)):
        ids = mapcases.names(COUNT)[rows]
        return metric.compare(a[rows], b[rows], streams=Streams(0, ids, name))

    scores = compare(first, second)
    assert scores.values.shape == (COUNT,)
    assert scores.defined.all()
    check_range(name, scores.values)
    assert compare(second, first).values.tolist() == close(scores.values)
    assert compare(first, first).values.tolist() == close(torch.ones(COUNT))
    assert compare(first, second, slice(3, 4)).values.tolist() == close(scores.values[3:4])
    for maps in edge_maps().values():
        found = compare(maps, second)
        check_range(name, found.values)
        assert found.defined.all() or found.reason
