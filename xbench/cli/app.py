"""The Typer application; commands import torch only when they run."""

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from xbench import __version__
from xbench.errors import RunError, XbenchError

app = typer.Typer(
    name="xbench",
    help="Which saliency method can you trust, for your model and your images, and at what cost?",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    pretty_exceptions_enable=False,
)
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def teach(command: Callable[..., Any]) -> Callable[..., Any]:
    """Print a user's mistake as one sentence and exit with its code; an interruption with 130."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except XbenchError as error:
            err.print(f"xbench: {error}", style="bold", markup=False, soft_wrap=True)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            err.print("xbench: stopped; what is finished is kept.", markup=False)
            raise typer.Exit(130) from None

    return wrapped


def write_page(file: Path, text: str) -> None:
    """Write a command's table where its --out says, and say so.

    Raises:
        RunError: it cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RunError(
            f"{file} cannot be written ({error.strerror or error}); choose another --out."
        ) from error
    out.print(f"Written to {file}", markup=False, soft_wrap=True)


def _version(value: bool) -> None:
    if value:
        out.print(f"xbench {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Which saliency method can you trust, for your model and your images, and at what cost?"""
    _own_catalogue()


@teach
def _own_catalogue() -> None:
    """The catalogue that the environment names, for every command."""
    path = os.environ.get("XBENCH_CATALOGUE")
    if path:
        from xbench.plugins.catalogues import use_catalogue

        use_catalogue(Path(path))
