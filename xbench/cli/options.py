"""Options that several commands share, and the settings made from them."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xbench.cli.app import teach
from xbench.errors import ParameterError

if TYPE_CHECKING:
    from xbench.running.session import Settings

MAX_CALLS, MAX_MAP_CALLS = 1000, 5000  # as in running.session, which loads torch; tested
LEADERS = 3

Model = Annotated[
    str,
    typer.Option(help="reference, torchvision:NAME, timm:NAME or PATH.py:FUNCTION."),
]
Weights = Annotated[Path | None, typer.Option(help="File of weights (safetensors or state dict).")]
DatasetOption = Annotated[
    str, typer.Option(help="planted, images:DIR, imagefolder:DIR ...; see `xbench datasets`.")
]
Methods = Annotated[
    str,
    typer.Option(help="all, names, globs, parameters: 'grad*,-gradcam,smoothgrad[n_samples=25]'."),
]
Metrics = Annotated[
    str, typer.Option(help="default, all, names, globs, parameters: 'all,-*_agreement'.")
]
Limit = Annotated[int | None, typer.Option(help="At most so many images, balanced over classes.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:INDEX.")]
BatchSize = Annotated[str, typer.Option(help="auto (the fastest that fits) or a number of rows.")]
Precision = Annotated[
    str, typer.Option(help="Of the model's calls: float32, bf16 or fp16 (other numbers).")
]
Compile = Annotated[
    bool, typer.Option("--compile", help="Compile forward passes that nobody watches.")
]
Target = Annotated[str, typer.Option(help="Explain the predicted class or the label.")]
LayerOption = Annotated[
    list[str] | None,
    typer.Option("--layer", help="Override a layer role: last_conv=features.17 (repeatable)."),
]
MaxCalls = Annotated[
    int, typer.Option(help="Refuse metrics that need more model calls an image; 0: no limit.")
]
MaxMapCalls = Annotated[
    int, typer.Option(help="Refuse methods whose map needs more model calls; 0: no limit.")
]
Twin = Annotated[
    Path | None, typer.Option(help="Weights of the model's twin trained on permuted labels.")
]
OnlyCorrect = Annotated[
    bool, typer.Option("--only-correct", help="Only images that the model gets right.")
]
ReadingOption = Annotated[
    str, typer.Option("--reading", help="How maps are read: sign=absolute,cap=99,pooling=max_abs.")
]
Training = Annotated[
    str | None, typer.Option(help="Data to train the model anew on, for ROAR and KAR.")
]
UntilDecided = Annotated[
    bool,
    typer.Option("--until-decided", help="Stop when the order of the leading methods is settled."),
]
Leaders = Annotated[int, typer.Option(help="How many leading methods --until-decided is about.")]
Budget = Annotated[
    str | None,
    typer.Option(help="Give each method so many model calls a map: 512, or 64,256,1024."),
]
CellSeconds = Annotated[
    float | None,
    typer.Option(help="Interrupt a method or metric that takes longer on one chunk of images."),
]
Chunk = Annotated[
    int, typer.Option(min=1, help="Images that are worked on together; shards are whole chunks.")
]
CpuFallback = Annotated[
    bool, typer.Option("--cpu-fallback", help="Cells without memory on the device run on the CPU.")
]
Shard = Annotated[
    str | None, typer.Option(help="3/8: the third of eight parts; join them by `xbench merge`.")
]
Devices = Annotated[
    str | None, typer.Option(help="Devices of this machine, a process on each: cuda:0,cuda:1.")
]
Engine = Annotated[str, typer.Option(help="local, or ray for workers on a Ray cluster.")]
Address = Annotated[
    str | None, typer.Option(help="Ray cluster: auto, or ray://HOST:10001; none: this machine.")
]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Ray workers; by default one a GPU, or one a core.")
]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _use_catalogue(path: Path | None) -> Path | None:
    """Import a catalogue of one's own as soon as the option is read."""
    if path is not None:
        from xbench.plugins.catalogues import use_catalogue

        teach(use_catalogue)(path)
    return path


Catalogue = Annotated[
    Path | None,
    typer.Option(
        "--catalogue",
        callback=_use_catalogue,
        help="A file, or a folder with methods/, metrics/, datasets/, leaderboards/, probes/, "
        "models/ of your own; XBENCH_CATALOGUE names one for every command.",
    ),
]


def settings_of(**options: Any) -> "Settings":
    """Settings from command-line options; text options are read here, with one sentence each."""
    from xbench.running.session import Settings

    size = options.pop("batch_size", "auto")
    if size == "auto":
        batch_size = None
    elif str(size).isdecimal() and int(size) > 0:
        batch_size = int(size)
    else:
        raise ParameterError(f"--batch-size takes auto or a number of at least 1, not '{size}'.")
    target = options.pop("target", "predicted")
    if target not in ("predicted", "label"):
        raise ParameterError(f"--target takes predicted or label, not '{target}'.")
    if options.get("engine", "local") not in ("local", "ray"):
        raise ParameterError(f"--engine takes local or ray, not '{options['engine']}'.")
    layers = {}
    for text in options.pop("layer", None) or []:
        role, equals, name = text.partition("=")
        if not equals or not role or not name:
            raise ParameterError(
                f"--layer takes ROLE=NAME, for example last_conv=layer4, not '{text}'."
            )
        layers[role] = name
    if "compile" in options:
        options["compiled"] = options.pop("compile")
    return Settings(
        batch_size=batch_size,
        target=target,
        layers=layers,
        command=["xbench", *sys.argv[1:]],
        **options,
    )
