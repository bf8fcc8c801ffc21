"""One registry for the four catalogues: decorator, discovery of files, entry points, names.

A catalogue file that cannot be imported takes only its own entries with it: the reason is kept in
`Registry.broken` and printed by the lists and by `xbench doctor`.
"""

import difflib
import fnmatch
import functools
import hashlib
import importlib
import importlib.metadata
import pkgutil
import sys
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from xbench import names
from xbench.contracts import Board, Card, Dataset, Method, Metric, PairMetric
from xbench.errors import ParameterError, UnknownNameError, XbenchError

LATER = {"later": True}
"""Metadata of a parameter that its class did not always have, for `dataclasses.field`.

With its default, which does what was done before, it is left out of the identity, so that earlier
records stay valid.
"""

T = TypeVar("T")
C = TypeVar("C", bound=type)


@dataclass(frozen=True)
class Entry(Generic[T]):
    """One registered name: a class, the parameters that this name presets, and its card."""

    name: str
    factory: type
    preset: dict[str, names.Value]
    card: Any
    module: str

    @property
    def parameters(self) -> dict[str, Any]:
        """Every hyper-parameter with its default under this name."""
        defaults = {
            f.name: (f.default if f.default is not MISSING else None) for f in fields(self.factory)
        }
        return {**defaults, **self.preset}


@dataclass(frozen=True)
class Chosen(Generic[T]):
    """An instance with its names.

    Attributes:
        label: the short name, parameters that differ from the defaults only.
        identity: the full name, every parameter (but see `LATER`); the key of caches and records.
        value: the method, metric, dataset or board.
        card: its card.
        entry: the entry it came from.
    """

    label: str
    identity: str
    value: T
    card: Any
    entry: Entry[T]


