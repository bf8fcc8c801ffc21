"""`xbench train`: the shipped classifiers anew, twins and masked siblings of a user's own."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress

from xbench.cli import options as o
from xbench.cli.app import app, err, out, teach
from xbench.errors import ParameterError

if TYPE_CHECKING:
    from xbench.models.training import Trained

train = typer.Typer(
    help="Train the shipped classifiers anew, or a twin of your own.", no_args_is_help=True
)
app.add_typer(train, name="train")

File = Annotated[
    Path | None, typer.Option("--out", help="File of weights; the package's own by default.")
]
Epochs = Annotated[int | None, typer.Option(help="Passes over the images.")]
OwnModel = Annotated[str | None, typer.Option(help="Your model; the reference by default.")]
OwnData = Annotated[str | None, typer.Option(help="Your images; planted scenes by default.")]


@train.command()
@teach
def reference(file: File = None, seed: o.Seed = 0, epochs: Epochs = None) -> None:
    """Train the reference classifier of planted scenes."""
    from xbench.models.training import train_reference

    _report(lambda tell: train_reference(file, seed=seed, epochs=epochs, progress=tell))


@train.command()
@teach
def shortcut(file: File = None, seed: o.Seed = 0, epochs: Epochs = None) -> None:
    """Train the classifier that learned to read a watermark."""
    from xbench.models.training import train_reference

    _report(
        lambda tell: train_reference(
            file, variant="reference-shortcut", seed=seed, epochs=epochs, progress=tell
        )
    )


@train.command()
@teach
def twin(
    model: OwnModel = None,
    weights: o.Weights = None,
    dataset: OwnData = None,
    limit: o.Limit = 512,
    file: File = None,
    seed: o.Seed = 0,
    epochs: Epochs = None,
    device: o.Device = "auto",
) -> None:
    """Train a network of the same shape on permuted labels until it knows them by heart."""
    from xbench.models.training import train_twin

    own = _own(model, weights, dataset, limit, seed, device)
    more: dict[str, Any] = {} if epochs is None else {"epochs": epochs}
    _report(lambda tell: train_twin(*own, file, seed=seed, progress=tell, **more))


@train.command()
@teach
def masked(
    model: OwnModel = None,
    weights: o.Weights = None,
    dataset: OwnData = None,
    limit: o.Limit = None,
    file: File = None,
    seed: o.Seed = 0,
    epochs: Epochs = None,
    device: o.Device = "auto",
) -> None:
    """Train a network on with random parts of the images removed: removal is then in domain."""
    from xbench.models.training import train_masked

    own = _own(model, weights, dataset, limit, seed, device)
    more: dict[str, Any] = {} if epochs is None else {"epochs": epochs}
    _report(lambda tell: train_masked(*own, file, seed=seed, progress=tell, **more))


def _own(
    model: str | None,
    weights: Path | None,
    dataset: str | None,
    limit: int | None,
    seed: int,
    device: str,
) -> tuple[Any, Any]:
    """The user's classifier and opened images, (None, None) for the shipped ones."""
    from xbench.models.loading import load_classifier
    from xbench.registry import DATASETS

    if model is None and dataset is None:
        return None, None
    if model is None or dataset is None:
        raise ParameterError("Your own training needs both --model and --dataset.")
    classifier = load_classifier(model, weights=weights, device=device)
    opened = DATASETS.create(dataset).value
    classes = classifier.class_count
    return classifier, opened.open(classifier.geometry, limit=limit, seed=seed, classes=classes)


def _report(work: "Callable[[Callable[[int, int, str], None]], Trained]") -> None:
    with Progress(console=err, transient=True) as bar:
        task = bar.add_task("training", total=None)

        def tell(done: int, total: int, what: str) -> None:
            bar.update(task, completed=done, total=total, description=what)

        trained = work(tell)
    for name, value in trained.accuracy.items():
        out.print(f"{name}: {value:.1%}", markup=False)
    out.print(f"Weights: {trained.path}", markup=False, soft_wrap=True)
