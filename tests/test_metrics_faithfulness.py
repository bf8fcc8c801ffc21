"""What every faithfulness metric promises: independence, cost, direction, invariances, odd maps."""

import math

import nets
import pytest
import torch
from faithfulness_tools import IDS, case_of, no_explain, planted

from xbench.classifier import Classifier, Normalization
from xbench.contracts import Case
from xbench.errors import ParameterError
from xbench.operations.curves import rescaled, tie_share
from xbench.operations.imputers import SOLVED, STATIC
from xbench.operations.segments import segment
from xbench.registry import METRICS
from xbench.streams import Streams

MODULES = ("cells", "confidence", "correlation", "deletion", "infidelity", "region_removal", "road")
HOMES = {f"xbench.metrics.{module}" for module in MODULES}
# tokens are dropped from transformers only: see test_operations_tokens.py
ENTRIES = [e for e in METRICS.entries() if e.module in HOMES and "attention" not in e.card.needs]
NAMES = [entry.name for entry in ENTRIES]
CORRELATIONS = {
    "sensitivity_n",
    "faithfulness_correlation",
    "faithfulness_estimate",
    "single_deletion",
    "single_deletion_7x7",
    "in_domain_single_deletion",
    "monotonicity_correlation",
}
CONFIDENCE = {"average_drop", "average_increase", "average_gain"}
# what tells oracle, random and inverted apart only where its limitations say so
BLIND = {
    "infidelity": "the optimal scale may be negative",
    "monotonicity_correlation": "blind to sign",
    "average_increase": "0 or 1 an image",
    "average_gain": "zero for every map that loses probability",
}


# fewer draws where the default is for real images
SMALL = {
    "sensitivity_n": "sizes=5,subsets=30",
    "faithfulness_correlation": "draws=60",
    "infidelity": "draws=60",
    "infidelity_positive": "draws=60",
    "region_perturbation": "regions=60",
    "aopc_lerf": "regions=60",
    "faithfulness_estimate": "grid=8",
    "monotonicity_correlation": "draws=2",
}


def chosen(name):
    return METRICS.create(name)


def small(name, more=""):
    """The metric with fewer draws, so that it is quick on tiny images."""
    parameters = dict(p.split("=") for p in ",".join((SMALL.get(name, ""), more)).split(",") if p)
    inside = ",".join(f"{key}={value}" for key, value in parameters.items())
    return METRICS.create(f"{name}[{inside}]" if inside else name)


def test_all_are_there():
    assert len(NAMES) >= 30
    assert {"deletion", "insertion", "road", "single_deletion"} <= {
        e.name for e in ENTRIES if e.card.default
    }
    for entry in ENTRIES:
        assert entry.card.paper
        assert entry.card.limitations
        assert entry.card.chance


@pytest.mark.parametrize("name", NAMES)
def test_neither_batch_size_nor_neighbors_change_a_score(name):
    one = small(name).value
    case, streams = case_of((3, 13, 9), batch_size=7)
    whole = one.score(case, streams=streams)
    for i in range(len(case)):
        alone, own = case_of((3, 13, 9), batch_size=1 if i == 0 else 5, only=i)
        got = one.score(alone, streams=own)
        assert got.values[0].item() == pytest.approx(whole.values[i].item(), abs=2e-5, rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 13, 9)])
def test_cost_is_the_formula_and_the_shared_part_is_paid_once(name, shape):
    one = small(name).value
    case, streams = case_of(shape)
    facts = case.model.facts(shape)
    before = case.model.counter.read()
    one.score(case, streams=streams)
    first = case.model.counter.read() - before
    assert first.forwards == one.cost(facts).forwards * len(case)
    assert first.backwards == 0
    before = case.model.counter.read()
    one.score(case.with_maps(case.maps.flip(2) + 0.1), streams=streams)
    second = case.model.counter.read() - before
    assert second.forwards == first.forwards - one.shared(facts) * len(case)