@dataclass
class Registry(Generic[T]):
    """The entries of one catalogue, by name.

    Attributes:
        kind: what one entry is, in words ("method").
        plural: the catalogue's name; also its package and its entry-point group.
        broken: catalogue modules that could not be imported, with the reason.
    """

    kind: str
    plural: str
    broken: dict[str, str] = field(default_factory=dict)
    _entries: dict[str, Entry[T]] = field(default_factory=dict)
    _discovered: bool = False

    def register(self, factory: C) -> C:
        """Class decorator: enter a dataclass under its card's name.

        Raises:
            XbenchError: another entry carries the name.
        """
        card = getattr(factory, "card", None)
        if not isinstance(card, Card):
            raise XbenchError(f"{factory.__qualname__} has no card; set `card = ...Card(...)`.")
        self._enter(Entry(card.name, factory, {}, card, factory.__module__))
        return factory

    def preset(
        self, name: str, factory: type, *, card: dict[str, Any] | None = None, **values: names.Value
    ) -> None:
        """Enter a further name for a class with other default parameters.

        Args:
            name: the new name.
            factory: a dataclass with a card.
            card: what differs on the card (summary, paper ...).
            values: the parameters under this name.
        """
        changed = replace(factory.card, name=name, **(card or {}))  # type: ignore[attr-defined]
        self._enter(Entry(name, factory, values, changed, factory.__module__))

    def put(self, entry: Entry[T]) -> None:
        """Enter something made at run time, in place of what has its name."""
        self._entries[entry.name] = entry

    def _enter(self, entry: Entry[T]) -> None:
        known = self._entries.get(entry.name)
        if known is not None and _origin(known) != _origin(entry):
            raise XbenchError(
                f"Two {self.plural} are called '{entry.name}': one in {known.module}, "
                f"one in {entry.module}; rename one of them."
            )
        self._entries[entry.name] = entry

    def discover(self) -> None:
        """Import every file of the catalogue and every entry point, once."""
        if self._discovered:
            return
        self._discovered = True
        package = importlib.import_module(f"xbench.{self.plural}")
        for module in pkgutil.iter_modules(package.__path__):
            if not module.name.startswith("_"):
                name = f"xbench.{self.plural}.{module.name}"
                self._import(name, functools.partial(importlib.import_module, name))
        for point in importlib.metadata.entry_points(group=f"xbench.{self.plural}"):
            self._import(f"entry point {point.name}", point.load)

    def _import(self, name: str, load: Callable[[], object]) -> None:
        try:
            load()
        except XbenchError:
            raise
        except Exception as error:
            self.broken[name] = f"{type(error).__name__}: {error}"

    def entries(self) -> list[Entry[T]]:
        """Every entry, sorted by name."""
        self.discover()
        return [self._entries[name] for name in sorted(self._entries)]

    def __iter__(self) -> Iterator[Entry[T]]:
        return iter(self.entries())

    def __contains__(self, name: str) -> bool:
        self.discover()
        return name in self._entries

    def entry(self, name: str) -> Entry[T]:
        """The entry of that name.

        Raises:
            UnknownNameError: no such entry; the message offers the nearest names.
        """
        self.discover()
        if name in self._entries:
            return self._entries[name]
        near = difflib.get_close_matches(name, self._entries, n=3, cutoff=0.5)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise UnknownNameError(
            f"There is no {self.kind} '{name}'.{hint} `xbench {self.plural}` lists them all."
        )

    def create(self, text: str) -> Chosen[T]:
        """The instance that a name like `smoothgrad[n_samples=5]` describes.

        Raises:
            UnknownNameError: no such entry.
            ParameterError: an unknown parameter, or a value of the wrong kind.
        """
        head, argument, values = names.parse(text)
        entry = self.entry(head)
        settable = [f.name for f in fields(entry.factory)]
        if argument is not None:
            if not settable:
                raise ParameterError(f"'{head}' takes no argument after a colon.")
            values = {settable[0]: argument, **values}
        return self._build(entry, values, colon=argument is not None)

    def _build(self, entry: Entry[T], values: dict[str, names.Value], *, colon: bool) -> Chosen[T]:
        defaults = entry.parameters
        hints = typing.get_type_hints(entry.factory)
        for key, value in values.items():
            if key not in defaults:
                known = ", ".join(sorted(defaults)) or "no parameters"
                near = difflib.get_close_matches(key, defaults, n=1)
                hint = f" Did you mean {near[0]}?" if near else ""
                raise ParameterError(
                    f"The {self.kind} '{entry.name}' has no parameter '{key}'.{hint} "
                    f"It has: {known}."
                )
            values[key] = fit_value(value, hints[key], f"{entry.name}[{key}=...]")
        missing = [
            f.name
            for f in fields(entry.factory)
            if f.default is MISSING
            and f.default_factory is MISSING
            and f.name not in {**entry.preset, **values}
        ]
        if missing:
            raise ParameterError(
                f"The {self.kind} '{entry.name}' needs {missing[0]}; write {entry.name}:"
                f"{missing[0].upper()}."
            )
        full = {**defaults, **values}
        for f in fields(entry.factory):
            if f.metadata.get("later") and full[f.name] == f.default:
                del full[f.name]
        first = next(iter(defaults), "")
        shown = {k: v for k, v in values.items() if v != defaults[k] and not (colon and k == first)}
        argument = str(values[first]) if colon else None
        return Chosen(
            label=names.write(entry.name, shown, argument),
            identity=names.write(entry.name, full),
            value=entry.factory(**{**entry.preset, **values}),
            card=entry.card,
            entry=entry,
        )

    def adjust(self, chosen: Chosen[T], **values: names.Value) -> Chosen[T]:
        """The same entry with some parameters changed."""
        own = {f.name: getattr(chosen.value, f.name) for f in fields(chosen.entry.factory)}
        return self._build(chosen.entry, {**own, **values}, colon=False)

    def select(
        self, texts: str, groups: dict[str, Callable[[Entry[T]], bool]] | None = None
    ) -> list[Chosen[T]]:
        """The instances that a comma-separated list of names, globs and group words describes.

        Args:
            texts: for example `all`, `grad*`, `gradient,smoothgrad[n_samples=5]`, `all,-lrp_*`: a
                minus takes away what was chosen before it, a bare name with any parameters.
            groups: words that stand for the entries with some quality; `all` always works, and
                leaves out entries that need an argument.
        """
        chosen: dict[str, Chosen[T]] = {}
        groups = {"all": lambda entry: not _required(entry), **(groups or {})}
        for text in names.split(texts):
            if text.startswith("-"):
                chosen = self._without(chosen, self._meant(text[1:].strip(), groups))
                continue
            for name in self._meant(text, groups):
                one = self.create(name)
                chosen.setdefault(one.identity, one)
        if not chosen:
            raise UnknownNameError(f"No {self.kind} was chosen; `xbench {self.plural}` lists them.")
        return list(chosen.values())

    def _without(self, chosen: dict[str, Chosen[T]], texts: list[str]) -> dict[str, Chosen[T]]:
        for text in texts:
            name, argument, values = names.parse(text)
            entry = self.entry(name)
            if argument is None and not values:
                gone = {key for key, one in chosen.items() if one.entry is entry}
            else:
                gone = {self.create(text).identity}
            chosen = {key: one for key, one in chosen.items() if key not in gone}
        return chosen

    def _meant(self, text: str, groups: dict[str, Callable[[Entry[T]], bool]]) -> list[str]:
        """The names that a group word or a glob stands for; any other text itself."""
        if text in groups:
            return [entry.name for entry in self.entries() if groups[text](entry)]
        if not any(mark in text.partition("[")[0] for mark in "*?"):
            return [text]
        found = fnmatch.filter([entry.name for entry in self.entries()], text)
        if not found:
            raise UnknownNameError(
                f"No {self.kind} matches '{text}'; `xbench {self.plural}` lists them all."
            )
        return found


