"""What the commands of probes share: load the model, read the images, run, write the page."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xbench.cli import options as o
from xbench.cli.app import err, out
from xbench.cli.progress import LiveProgress
from xbench.errors import ParameterError

if TYPE_CHECKING:
    from xbench.classifier import Classifier
    from xbench.contracts import Samples
    from xbench.probes.contract import Exhibit

DEFAULT_METHODS = "gradcam,integrated_gradients[n_steps=20],smoothgrad[n_samples=20],occlusion"
"""As in probes.maps, which loads torch; tested."""

Images = Annotated[
    list[str],
    typer.Argument(metavar="IMAGE...", help="Image files, or one data set such as `planted`."),
]
Image = Annotated[str, typer.Argument(metavar="IMAGE", help="An image file, or `planted`.")]
ImageFiles = Annotated[
    list[str] | None,
    typer.Option("--image", help="An image file (repeatable) instead of --dataset."),
]
TwoMethods = Annotated[
    list[str], typer.Argument(metavar="METHOD METHOD...", help="Two methods or more.")
]
Out = Annotated[Path | None, typer.Option("--out", help="Folder of the page and its files.")]
Count = Annotated[int, typer.Option("--limit", help="With a data set: so many of its images.")]
SomeMethods = Annotated[str, typer.Option(help="Names and parameters, separated by commas.")]


class Loaded:
    """A model with the options that every probe has.

    Args:
        model, weights, device, batch_size, layer: as on the command line.
        seed: of everything random.
    """

    def __init__(
        self,
        model: str,
        weights: Path | None,
        device: str,
        batch_size: str,
        layer: list[str] | None,
        seed: int,
    ) -> None:
        from xbench.models.loading import load_classifier

        settings = o.settings_of(model=model, weights=weights, batch_size=batch_size, layer=layer)
        self.seed = seed
        self.device = device
        self.model: Classifier = load_classifier(
            model,
            weights=weights,
            device=device,
            batch_size=settings.batch_size,
            layers=dict(settings.layers),
        )

    def read(self, images: Sequence[str], limit: int = 1) -> "Samples":
        """The images, files or some of a data set."""
        from xbench.explaining import read_images

        if limit < 1:
            raise ParameterError("--limit takes a number of at least 1.")
        return read_images(list(images), self.model, limit=limit, seed=self.seed)

    def show(
        self,
        name: str,
        samples: "Samples",
        values: Mapping[str, Any],
        folder: Path | None,
    ) -> "Exhibit":
        """Run a probe, write its page, and print what it says and where the page is."""
        from xbench.probes.contract import make_probe
        from xbench.probes.page import write_exhibit

        probe = make_probe(name, **values).value
        folder = folder or Path("exhibits") / name
        with Teller() as tell:
            exhibit = probe.run(self.model, samples, seed=self.seed, tell=tell)
        path = write_exhibit(exhibit, folder, command())
        for sentence in exhibit.caption:
            out.print(sentence, markup=False, soft_wrap=True)
        out.print(f"The page is {path}.", markup=False, soft_wrap=True)
        return exhibit


class Teller:
    """Shows what a probe tells of its progress; a new phase gets a new line."""

    def __init__(self) -> None:
        self._live = LiveProgress(err)
        self._done, self._total = 0, -1

    def __enter__(self) -> "Teller":
        self._live.__enter__()
        return self

    def __exit__(self, *gone: Any) -> None:
        self._live.__exit__(*gone)

    def __call__(self, done: int, total: int, what: str) -> None:
        """See `xbench.probes.contract.Tell`."""
        if total != self._total or done < self._done:
            self._live.start(total, done)
            self._total, self._done = total, done
        while self._done < done:
            self._live.step(what)
            self._done += 1


def command() -> str:
    """What was typed, as one line."""
    import shlex

    return shlex.join(["xbench", *sys.argv[1:]])
