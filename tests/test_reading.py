"""The reading of maps: what it does, what it is called, where it is applied."""

from pathlib import Path

import pytest
import torch
from grids import Strange, chosen, run_in, small_grid

from xbench.errors import ParameterError
from xbench.reading import Reading, read_reading
from xbench.registry import METHODS


def test_the_default_changes_nothing() -> None:
    maps = torch.randn(2, 4, 5)
    assert torch.equal(Reading()(maps, torch.rand(2, 3, 4, 5)), maps)
    assert Reading().text == ""


def test_signs_caps_and_inputs() -> None:
    maps = torch.tensor([[[-4.0, 1.0], [2.0, 100.0]]])
    images = torch.full((1, 3, 2, 2), 0.5)
    assert Reading(sign="positive")(maps, images).tolist() == [[[0.0, 1.0], [2.0, 100.0]]]
    assert Reading(sign="absolute")(maps, images).tolist() == [[[4.0, 1.0], [2.0, 100.0]]]
    assert Reading(times_input=True)(maps, images).tolist() == [[[-2.0, 0.5], [1.0, 50.0]]]
    assert Reading(cap=50)(maps, images).tolist() == [[[-3.0, 1.0], [2.0, 3.0]]]


@pytest.mark.parametrize("text", ["sign=absolute,cap=99.0", "pooling=max_abs,times_input=true", ""])
def test_a_reading_is_its_text(text: str) -> None:
    assert read_reading(read_reading(text).text) == read_reading(text)


@pytest.mark.parametrize("text", ["sign=loud", "cap=0", "cap=often", "blur=3", "sign"])
def test_wrong_readings_are_refused(text: str) -> None:
    with pytest.raises(ParameterError):
        read_reading(text)


def test_pooling_reaches_the_methods_that_pool() -> None:
    read = Reading(pooling="max_abs")
    changed = read.pooled(METHODS.create("gradient"))
    assert changed.label == "gradient[pooling=max_abs]"
    assert read.pooled(METHODS.create("gradcam")).label == "gradcam"


def test_a_run_scores_the_maps_as_read(tmp_path: Path) -> None:
    plain = run_in(tmp_path / "a", small_grid("gradient", "sparseness,noise_stability"))
    grid = small_grid("gradient", "sparseness,noise_stability", reading=Reading(sign="positive"))
    read = run_in(tmp_path / "b", grid)
    for metric in ("sparseness", "noise_stability"):
        before = plain.loc[plain["metric"] == metric, "value"].to_numpy()
        after = read.loc[read["metric"] == metric, "value"].to_numpy()
        assert (before != after).all()


@pytest.mark.parametrize(
    ("act", "word"),
    [
        (lambda model, images: images[:, 0] * 0 + 1, "constant map"),
        (lambda model, images: images[:, 0], "does not look at the class"),
    ],
)
def test_silent_failures_are_invalid(tmp_path: Path, act: object, word: str) -> None:
    method = chosen(Strange(act, family="gradient"))
    records = run_in(tmp_path, small_grid("gradient", "sparseness", extra=[method]))
    mine = records[records["method"] == "strange"]
    assert set(mine["status"]) == {"invalid"}
    assert mine["reason"].str.contains(word).all()
    assert set(records.loc[records["method"] == "gradient", "status"]) == {"ok"}