def _origin(entry: Entry[Any]) -> tuple[str, str]:
    """Where an entry was written; a file of one's own may be imported under several names."""
    file = getattr(sys.modules.get(entry.module), "__file__", None)
    return str(file or entry.module), entry.factory.__qualname__


def _required(entry: Entry[Any]) -> bool:
    return any(
        f.default is MISSING and f.default_factory is MISSING and f.name not in entry.preset
        for f in fields(entry.factory)
    )


def fit_value(value: names.Value, hint: Any, where: str) -> names.Value:
    """The value as the annotated type.

    Raises:
        ParameterError: it is of another kind; `where` says in the sentence which value.
    """
    options = typing.get_args(hint) if _is_union(hint) else (hint,)
    if type(value) in options or (value is None and type(None) in options):
        return value
    if float in options and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if str in options and value is not None:
        return str(value)
    for option in options:
        if typing.get_origin(option) is typing.Literal and value in typing.get_args(option):
            return value
    expected = " or ".join(
        "|".join(map(str, typing.get_args(option)))
        if typing.get_origin(option) is typing.Literal
        else getattr(option, "__name__", str(option)).replace("NoneType", "none")
        for option in options
    )
    raise ParameterError(f"{where} takes {expected}, not '{value}'.")


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


@functools.cache
def code_revision(factory: type) -> str:
    """Hash of all code that a method's maps depend on: the catalogue and the engine below it.

    The file of a method from elsewhere (an entry point, a user's own) is added.
    """
    digest = hashlib.sha256()
    own = getattr(sys.modules.get(factory.__module__), "__file__", None)
    if own is not None:
        digest.update(Path(own).read_bytes())
    engine = Path(__file__).parent
    folders = [engine / "classifier", engine / "operations", engine / "models"]
    folders += map(Path, importlib.import_module("xbench.methods").__path__)
    for folder in folders:
        for path in sorted(folder.glob("*.py")):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


METHODS: Registry[Method] = Registry("method", "methods")
METRICS: Registry[Metric | PairMetric] = Registry("metric", "metrics")
DATASETS: Registry[Dataset] = Registry("dataset", "datasets")
LEADERBOARDS: Registry[Board] = Registry("leaderboard", "leaderboards")
