"""A method that hangs, breaks the model or runs out of memory costs its own cells only."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from grids import Strange, chosen, run_in, small_grid
from torch import Tensor, nn

from xbench.classifier import Classifier
from xbench.errors import ParameterError
from xbench.running.deadline import TooLongError, within
from xbench.running.spare import with_spare


def hang(model: Classifier, images: Tensor) -> Tensor:
    time.sleep(60)
    return images[:, 0]


def hang_and_swallow(model: Classifier, images: Tensor) -> Tensor:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            time.sleep(5)
        except Exception:
            continue
    return images[:, 0]


def hang_with_a_hook(model: Classifier, images: Tensor) -> Tensor:
    model.module.register_forward_hook(lambda *_: None)
    time.sleep(60)
    return images[:, 0]


@pytest.mark.parametrize("act", [hang, hang_and_swallow, hang_with_a_hook])
def test_a_method_that_hangs_is_interrupted(
    tmp_path: Path, act: Callable[[Classifier, Tensor], Tensor]
) -> None:
    extra = [chosen(Strange(act))]
    grid = small_grid("gradient", "sparseness", extra=extra, count=2, cell_seconds=1.0)
    hooks = len(grid.model.module._forward_hooks)
    start = time.monotonic()
    records = run_in(tmp_path, grid)
    assert time.monotonic() - start < 40
    mine = records[records["method"] == "strange"]
    assert set(mine["status"]) == {"error"}
    assert mine["reason"].str.contains("longer than the 1 seconds that --cell-seconds").all()
    assert set(records.loc[records["method"] == "gradient", "status"]) == {"ok"}
    assert len(grid.model.module._forward_hooks) == hooks


def test_a_time_limit_leaves_the_timer_as_it_was() -> None:
    assert within(5, lambda: 7) == 7
    assert within(None, lambda: 7) == 7
    with pytest.raises(TooLongError):
        within(0.05, lambda: time.sleep(5))
    time.sleep(0.6)  # an alarm left behind would end the test


def test_a_time_limit_that_cannot_be_kept_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("signal.setitimer")
    with pytest.raises(ParameterError, match="--cell-seconds"):
        within(1, lambda: 7)


def exchange(model: Classifier, images: Tensor) -> Tensor:
    name, _ = next(iter(model.module.named_children()))
    setattr(model.module, name, nn.Identity())
    return images[:, 0]


def take_out(model: Classifier, images: Tensor) -> Tensor:
    name, _ = list(model.module.named_children())[-1]
    delattr(model.module, name)
    return images[:, 0]


def shadow_forward(model: Classifier, images: Tensor) -> Tensor:
    model.module.forward = lambda x: x.mean((2, 3))  # type: ignore[method-assign]
    return images[:, 0]


def halve_precision(model: Classifier, images: Tensor) -> Tensor:
    model.module.half()
    return images[:, 0]


def wrap_weights(model: Classifier, images: Tensor) -> Tensor:
    layer = next(m for m in model.module.modules() if isinstance(m, nn.Conv2d))
    layer.weight = nn.Parameter(layer.weight * 2)
    return images[:, 0]


@pytest.mark.parametrize("act", [exchange, take_out, shadow_forward, halve_precision, wrap_weights])
def test_a_method_that_rebuilds_the_model_is_invalid_and_undone(
    tmp_path: Path, act: Callable[[Classifier, Tensor], Tensor]
) -> None:
    extra = [chosen(Strange(act))]
    grid = small_grid("random", "sparseness", extra=extra, count=2)
    before = grid.model.logits(grid.source.pixels)
    print_before = grid.model.fingerprint()
    records = run_in(tmp_path, grid)
    mine = records[records["method"] == "strange"]
    assert set(mine["status"]) == {"invalid"}
    assert mine["reason"].str.contains("model").all()
    assert set(records.loc[records["method"] == "random", "status"]) == {"ok"}
    assert grid.model.fingerprint() == print_before
    assert torch.equal(grid.model.logits(grid.source.pixels), before)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory. Tried")])
def test_rows_without_memory_are_tried_in_halves(error: Exception) -> None:
    grid = small_grid(count=5, batch_size=4)
    sizes: list[int] = []

    def work(index: Tensor) -> int:
        sizes.append(len(index))
        if len(index) > 1:
            raise error
        return len(index)

    assert sum(grid.model.in_batches("forward", 5, grid.source.pixels, work)) == 5
    assert sizes[:3] == [4, 2, 1]


@pytest.mark.parametrize("fallback", [True, False])
def test_a_cell_without_memory_runs_on_the_cpu_if_asked(tmp_path: Path, fallback: bool) -> None:
    grid = small_grid("random", "sparseness,noise_stability", count=2)
    device = grid.model  # stands for the one without memory

    def act(model: Classifier, images: Tensor) -> Tensor:
        if model is device:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return model.gradients(images, torch.zeros(len(images), dtype=torch.int64))[:, 0]

    grid = small_grid("random", "sparseness,noise_stability", count=2, extra=[chosen(Strange(act))])
    device = grid.model
    records = run_in(tmp_path, with_spare(grid) if fallback else grid)
    records = records[records["method"] == "strange"]
    assert set(records["status"]) == ({"ok"} if fallback else {"error"})
    if fallback:
        assert (records.loc[records["metric"] == "explain", "forwards"] == 1).all()


def test_a_failed_explanation_is_not_tried_again(tmp_path: Path) -> None:
    calls = []

    def act(model: Classifier, images: Tensor) -> Tensor:
        calls.append(1)
        raise ValueError("broken")

    extra = [chosen(Strange(act))]
    run_in(tmp_path, small_grid("random", "sparseness", extra=extra, count=2))
    records = run_in(tmp_path, small_grid("random", "sparseness,deletion", extra=extra, count=2))
    assert len(calls) == 1
    records = records[records["method"] == "strange"]
    assert records["reason"].str.contains("broken").all()