@pytest.mark.parametrize("name", NAMES)
def test_the_model_and_the_maps_stay_as_they_were(name):
    case, streams = case_of((3, 12, 12))
    weights, maps, images = case.model.fingerprint(), case.maps.clone(), case.images.clone()
    state = torch.get_rng_state()
    small(name).value.score(case, streams=streams)
    assert case.model.fingerprint() == weights
    assert torch.equal(case.maps, maps)
    assert torch.equal(case.images, images)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in BLIND])
def test_direction_on_planted_truth(name):
    case, oracle, streams = planted()
    case.model.masked_training = True
    picked = chosen(name)
    noise = torch.rand(oracle.shape, generator=torch.Generator().manual_seed(3)) * 2 - 1
    values = []
    for maps in (oracle, noise, -oracle):
        got = picked.value.score(case.with_maps(maps), streams=streams)
        values.append(got.values[got.defined].mean().item())
    assert picked.card.direction in ("higher", "lower")
    sign = 1 if picked.card.direction == "higher" else -1
    best, random, worst = (sign * value for value in values)
    assert best > random
    assert random > worst


@pytest.mark.parametrize("name", sorted(BLIND))
def test_the_blind_ones_still_put_the_oracle_before_noise(name):
    case, oracle, streams = planted()
    picked = chosen(name)
    noise = torch.rand(oracle.shape, generator=torch.Generator().manual_seed(3)) * 2 - 1
    best, random = (
        picked.value.score(case.with_maps(maps), streams=streams).values.mean().item()
        for maps in (oracle, noise)
    )
    assert (best < random) if picked.card.direction == "lower" else (best > random)


@pytest.mark.parametrize("name", NAMES)
def test_values_lie_in_the_declared_range(name):
    picked = small(name)
    low, high = picked.card.range
    for shape in [(3, 13, 9), (1, 16, 16)]:
        case, streams = case_of(shape)
        values = picked.value.score(case, streams=streams).values
        assert ((values >= low - 1e-9) & (values <= high + 1e-9)).all()


TRANSFORMS = {
    "scale": lambda a: 4.0 * a,
    "shift": lambda a: a + 3.0,
    "sign": lambda a: -a,
    "monotone": lambda a: (2 * a).exp(),
}


