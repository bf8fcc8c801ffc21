"""Sweeps: the recommended setting is the best one of planted cases."""

from pathlib import Path

import numpy as np
import pytest
from probing import exact, probe, reference, same, scenes, sound
from test_cli import call, refused

from xbench.errors import ParameterError
from xbench.probes._settings import Column, recommend
from xbench.probes.sweep import read_grid


def column(means: list[float], noise: float, direction: str = "higher", images: int = 12) -> Column:
    rng = np.random.default_rng(5)
    shared = rng.normal(0, 1, (images, 1))  # images differ much more than settings
    return Column("m", direction, np.array(means) + shared + rng.normal(0, noise, (images, 3)))


def test_the_cheapest_of_equals_wins_and_the_worse_one_does_not_however_cheap() -> None:
    labels, calls = ["dear", "equal", "worse"], [100.0, 10.0, 1.0]
    equal = column([1.0, 1.0, 0.5], 0)
    assert recommend(labels, [equal], calls, 12).setting == "equal"
    clear = column([1.0, 0.8, 0.5], 0.05)
    advice = recommend(labels, [clear], calls, 12)
    assert advice.setting == "dear"
    assert "2 of 3" in advice.reasons[0]


def test_lower_is_better_where_the_metric_says_so_and_directionless_ones_do_not_count() -> None:
    labels, calls = ["a", "b", "c"], [1.0, 1.0, 1.0]
    assert recommend(labels, [column([0.1, 0.5, 0.9], 0.01, "lower")], calls, 12).setting == "a"
    free = column([0.1, 0.5, 0.9], 0.01, "none")
    assert recommend(labels, [free, column([0.1, 0.9, 0.5], 0.01)], calls, 12).setting == "b"


def test_the_second_metric_decides_among_equals_of_the_first() -> None:
    labels, calls = ["a", "b", "c"], [1.0, 5.0, 5.0]
    first, second = column([1, 1, 0], 0), column([0.2, 0.9, 1.0], 0.01)
    assert recommend(labels, [first, second], calls, 12).setting == "b"


def test_few_images_decide_by_the_mean_and_say_so() -> None:
    values = Column("m", "higher", np.array([[0.5, 0.6], [0.5, 0.6]]))
    advice = recommend(["a", "b"], [values], [1.0, 9.0], 2)
    assert advice.setting == "b"
    assert "nothing can be shown" in advice.reasons[-1]


def test_a_gate_tells_who_fails_and_ranks_none_of_those_that_pass() -> None:
    labels, calls = ["near", "far", "blind"], [9.0, 1.0, 0.0]
    values = np.tile([0.30, 0.05, 0.90], (12, 1))
    gate = Column("cascading_randomization", "lower", values, 0.4)
    advice = recommend(labels, [gate, column([0.9, 0.1, 2.0], 0.01)], calls, 12)
    assert advice.setting == "near"
    assert advice.reasons[0] == "blind (0.90) fails cascading randomization (0.4 or more)."
    assert recommend(labels, [gate], calls, 12).setting == "far"  # the cheaper one that passes
    nobody = Column("cascading_randomization", "lower", values + 0.5, 0.4)
    assert "trust none" in recommend(labels, [nobody], calls, 12).reasons[0]
    untold = Column("class_sensitivity", "lower", values * [1, np.nan, 1], 0.75)
    assert recommend(labels, [untold], calls, 12).setting == "near"  # as by every other metric


def test_the_window_of_a_linear_networks_cells_is_found(tmp_path: Path) -> None:
    """Occlusion by the network's own cells and its own zero is exact; nothing else is."""
    model, samples = exact("linear", 6)
    one = probe(
        "sweep",
        method="occlusion[stride=8]",
        grid="window=8,16,24; baseline=mean,black",
        faithfulness="sensitivity_n[grid=4]",
        stability="sparseness",
    )
    exhibit = one.run(model, samples)
    assert exhibit.about["recommended"] == "occlusion[stride=8,window=8]"
    sound(exhibit, tmp_path)
    table = exhibit.numbers["settings"].frame
    assert table["recommended"].sum() == 1
    assert len(table) == 6
    assert set(exhibit.images) == {"grid1", "grid2"}
    assert same(exhibit, one.run(model, samples), but=("seconds",))


def test_choose_prefers_the_exact_map_to_a_random_one(tmp_path: Path) -> None:
    model, samples = exact("linear", 6)
    one = probe(
        "choose",
        methods="random,input_x_gradient,attention_rollout",
        metrics="sensitivity_n[grid=4],label_randomization",
    )
    exhibit = one.run(model, samples)
    sound(exhibit, tmp_path)
    assert exhibit.about["recommended"] == "input_x_gradient"
    assert sum("attention_rollout" in sentence for sentence in exhibit.caption) == 1
    assert sum("label_randomization is blank" in text for text in exhibit.caption) == 1


def test_calls_are_those_of_the_card() -> None:
    model = reference()
    samples = scenes(model, 2)
    one = probe(
        "sweep",
        method="smoothgrad",
        grid="n_samples=2,4",
        faithfulness="sparseness",
        stability="entropy",
        complexity="complexity",
    )
    table = one.run(model, samples).numbers["settings"].frame
    assert table["calls"].tolist() == [4, 8]


def test_grids_are_read_or_refused() -> None:
    assert read_grid("a=1,2.5\nb=x") == {"a": [1, 2.5], "b": ["x"]}
    for text in ("", "a", "a=", "=1", "a=1;a=2"):
        with pytest.raises(ParameterError):
            read_grid(text)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("smoothgrad", "--grid", "n_sample=5"), "Did you mean n_samples"),
        (("smoothgrad", "--grid", "n_samples=few"), "takes int"),
        (("smoothgrad", "--grid", "n_samples"), "PARAMETER=VALUE"),
        (("smoothgrad", "--grid", "n_samples=2", "--stability", "iou"), "xbench agree"),
        (("smoothgrid", "--grid", "n_samples=2"), "no method"),
    ],
)
def test_mistakes_are_one_sentence(words: tuple[str, ...], sentence: str) -> None:
    assert sentence in refused("sweep", *words, "--batch-size", "4", "--limit", "1")


def test_the_command(tmp_path: Path) -> None:
    words = ("--limit", "2", "--batch-size", "8", "--out", str(tmp_path / "s"))
    result = call("sweep", "gradient", "--grid", "pooling=sum,l2", *words)
    assert result.exit_code == 0, result.output
    assert "Use gradient" in result.output
