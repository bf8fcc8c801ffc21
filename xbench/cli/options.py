"""Options that several commands share, and the settings made from them."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xbench.errors import ParameterError

if TYPE_CHECKING:
    from xbench.running.session import Settings

MAX_CALLS, MAX_MAP_CALLS = 1000, 5000  # as in running.session, which loads torch; tested

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
    typer.Option(help="all, names, globs, parameters: 'grad*,smoothgrad[n_samples=25]'."),
]
Metrics = Annotated[str, typer.Option(help="default, all, names, globs, parameters.")]
Limit = Annotated[int | None, typer.Option(help="At most so many images, balanced over classes.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:INDEX.")]
BatchSize = Annotated[str, typer.Option(help="auto (the fastest that fits) or a number of rows.")]
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
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def settings_of(**options: Any) -> "Settings":
    """Settings from command-line options; text options are read here, with one sentence each."""
    from xbench.running.session import Settings

    size = options.pop("batch_size", "auto")
    if size == "auto":
        batch_size = None
    elif str(size).isdigit() and int(size) > 0:
        batch_size = int(size)
    else:
        raise ParameterError(f"--batch-size takes auto or a number of at least 1, not '{size}'.")
    target = options.pop("target", "predicted")
    if target not in ("predicted", "label"):
        raise ParameterError(f"--target takes predicted or label, not '{target}'.")
    layers = {}
    for text in options.pop("layer", None) or []:
        role, equals, name = text.partition("=")
        if not equals or not role or not name:
            raise ParameterError(
                f"--layer takes ROLE=NAME, for example last_conv=layer4, not '{text}'."
            )
        layers[role] = name
    return Settings(
        batch_size=batch_size,
        target=target,
        layers=layers,
        command=["xbench", *sys.argv[1:]],
        **options,
    )
