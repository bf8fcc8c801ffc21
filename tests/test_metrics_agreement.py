"""Agreement metrics against their slow twins, for symmetry, chance and ties."""

import itertools

import mapcases
import pandas as pd
import pytest
import torch
from reference import agreement_reference as reference
from xbench.metrics.agreement import Iou

from xbench.errors import ParameterError, RunError
from xbench.registry import METRICS
from xbench.statistics.pairs import table_of_maps, table_of_records

MODULES = ("xbench.metrics.agreement", "xbench.metrics.feature_agreement")
METRIC_NAMES = sorted(entry.name for entry in METRICS if entry.module in MODULES)


def _features(condition):
    return lambda a, b: reference.top_features(
        reference.cells(a, 7), reference.cells(b, 7), 10, condition
    )


def _absolute(a):
    return [[abs(value) for value in row] for row in a]


TWINS = {
    "iou": lambda a, b: reference.iou(a, b, 0.1),
    "spearman_agreement": reference.spearman,
    "abs_spearman_agreement": lambda a, b: reference.spearman(_absolute(a), _absolute(b)),
    "ssim_agreement": reference.ssim,
    "feature_agreement": _features("feature"),
    "rank_agreement": _features("rank"),
    "sign_agreement": _features("sign"),
    "signed_rank_agreement": _features("signed_rank"),
}


def create(name):
    return METRICS.create(name).value


def test_every_metric_has_a_twin():
    assert set(TWINS) == set(METRIC_NAMES)


@pytest.mark.parametrize("size", mapcases.SIZES)
@pytest.mark.parametrize("name", sorted(TWINS))
def test_twin(name, size):
    if name == "ssim_agreement" and min(size) < 11:
        pytest.skip("smaller than the window of SSIM, where it is undefined")
    first = mapcases.noise(6, *size)
    second = 0.5 * first + mapcases.noise(6, *size, seed=1)
    expected = [TWINS[name](a.tolist(), b.tolist()) for a, b in zip(first, second, strict=True)]
    assert mapcases.compare(create(name), first, second).tolist() == pytest.approx(
        expected, abs=1e-5
    )


@pytest.mark.parametrize("name", METRIC_NAMES)
def test_symmetric_and_one_on_itself(name):
    first, second = mapcases.noise(4, 17, 20), mapcases.noise(4, 17, 20, seed=1).round()
    there = mapcases.compare(create(name), first, second)
    back = mapcases.compare(create(name), second, first)
    assert there.tolist() == pytest.approx(back.tolist(), abs=1e-12)
    assert mapcases.compare(create(name), first, first).tolist() == pytest.approx([1.0] * 4)


@pytest.mark.parametrize("name", METRIC_NAMES)
def test_values_within_range_and_finite_maps_only(name):
    first, second = mapcases.noise(4, 12, 13), mapcases.noise(4, 12, 13, seed=1)
    first[1, 0, 0], second[2, 0, 0] = torch.nan, torch.inf
    scores = create(name).compare(first, second, streams=mapcases.streams(4))
    assert scores.defined.tolist() == [True, False, False, True]
    low, high = METRICS.entry(name).card.range
    assert ((scores.values >= low) & (scores.values <= high))[scores.defined].all()


@pytest.mark.parametrize("name", METRIC_NAMES)
def test_claimed_invariances(name):
    first, second = mapcases.noise(5, 12, 13), mapcases.noise(5, 12, 13, seed=1)
    before = mapcases.compare(create(name), first, second)
    for invariance in METRICS.entry(name).card.invariances:
        after = mapcases.compare(create(name), mapcases.transforms()[invariance](first), second)
        assert after.tolist() == pytest.approx(before.tolist(), abs=1e-5), invariance


