"""Equal numbers of model calls for every method: what is set, what is refused, what is shown."""

import ast
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from report_runs import changed
from typer.testing import CliRunner, Result

import xbench
from xbench.classifier import Classifier
from xbench.cli import app
from xbench.cost import Cost
from xbench.errors import ParameterError
from xbench.registry import METHODS
from xbench.report import write_all
from xbench.running.budget import TUNABLE, fit, match, parse_budgets, tunable
from xbench.running.session import Settings, make_grid, open_run

FACTS: Mapping[str, object] = {
    "height": 64, "width": 64, "classes": 8, "channels": 32, "tail": True, "layers": 5,
}  # fmt: skip
BUDGETS = (16, 100, 512, 1000)
RESOLUTION = {"n_segments", "window", "stride", "grid", "n_areas", "n_baselines"}
ALL = METHODS.select("all")
TUNED = [(method, name) for method in ALL if (name := tunable(method, FACTS)) is not None]


def call(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.mark.parametrize(("method", "name"), TUNED, ids=[m.label for m, _ in TUNED])
def test_the_largest_value_within_the_budget_is_set(method, name: str) -> None:
    for budget in BUDGETS:
        found = fit(method, name, budget, FACTS)
        if found is None:
            least = next(v for v in range(1, 9) if _calls(method, name, v) is not None)
            assert _calls(method, name, least) > budget
            continue
        value = getattr(found.value, name)
        assert found.value.cost(FACTS).calls <= budget
        following = (_calls(method, name, v) for v in range(value + 1, 2 * value + 2))
        assert next(calls for calls in following if calls is not None) > budget
        if value != method.entry.parameters[name]:
            assert f"{name}={value}" in found.label
        assert METHODS.create(found.identity).value == found.value


def _calls(method, name: str, value: int) -> float | None:
    try:
        return METHODS.adjust(method, **{name: value}).value.cost(FACTS).calls
    except ParameterError:
        return None


def test_every_number_in_a_cost_formula_buys_accuracy_or_is_known_not_to() -> None:
    for entry in (one for one in METHODS if one.module.startswith("xbench.methods.")):
        names = {
            node.id
            for formula in (entry.card.forwards, entry.card.backwards)
            for node in ast.walk(ast.parse(formula))
            if isinstance(node, ast.Name)
        }
        numbers = {n for n in names if type(entry.parameters.get(n)) is int}
        assert numbers <= set(TUNABLE) | RESOLUTION, entry.name
        if numbers & set(TUNABLE):
            assert entry.name in {method.card.name for method, _ in TUNED}


def test_methods_at_two_budgets_and_those_without_a_parameter(cnn: Classifier) -> None:
    methods = METHODS.select("rise[n_masks=7],rise,gradient,smooth_integrated_gradients,random")
    chosen, budgets = match(methods, [64, 512], cnn, FACTS)
    assert [method.label for method in chosen] == [
        "rise[n_masks=64]", "rise[n_masks=512]", "gradient",
        "smooth_integrated_gradients[n_samples=5]", "random",
    ]  # fmt: skip
    assert budgets.own == ("gradient",)
    assert budgets.refused == (
        "smooth_integrated_gradients needs 100 model calls at its cheapest (n_samples=1), more "
        "than the budget of 64.",
    )
    assert {(one.base, one.budget, one.calls) for one in budgets.fitted} >= {
        ("rise", 64, 64), ("rise", 512, 512), ("gradient", 64, 2), ("gradient", 512, 2),
    }  # fmt: skip


def test_what_costs_more_than_the_budget_is_refused(cnn: Classifier) -> None:
    chosen, budgets = match(METHODS.select("gradient,feature_ablation,edges"), [8], cnn, FACTS)
    assert [method.label for method in chosen] == ["gradient", "edges"]
    assert budgets.refused == ("feature_ablation needs 51 model calls, more than the budget of 8.",)
    with pytest.raises(ParameterError, match=r"No method fits a budget.*feature_ablation"):
        match(METHODS.select("feature_ablation,edges"), [8], cnn, FACTS)


def test_a_method_that_the_model_does_not_allow_is_left_to_say_so(cnn: Classifier) -> None:
    methods = METHODS.select("gradient,attention_rollout")
    chosen, budgets = match(methods, [8], cnn, FACTS)
    assert [method.label for method in chosen] == ["gradient", "attention_rollout"]
    assert [one.label for one in budgets.fitted] == ["gradient"]


def test_budgets_are_read_sorted_and_refused() -> None:
    assert parse_budgets(None) == ()
    assert parse_budgets("1024, 64,64") == (64, 1024)
    for text in ("", "0", "many", "64,-2"):
        with pytest.raises(ParameterError, match="--budget takes numbers"):
            parse_budgets(text)
    with pytest.raises(ParameterError, match="--max-map-calls"):
        make_grid(Settings(methods="rise", metrics="iou", limit=1, budget="512", max_map_calls=100))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two methods at two budgets on four scenes, one at its own cost, one that never fits."""
    path = tmp_path_factory.mktemp("budget") / "run"
    result = call(
        "run", "--methods",
        "integrated_gradients,smoothgrad,gradient,shapley_sampling,random,oracle",
        "--metrics", "rank_accuracy", "--budget", "8,16", "--limit", "4", "--batch-size", "16",
        "--out", path, "-q",
    )  # fmt: skip
    assert result.exit_code == 0, (result.output, result.exception)
    assert "shapley_sampling needs 50 model calls at its cheapest" in result.stderr
    assert "At their own cost: gradient." in result.stderr
    return path


def test_a_run_spends_the_budget_and_shows_quality_against_it(folder: Path) -> None:
    run = open_run(folder)
    spent = run.records.query("metric == 'explain' and status == 'ok'").groupby("method")["value"]
    assert spent.max().to_dict() == {
        "gradient": 2, "random": 0, "oracle": 0,
        "integrated_gradients[n_steps=4]": 8, "integrated_gradients[n_steps=8]": 16,
        "smoothgrad[n_samples=4]": 8, "smoothgrad[n_samples=8]": 16,
    }  # fmt: skip
    kept = run.manifest["budget"]
    assert kept["budgets"] == [8, 16]
    assert len(kept["fitted"]) == 6
    page = (folder / "report.html").read_text()
    assert '<section id="budget">' in page
    assert 'href="#budget"' in page
    assert page.count('class="chart budget"') == 1
    table = (folder / "leaderboard.md").read_text().partition("## Quality against budget")[2]
    assert "| method | 8 calls | 16 calls |" in table
    assert any(line.startswith("| smoothgrad |") and "(16) |" in line for line in table.split("\n"))
    assert "At their own cost: gradient." in table
    assert json.loads((folder / "leaderboard.json").read_text())["budget"]["budgets"] == [8, 16]


def test_a_run_without_budgets_has_no_such_section(folder: Path, tmp_path: Path) -> None:
    def forget(manifest: dict[str, object]) -> None:
        del manifest["budget"]

    copy = changed(open_run(folder), tmp_path / "copy", forget)
    write_all(copy)
    assert 'id="budget"' not in (copy.path / "report.html").read_text()
    assert "budget" not in (copy.path / "leaderboard.md").read_text()


def test_the_plan_counts_calls_at_the_budget(tmp_path: Path) -> None:
    path = tmp_path / "bench.toml"
    path.write_text('methods = "rise,gradient"\nmetrics = "iou"\nlimit = 2\nbudget = [4, 8]\n')
    result = call("plan", path, "--batch-size", "4", "--json")
    assert result.exit_code == 0, result.output
    cells = {(c["method"], c["metric"]): c for c in json.loads(result.stdout)["cells"]}
    assert cells["rise[n_masks=8]", "explain"]["forwards"] == 8
    assert ("rise[n_masks=4]", "explain") in cells
    assert ("rise", "explain") not in cells


def test_the_budget_from_python(tmp_path: Path) -> None:
    run = xbench.run(
        methods="rise,random", metrics="iou", limit=2, batch_size=4, budget=[3], out=tmp_path / "r"
    )
    assert [m["label"] for m in run.manifest["methods"]] == ["rise[n_masks=3]", "random"]
    chosen = METHODS.create("rise[n_masks=3]")
    assert chosen.value.cost(FACTS) == Cost(3)
