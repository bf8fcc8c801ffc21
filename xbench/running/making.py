"""What a user asks for, and the grid made from it."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from xbench.classifier import Classifier
from xbench.classifier.precision import check_precision, set_precision
from xbench.contracts import Dataset, Geometry, Source
from xbench.errors import ParameterError
from xbench.models.loading import load_classifier
from xbench.reading import read_reading
from xbench.registry import DATASETS, METHODS, METRICS, Entry
from xbench.running.budget import at_budgets
from xbench.running.deadline import check_limit
from xbench.running.folder import identity_of
from xbench.running.grid import Grid
from xbench.running.local import Tally, execute
from xbench.running.manifest import build
from xbench.running.maps import MapCache
from xbench.running.processes import process_workers
from xbench.running.ray_workers import ray_workers
from xbench.running.sharding import parse_shard
from xbench.running.spare import with_spare
from xbench.running.workers import Worker, execute_on
from xbench.selection import only_correct
from xbench.user_files import IN_USE, import_catalogue

MAX_CALLS = 1000
MAX_MAP_CALLS = 5000
LEADERS = 3
"""Model calls an image that one metric, or one map, may need: without a limit, a metric that
explains again ten times costs hours with a method that needs thousands of calls."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a user asks for; the command line and the Python API fill the same fields.

    Attributes:
        model: `reference`, `torchvision:NAME`, `timm:NAME` or `PATH.py:FUNCTION`, or a classifier.
        weights: a file of weights, None for the model's own.
        dataset: `planted`, `images:DIR`, `imagefolder:DIR` ..., see `xbench datasets`.
        methods, metrics: comma-separated names, globs, `all`, `default`, with parameters.
        limit: at most so many images.
        seed: of everything random.
        device: auto, cpu, cuda or cuda:0.
        batch_size: rows a model call, None measures the fastest.
        precision: of the model's calls: float32, bf16 or fp16.
        compiled: whether plain forward passes are compiled by torch.compile.
        target: explain the model's top class, or the label.
        chunk: images worked on together.
        max_calls: refuse metrics that need more model calls an image; None for no limit.
        max_map_calls: refuse methods whose map needs more; None for no limit.
        layers: overrides of layer roles by name.
        out: the run folder, None for a new one under runs/.
        twin: weights of the model's twin that was trained on permuted labels; the shipped
            reference brings its own.
        reading: how maps are read before they are scored, for example `sign=absolute,cap=99`.
        training: data to train the model anew on, for the metrics that need it (ROAR, KAR); the
            reference brings its own.
        only_correct: only images that the model gets right.
        until_decided: stop as soon as the order of the leading methods is settled, the images
            taken in random order.
        leaders: how many leading methods that order is about.
        budget: model calls that every method gets for a map, `512` or `64,256,1024`.
        cell_seconds: interrupt a method or metric that takes longer on one chunk; None never.
        cpu_fallback: cells that the device has no memory for run on the CPU.
        shard: `3/8` for the third of eight parts, to be joined by `xbench merge`.
        engine: local, or ray for workers on a Ray cluster.
        address: of the Ray cluster, None for Ray on this machine.
        workers: how many Ray workers, None for one a GPU or core.
        devices: several of this machine, with commas between: a process on each.
        resume: go on with what the folder holds.
        command: the command line, for the manifest.
    """

    model: str | Classifier = "reference"
    weights: Path | None = None
    dataset: str = "planted"
    methods: str = "all"
    metrics: str = "default"
    limit: int | None = None
    seed: int = 0
    device: str = "auto"
    batch_size: int | None = None
    precision: str = "float32"
    compiled: bool = False
    target: Literal["predicted", "label"] = "predicted"
    chunk: int = 16
    max_calls: int | None = MAX_CALLS
    max_map_calls: int | None = MAX_MAP_CALLS
    layers: Mapping[str, str] = field(default_factory=dict)
    out: Path | None = None
    twin: Path | None = None
    reading: str = ""
    training: str | None = None
    only_correct: bool = False
    until_decided: bool = False
    leaders: int = LEADERS
    budget: str | None = None
    cell_seconds: float | None = None
    cpu_fallback: bool = False
    shard: str | None = None
    engine: Literal["local", "ray"] = "local"
    address: str | None = None
    workers: int | None = None
    devices: str | None = None
    resume: bool = False
    command: Sequence[str] = field(default_factory=lambda: ["xbench", *sys.argv[1:]])

    def request(self) -> dict[str, Any]:
        """What was asked for as plain data; the model is None where it was an object."""
        found = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _NOT_ASKED}
        found = {k: str(v) if isinstance(v, Path) else v for k, v in found.items()}
        return found | {"model": self.model if isinstance(self.model, str) else None}

    @classmethod
    def from_request(cls, request: Mapping[str, Any], **changed: Any) -> "Settings":
        """The settings of a manifest, some of them changed.

        Raises:
            ParameterError: the model was an object, which no manifest can name.
        """
        known = {f.name for f in fields(cls)} - _NOT_ASKED
        values = {key: value for key, value in request.items() if key in known} | changed
        if values.get("model") is None:
            raise ParameterError(
                "The model of this run was a Python object, which its manifest cannot name; say "
                "with --model (and --weights) how to load it."
            )
        for key in ("weights", "twin"):
            if values.get(key) is not None:
                values[key] = Path(values[key])
        return cls(**values)


_NOT_ASKED = frozenset(
    {"out", "resume", "command", "device", "batch_size", "shard"}
    | {"engine", "address", "workers", "devices", "cpu_fallback"}
)


def make_grid(settings: Settings) -> Grid:
    """Load the model, open the data, choose methods and metrics.

    Raises:
        XbenchError: one clear sentence about what is wrong.
    """
    if settings.limit is not None and settings.limit < 1:
        raise ParameterError("--limit takes a number of images of at least 1.")
    for option, calls in (
        ("--max-calls", settings.max_calls),
        ("--max-map-calls", settings.max_map_calls),
    ):
        if calls is not None and calls < 1:
            raise ParameterError(f"{option} takes a number of model calls of at least 0.")
    if settings.chunk < 1:
        raise ParameterError("--chunk takes a number of images of at least 1.")
    _check_deciding(settings)
    reading = read_reading(settings.reading)
    methods = [reading.pooled(method) for method in METHODS.select(settings.methods)]
    metrics = METRICS.select(settings.metrics, {"default": _is_default})
    dataset = DATASETS.create(settings.dataset)
    model = _classifier(settings)
    source = _open(settings, dataset.value, model)
    _same_size(model.geometry, source)
    methods, budgets = at_budgets(methods, settings.budget, settings.max_map_calls, model, source)
    if settings.cell_seconds is not None:
        check_limit(settings.cell_seconds)
    grid = Grid(
        model=model,
        source=source,
        methods=methods,
        metrics=metrics,
        seed=settings.seed,
        chunk=settings.chunk,
        target=settings.target,
        max_calls=settings.max_calls,
        max_map_calls=settings.max_map_calls,
        reading=reading,
        training=_training(settings, model),
        twin=_twin(settings),
        cell_seconds=settings.cell_seconds,
        shard=parse_shard(settings.shard),
        shuffled=settings.until_decided,
        budgets=budgets,
    )
    return with_spare(grid) if settings.cpu_fallback else grid


def _check_deciding(settings: Settings) -> None:
    """Whether the run may stop when an order is settled.

    Raises:
        ParameterError: it may not, with the reason.
    """
    if settings.leaders < 1:
        raise ParameterError("--leaders takes a number of methods of at least 1.")
    spread = settings.shard is not None or settings.devices is not None
    if settings.until_decided and (spread or settings.engine != "local"):
        raise ParameterError(
            "--until-decided looks at the images one chunk after the other; run it without "
            "--shard, --devices and --engine ray."
        )


@dataclass(frozen=True)
class Remake:
    """Makes the grid of some settings again, in another process or on another machine.

    Attributes:
        settings: what was asked for.
        catalogues: of one's own, which have to be imported there first.
    """

    settings: Settings
    catalogues: tuple[Path, ...] = ()

    def __call__(self, device: str) -> Grid:
        """The grid with its model on a device."""
        for path in self.catalogues:
            import_catalogue(path)
        return make_grid(replace(self.settings, device=device))


def engine(settings: Settings, grid: Grid, cache: MapCache) -> Callable[..., Tally]:
    """Who computes the units: this process, one process a device, or a Ray cluster.

    Raises:
        ParameterError: options that exclude one another, or a model that is no name.
    """
    if settings.engine == "local" and settings.devices is None:
        return execute
    if settings.engine == "ray" and settings.devices is not None:
        raise ParameterError("--devices is for this machine; --engine ray finds devices itself.")
    if not isinstance(settings.model, str):
        raise ParameterError("Workers load the model themselves; give it by name, not an object.")
    make, identity = Remake(settings, tuple(IN_USE)), identity_of(build(grid, []))
    workers: Sequence[Worker]
    if settings.devices is not None:
        workers = process_workers(make, settings.devices, cache.folder, identity)
    else:
        workers = ray_workers(
            make,
            settings.device,
            identity,
            address=settings.address,
            count=settings.workers,
        )
    return partial(execute_on, workers)


def _classifier(settings: Settings) -> Classifier:
    check_precision(settings.precision)
    if isinstance(settings.model, Classifier):
        if settings.precision != "float32" or settings.compiled:
            raise ParameterError("Give a classifier its precision by `set_precision` before.")
        return settings.model
    model = load_classifier(
        settings.model,
        weights=settings.weights,
        device=settings.device,
        batch_size=settings.batch_size,
        layers=dict(settings.layers),
    )
    set_precision(model, settings.precision, compiled=settings.compiled)
    return model


def _open(settings: Settings, dataset: Dataset, model: Classifier) -> Source:
    classes = model.class_count

    def open_with(limit: int | None) -> Source:
        return dataset.open(model.geometry, limit=limit, seed=settings.seed, classes=classes)

    if settings.only_correct:
        return only_correct(model, open_with, limit=settings.limit, seed=settings.seed)
    return open_with(settings.limit)


def _training(settings: Settings, model: Classifier) -> Source | None:
    """The training images that were asked for, or those that the reference brings."""
    own = "planted[count=512,split=train]" if settings.model == "reference" else None
    text = settings.training or own
    if text is None:
        return None
    dataset = DATASETS.create(text).value
    return dataset.open(model.geometry, limit=None, seed=settings.seed, classes=model.class_count)


def _twin(settings: Settings) -> Classifier | None:
    """The twin that was asked for, or the one that the reference brings."""
    if settings.twin is not None:
        if isinstance(settings.model, Classifier):
            raise ParameterError("A twin's weights need a model given by name, not an object.")
        return _classifier(replace(settings, weights=settings.twin))
    if settings.model == "reference" and settings.weights is None:
        return _classifier(replace(settings, model="reference-twin"))
    return None


def _is_default(entry: Entry[Any]) -> bool:
    return bool(entry.card.default)


def _same_size(geometry: Geometry, source: Source) -> None:
    """Images without a common size cannot stand in one batch."""
    if geometry.crop is None and len(source) > 1:
        first, last = source.read([0]).images, source.read([len(source) - 1]).images
        if first.shape != last.shape:
            raise ParameterError(
                "The images differ in size and the model names no input size; give one, "
                "for example --size 224."
            )
