"""`xbench new`: a commented starting file with its test."""

from pathlib import Path

from xbench.errors import ParameterError, RunError
from xbench.models.reference import VARIANTS
from xbench.plugins.templates import TEMPLATES, TEST
from xbench.probes.contract import PROBES
from xbench.registry import DATASETS, LEADERBOARDS, METHODS, METRICS, Registry

_REGISTRIES: dict[str, Registry] = {  # type: ignore[type-arg]
    "method": METHODS,
    "metric": METRICS,
    "dataset": DATASETS,
    "board": LEADERBOARDS,
    "probe": PROBES,
}


def new_file(kind: str, name: str, into: Path) -> tuple[Path, Path]:
    """Write a starting file and its test into a catalogue of one's own.

    Args:
        kind: method, metric, dataset, board, probe or model.
        name: of the entry; lower case.
        into: the catalogue's folder.

    Returns:
        the file and its test.

    Raises:
        ParameterError: no such kind, or a name that is none, or is taken.
        RunError: the file is there already, or cannot be written.
    """
    if kind not in TEMPLATES:
        raise ParameterError(f"There is no kind '{kind}'; take one of {', '.join(TEMPLATES)}.")
    if not name.isidentifier() or name != name.lower():
        raise ParameterError(
            f"'{name}' is no name; use lower-case letters, digits and underscores, as in my_{kind}."
        )
    registry = _REGISTRIES.get(kind)
    if registry is not None and name in registry:
        module = registry.entry(name).module
        raise ParameterError(f"There is a {registry.kind} '{name}' already (in {module}).")
    if kind == "model" and name in VARIANTS:
        raise ParameterError(f"There is a model '{name}' already.")
    folder, template = TEMPLATES[kind]
    path, test = into / folder / f"{name}.py", into / "tests" / f"test_{name}.py"
    title = "".join(word.capitalize() for word in name.split("_"))
    body = template.replace("NAME", name).replace("CLASS", title)
    check = TEST.replace("NAME", name).replace("FOLDER", folder).replace("FILE", test.name)
    _write(path, body)
    _write(test, check.replace("KIND", registry.kind if registry is not None else kind))
    return path, test


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as handle:
            handle.write(text)
    except FileExistsError:
        raise RunError(f"{path} is there already; choose another name.") from None
    except OSError as error:
        raise RunError(f"{path} cannot be written ({error.strerror or error}).") from error
