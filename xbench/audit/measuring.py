"""Running the grids that the audit is judged from."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, cast

import pandas as pd

from xbench.audit.ladders import Ladder, reading_ladder, steady_ladder, truth_ladder
from xbench.classifier import Classifier
from xbench.contracts import Method, Metric, PairMetric
from xbench.models.reference import reference_classifier
from xbench.records import COLUMNS, Store, read_frame
from xbench.registry import DATASETS, METHODS, METRICS, Chosen
from xbench.running.grid import Grid
from xbench.running.local import Progress, execute
from xbench.running.maps import MapCache

PANEL: Final = (
    "gradient,gradient_abs,input_x_gradient,integrated_gradients[n_steps=8],"
    "smoothgrad_squared[n_samples=8],guided_backprop_abs,deeplift,gradcam"
)
"""The methods whose ranking is looked at: one of each kind, at settings that cost little."""

FILLS: Final = ("mean", "blur", "black")
MAX_CALLS: Final = 1500
UNGRADED: Final = {
    "retraining": "It trains the model anew for every map; the audit has no time for that.",
    "attention": "It needs a transformer; the embedded network is none.",
    "masked_training": "It needs a model trained with parts of its images removed.",
}


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        images: scenes for metrics of up to `cheap` model calls a map.
        few: scenes for those that need more, or that explain again, and for every repetition.
        cheap: see above.
        panel: methods to rank, as for `--methods`.
        metrics: what to grade, as for `--metrics`.
        seed: of everything random.
    """

    images: int = 32
    few: int = 16
    cheap: int = 60
    panel: str = PANEL
    metrics: str = "all"
    seed: int = 0


@dataclass(frozen=True)
class Measured:
    """Everything that was measured; each frame has columns method, metric, image_id, value ...

    Attributes:
        metrics: what was to be graded.
        ladders: which ladder each metric stands on, by label.
        rungs: records of the ladders.
        panel: records of the panel.
        again: the same with another seed.
        fills: records of the panel by label of the metric, then by fill.
        calls: model calls a map by label, explaining again with the gradient included.
    """

    metrics: Sequence[Chosen[Any]]
    ladders: dict[str, Ladder]
    rungs: pd.DataFrame
    panel: pd.DataFrame
    again: pd.DataFrame
    fills: dict[str, dict[str, pd.DataFrame]] = field(default_factory=dict)
    calls: dict[str, float] = field(default_factory=dict)


def measure(
    plan: Plan, progress: Callable[[str], Progress], share: tuple[int, int] = (0, 1)
) -> Measured:
    """Run all grids; with the default plan within ten minutes on two cores.

    Args:
        plan: how much.
        progress: makes a watcher for the grid of that title.
        share: (i, n) takes the i-th of n shares of the metrics, of about equal cost.
    """
    model = reference_classifier(batch_size=256)
    twin = reference_classifier("reference-twin", batch_size=256)
    wanted = METRICS.select(plan.metrics)
    calls = {m.label: _calls(model, m.value) for m in wanted if gradable(m)}
    wanted = sorted(wanted, key=lambda m: calls.get(m.label, 0.0))[share[0] :: share[1]]
    metrics = cast(list[Chosen[Metric]], [m for m in wanted if gradable(m)])
    runs = _Runs(model, twin, plan, calls, progress)
    ranked = [m for m in metrics if m.card.direction != "none"]
    ladders = _assign(ranked)
    rungs = [
        runs.all(name, ladder.methods, [m for m in ranked if ladders[m.label].name == name])
        for name, ladder in {one.name: one for one in ladders.values()}.items()
    ]
    panel, short = METHODS.select(plan.panel), replace(runs, plan=shrunk(plan, plan.few))
    return Measured(
        metrics=wanted,
        ladders=ladders,
        rungs=together(rungs),
        panel=runs.all("methods", panel, metrics),
        again=short.all("methods, other seed", panel, metrics, seed=plan.seed + 1),
        fills=_fills(short, panel, [m for m in ranked if calls[m.label] <= plan.cheap]),
        calls={m.label: calls[m.label] for m in metrics},
    )


def gradable(metric: Chosen[Any]) -> bool:
    """Whether the metric can be run on planted truth."""
    if not isinstance(metric.value, Metric):
        return False
    return not set(metric.card.needs) & set(UNGRADED) and metric.card.property != "adapters"


def join(parts: Sequence[Measured]) -> Measured:
    """Shares of a measurement as one."""
    return Measured(
        metrics=sorted((m for part in parts for m in part.metrics), key=lambda m: m.label),
        ladders={k: v for part in parts for k, v in part.ladders.items()},
        rungs=together([part.rungs for part in parts]),
        panel=together([part.panel for part in parts]),
        again=together([part.again for part in parts]),
        fills={k: v for part in parts for k, v in part.fills.items()},
        calls={k: v for part in parts for k, v in part.calls.items()},
    )


