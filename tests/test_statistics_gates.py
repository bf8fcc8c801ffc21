"""Gates and skill on simulated runs."""

import numpy as np
import pytest
import simulated
from simulated import Planted

from xbench.statistics.gates import gate_results
from xbench.statistics.skill import skill_of
from xbench.statistics.table import score_table


def gates_of(method: Planted, **options: object) -> dict[str, object]:
    records, manifest = simulated.simulate({"own": method}, images=60, **options)  # type: ignore[arg-type]
    return dict(gate_results(score_table(records, manifest))["own"])


def verdicts(method: Planted, **options: object) -> dict[str, str]:
    return {gate: one.verdict for gate, one in gates_of(method, **options).items()}  # type: ignore[attr-defined]


def test_a_sound_method_passes_what_was_tested() -> None:
    assert verdicts(Planted()) == {
        "cascading_randomization": "pass",
        "label_randomization": "not tested",
        "class_sensitivity": "pass",
        "controls": "pass",
        "valid": "pass",
    }


@pytest.mark.parametrize(
    ("method", "gate"),
    [
        (Planted(cascade=0.95), "cascading_randomization"),
        (Planted(cascade=0.45), "cascading_randomization"),
        (Planted(other_class=0.95), "class_sensitivity"),
        (Planted(skill=0.0), "controls"),
        (Planted(skill=-1.0), "controls"),
        (Planted(invalid=("insertion",)), "valid"),
    ],
)
def test_each_gate_is_failed_by_its_failure_alone(method: Planted, gate: str) -> None:
    found = verdicts(method)
    assert found.pop(gate) == "fail"
    assert "fail" not in found.values()


def test_verdicts_carry_their_figure() -> None:
    found = gates_of(Planted(cascade=0.95))["cascading_randomization"]
    assert found.value == pytest.approx(0.95, abs=0.02)  # type: ignore[attr-defined]
    assert f"{found.value:.2f} ≥ 0.6" in found.reason  # type: ignore[attr-defined]


def test_a_single_metric_that_favors_a_map_does_not_beat_the_controls() -> None:
    lucky = Planted(skill=0.0, by_metric={"insertion": 2.0})
    assert verdicts(lucky)["controls"] == "fail"
    assert verdicts(lucky, metrics=("insertion",))["controls"] == "pass"


def test_what_was_not_measured_is_not_tested() -> None:
    assert verdicts(Planted(), controls=False)["controls"] == "not tested"
    assert verdicts(Planted(), metrics=("insertion",))["class_sensitivity"] == "not tested"
    records, manifest = simulated.simulate({"own": Planted()}, images=4)
    few = gate_results(score_table(records, manifest))["own"]["controls"]
    assert few.verdict == "not tested"
    assert "4 images" in few.reason


def test_absolute_similarity_is_no_gate() -> None:
    records, manifest = simulated.simulate({"own": Planted(cascade=0.95)}, images=20)
    entry = next(e for e in manifest["metrics"] if e["label"] == "cascading_randomization")
    entry["parameters"] = {"similarity": "abs_spearman"}
    found = gate_results(score_table(records, manifest))["own"]["cascading_randomization"]
    assert found.verdict == "not tested"


@pytest.mark.timeout(900)
@pytest.mark.parametrize("runs", [40, pytest.param(400, marks=pytest.mark.slow)])
def test_noise_rarely_passes_for_an_explanation(runs: int) -> None:
    passed = 0
    for seed in range(runs):
        records, manifest = simulated.simulate(
            {"own": Planted(skill=0.0)}, images=40, seed=seed, metrics=simulated.RANKED
        )
        found = gate_results(score_table(records, manifest))["own"]["controls"]
        passed += found.verdict == "pass"
    assert passed <= simulated.most_alarms(runs)


def test_skill_is_0_for_noise_and_1_for_the_oracle() -> None:
    records, manifest = simulated.simulate({"own": Planted(skill=2.0)}, images=200)
    table = score_table(records, manifest)
    for metric in ("insertion", "deletion"):
        skill = skill_of(table, metric)
        assert skill is not None
        assert skill.top == "oracle"
        assert skill.mean["random"].value == pytest.approx(0.0)
        assert skill.mean["oracle"].value == pytest.approx(1.0)
        assert skill.mean["own"].value == pytest.approx(0.5, abs=0.1)
        assert skill.mean["own"].low < 0.5 < skill.mean["own"].high
        usable = np.isfinite(skill.per_image[:, 0])
        assert usable.any()
        np.testing.assert_allclose(skill.per_image[usable, table.column("oracle")], 1.0)
        sign = -1 if metric == "deletion" else 1
        assert sign * skill.raw["own"].value == pytest.approx(
            sign * table.scores[metric].values[:, 0].mean()
        )


def test_without_an_oracle_the_range_is_the_top_and_without_noise_there_is_no_skill() -> None:
    records, manifest = simulated.simulate({"own": Planted()}, images=20)
    records = records[records["method"] != "oracle"]
    manifest["methods"] = [e for e in manifest["methods"] if e["label"] != "oracle"]
    assert skill_of(score_table(records, manifest), "insertion") is None  # an endless range
    for entry in manifest["metrics"]:
        entry["card"]["range"] = [-10.0, 10.0]
    skill = skill_of(score_table(records, manifest), "insertion")
    assert skill is not None
    assert skill.top == "range"
    manifest["methods"] = [e for e in manifest["methods"] if e["label"] != "random"]
    assert skill_of(score_table(records, manifest), "insertion") is None
