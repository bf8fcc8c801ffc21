"""Runs in parts: `--shard 3/8` here and there, joined by `xbench merge`."""

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from xbench.checked_store import damaged_units, open_checked, rows_of, run_of
from xbench.errors import ParameterError, RunError
from xbench.files import replacing
from xbench.records import COLUMNS, DamagedError, Store, Unit
from xbench.running.folder import IDENTITY, RunFolder, identity_of, same
from xbench.running.lock import RunLock

_MEASURED = ("seconds", "peak_mb")
_PLACES = ("weights", "twin")  # files whose path may differ between machines


def parse_shard(text: str | None) -> tuple[int, int] | None:
    """Which part of how many, from 1.

    >>> parse_shard("3/8")
    (3, 8)

    Raises:
        ParameterError: it is not of the form I/N with 1 <= I <= N.
    """
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise ParameterError(
            f"--shard takes I/N with I from 1 to N, for example 3/8, not '{text}'."
        )
    return int(found[1]), int(found[2])


def merge(out: Path, runs: Sequence[Path]) -> list[str]:
    """Join the records and maps of run folders of one grid into a new one.

    The new folder is a run of the whole grid: what is missing is computed by the command of its
    parts without --shard, with `--out OUT --resume`.

    Args:
        out: the new folder; one that an interrupted merge left is gone on with.
        runs: folders of parts; what two of them hold has to be the same.

    Returns:
        What to know, one sentence each: chunks that no part holds.

    Raises:
        RunError: parts that do not fit, with the reason; a damaged part; a folder that cannot be
            written.
    """
    if not runs:
        raise ParameterError("`xbench merge OUT RUN RUN ...` needs at least one run to join.")
    folders = [RunFolder(run) for run in runs]
    manifests = [folder.manifest() for folder in folders]
    for folder, manifest in zip(folders, manifests, strict=True):
        if folder.path.resolve() == out.resolve():
            raise RunError(f"{out} cannot be joined into itself; choose another folder.")
        _check_fit(folders[0].path, manifests[0], folder.path, manifest)
    whole = {
        **manifests[0],
        "shard": None,
        "merged": [str(manifest.get("shard")) for manifest in manifests],
    }
    target = RunFolder(out)
    target.create()
    with RunLock(out):
        target.prepare(whole, resume=True)
        with closing(open_checked(target.store_path, identity_of(whole), print)) as store:
            for folder in folders:
                _join(store, folder)
                _copy_maps(folder.maps_path, target.maps_path)
            return _missing(store.units(), whole)


def _check_fit(
    first: Path, expected: Mapping[str, Any], path: Path, found: Mapping[str, Any]
) -> None:
    """Refuse a run of another grid, or of another version, and say what differs."""

    def refuse(what: str, here: object, there: object) -> None:
        raise RunError(
            f"{path} does not fit {first}: its {what} is {_brief(here)}, not {_brief(there)}; "
            "join runs of one and the same command that differ in --shard only."
        )

    for key in IDENTITY:
        if not same(expected[key], found[key]):
            here, there = _differing(found[key], expected[key])
            part = f" ({here[0]})" if here[0] else ""
            refuse(f"{key}{part}", here[1], there[1])
    if expected.get("xbench") != found.get("xbench"):
        refuse("version of xbench", found.get("xbench"), expected.get("xbench"))
    ours, theirs = (_table(_table(m.get("environment")).get("packages")) for m in (expected, found))
    for name in sorted({*ours, *theirs}):
        if ours.get(name) != theirs.get(name):
            refuse(f"version of {name}", theirs.get(name), ours.get(name))
    ours, theirs = (_table(m.get("settings")) for m in (expected, found))
    for name in sorted({*ours, *theirs} - {*_PLACES}):
        if ours.get(name) != theirs.get(name):
            refuse(f"setting {name}", theirs.get(name), ours.get(name))


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _differing(one: object, other: object) -> tuple[tuple[str, object], tuple[str, object]]:
    """The part in which two entries of manifests differ, and its values, fit for a sentence."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        names = [name for name in ("weights", "digest", "name") if one.get(name) != other.get(name)]
        name = names[0] if names else "name"
        return (name, one.get(name)), (name, other.get(name))
    if isinstance(one, list) and isinstance(other, list):
        labels = ([str(item.get("label")) for item in items] for items in (one, other))
        mine, theirs = (", ".join(found) for found in labels)
        return ("", mine), ("", theirs)
    return ("", one), ("", other)


def _brief(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _join(target: Store, folder: RunFolder) -> None:
    """Copy every unit of a part, in one transaction."""
    try:
        with closing(Store(folder.store_path, readonly=True)) as source:
            if run_of(source) != identity_of(folder.manifest()):
                raise source.damaged("it belongs to another run than the manifest beside it")
            bad = damaged_units(source)
            if bad:
                raise source.damaged(f"the rows of {len(bad)} units are not what was written")
            twice = target.units() & source.units()
            if twice:
                _check_same(target, source, twice, folder.path)
            target.copy(source)
    except DamagedError as error:
        raise RunError(f"{folder.path} cannot be joined. {error}") from error


def _check_same(target: Store, source: Store, twice: set[Unit], path: Path) -> None:
    """Units that two parts hold have to say the same, times aside."""
    kept = [COLUMNS.index(name) for name in COLUMNS if name not in _MEASURED]

    def content(store: Store) -> set[tuple[object, ...]]:
        return {
            tuple(row[place] for place in kept)
            for unit, row in rows_of(store, "records", store.units())
            if unit in twice
        }

    if content(target) != content(source):
        raise RunError(
            f"{path} holds units that another part holds too, with other values; leave out one of "
            "the two."
        )


def _copy_maps(source: Path, target: Path) -> None:
    """Link the maps of a part, or copy them where links do not reach."""
    for path in sorted(source.glob("*.safetensors")):
        new = target / path.name
        try:
            target.mkdir(exist_ok=True)
            if new.exists():
                continue
            try:
                os.link(path, new)
            except OSError:
                with replacing(new) as temporary:
                    shutil.copyfile(path, temporary)
        except OSError as error:
            raise RunError(
                f"{new} cannot be written ({error.strerror or error}); what was joined is kept: "
                "free some space, then merge again into the same folder."
            ) from error


def _missing(units: set[Unit], manifest: Mapping[str, Any]) -> list[str]:
    images, chunk = int(manifest["dataset"]["images"]), int(manifest["chunk"])
    there = {unit.chunk for unit in units}
    absent = [number for number in range(-(-images // chunk)) if number not in there]
    if not absent:
        return []
    names = ", ".join(map(str, absent[:5])) + (" ..." if len(absent) > 5 else "")
    return [
        f"{len(absent)} chunks of images are in none of the parts ({names}); compute them with the "
        "command of the parts without --shard, and --out of the new folder with --resume."
    ]
