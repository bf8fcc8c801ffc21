"""The Python API: run, compare, gate and explain, as small as the command line."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from torch import nn

from xbench.classifier import Classifier, Normalization
from xbench.comparing import Compared
from xbench.comparing import compare as compare_settings
from xbench.contracts import Method, MethodCard, Metric, MetricCard
from xbench.errors import ParameterError, XbenchError
from xbench.explaining import as_classifier, explain
from xbench.gating import gate
from xbench.plugins.catalogues import use_catalogue
from xbench.plugins.foreign import foreign_method, foreign_metric
from xbench.plugins.functions import FunctionMethod, method, method_class, register
from xbench.plugins.loading import as_class
from xbench.registry import METRICS
from xbench.report import write_all
from xbench.running.local import Progress
from xbench.running.session import (
    LEADERS,
    MAX_CALLS,
    MAX_MAP_CALLS,
    Run,
    Settings,
    open_run,
    run_grid,
)
from xbench.statistics.advice import Recommendation
from xbench.statistics.leaderboard import Leaderboard

__all__ = [
    "Classifier",
    "Compared",
    "Leaderboard",
    "Method",
    "MethodCard",
    "Metric",
    "MetricCard",
    "Normalization",
    "Recommendation",
    "Run",
    "XbenchError",
    "as_method",
    "as_metric",
    "compare",
    "explain",
    "gate",
    "method",
    "open_run",
    "run",
    "use_catalogue",
]


def run(
    model: str | Classifier | nn.Module = "reference",
    dataset: str = "planted",
    *,
    methods: str | Sequence[Any] = "all",
    metrics: str | Sequence[Any] = "default",
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
    until_decided: bool = False,
    leaders: int = LEADERS,
    budget: int | Sequence[int] | None = None,
    out: Path | str | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> Run:
    """Run a grid of methods and metrics into a run folder, with leaderboard and report.

    Args:
        model: `reference`, `torchvision:NAME`, `PATH.py:FUNCTION` ..., a classifier, or an
            `nn.Module` that returns logits (say with `normalization` what it expects).
        dataset: `planted`, `images:DIR`, `imagefolder:DIR` ...
        methods: comma-separated names, globs, `all`, with parameters; or a list of names,
            functions, method classes and objects of captum and grad-cam, see `as_method`.
        metrics: the same with `default`; or a list of names and metrics of Quantus.
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
        until_decided: stop as soon as the order of the leading methods is settled at 95 %.
        leaders: how many leading methods that order is about.
        budget: model calls that every method gets for a map; several compare them at each.
        out: the run folder, None for a new one under runs/.
        resume: go on with what the folder holds.
        progress: told after every unit.

    Returns:
        the run: `.records` and `.curves` (pandas), `.leaderboard()`, `.recommend()`, `.path`.

    Raises:
        XbenchError: one sentence about what is wrong.

    Example:
        >>> import xbench  # doctest: +SKIP
        >>> xbench.run(methods="gradcam,random", metrics="deletion", limit=8)  # doctest: +SKIP
    """
    settings = Settings(
        model=as_classifier(model, normalization) if isinstance(model, nn.Module) else model,
        weights=None if weights is None else Path(weights),
        dataset=dataset,
        methods=_names(methods, as_method),
        metrics=_names(metrics, as_metric),
        limit=limit,
        seed=seed,
        device=device,
        batch_size=batch_size,
        target=target,
        layers=dict(layers or {}),
        max_calls=max_calls,
        max_map_calls=max_map_calls,
        until_decided=until_decided,
        leaders=leaders,
        budget=_budget(budget),
        out=None if out is None else Path(out),
        resume=resume,
        command=["xbench.run"],
    )
    finished = run_grid(settings, progress=progress)
    write_all(finished)
    return finished


def compare(
    method: Any,
    model: str | Classifier | nn.Module = "reference",
    dataset: str = "planted",
    *,
    baselines: str = "default",
    metrics: str = "compare",
    normalization: Normalization | None = None,
    limit: int = 32,
    seed: int = 0,
    device: str = "auto",
    batch_size: int | None = None,
    reuse: Path | str | None = None,
    board: str = "overall",
    force: bool = False,
    out: Path | str | None = None,
    progress: Progress | None = None,
) -> Compared:
    """Check a new method, run it beside baselines under equal limits, and judge it.

    Args:
        method: a function `(model, images, targets) -> maps` (an `nn.Module` from pixels
            (N, C, H, W) in [0, 1] to logits, the pixels, classes int64 (N,); maps float
            (N, H, W)), a method class, `PATH.py:NAME`, a known name, or an object of captum or
            grad-cam.
        model, dataset, normalization, limit, seed, device, batch_size, out, progress: see `run`.
        baselines: names, globs, `all`, or `default` for twelve known methods.
        metrics: names, globs, `default`, or `compare` for a set that takes minutes.
        reuse: a run folder or a published board whose baselines are not run again.
        board: what is ranked and gated.
        force: run it although the checks found something.

    Returns:
        `.versus` (verdicts, duels with intervals and Holm-corrected p-values, gates, cost,
        power), `.run`, `.findings`; the run folder has comparison.md, .json and .tex.

    Raises:
        XbenchError: the checks found something, or what else is wrong; one sentence each.
    """
    settings = Settings(
        model=as_classifier(model, normalization) if isinstance(model, nn.Module) else model,
        dataset=dataset,
        metrics=metrics,
        limit=limit,
        seed=seed,
        device=device,
        batch_size=batch_size,
        out=None if out is None else Path(out),
        command=["xbench.compare"],
    )
    return compare_settings(
        method,
        settings,
        baselines=baselines,
        reuse=None if reuse is None else Path(reuse),
        board=board,
        force=force,
        progress=progress,
    )


def as_method(found: Any, name: str = "", **more: Any) -> str:
    """Register something as a saliency method, and give its name for `methods=`.

    Args:
        found: a function `(model, images, targets) -> maps` (see `method`), a `Method` class, an
            attribution class or instance of captum, or a grad-cam instance. A name is passed on.
        name: of the method, default the object's own.
        more: of a function, what it says of itself (paper, summary, signed, class_agnostic ...);
            of a captum object, what its `attribute` is given (n_steps, sliding_window_shapes ...).

    Returns:
        the name; a method that was made here before is replaced, one of the catalogue never.

    Raises:
        XbenchError: it is no method, has no card, or its name is taken.
    """
    if isinstance(found, str):
        return found
    foreign = foreign_method(found, name, **more)
    if foreign is not None:
        return register(foreign, replacing=True)
    kind = as_class(found, name)
    if issubclass(kind, FunctionMethod) and (name or more):
        kind = method_class(kind.function, name or kind.card.name, **more)
    return register(kind, replacing=True)


def as_metric(found: Any, name: str = "") -> str:
    """Register something as a metric, and give its name for `metrics=`.

    Args:
        found: a metric instance of Quantus, or a `Metric` class with a card. A name is passed on.
        name: of the metric, default the object's own.

    Returns:
        the name.

    Raises:
        XbenchError: it is neither, has no card, or its name is taken.
    """
    if isinstance(found, str):
        return found
    if isinstance(found, type) and issubclass(found, Metric):
        return METRICS.register(found).card.name
    label = foreign_metric(found, name)
    if label is None:
        raise ParameterError(
            f"{found!r} is no metric; hand over a name, a class of `xbench.Metric`, or an instance "
            "of a metric of Quantus."
        )
    return label


def _budget(given: int | Sequence[int] | None) -> str | None:
    if given is None:
        return None
    return ",".join(map(str, [given] if isinstance(given, int) else given))


def _names(given: str | Sequence[Any], enter: Any) -> str:
    return given if isinstance(given, str) else ",".join(enter(one) for one in given)
