"""Localization metrics against their slow twins, on planted truth and at the edges."""

import itertools

import mapcases
import pytest
import torch
from reference import localization_reference as reference
from xbench.metrics._truth import bounding_boxes
from xbench.metrics.localization import MassAccuracy, PointingGame, RankAccuracy
from xbench.metrics.overlap import TopKIntersection

from xbench.errors import ParameterError
from xbench.operations.selection import dilate, random_argmax, top_membership
from xbench.registry import METRICS

MODULES = ("xbench.metrics.localization", "xbench.metrics.overlap")
METRIC_NAMES = sorted(entry.name for entry in METRICS if entry.module in MODULES)
TWINS = {
    "rank_accuracy": reference.rank_accuracy,
    "mass_accuracy": reference.mass_accuracy,
    "energy_pointing_game": reference.energy_pointing_game,
    "attribution_localization": reference.attribution_localization,
    "mask_iou": reference.mask_iou,
    "best_mask_iou": reference.best_mask_iou,
    "mask_auc": reference.mask_auc,
    "top_k_intersection": lambda a, mask: reference.top_k_intersection(a, mask, 0.02),
}
TIED = {"mass_accuracy", "energy_pointing_game", "attribution_localization", "best_mask_iou"}


def create(name):
    return METRICS.create(name).value


@pytest.mark.parametrize("size", mapcases.SIZES)
@pytest.mark.parametrize("name", sorted(TWINS))
def test_twin(name, size):
    maps, truth = mapcases.noise(6, *size), mapcases.blobs(6, *size)
    expected = [TWINS[name](a.tolist(), m.tolist()) for a, m in zip(maps, truth, strict=True)]
    assert mapcases.score(create(name), maps, truth).tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", sorted({*TIED, "mask_auc"}))
def test_twin_with_ties(name):
    maps, truth = mapcases.noise(6, 9, 7).round(), mapcases.blobs(6, 9, 7)
    expected = [TWINS[name](a.tolist(), m.tolist()) for a, m in zip(maps, truth, strict=True)]
    assert mapcases.score(create(name), maps, truth).tolist() == pytest.approx(expected, abs=1e-9)


def test_every_metric_has_a_twin():
    assert {*TWINS, "pointing_game"} == set(METRIC_NAMES)


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_top_k_share_and_concept_influence(share):
    maps, truth = mapcases.noise(4, 9, 7), mapcases.blobs(4, 9, 7)
    expected = [
        reference.top_k_intersection(a.tolist(), m.tolist(), share)
        for a, m in zip(maps, truth, strict=True)
    ]
    assert mapcases.score(TopKIntersection(share), maps, truth).tolist() == pytest.approx(expected)
    weighted = mapcases.score(TopKIntersection(share, concept_influence=True), maps, truth)
    assert (weighted * truth.double().mean(dim=(1, 2))).tolist() == pytest.approx(expected)


def test_a_perfect_map_is_perfect():
    truth = mapcases.blobs(4, 17, 20)
    for name in METRIC_NAMES:
        if name == "top_k_intersection":
            continue  # its k exceeds the five pixels of the mask
        box = bounding_boxes(truth).double().mean(dim=(1, 2))
        expected = 1 / box if name == "attribution_localization" else torch.ones(4).double()
        assert mapcases.score(create(name), truth.float(), truth).tolist() == pytest.approx(
            expected.tolist()
        )


@pytest.mark.parametrize("size", mapcases.SIZES)
@pytest.mark.parametrize("tolerance", [0.0, 15.0, 40.0])
def test_pointing_twin(size, tolerance):
    maps, truth = mapcases.noise(60, *size).round(), mapcases.blobs(60, *size)
    draws = mapcases.streams(60).uniform((1,), "argmax")[:, 0].tolist()
    expected = [
        reference.pointing_game(a.tolist(), m.tolist(), tolerance, draw)
        for a, m, draw in zip(maps, truth, draws, strict=True)
    ]
    assert 0 < sum(expected) < 60
    assert mapcases.score(PointingGame(tolerance), maps, truth).tolist() == expected


@pytest.mark.parametrize("radius", [0, 1, 2, 5, 30])
def test_dilation(radius):
    truth = mapcases.blobs(3, 11, 14)
    expected = [reference.dilated_share(mask.tolist(), radius) for mask in truth]
    assert dilate(truth, radius).double().mean(dim=(1, 2)).tolist() == pytest.approx(expected)


def test_pointing_tolerance_scales_with_the_short_side():
    truth = torch.zeros(1, 224, 300, dtype=torch.bool)
    truth[0, 100, 100] = True
    maps = torch.zeros(1, 224, 300)
    maps[0, 100, 115] = 1.0
    assert mapcases.score(PointingGame(), maps, truth).item() == 1
    assert mapcases.score(PointingGame(), maps.roll(1, 2), truth).item() == 0
    half = maps.roll(-7, 2)[:, ::2, ::2], truth[:, ::2, ::2]
    assert mapcases.score(PointingGame(), *half).item() == 1


def test_chance_is_what_noise_gets():
    truth = mapcases.blobs(1, 20, 30).expand(3000, -1, -1)
    maps = torch.rand(3000, 20, 30, generator=torch.Generator().manual_seed(3))
    for metric in (PointingGame(40.0), RankAccuracy(), MassAccuracy()):
        scores = metric.score(mapcases.case(maps, truth), streams=mapcases.streams(3000))
        error = 4 * scores.values.std() / 3000**0.5
        assert abs(scores.values.mean() - scores.details["chance"][0]) < error


