"""The runner: same records whatever the order, batch size or interruption; failures cost cells."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from grids import StopAfter, Strange, chosen, run_in, small_grid
from torch import Tensor

from xbench.classifier import Classifier
from xbench.errors import ModelError
from xbench.records import KEY, Store
from xbench.running.maps import MapCache, decode, encode


def test_every_cell_has_a_row_an_image(tmp_path: Path) -> None:
    grid = small_grid("gradient,random,attention_rollout", "deletion,sparseness,iou")
    records = run_in(tmp_path, grid)
    assert not records.duplicated(list(KEY)).any()
    for method in ("gradient", "random", "attention_rollout"):
        for metric in ("explain", "deletion", "sparseness"):
            cell = records[(records["method"] == method) & (records["metric"] == metric)]
            assert len(cell) == 5
            refused = cell["status"] != "ok"
            assert refused.all() == (method == "attention_rollout")
            assert (cell.loc[refused, "reason"].str.len() > 10).all()
    pairs = records[records["metric"] == "iou"]
    assert len(pairs) == 3 * 5
    assert set(pairs.loc[pairs["status"] == "ok", "method"]) == {"gradient"}


def test_the_same_grid_gives_the_same_records(tmp_path: Path) -> None:
    grid = small_grid("gradient,smoothgrad[n_samples=3],random", "deletion,noise_stability,iou")
    first = run_in(tmp_path / "a", grid)
    pd.testing.assert_frame_equal(first, run_in(tmp_path / "b", grid))


def test_the_batch_size_changes_nothing(tmp_path: Path) -> None:
    methods = "gradient,gradcam,smoothgrad[n_samples=3],occlusion,random"
    metrics = "deletion,insertion,sparseness,iou"
    one = run_in(tmp_path / "a", small_grid(methods, metrics, batch_size=1))
    many = run_in(tmp_path / "b", small_grid(methods, metrics, batch_size=16))
    assert list(one["status"]) == list(many["status"])
    difference = (one["value"] - many["value"]).abs()
    assert difference.max() < 1e-4, one[difference > 1e-4]


@pytest.mark.parametrize("units", [1, 4, 9, 14])
def test_an_interrupted_run_resumes_to_the_undisturbed_records(tmp_path: Path, units: int) -> None:
    grid = small_grid("gradient,gradcam,random", "deletion,noise_stability,iou")
    whole = run_in(tmp_path / "whole", grid)
    with pytest.raises(KeyboardInterrupt):
        run_in(tmp_path / "part", grid, StopAfter(units))
    pd.testing.assert_frame_equal(whole, run_in(tmp_path / "part", grid))


def test_a_finished_run_computes_nothing_again(tmp_path: Path) -> None:
    grid = small_grid()
    run_in(tmp_path, grid)
    before = grid.model.counter.read()
    run_in(tmp_path, grid)
    assert grid.model.counter.read() == before


@pytest.mark.parametrize(
    ("act", "status", "word"),
    [
        (lambda model, images: images, "invalid", "shape"),
        (lambda model, images: images[:, 0] * float("nan"), "invalid", "NaN"),
        (lambda model, images: images[:, 0].numpy(), "invalid", "not a tensor"),
        (lambda model, images: 1 / 0, "error", "ZeroDivisionError"),
    ],
)
def test_a_broken_method_costs_its_own_cells(
    tmp_path: Path, act: Callable[[Classifier, Tensor], Tensor], status: str, word: str
) -> None:
    grid = small_grid("gradient", "deletion,iou", extra=[chosen(Strange(act))])
    records = run_in(tmp_path, grid)
    mine = records[records["method"] == "strange"]
    assert set(mine["status"]) == {status}
    assert mine["reason"].str.contains(word).all()
    others = records[(records["method"] == "gradient") & (records["metric"] == "deletion")]
    assert set(others["status"]) == {"ok"}


def test_a_method_that_changes_the_model_is_invalid_and_undone(tmp_path: Path) -> None:
    def harm(model: Classifier, images: Tensor) -> Tensor:
        with torch.no_grad():
            next(model.module.parameters()).data.mul_(1.01)
        return images[:, 0]

    grid = small_grid("gradient", "deletion", extra=[chosen(Strange(harm))])
    before = grid.model.fingerprint()
    records = run_in(tmp_path, grid)
    mine = records[records["method"] == "strange"]
    assert set(mine["status"]) == {"invalid"}
    assert mine["reason"].str.contains("changed the model's weights").all()
    assert grid.model.fingerprint() == before


def test_hooks_left_behind_are_noticed_and_removed(tmp_path: Path) -> None:
    def leave(model: Classifier, images: Tensor) -> Tensor:
        model.module.register_forward_hook(lambda *_: None)
        return images[:, 0]

    grid = small_grid("gradient", "deletion", extra=[chosen(Strange(leave))])
    records = run_in(tmp_path, grid)
    assert "left hooks" in records.loc[records["method"] == "strange", "reason"].iloc[0]
    assert not grid.model.module._forward_hooks


def test_a_model_with_nan_is_refused_in_one_sentence(tmp_path: Path) -> None:
    grid = small_grid()
    with torch.no_grad():
        next(grid.model.module.parameters()).fill_(float("nan"))
    with pytest.raises(ModelError, match="NaN or infinite logits"):
        run_in(tmp_path, grid)


def test_cells_above_the_limit_of_calls_are_refused(tmp_path: Path) -> None:
    grid = small_grid("gradient,smoothgrad[n_samples=9]", "sparseness", max_map_calls=10)
    records = run_in(tmp_path, grid).set_index("method")
    assert set(records.loc["gradient", "status"]) == {"ok"}
    assert set(records.loc["smoothgrad[n_samples=9]", "status"]) == {"unsupported"}
    assert records.loc["smoothgrad[n_samples=9]", "reason"].str.contains("18 model calls").all()
    grid = small_grid("smoothgrad[n_samples=9]", "sparseness,noise_stability", max_calls=50)
    records = run_in(tmp_path / "again", grid).set_index("metric")
    assert set(records.loc["sparseness", "status"]) == {"ok"}
    assert records.loc["noise_stability", "reason"].str.contains("--max-calls allows 50").all()


def test_records_are_typed_and_say_what_was_predicted(tmp_path: Path) -> None:
    grid = small_grid("gradient", "deletion")
    records = run_in(tmp_path, grid)
    logits = grid.model.logits(grid.source.pixels)
    of_metric = records[records["metric"] == "deletion"].sort_values("image_id")
    assert of_metric["predicted"].tolist() == logits.argmax(1).tolist()
    assert of_metric["label"].tolist() == grid.source.labels
    assert (of_metric["target"] == of_metric["predicted"]).all()
    assert of_metric["value"].dtype == "float64"
    assert of_metric["target"].dtype == "int64"


def test_cost_stands_in_the_explain_row(tmp_path: Path) -> None:
    records = run_in(tmp_path, small_grid("smoothgrad[n_samples=3]", "sparseness"))
    explained = records[records["metric"] == "explain"]
    assert (explained["value"] == 6).all()
    assert (explained["forwards"] == 3).all()
    assert (explained["backwards"] == 3).all()


def test_maps_make_the_round_trip_exactly_once(tmp_path: Path) -> None:
    maps = torch.randn(3, 7, 5) * torch.tensor([1e-12, 1.0, 1e6]).view(3, 1, 1)
    maps[1] = 0
    once = decode(*encode(maps))
    cache = MapCache(tmp_path)
    cache.save("key", maps, {"method": "m"})
    loaded = cache.load("key", torch.device("cpu"))
    assert loaded is not None
    assert torch.equal(loaded[0], once)
    assert torch.allclose(once, maps, rtol=1e-6)


def test_a_torn_file_of_maps_is_set_aside(tmp_path: Path) -> None:
    cache = MapCache(tmp_path)
    cache.save("key", torch.rand(2, 4, 4), {})
    path = cache.path("key")
    path.write_bytes(path.read_bytes()[:50])
    assert cache.load("key", torch.device("cpu")) is None
    assert path.with_name(path.name + ".torn").exists()


def test_curves_are_kept(tmp_path: Path) -> None:
    run_in(tmp_path, small_grid("gradient", "deletion[steps=4]"))
    store = Store(tmp_path / "records.sqlite")
    curves = store.curves()
    store.close()
    probability = curves[curves["name"] == "probability"]
    assert len(probability) == 5
    assert all(len(points) == 5 for points in probability["points"])


def test_labels_as_targets(tmp_path: Path) -> None:
    records = run_in(tmp_path, small_grid("gradient", "sparseness", target="label"))
    assert (records["target"] == records["label"]).all()


def test_a_truth_says_nothing_of_a_map_for_another_class(tmp_path: Path) -> None:
    records = run_in(tmp_path, small_grid("gradient", "mass_accuracy"))
    measured = records[records["metric"] == "mass_accuracy"]
    right = measured["label"] == measured["predicted"]
    assert (measured.loc[~right, "status"] == "undefined").all()
