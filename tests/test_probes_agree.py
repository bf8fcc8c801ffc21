"""Agreement of methods: the IoU of a map with itself and its complement, what goes with it."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from probing import exact, probe, reference, same, scenes, sound
from test_cli import call, refused

from xbench.contracts import Samples
from xbench.probes._agreement import factor_table, objects, pair_values
from xbench.probes.maps import Maps


def some(count: int, truth: torch.Tensor | None = None) -> Samples:
    images = torch.rand(count, 3, 10, 10, generator=torch.Generator().manual_seed(0))
    return Samples(
        images=images, labels=torch.zeros(count), ids=list("abcdefgh"[:count]), truth=truth
    )


def test_a_map_agrees_with_itself_fully_and_with_its_complement_not_at_all() -> None:
    values = torch.randn(3, 10, 10, generator=torch.Generator().manual_seed(1))
    maps = {"map": values, "same": values * 3, "complement": -values}
    found = pair_values(Maps(maps, dict.fromkeys(maps, True)), some(3), 0.1, seed=0)
    by_pair = {key: part["iou"].tolist() for key, part in found.groupby(["method", "other"])}
    assert by_pair["map", "same"] == [1.0] * 3
    assert by_pair["map", "complement"] == [0.0] * 3


def test_objects_are_counted_and_measured() -> None:
    truth = torch.zeros(2, 10, 10, dtype=torch.bool)
    truth[0, :2, :2] = truth[0, 5:7, 5:8] = True
    truth[1, 0, 0] = truth[1, 1, 1] = True  # corners touch: one object
    size, count = objects(some(2, truth))
    assert size == pytest.approx([0.1, 0.02])
    assert count == [2, 1]
    size, count = objects(some(1))
    assert np.isnan([*size, *count]).all()


def test_a_planted_factor_is_found_and_others_are_not_claimed() -> None:
    size = np.arange(1.0, 13.0)
    shuffled = np.random.default_rng(3).permutation(12)
    table = pd.DataFrame(
        {
            "iou": size / 20,
            "object_area": size,
            "objects": 3.0,
            "confidence": shuffled / 12,
            "map_area": -size,
            "edges": np.full(12, np.nan),
        }
    )
    found = factor_table(table).set_index("factor")
    assert found.loc["object_area", "spearman"] == pytest.approx(1)
    assert found.loc["object_area", "low"] > 0.9
    assert found.loc["map_area", "high"] < -0.9
    assert found.loc["confidence", "low"] < 0 < found.loc["confidence", "high"]
    assert np.isnan(found.loc[["objects", "edges"], "spearman"]).all()
    assert found.loc["edges", "images"] == 0


def test_the_exhibit(tmp_path: Path) -> None:
    model = reference()
    samples = scenes(model, 6)
    one = probe("agree", methods="gradcam,gradient,random", pictures=2)
    exhibit = one.run(model, samples)
    page = sound(exhibit, tmp_path)
    assert set(exhibit.images) == {"matrix", "most_agreement", "least_agreement", "factors"}
    table = exhibit.numbers["images"].frame
    assert table["iou"].is_monotonic_decreasing
    assert set(table["class"]) <= set(model.class_names)
    assert "planted-" in page
    assert same(exhibit, one.run(model, samples))
    order = [5, 3, 1, 0, 2, 4]
    turned = Samples(
        samples.images[order],
        samples.labels[order],
        [samples.ids[i] for i in order],
        samples.truth[order],
        None,
        {k: m[order] for k, m in samples.extras.items()},
    )
    again = one.run(model, turned).numbers["images"].frame  # neither order nor neighbors matter
    pd.testing.assert_frame_equal(table, again, rtol=1e-4)


def test_a_method_that_cannot_run_is_said_and_the_others_go_on() -> None:
    model, samples = exact("linear")
    exhibit = probe("agree", methods="gradient,occlusion,attention_rollout").run(model, samples)
    assert len(exhibit.numbers["pairs"].frame) == 1
    assert any("attention_rollout" in sentence for sentence in exhibit.caption)


def test_the_command(tmp_path: Path) -> None:
    words = ("--limit", "2", "--batch-size", "8", "--out", str(tmp_path / "a"))
    result = call("agree", "gradient", "gradcam", *words)
    assert result.exit_code == 0, result.output
    assert "The page is" in result.output
    content = json.loads((tmp_path / "a" / "numbers.json").read_text())
    assert content["command"].startswith("xbench")
    assert {"images", "pairs", "factors"} == set(content["numbers"])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("gradient",), "needs 2 methods"),
        (("gradient", "gradcamm"), "Did you mean"),
        (("gradient", "gradcam", "--image", "nowhere.jpg"), "nowhere.jpg"),
        (("gradient", "gradcam", "--top", "2"), "share of the pixels"),
        (("gradient", "gradcam", "--limit", "0"), "--limit"),
        (("gradient", "gradcam", "--dataset", "tests"), "is a folder"),
    ],
)
def test_mistakes_are_one_sentence(words: tuple[str, ...], sentence: str) -> None:
    assert sentence in refused("agree", *words, "--batch-size", "4")
