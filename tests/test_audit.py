"""The audit and the reproduction: known orders are graded as they are, gates are not bent."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from xbench.audit.findings import Finding, Found, findings_summary
from xbench.audit.findings_linear import linear_findings
from xbench.audit.findings_photos import photo_findings
from xbench.audit.grading import halves, judge, rank_correlation, retest, step
from xbench.audit.ladders import Damaged, truth_ladder
from xbench.audit.measuring import Plan
from xbench.audit.session import run_audit, write_audit
from xbench.statistics.fills import fill_warnings, shared_fill
from xbench.statistics.verdicts import verdict_of, verdicts

METRICS = (
    "rank_accuracy,completeness_error,max_sensitivity[draws=2],label_randomization,"
    "sparseness,roar,iou"
)


@pytest.fixture(scope="module")
def grades():
    plan = Plan(images=6, few=4, metrics=METRICS, panel="gradient,gradcam")
    return plan, {grade.metric: grade for grade in run_audit(plan, jobs=1)}


@pytest.mark.parametrize(
    ("metric", "standing"),
    [
        ("rank_accuracy", "passes"),
        ("max_sensitivity[draws=2]", "passes"),
        ("label_randomization", "passes"),
        ("completeness_error", "fails"),
        ("sparseness", "descriptive"),
        ("iou", "descriptive"),
        ("roar", "ungraded"),
    ],
)
def test_known_metrics_stand_where_they_must(grades, metric, standing):
    verdict = grades[1][metric].verdict
    assert verdict.standing == standing, verdict
    assert bool(verdict.reason) == (standing != "passes")
    if metric == "completeness_error":
        assert "reads the scale" in verdict.reason


def test_written_verdicts_are_read_back(grades, tmp_path):
    plan, found = grades
    page = tmp_path / "page.md"
    page.write_text("# Title\n\nProse that stays.\n", encoding="utf-8")
    for _ in range(2):
        write_audit(list(found.values()), plan, tmp_path / "verdicts.json", page)
    text = page.read_text(encoding="utf-8")
    assert text.count("Prose that stays.") == 1
    assert text.count("## The table") == 1
    known = verdicts(tmp_path / "verdicts.json")
    assert known == {label: grade.verdict for label, grade in found.items()}
    assert not known["completeness_error"].usable
    assert verdict_of("rank_accuracy[x=1]", known) == known["rank_accuracy"]
    assert verdict_of("own", known) is None
    assert "NaN" not in json.dumps(json.loads((tmp_path / "verdicts.json").read_text()))


def ladder_values(best, near, poor, worst, images=20):
    ladder = truth_ladder()
    noise = np.random.default_rng(0).normal(scale=0.1, size=(8, images))
    rows, values = [], []
    for rung, value in zip(ladder.rungs, (best, near, poor, worst), strict=True):
        for method in rung:
            rows.append(method.label)
            values.append(value + noise[len(rows)])
    return ladder, pd.DataFrame(values, index=rows)


@pytest.mark.parametrize(
    ("levels", "standing"),
    [
        ((3, 2, 1, 0), "passes"),
        ((2, 2, 1, 0), "coarse"),
        ((3, 2, 0, 0), "coarse"),
        ((3, 2, 0, 1), "fails"),
        ((0, 1, 2, 3), "fails"),
        ((1, 1, 1, 1), "fails"),
        ((float("nan"),) * 4, "ungraded"),
    ],
)
def test_verdicts_follow_the_order(levels, standing):
    ladder, values = ladder_values(*levels)
    pairs = [("best", "near"), ("near", "poor"), ("poor", "worst")]
    pairs += [("best", "poor"), ("best", "worst")]
    steps = [step(values, ladder, *pair) for pair in pairs]
    assert judge("m", "higher", steps, ladder, "", ("scale",)).standing == standing


def test_ties_count_half_and_undefined_images_do_not_count():
    ladder = truth_ladder()
    labels = [method.label for method in (*ladder.rungs[0], *ladder.rungs[2])]
    values = pd.DataFrame([[1, 1, np.nan, 1], [1, 0, 0, 1], [1, 0, 0, 1]], index=labels)
    found = step(values, ladder, "best", "poor")
    assert found.accuracy == pytest.approx(2 / 3)
    assert found.images == 3


def test_damages_of_the_truth():
    truth = torch.zeros(1, 32, 32, dtype=torch.bool)
    truth[0, 8:12, 8:12] = True
    assert Damaged("half").from_truth(truth).sum() == 8
    shifted = Damaged("shifted").from_truth(truth)
    assert shifted.sum() == 16
    assert shifted[0, 13, 13] == 1


def test_reliabilities():
    generator = np.random.default_rng(1)
    means = np.arange(6.0)[:, None]
    sure = pd.DataFrame(means + generator.normal(scale=0.01, size=(6, 10)))
    vague = pd.DataFrame(generator.normal(size=(6, 10)))
    assert halves(sure) == pytest.approx(1)
    assert halves(vague) < 0.6
    assert retest(sure, sure) == pytest.approx(1)
    assert retest(sure, sure.iloc[::-1]) == pytest.approx(1)  # matched by name, not by place
    assert rank_correlation(sure[0], -sure[0]) == pytest.approx(-1)
    assert np.isnan(rank_correlation(sure[0][:4], sure[0][:4]))


def test_identities_on_a_linear_model():
    assert all(one.holds for one in linear_findings(3))


def test_photographs_are_skipped_where_there_are_none(monkeypatch, tmp_path):
    monkeypatch.setenv("XBENCH_SAMPLE", str(tmp_path))
    found = photo_findings(8, 4, print)
    assert {one.holds for one in found} == {None}
    assert "XBENCH_SAMPLE" in found[0].found


def test_a_failing_hard_row_is_named():
    rows = [Finding("A", "hard", "x", "y", True, 3), Finding("B", "hard", "x", "y", False, 3)]
    assert findings_summary(rows) == "1 of 2 hard rows hold; B do not."
    compared = [Finding(one.id, "hard", "x", "y", np.bool_(one.holds), 3) for one in rows]
    assert findings_summary(compared) == findings_summary(rows)
    assert [one.verdict for one in compared] == ["holds", "DOES NOT HOLD"]
    assert rows[1].verdict == "DOES NOT HOLD"
    assert Finding("C", "soft", "x", "y", False, 3).verdict == "differs"


def test_means_by_method_and_metric():
    frame = pd.DataFrame(
        {
            "method": ["a", "a", "b", "b"],
            "metric": ["m"] * 4,
            "image_id": ["1", "2", "2", "1"],
            "value": [1.0, None, 3.0, 2.0],
        }
    )
    found = Found(frame)
    assert found.mean("a", "m") == 1
    assert found.gap("b", "a", "m")[0] == 1
    assert found.count("a", "m") == 1
    assert np.isnan(found.mean("c", "m"))


def test_the_warning_of_a_shared_fill():
    assert shared_fill("blur", {"imputer": "blur_rise"}) == "blur"
    assert shared_fill("", {"imputer": "mean"}) is None
    methods = [("ig", "mean"), ("ixg", "mean"), ("gradient", "")]
    metrics = [("deletion", {"imputer": "mean"}), ("deletion_blur", {"imputer": "blur"})]
    (warning,) = fill_warnings(methods, metrics)
    assert "ig and ixg" in warning
    assert "mean" in warning
    assert "gradient" not in warning
