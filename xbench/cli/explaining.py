"""`xbench explain`: maps of one image or a few, as pictures."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xbench.cli import options as o
from xbench.cli import probing as p
from xbench.cli.app import app, err, out, teach
from xbench.errors import ParameterError, RunError

if TYPE_CHECKING:
    from xbench.probes.gallery import Page

FORMATS = ("png", "pdf", "html")
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
    precision: o.Precision = "float32",
    compile: o.Compile = False,
    layer: o.LayerOption = None,
    reading: o.ReadingOption = "",
    scale: Annotated[
        str, typer.Option(help="own: a color scale a map; shared: one a method and image.")
    ] = "own",
    formats: Annotated[
        str, typer.Option("--format", help="png, pdf and html, separated by commas.")
    ] = "png",
    raw: Annotated[
        bool, typer.Option("--raw", help="Write every map alone as a picture, too.")
    ] = False,
    pickled: Annotated[
        bool, typer.Option("--pickle", help="Write the methods' settings as pickles too.")
    ] = False,
) -> None:
    """Draw maps of chosen methods for the top classes beside the image and its probabilities."""
    wanted = [one.strip() for one in formats.split(",") if one.strip()]
    if not wanted or not set(wanted) <= set(FORMATS):
        raise ParameterError(f"--format takes {', '.join(FORMATS)}, not '{formats}'.")
    from xbench.classifier.precision import set_precision
    from xbench.probes.gallery import Gallery
    from xbench.probes.page import file_name, write_exhibit
    from xbench.reading import read_reading
    from xbench.registry import METHODS
    from xbench.settings import write_settings

    if top < 1 or limit < 1:
        raise ParameterError("--top and --limit take numbers of at least 1.")
    loaded = p.Loaded(model, weights, device, batch_size, layer, seed)
    set_precision(loaded.model, precision, compiled=compile)
    samples = loaded.read(images, limit)
    probe = Gallery(methods=methods, top=top, reading=reading, scale=scale)
    with p.Teller() as tell:
        pages = probe.pages(loaded.model, samples, seed, tell)
    for page, stem in zip(pages, _stems([page.samples.ids[0] for page in pages]), strict=True):
        name = page.samples.ids[0]
        for reason in page.found.refused.values():
            err.print(reason, markup=False, soft_wrap=True)
        for path in _write(page, out_folder / stem, wanted, raw=raw):
            out.print(f"{name}: {path}", markup=False, soft_wrap=True)
    if "html" in wanted:
        exhibit = probe.exhibit(pages, loaded.model, samples, seed)
        path = write_exhibit(exhibit, out_folder, p.command())
        out.print(f"The page is {path}.", markup=False, soft_wrap=True)
    read = read_reading(reading)
    for method in (read.pooled(method) for method in METHODS.select(methods)):
        path = out_folder / f"{file_name(method.label)}.json"
        write_settings(path, method, pickled=pickled)


def _stems(ids: list[str]) -> list[str]:
    """File names of images, each another one.

    >>> _stems(["a/cat.jpg", "cat.jpg", "cat.jpg"])
    ['a_cat.jpg', 'cat.jpg', 'cat.jpg_2']
    """
    stems: list[str] = []
    for image_id in ids:
        stem = "".join(c if c.isalnum() or c in "-_." else "_" for c in image_id)[-100:]
        number = 1
        while (named := stem if number == 1 else f"{stem}_{number}") in stems:
            number += 1
        stems.append(named)
    return stems


def _write(page: "Page", path: Path, formats: list[str], *, raw: bool) -> list[Path]:
    """The page in every format, and its maps alone; `path` is without an ending."""
    from xbench.probes.page import file_name

    folder, stem = path.parent, path.name
    files = {f"{stem}.{kind}": page.file(kind) for kind in formats if kind != "html"}
    if raw:
        files |= {f"{stem}_{file_name(name)}.png": content for name, content in page.raw().items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
    except OSError as error:
        raise RunError(
            f"{folder} cannot be written ({error.strerror or error}); choose another --out."
        ) from error
    return [folder / name for name in files]