def together(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Frames below each other, empty ones left out."""
    full = [frame for frame in frames if len(frame)]
    return pd.concat(full, ignore_index=True) if full else pd.DataFrame(columns=list(COLUMNS))


def _assign(metrics: Sequence[Chosen[Metric]]) -> dict[str, Ladder]:
    truth, reading, steady = truth_ladder(), reading_ladder(), steady_ladder()
    by_property = {"randomization": reading, "robustness": steady}
    return {m.label: by_property.get(m.card.property, truth) for m in metrics}


def _calls(model: Classifier, metric: Any) -> float:
    """Model calls a map; what explains again does so with the gradient."""
    facts = model.facts((1, 3, 64, 64))
    again = METHODS.create("gradient").value.cost(facts) * metric.explains(facts)
    return float((metric.cost(facts) + again).calls)


def _fills(
    runs: "_Runs", panel: Sequence[Chosen[Method]], metrics: Sequence[Chosen[Metric]]
) -> dict[str, dict[str, pd.DataFrame]]:
    """Records of the panel for every fill of the metrics that remove pixels."""
    variants: dict[str, dict[str, Chosen[Metric]]] = {}
    for metric in metrics:
        if "imputer" not in metric.entry.parameters or metric.card.property != "faithfulness":
            continue
        own = metric.value.imputer  # type: ignore[attr-defined]
        others = [fill for fill in FILLS if fill != own][:2]
        variants[metric.label] = {fill: _with_fill(metric, fill) for fill in others}
    flat = [variant for fills in variants.values() for variant in fills.values()]
    if not flat:
        return {}
    frame = runs.all("methods, other fills", panel, flat)
    return {
        label: {fill: frame[frame["metric"] == one.label] for fill, one in fills.items()}
        for label, fills in variants.items()
    }


def _with_fill(metric: Chosen[Metric], fill: str) -> Chosen[Metric]:
    head, _, inside = metric.label.partition("[")
    text = f"{head}[{inside.rstrip(']') + ',' if inside else ''}imputer={fill}]"
    return cast(Chosen[Metric], METRICS.create(text))


@dataclass(frozen=True)
class _Runs:
    model: Classifier
    twin: Classifier
    plan: Plan
    calls: dict[str, float]
    progress: Callable[[str], Progress]

    def all(
        self,
        title: str,
        methods: Sequence[Chosen[Method]],
        metrics: Sequence[Chosen[Metric]],
        *,
        seed: int | None = None,
    ) -> pd.DataFrame:
        """Records of the methods under the metrics, each on as many scenes as it is worth."""
        seed = self.plan.seed if seed is None else seed
        crowd = [m for m in metrics if m.entry.parameters.get("region") == "others"]
        rest = [m for m in metrics if m not in crowd]
        dear = [m for m in rest if self._dear(m)]
        cheap = [m for m in rest if m not in dear]
        frames = [
            self._run(title, "planted-crowd", self.plan.images, methods, crowd, seed),
            self._run(title, "planted", self.plan.images, methods, cheap, seed),
            self._run(f"{title}, costly", "planted", self.plan.few, methods, dear, seed),
        ]
        return together(frames)

    def _dear(self, metric: Chosen[Metric]) -> bool:
        known = self.calls.get(metric.label)
        calls = _calls(self.model, metric.value) if known is None else known
        return calls > self.plan.cheap or "explain" in metric.card.needs

    def _run(
        self,
        title: str,
        data: str,
        images: int,
        methods: Sequence[Chosen[Method]],
        metrics: Sequence[Chosen[Metric]],
        seed: int,
    ) -> pd.DataFrame:
        if not metrics:
            return pd.DataFrame()
        source = DATASETS.create(data).value.open(
            self.model.geometry, limit=images, seed=self.plan.seed, classes=8
        )
        grid = Grid(
            model=self.model,
            source=source,
            methods=methods,
            metrics=list[Chosen[Metric | PairMetric]](metrics),  # type: ignore[arg-type]
            seed=seed,
            chunk=min(images, 24),
            target="label",
            max_calls=MAX_CALLS,
            twin=self.twin,
        )
        return run_frame(grid, self.progress(title))


def run_frame(grid: Grid, progress: Progress | None = None) -> pd.DataFrame:
    """The records of a grid, run in a folder that is gone afterwards."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "records.sqlite"
        with closing(Store(path)) as store:
            execute(grid, store, MapCache(Path(folder) / "maps"), progress=progress)
        return read_frame(path)


def shrunk(plan: Plan, images: int) -> Plan:
    """The plan with at most so many scenes anywhere."""
    return replace(plan, images=min(plan.images, images), few=min(plan.few, images))
