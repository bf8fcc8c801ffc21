"""A run described in a TOML file: read before the command line, which wins over it."""

import difflib
import re
import sys
import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

from xbench.cli.app import app, out, teach
from xbench.errors import ParameterError, RunError

_RENAMED = {"out": "out_folder", "layers": "layer"}
_LISTS = ("methods", "metrics")
_NOT_HERE = ("config", "catalogue")

START = """\
# xbench run bench.toml     every option of `xbench run`; the command line wins over this file

model = "reference"         # torchvision:resnet50, timm:NAME, "mynet.py:build"
# weights = "best.safetensors"
dataset = "planted"         # "images:DIR", "imagefolder:DIR"; see `xbench datasets`
limit = 32                  # images; ranks are preliminary below 32
seed = 0

methods = [                 # names with parameters, globs, "all"; see `xbench methods`
    "gradient",
    "gradcam",
    "integrated_gradients[n_steps=20]",
    "smoothgrad[n_samples=10]",
    "random",               # controls: a method has to beat them
    "center_prior",
    "edges",
]
metrics = ["default"]       # see `xbench metrics`

# catalogue = "."           # methods/, metrics/ ... of your own, see `xbench new`
# max_calls = 1000          # refuse metrics that need more model calls an image
# target = "label"          # explain the label instead of the predicted class
# out = "runs/first"

# [layers]                  # where a role is not found by itself
# last_conv = "layer4"
"""


def read_configuration(context: typer.Context, path: Path | None) -> Path | None:
    """Take the values of a TOML file for the options that the command line leaves out.

    Raises:
        ParameterError: no such file, no TOML, an unknown key or a value of the wrong kind; the
            sentence says the line.
    """
    if path is None:
        return None
    try:
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text)
    except OSError as error:
        raise ParameterError(f"{path} cannot be read ({error.strerror or error}).") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ParameterError(f"{path} is no TOML: {error}.") from error
    catalogue = content.pop("catalogue", None)
    if catalogue is not None:
        from xbench.plugins.catalogues import use_catalogue

        use_catalogue(Path(str(catalogue)))
    options = {p.name: p for p in context.command.params if p.name not in _NOT_HERE}
    known = {name: name for name in options} | {k: v for k, v in _RENAMED.items() if v in options}
    values = {}
    for key, value in content.items():
        place = f"{path}, line {_line(text, key)}"
        name = known.get(key.replace("-", "_"))
        if name is None:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise ParameterError(f"{place}: there is no option '{key}'.{hint}")
        values[name] = _value(key, value, options[name], place)
    context.default_map = {**(context.default_map or {}), **values}
    if not any(word.startswith("--catalogue") for word in sys.argv):  # its names come later
        _check_names(values, path, text)
    return path


def _value(key: str, value: Any, option: Any, place: str) -> Any:
    """The value as the command line would give it."""
    if key == "layers":
        if not isinstance(value, dict):
            raise ParameterError(
                f'{place}: layers is a table: write layers = {{last_conv = "..."}}.'
            )
        return [f"{role}={layer}" for role, layer in value.items()]
    if key in _LISTS and isinstance(value, list) and all(isinstance(v, str) for v in value):
        return ",".join(value)
    if key == "budget" and isinstance(value, list) and all(type(v) is int for v in value):
        return ",".join(map(str, value))
    kind = _kind(option)
    flag = bool(getattr(option, "is_flag", False))
    kinds: tuple[type, ...] = (
        (bool,) if flag else {int: (int,), float: (int, float)}.get(kind, (str,))
    )
    if option.name in ("batch_size", "devices", "budget"):
        kinds = (int, str)
    if not isinstance(value, kinds) or (isinstance(value, bool) and not flag):
        words = {bool: "true or false", int: "a whole number", str: "text", float: "a number"}
        raise ParameterError(f"{place}: {key} takes {words[kinds[-1]]}, not {value!r}.")
    return value if flag or kind in (int, float) else str(value)


def _kind(option: Any) -> type:
    """int, float or str; the command-line library keeps it in one of two places."""
    bare = getattr(option, "bare_type", None)
    name = str(bare()) if bare is not None else str(getattr(option.type, "name", ""))
    return {"int": int, "integer": int, "float": float}.get(name, str)


def _check_names(values: dict[str, Any], path: Path, text: str) -> None:
    """Say where an unknown method or metric stands."""
    from xbench.errors import XbenchError
    from xbench.registry import METHODS, METRICS

    for key, registry in (("methods", METHODS), ("metrics", METRICS)):
        if key not in values:
            continue
        groups = {"default": lambda entry: bool(getattr(entry.card, "default", False))}
        try:
            registry.select(values[key], groups)
        except XbenchError as error:
            named = re.search(r"'([^']+)'", str(error))
            line = _line(text, named.group(1) if named else key, key)
            raise ParameterError(f"{path}, line {line}: {error}") from None


def _line(text: str, word: str, key: str = "") -> int:
    """The first line where a key is set, or where a word stands at or behind a key."""
    lines = text.splitlines()
    start = 0 if not key else _line(text, key) - 1
    pattern = re.compile(rf"^\s*\[?{re.escape(word)}\b\s*[=\].]" if not key else re.escape(word))
    for number in range(start, len(lines)):
        if pattern.search(lines[number].split("#")[0]):
            return number + 1
    return start + 1


Config = Annotated[
    Path | None,
    typer.Argument(
        metavar="[BENCH.toml]",
        callback=teach(read_configuration),
        is_eager=True,
        help="Options from a file; `xbench init` writes one.",
    ),
]


@app.command()
@teach
def init(
    path: Annotated[Path, typer.Argument(metavar="BENCH.toml", help="Where it goes.")] = Path(
        "bench.toml"
    ),
) -> None:
    """Write a commented configuration for `xbench run`."""
    try:
        with path.open("x", encoding="utf-8") as handle:
            handle.write(START)
    except FileExistsError:
        raise RunError(f"{path} is there already; choose another name.") from None
    except OSError as error:
        raise RunError(f"{path} cannot be written ({error.strerror or error}).") from error
    out.print(f"Written: {path}; run it: xbench run {path}", markup=False, soft_wrap=True)