def test_constant_map_is_chance():
    truth = mapcases.blobs(2000, 20, 30)
    maps = torch.ones(2000, 20, 30)
    area = truth[0].double().mean().item()
    assert mapcases.score(RankAccuracy(), maps, truth)[0].item() == pytest.approx(area)
    pointing = PointingGame(40.0).score(mapcases.case(maps, truth), streams=mapcases.streams(2000))
    chance = pointing.details["chance"].mean().item()
    assert pointing.values.mean().item() == pytest.approx(chance, abs=0.03)


def test_ties_are_the_mean_over_all_orders():
    values = [2.0, 1.0, 1.0, 1.0, 0.0, 1.0]
    mask = [True, False, True, False, True, False]
    exact = []
    for order in itertools.permutations(range(6)):
        ranked = sorted(order, key=lambda i: -values[i])
        exact.append(sum(mask[i] for i in ranked[:3]) / 3)
    found = mapcases.score(
        RankAccuracy(), torch.tensor(values).view(1, 2, 3), torch.tensor(mask).view(1, 2, 3)
    )
    assert found.item() == pytest.approx(sum(exact) / len(exact))


def test_membership_sums_to_its_count():
    maps = mapcases.noise(5, 6, 7).round()
    counts = torch.tensor([1, 5, 20, 41, 42])
    weights = top_membership(maps, counts)
    assert weights.sum(dim=1).tolist() == pytest.approx(counts.tolist())
    assert ((weights >= 0) & (weights <= 1)).all()


def test_random_argmax_reaches_every_maximum_and_no_other():
    maps = torch.tensor([[0.0, 3.0, 1.0, 3.0, 3.0]]).expand(300, -1)
    draws = torch.linspace(0, 1 - 1e-7, 300)
    assert set(random_argmax(maps, draws).tolist()) == {1, 3, 4}


@pytest.mark.parametrize("name", METRIC_NAMES)
def test_direction_on_planted_truth(name):
    truth = mapcases.blobs(64, 17, 20)
    noise = mapcases.noise(64, 17, 20).abs()
    means = [
        mapcases.score(create(name), maps, truth).mean()
        for maps in (truth.float() + 0.01 * noise, noise, (~truth).float() + 0.01 * noise)
    ]
    assert means[0] > means[1] > means[2]


@pytest.mark.parametrize("name", METRIC_NAMES)
def test_claimed_invariances(name):
    metric, truth, maps = create(name), mapcases.blobs(8, 9, 7), mapcases.noise(8, 9, 7)
    before = mapcases.score(metric, maps, truth)
    for invariance in METRICS.entry(name).card.invariances:
        after = mapcases.score(metric, mapcases.transforms()[invariance](maps), truth)
        assert after.tolist() == pytest.approx(before.tolist(), abs=1e-5), invariance


@pytest.mark.parametrize("name", METRIC_NAMES)
def test_neighbors_do_not_matter(name):
    metric, truth, maps = create(name), mapcases.blobs(5, 9, 7), mapcases.noise(5, 9, 7).round()
    whole = metric.score(mapcases.case(maps, truth), streams=mapcases.streams(5))
    loud = maps.clone()
    loud[1:] *= 1e6
    assert mapcases.score(metric, loud, truth)[0] == whole.values[0]
    for i in range(5):
        one = mapcases.case(maps[i : i + 1], truth[i : i + 1], image_ids=[f"image-{i}"])
        alone = metric.score(one, streams=mapcases.streams(5).select([i]))
        assert alone.values.tolist() == pytest.approx(whole.values[i : i + 1].tolist(), abs=1e-12)


@pytest.mark.parametrize("name", METRIC_NAMES)
def test_undefined_cases(name):
    metric = create(name)
    truth, maps = mapcases.blobs(6, 9, 7), mapcases.noise(6, 9, 7)
    truth[1], truth[2] = False, True
    maps[3, 0, 0], maps[4, 1, 1] = torch.nan, torch.inf
    known = torch.tensor([True] * 5 + [False])
    scores = metric.score(
        mapcases.case(maps, truth, truth_defined=known), streams=mapcases.streams(6)
    )
    assert scores.defined.tolist() == [True, False, False, False, False, False]
    assert torch.isnan(scores.values[1:]).all()
    assert scores.reason
    assert "masks" in metric.supports(mapcases.case(maps))
    assert metric.supports(mapcases.case(maps, truth)) is None


@pytest.mark.parametrize("name", METRIC_NAMES)
@pytest.mark.parametrize("level", [0.0, 2.5, -1.0])
def test_constant_maps_do_not_crash(name, level):
    truth = mapcases.blobs(4, 9, 7)
    values = mapcases.score(create(name), torch.full((4, 9, 7), level), truth)
    low, high = METRICS.entry(name).card.range
    assert (torch.isnan(values) | ((values >= low) & (values <= high))).all()


def test_mass_needs_positive_mass():
    truth = mapcases.blobs(2, 9, 7)
    assert torch.isnan(mapcases.score(MassAccuracy(), -torch.ones(2, 9, 7), truth)).all()
    assert torch.isnan(mapcases.score(MassAccuracy(), torch.zeros(2, 9, 7), truth)).all()


@pytest.mark.parametrize(
    "text",
    ["pointing_game[tolerance=-1]", "top_k_intersection[share=0]", "top_k_intersection[share=2]"],
)
def test_bad_parameters(text):
    with pytest.raises(ParameterError, match=r"at least 0|at most 1"):
        METRICS.create(text)