@pytest.mark.parametrize(
    ("name", "kind"),
    [(entry.name, kind) for entry in ENTRIES for kind in entry.card.invariances],
)
def test_claimed_invariances_hold(name, kind):
    case, streams = case_of((3, 12, 12))
    # sums over cells survive a shift where the cells are equal
    one = small(name, "grid=4" if "grid" in chosen(name).entry.parameters else "").value
    plain = one.score(case, streams=streams).values
    changed = case.with_maps(TRANSFORMS[kind](case.maps))
    got = one.score(changed, streams=streams).values
    assert got.tolist() == pytest.approx(plain.tolist(), abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_broken_maps_are_undefined_and_leave_their_neighbors_alone(name):
    one = small(name).value
    case, streams = case_of((3, 12, 12))
    whole = one.score(case, streams=streams)
    maps = case.maps.clone()
    maps[1, 2, 3] = math.nan
    got = one.score(case.with_maps(maps), streams=streams)
    assert got.defined.tolist() == [True, False, True]
    assert got.reason
    assert all(torch.isnan(v[1]).all() for v in (*got.curves.values(), *got.details.values()))
    assert got.values[0].item() == pytest.approx(whole.values[0].item(), abs=1e-6)
    assert got.values[2].item() == pytest.approx(whole.values[2].item(), abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_zero_constant_and_one_hot_maps_are_handled_as_declared(name):
    one = small(name, "grid=4" if "grid" in chosen(name).entry.parameters else "").value
    case, streams = case_of((3, 16, 16))
    zero, constant = torch.zeros_like(case.maps), torch.full_like(case.maps, 0.3)
    hot = torch.zeros_like(case.maps)
    hot[:, 5, 6] = 1.0
    got = one.score(case.with_maps(zero), streams=streams)
    same = one.score(case.with_maps(constant), streams=streams)
    assert one.score(case.with_maps(hot), streams=streams).defined.all()
    if name in CORRELATIONS:
        assert not got.defined.any()
        assert not same.defined.any()
    elif name in CONFIDENCE:
        assert not got.defined.any()  # nothing is explained
        # the whole image is shown: nothing lost, nothing won
        assert same.values.tolist() == pytest.approx([0.0] * 3, abs=1e-6)
    elif name.startswith("infidelity"):
        assert got.values.tolist() == [1.0] * 3
        assert (same.values <= 1.0).all()
    elif name == "completeness_error":
        assert got.values.tolist() == [1.0] * 3
    else:  # orders: any constant is the same random order
        assert got.defined.all()
        assert torch.equal(got.values, same.values)


@pytest.mark.parametrize("name", ["deletion", "single_deletion", "faithfulness_correlation"])
@pytest.mark.parametrize("imputer", [*STATIC, *SOLVED])
def test_every_imputer_by_name(name, imputer):
    case, streams = case_of((3, 12, 12))
    if name == "deletion" and imputer == "inpaint":
        pytest.skip("biharmonic inpainting of nearly everything is slow")
    got = chosen(f"{name}[imputer={imputer}]").value.score(case, streams=streams)
    assert got.defined.all()


# ---- identities on a linear model


def linear_case(shape=(3, 12, 12)):
    channels = shape[0]
    norm = Normalization((0.4, 0.5, 0.6)[:channels], (1.0,) * channels)
    model = Classifier(nets.build(nets.Linear, shape=shape), normalization=norm, batch_size=64)
    images = nets.pictures(3, *shape)
    targets = torch.tensor([0, 1, 3])
    weights = model.module.head.weight[targets].view(3, *shape)
    streams = Streams(seed=0, image_ids=IDS, scope="test")
    return Case(model, images, targets, images[:, 0], no_explain, IDS), weights, streams


@pytest.mark.parametrize("shape", [(3, 12, 12), (1, 13, 9)])
def test_exact_contributions_of_a_linear_model_are_perfect(shape):
    case, weights, streams = linear_case(shape)
    base = torch.tensor([0.4, 0.5, 0.6])[: shape[0], None, None]
    exact = case.with_maps((weights * (case.images - base)).sum(dim=1))
    for name, want in {
        "sensitivity_n": 1.0,
        "faithfulness_correlation": 1.0,
        "faithfulness_estimate": 1.0,
        "single_deletion": 1.0,
        "infidelity": 0.0,
        "infidelity_positive": 0.0,
        "completeness_error": 0.0,
    }.items():
        got = chosen(name).value.score(exact, streams=streams)
        assert got.values.tolist() == pytest.approx([want] * 3, abs=1e-5), name
    curve = chosen("sensitivity_n").value.score(exact, streams=streams).curves["pearson"]
    assert curve.flatten().tolist() == pytest.approx([1.0] * curve.numel(), abs=1e-5)


@pytest.mark.parametrize("grid", [4, 5])
def test_occlusion_of_the_same_cells_is_perfect_one_cell_at_a_time(grid):
    case, streams = case_of((3, 20, 17))
    cells = segment(case.images, "grid", grid * grid)
    color = case.model.network.mean
    maps = torch.zeros_like(case.maps)
    clean = case.model.logits(case.images).gather(1, case.targets[:, None])
    for cell in range(grid * grid):
        inside = cells == cell
        without = torch.where(inside[:, None], color, case.images)
        drop = clean - case.model.logits(without).gather(1, case.targets[:, None])
        share = (drop / inside.flatten(1).sum(dim=1, keepdim=True))[..., None]
        maps = torch.where(inside, share, maps)
    occlusion = case.with_maps(maps)
    sds = chosen(f"single_deletion[grid={grid}]").value.score(occlusion, streams=streams)
    assert sds.values.tolist() == pytest.approx([1.0] * 3, abs=1e-9)
    n1 = chosen(f"sensitivity_n[grid={grid},sizes=1]").value.score(occlusion, streams=streams)
    assert n1.values.tolist() == pytest.approx([1.0] * 3, abs=1e-5)
    estimate = chosen(f"faithfulness_estimate[grid={grid}]").value
    assert estimate.score(occlusion, streams=streams).values.tolist() == pytest.approx(
        [1.0] * 3, abs=1e-5
    )


# ---- details


def test_random_maps_get_nothing_from_the_metrics_whose_chance_is_zero():
    case, _, _ = planted(n=40)
    noise = torch.randn(case.maps.shape, generator=torch.Generator().manual_seed(9))
    streams = Streams(seed=0, image_ids=case.image_ids, scope="test")
    for entry in ENTRIES:
        if entry.card.chance == "0" and entry.name != "in_domain_single_deletion":
            got = chosen(entry.name).value.score(case.with_maps(noise), streams=streams).values
            spread = got.std().item() / math.sqrt(len(got))
            assert abs(got.mean().item()) < 3.5 * spread + 1e-9, entry.name


def test_in_domain_single_deletion_asks_for_a_model_trained_on_removed_cells():
    case, streams = case_of((3, 16, 16))
    one = chosen("in_domain_single_deletion").value
    assert "masked_training" in one.supports(case)
    case.model.masked_training = True
    assert one.supports(case) is None
    plain = chosen("single_deletion").value.score(case, streams=streams)
    assert torch.equal(one.score(case, streams=streams).values, plain.values)


def test_road_accuracy_is_of_the_label_and_unknown_without_one():
    case, streams = case_of((3, 12, 12), labels=torch.tensor([0, 1, -1]))
    got = chosen("road").value.score(case, streams=streams)
    assert torch.isnan(got.details["accuracy_morf"]).tolist() == [False, False, True]
    assert got.values.tolist() == pytest.approx(
        (got.details["lerf"] - got.details["morf"]).tolist()
    )
    half = chosen("road_morf").value.score(case, streams=streams)
    assert half.values.tolist() == pytest.approx(got.details["morf"].tolist())


def test_both_ends_of_all_curves_are_computed_once():
    case, streams = case_of((3, 12, 12))
    chosen("deletion").value.score(case, streams=streams)
    before = case.model.counter.read()
    chosen("abpc").value.score(case, streams=streams.scoped("another"))
    chosen("selectivity").value.score(case, streams=streams.scoped("a third"))
    spent = (case.model.counter.read() - before).forwards
    assert spent == (27 + 27 + 31) * len(case)


def test_normalized_curves_are_undefined_where_the_ends_meet():
    curves = torch.tensor([[0.5, 0.4, 0.495]])
    assert torch.isnan(rescaled(curves, curves[:, 0], curves[:, 2])).all()


def test_tie_share_counts_every_member_of_a_tie():
    assert tie_share(torch.tensor([[1.0, 2.0, 2.0, 2.0], [1.0, 2.0, 3.0, 4.0]])).tolist() == [
        0.75,
        0.0,
    ]


@pytest.mark.parametrize(
    "text",
    [
        "region_perturbation[imputer=mean]",
        "road[order=up]",
        "completeness_error[imputer=noisy_linear]",
        "average_drop[imputer=noisy_linear]",
        "sensitivity_n[share=1.5]",
        "single_deletion[grid=1]",
        "irof[segmentation=voronoi]",
        "infidelity[draws=1]",
    ],
)
def test_wrong_parameters_are_one_sentence(text):
    with pytest.raises(ParameterError) as error:
        chosen(text)
    assert str(error.value).endswith(".")
