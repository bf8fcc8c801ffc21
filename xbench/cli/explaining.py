"""`xbench explain`: maps of one image or a few, as pictures."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xbench.cli import options as o
from xbench.cli.app import app, err, out, teach
from xbench.errors import ParameterError, RunError, UnsupportedError

if TYPE_CHECKING:
    from torch import Tensor

    from xbench.classifier import Classifier
    from xbench.contracts import Method, Samples
    from xbench.reading import Reading
    from xbench.registry import Chosen

DEFAULT = "gradcam,integrated_gradients,smoothgrad,guided_backprop,occlusion"


@app.command()
@teach
def explain(
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE...", help="Image files, or `planted`.")
    ],
    model: o.Model = "reference",
    weights: o.Weights = None,
    methods: o.Methods = DEFAULT,
    top: Annotated[int, typer.Option(help="Explain so many of the most probable classes.")] = 3,
    out_folder: Annotated[Path, typer.Option("--out", help="Folder of the pictures.")] = Path(
        "explained"
    ),
    limit: Annotated[int, typer.Option(help="With a dataset: so many of its images.")] = 1,
    seed: o.Seed = 0,
    device: o.Device = "auto",
    batch_size: o.BatchSize = "auto",
    layer: o.LayerOption = None,
    reading: o.ReadingOption = "",
    pickled: Annotated[
        bool, typer.Option("--pickle", help="Write the methods' settings as pickles too.")
    ] = False,
) -> None:
    """Draw maps of chosen methods for the top classes beside the image and its probabilities."""
    from xbench.explaining import read_images
    from xbench.models.loading import load_classifier
    from xbench.reading import read_reading
    from xbench.registry import METHODS
    from xbench.settings import write_settings

    if top < 1 or limit < 1:
        raise ParameterError("--top and --limit take numbers of at least 1.")
    settings = o.settings_of(
        model=model, weights=weights, methods=methods, batch_size=batch_size, layer=layer
    )
    classifier = load_classifier(
        model,
        weights=weights,
        device=device,
        batch_size=settings.batch_size,
        layers=dict(settings.layers),
    )
    samples = read_images(images, classifier, limit=limit, seed=seed)
    read = read_reading(reading)
    chosen = [read.pooled(method) for method in METHODS.select(methods)]
    for i in range(len(samples)):
        path = _picture(classifier, samples, i, chosen, top, out_folder, (seed, read))
        out.print(f"{samples.ids[i]}: {path}", markup=False, soft_wrap=True)
    for method in chosen:
        name = "".join(c if c.isalnum() or c in "-_" else "_" for c in method.label)
        write_settings(out_folder / f"{name}.json", method, pickled=pickled)


def _picture(
    classifier: "Classifier",
    samples: "Samples",
    i: int,
    methods: "Sequence[Chosen[Method]]",
    top: int,
    folder: Path,
    how: "tuple[int, Reading]",
) -> Path:
    import torch

    from xbench.contracts import Samples
    from xbench.explaining import explain_samples, predictions
    from xbench.report.pictures import gallery_png

    one = samples.images[i : i + 1]
    prediction = predictions(classifier, one, 15)[0]
    classes = prediction.top[:top]
    repeated = Samples(
        images=one.expand(len(classes), -1, -1, -1),
        labels=samples.labels[i : i + 1].expand(len(classes)),
        ids=[samples.ids[i]] * len(classes),
    )
    maps: dict[str, list[Any]] = {}
    signed = {}
    seed, read = how
    for method in methods:
        signed[method.label] = method.card.signed and read.sign == "signed"
        try:
            found: Tensor = explain_samples(
                classifier, repeated, method, torch.tensor(classes, device=classifier.device), seed
            )
            found = read(found, repeated.images.to(found.device))
            maps[method.label] = list(found.cpu().numpy())
        except UnsupportedError as error:
            err.print(str(error), markup=False, soft_wrap=True)
            maps[method.label] = [str(error)] * len(classes)
    name = _namer(classifier)
    bars = [(name(c), float(prediction.probabilities[c])) for c in prediction.top]
    picture = gallery_png(
        one[0].permute(1, 2, 0).cpu().numpy(),
        bars,
        [name(c) for c in classes],
        maps,
        signed,
    )
    return _save(folder, samples.ids[i], picture)


def _namer(classifier: "Classifier") -> Callable[[int], str]:
    names = classifier.class_names
    return lambda index: names[index] if index < len(names) else f"class {index}"


def _save(folder: Path, image_id: str, picture: bytes) -> Path:
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in image_id)[-100:]
    path = folder / f"{safe}.png"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture)
    except OSError as error:
        raise RunError(
            f"{path} cannot be written ({error.strerror or error}); choose another --out."
        ) from error
    return path