@pytest.mark.parametrize("name", METRIC_NAMES)
def test_neighbors_do_not_matter(name):
    first, second = mapcases.noise(5, 12, 13), mapcases.noise(5, 12, 13, seed=1).round()
    whole = mapcases.compare(create(name), first, second)
    loud = first.clone()
    loud[1:] *= 1e6
    assert mapcases.compare(create(name), loud, second)[0] == whole[0]
    alone = [mapcases.compare(create(name), first[i : i + 1], second[i : i + 1]) for i in range(5)]
    assert torch.cat(alone).tolist() == pytest.approx(whole.tolist(), abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("q", [0.05, 0.1, 0.2])
def test_iou_chance(q):
    first, second = mapcases.noise(200, 60, 70), mapcases.noise(200, 60, 70, seed=1)
    mean = mapcases.compare(Iou(q), first, second).mean().item()
    assert mean == pytest.approx(q / (2 - q), rel=0.06)


@pytest.mark.parametrize("name", METRIC_NAMES)
def test_constant_maps_are_undefined(name):
    maps = mapcases.noise(3, 12, 12)
    for level in (0.0, 2.0):
        flat = torch.full((3, 12, 12), level)
        assert torch.isnan(mapcases.compare(create(name), flat, maps)).all()
        assert torch.isnan(mapcases.compare(create(name), maps, flat)).all()


def test_iou_of_two_spots_on_flat_ground_is_low():
    first, second = torch.zeros(1, 20, 20), torch.zeros(1, 20, 20)
    first[0, :4, :5], second[0, -4:, -5:] = 1.0, 1.0
    value = mapcases.compare(Iou(), first, second).item()
    u = 20 / 380
    shared = 360 * u * u + 40 * u
    assert value == pytest.approx(shared / (80 - shared))
    assert value < 0.06


@pytest.mark.parametrize("q", [0, -0.1, 1.5])
def test_iou_share_is_checked(q):
    with pytest.raises(ParameterError, match="share of the pixels"):
        METRICS.create(f"iou[q={q}]")


def test_cells_with_ties_are_the_mean_over_all_orders():
    a, b = torch.tensor([[2.0, 1.0, -1.0, 1.0]]), torch.tensor([[1.0, 1.0, 3.0, -3.0]])
    for condition, name in (("feature", "feature_agreement"), ("rank", "rank_agreement")):
        exact = []
        for one, two in itertools.product(itertools.permutations(range(4)), repeat=2):
            shaken = [
                [
                    value.abs().item() - 1e-6 * place
                    for value, place in zip(x[0], order, strict=True)
                ]
                for x, order in ((a, one), (b, two))
            ]
            exact.append(reference.top_features(*shaken, 2, condition))
        found = mapcases.compare(create(f"{name}[grid=2,top=2]"), a.view(1, 2, 2), b.view(1, 2, 2))
        assert found.item() == pytest.approx(sum(exact) / len(exact)), name


@pytest.mark.parametrize(
    ("name", "chance"),
    [("feature_agreement", 10 / 49), ("rank_agreement", 1 / 49), ("sign_agreement", 5 / 49)],
)
def test_chance_of_cells(name, chance):
    first, second = mapcases.noise(2000, 14, 14), mapcases.noise(2000, 14, 14, seed=1)
    mean = mapcases.compare(create(name), first, second).mean().item()
    assert mean == pytest.approx(chance, rel=0.1)


def test_table_of_maps():
    maps = {"gradient": mapcases.noise(3, 12, 12), "ig": mapcases.noise(3, 12, 12, seed=1)}
    maps["ig"][1] = 0.0
    table = table_of_maps(Iou(), maps, ["a.png", "b.png", "c.png"])
    expected = [
        reference.iou(maps["gradient"][i].tolist(), maps["ig"][i].tolist(), 0.1) for i in (0, 2)
    ]
    assert [name for name, _ in table.rows] == ["a.png", "b.png", "c.png"]
    assert table.undefined == 1
    assert table.mean == pytest.approx(sum(expected) / 2)
    lines = table.csv().splitlines()
    assert lines[0] == "image,iou"
    assert lines[2] == "b.png,"
    assert lines[-1] == f"mean,{sum(expected) / 2:.6f}"


def test_table_of_records():
    rows = [
        ("a", "gradient", "ig", "iou", 0.5),
        ("b", "gradient", "ig", "iou", None),
        ("a", "gradient", "ig", "spearman_agreement", 0.1),
        ("c", "gradient", "ig", "iou", 0.25),
        ("a", "gradient", "random", "iou", 0.05),
    ]
    records = pd.DataFrame(rows, columns=["image_id", "method", "other", "metric", "value"])
    for names in (("gradient", "ig"), ("ig", "gradient")):
        table = table_of_records(records, "iou", *names)
        assert (table.first, table.second) == names
        assert [name for name, _ in table.rows] == ["a", "b", "c"]
        assert (table.mean, table.undefined) == (0.375, 1)
    with pytest.raises(RunError, match="does not hold"):
        table_of_records(records, "iou", "ig", "random")


@pytest.mark.parametrize("text", ["feature_agreement[top=0]", "rank_agreement[grid=2,top=5]"])
def test_cells_are_checked(text):
    with pytest.raises(ParameterError, match="between 1 and grid"):
        METRICS.create(text)
