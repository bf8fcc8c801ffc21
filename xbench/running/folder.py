"""A run folder: its documented shape, its manifest, and the checks before anything is written.

manifest.json     cards, versions, hashes, seed, command line
records.sqlite    the run store
timing.json       seconds by cell and by what was done, for `xbench profile`
records.parquet   the records, written at the end
maps/             safetensors shards of maps
leaderboard.csv, leaderboard.md, report.html
"""

import hashlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xbench.errors import RunError
from xbench.files import remove_leftovers, replacing, set_aside
from xbench.running import lock

IDENTITY = (
    "format",
    "seed",
    "chunk",
    "target",
    "reading",
    "model",
    "dataset",
    "methods",
    "metrics",
)
OPTIONAL = ("order",)
"""Part of the identity too, where a manifest has it; earlier ones do not."""


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _has_texts(value: object, *keys: str) -> bool:
    return isinstance(value, dict) and all(_is_text(value.get(key)) for key in keys)


def _is_choice(value: object) -> bool:
    return isinstance(value, list) and all(_has_texts(item, "label", "identity") for item in value)


_SHAPE: dict[str, Callable[[Any], bool]] = {
    "format": _is_number,
    "seed": _is_number,
    "chunk": lambda value: _is_number(value) and value > 0,
    "target": _is_text,
    "reading": _is_text,
    "model": lambda value: _has_texts(value, "name", "weights"),
    "dataset": lambda value: (
        _has_texts(value, "name", "digest") and _is_number(value.get("images"))
    ),
    "methods": _is_choice,
    "metrics": _is_choice,
}


@dataclass(frozen=True)
class RunFolder:
    """The files of one run."""

    path: Path

    @property
    def manifest_path(self) -> Path:
        """Where the manifest is."""
        return self.path / "manifest.json"

    @property
    def store_path(self) -> Path:
        """Where the run store is."""
        return self.path / "records.sqlite"

    @property
    def maps_path(self) -> Path:
        """Where the maps are."""
        return self.path / "maps"

    def manifest(self) -> dict[str, Any]:
        """The manifest.

        Raises:
            RunError: there is none, or it is no manifest.
        """
        try:
            content = json.loads(self.manifest_path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunError(
                f"{self.path} is no run folder (it has no manifest.json); give the folder that "
                "`xbench run` wrote."
            ) from None
        except (OSError, ValueError, RecursionError) as error:
            raise RunError(f"{self.manifest_path} cannot be read ({error}).") from error
        missing = [key for key in IDENTITY if not isinstance(content, dict) or key not in content]
        if missing:
            raise RunError(
                f"{self.manifest_path} is no manifest of xbench: it has no {missing[0]}."
            )
        strange = next((key for key, fits in _SHAPE.items() if not fits(content[key])), None)
        if strange is not None:
            raise RunError(
                f"{self.manifest_path} is no manifest of xbench: its {strange} is strange."
            )
        return dict(content)

    def create(self) -> None:
        """Make the folder, and try to write in it.

        Raises:
            RunError: it cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except OSError as error:
            raise RunError(
                f"The folder {self.path} cannot be written ({error.strerror or error}); what is in "
                "it is kept: make it writable, or choose another one with --out."
            ) from error

    def prepare(
        self,
        manifest: dict[str, Any],
        *,
        resume: bool,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Create the folder, or make sure that what is there is this very run.

        A torn manifest is set aside and written anew; the store says whose records it holds.

        Raises:
            RunError: the folder cannot be written, holds another run, or holds this one and
                `resume` was not asked for.
        """
        self.create()
        remove_leftovers(self.path)
        remove_leftovers(self.maps_path)
        if self.manifest_path.exists():
            try:
                old = self.manifest()
            except RunError as error:
                if not resume:
                    raise
                aside = set_aside(self.manifest_path, "torn")
                tell(f"{error} It was set aside as {aside.name} and written anew.")
                self.write_json(self.manifest_path, manifest)
                return
            self._check(old, manifest, resume=resume)
        elif any(path.name != lock.NAME for path in self.path.iterdir()):
            raise RunError(
                f"{self.path} is not empty and holds no run; choose another folder with --out."
            )
        else:
            self.write_json(self.manifest_path, manifest)

    def _check(self, old: dict[str, Any], new: dict[str, Any], *, resume: bool) -> None:
        if not resume:
            raise RunError(
                f"{self.path} already holds a run; add --resume to go on with it, or choose "
                "another folder with --out."
            )
        for key in (*IDENTITY, *OPTIONAL, "shard"):
            if not same(old.get(key), new.get(key)):
                raise RunError(
                    f"{self.path} holds another run: its {key} is not the same; use the same "
                    "command as before, or choose another folder with --out."
                )

    def write_json(self, path: Path, content: object) -> None:
        """Write JSON atomically."""
        self.write_text(path, json.dumps(content, indent=1, sort_keys=True, default=str) + "\n")

    def write_text(self, path: Path, text: str) -> None:
        """Write a text file atomically.

        Raises:
            RunError: the disk is full or the folder cannot be written.
        """
        try:
            with (
                replacing(path) as temporary,
                temporary.open("w", encoding="utf-8", newline="\n") as handle,
            ):
                handle.write(text)
        except OSError as error:
            raise RunError(
                f"{path} cannot be written ({error.strerror or error}); the records are kept in "
                f"{self.store_path.name}."
            ) from error


def identity_of(manifest: dict[str, Any]) -> str:
    """A hash of what makes two manifests the same run."""
    content = {key: _identity(manifest[key]) for key in IDENTITY}
    content |= {key: manifest[key] for key in OPTIONAL if manifest.get(key) is not None}
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def same(one: Any, other: Any) -> bool:
    """Whether a part of two manifests describes the same run: cards and prose may differ."""
    return bool(_identity(one) == _identity(other))


def _identity(content: Any) -> Any:
    if isinstance(content, list):
        return sorted(str(item.get("identity", item)) for item in content)
    if isinstance(content, dict):
        return {k: v for k, v in content.items() if k in ("name", "weights", "digest", "identity")}
    return content
