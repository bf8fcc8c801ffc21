"""The Python API: `xbench.run(...)`, `xbench.explain(...)`, `xbench.open_run(...)`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from torch import nn

from xbench.classifier import Classifier, Normalization
from xbench.explaining import as_classifier, explain
from xbench.report import write_all
from xbench.running.local import Progress
from xbench.running.session import MAX_CALLS, MAX_MAP_CALLS, Run, Settings, open_run, run_grid

__all__ = ["Run", "explain", "open_run", "run"]


def run(
    model: str | Classifier | nn.Module = "reference",
    dataset: str = "planted",
    *,
    methods: str = "all",
    metrics: str = "default",
    weights: Path | str | None = None,
    normalization: Normalization | None = None,
    limit: int | None = None,
    seed: int = 0,
    device: str = "auto",
    batch_size: int | None = None,
    target: Literal["predicted", "label"] = "predicted",
    layers: Mapping[str, str] | None = None,
    max_calls: int | None = MAX_CALLS,
    max_map_calls: int | None = MAX_MAP_CALLS,
    out: Path | str | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> Run:
    """Run a grid of methods and metrics into a run folder, with leaderboard and report.

    Args:
        model: `reference`, `torchvision:NAME`, `PATH.py:FUNCTION` ..., a classifier, or an
            `nn.Module` that returns logits (say with `normalization` what it expects).
        dataset: `planted`, `images:DIR`, `imagefolder:DIR` ...
        methods, metrics: comma-separated names, globs, `all`, `default`, with parameters.
        weights: a file of weights.
        normalization: of an `nn.Module`; none if it normalizes inside.
        limit: at most so many images.
        seed: of everything random.
        device: auto, cpu, cuda or cuda:0.
        batch_size: rows a model call, None measures the fastest.
        target: explain the model's top class, or the label.
        layers: overrides of layer roles by name.
        max_calls: refuse metrics that need more model calls an image; None for no limit.
        max_map_calls: refuse methods whose map needs more; None for no limit.
        out: the run folder, None for a new one under runs/.
        resume: go on with what the folder holds.
        progress: told after every unit.

    Returns:
        the run: `.records`, `.curves`, `.leaderboard()`, `.path`.

    Raises:
        XbenchError: one sentence about what is wrong.
    """
    settings = Settings(
        model=as_classifier(model, normalization) if isinstance(model, nn.Module) else model,
        weights=None if weights is None else Path(weights),
        dataset=dataset,
        methods=methods,
        metrics=metrics,
        limit=limit,
        seed=seed,
        device=device,
        batch_size=batch_size,
        target=target,
        layers=dict(layers or {}),
        max_calls=max_calls,
        max_map_calls=max_map_calls,
        out=None if out is None else Path(out),
        resume=resume,
        command=["xbench.run"],
    )
    finished = run_grid(settings, progress=progress)
    write_all(finished)
    return finished
