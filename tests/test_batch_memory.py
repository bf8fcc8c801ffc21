"""Measuring the batch size stays within its memory on the CPU."""

import torch

from xbench.classifier import batching


def test_no_batch_is_tried_after_one_that_filled_the_budget(monkeypatch) -> None:
    tried: list[int] = []
    monkeypatch.setattr(batching, "_peak_memory", lambda: sum(set(tried)) * 200 * 2**20)
    monkeypatch.setattr(batching, "_timed", lambda step, size, device: (step(size), 0.01 * size)[1])
    batching._measure(tried.append, torch.device("cpu"))
    assert sorted(set(tried)) == [1, 2, 4]  # 200 MiB a row: 7 rows so far are above 0.75 GiB


def test_the_peak_is_counted_in_bytes() -> None:
    before = batching._peak_memory()
    held = torch.ones(2**27)
    assert before > 2**26
    assert batching._peak_memory() >= before
    assert held.numel() == 2**27
