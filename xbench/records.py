"""The run store: SQLite in write-ahead mode, one transaction a finished unit, the identity as key.

A kill at any moment loses at most the unit in flight; writing a unit again replaces its rows.
"""

import sqlite3
import struct
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import pandas as pd

from xbench.contracts import Status
from xbench.errors import RunError

KEY = ("task", "image_id", "target", "model", "method", "other", "metric", "repetition")


@dataclass(frozen=True)
class Record:
    """One row: image x method x metric.

    Attributes:
        task: the dataset as written, with its parameters.
        image_id: identifier of the image in its source.
        target: the class explained.
        model: the classifier as written, `@` and its weights hash.
        method: label of the method.
        other: the second method of a pairwise metric, else "".
        metric: label of the metric; `label/detail` for its secondary values; "explain" for the
            row that says how the map came about, with the number of model calls as its value.
        repetition: which repetition of a stochastic measurement.
        value: the score, None unless status is ok.
        status: ok, undefined, unsupported, invalid or error.
        reason: why there is no value, a sentence.
        forwards, backwards, tails: images passed through the network for this row.
        seconds: wall-clock time of this row (an equal share of its batch).
        peak_mb: peak device memory of the batch, 0 where it is not measured.
        label: the true class, -1 unknown.
        predicted: the classifier's top class on the clean image.
        confidence: its softmax probability.
        chunk: which batch of the plan the image was in.
    """

    task: str
    image_id: str
    target: int
    model: str
    method: str
    other: str
    metric: str
    repetition: int
    value: float | None
    status: Status
    reason: str
    forwards: float
    backwards: float
    tails: float
    seconds: float
    peak_mb: float
    label: int
    predicted: int
    confidence: float
    chunk: int


COLUMNS = tuple(f.name for f in fields(Record))
_TYPES = {"str": "TEXT", "int": "INTEGER", "float": "REAL", "float | None": "REAL"}


@dataclass(frozen=True)
class Curve:
    """A series that belongs to a record: same identity, a name, and the values."""

    image_id: str
    method: str
    metric: str
    repetition: int
    name: str
    values: Sequence[float]


@dataclass(frozen=True)
class Unit:
    """A finished unit of work: one metric of one method (or pair) on one chunk of images."""

    method: str
    other: str
    metric: str
    chunk: int
    repetition: int = 0


class Store:
    """The records of one run; only one process writes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._db = sqlite3.connect(path, timeout=30, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._create()
        except sqlite3.Error as error:
            raise RunError(
                f"The run store {path} cannot be opened ({error}); choose another --out, or move "
                "the file away to start anew."
            ) from error

    def _create(self) -> None:
        columns = ", ".join(
            f"{f.name} {_TYPES.get(_type_name(f.type), 'TEXT')}" for f in fields(Record)
        )
        self._db.execute(
            f"CREATE TABLE IF NOT EXISTS records ({columns}, PRIMARY KEY ({', '.join(KEY)})) "
            "WITHOUT ROWID"
        )
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS curves (image_id TEXT, method TEXT, metric TEXT, "
            "repetition INTEGER, name TEXT, points BLOB, "
            "PRIMARY KEY (method, metric, name, image_id, repetition)) WITHOUT ROWID"
        )
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS units (method TEXT, other TEXT, metric TEXT, "
            "chunk INTEGER, repetition INTEGER, "
            "PRIMARY KEY (method, other, metric, chunk, repetition)) WITHOUT ROWID"
        )

    def write(self, unit: Unit, records: Iterable[Record], curves: Iterable[Curve] = ()) -> None:
        """Write a finished unit in one transaction.

        Raises:
            RunError: the disk is full or the folder cannot be written; earlier units are kept.
        """
        marks = ", ".join("?" * len(COLUMNS))
        packed = [(*astuple(c)[:5], struct.pack(f"<{len(c.values)}d", *c.values)) for c in curves]
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(
                f"INSERT OR REPLACE INTO records VALUES ({marks})", map(astuple, records)
            )
            self._db.executemany("INSERT OR REPLACE INTO curves VALUES (?, ?, ?, ?, ?, ?)", packed)
            self._db.execute("INSERT OR REPLACE INTO units VALUES (?, ?, ?, ?, ?)", astuple(unit))
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise RunError(
                f"{self.path} cannot be written ({error}); all finished units are kept: free some "
                "space or make the folder writable, then run the same command with --resume."
            ) from error

    def units(self) -> set[Unit]:
        """Every finished unit."""
        rows = self._db.execute("SELECT method, other, metric, chunk, repetition FROM units")
        return {Unit(*row) for row in rows}

    def frame(self) -> pd.DataFrame:
        """All records, sorted by identity, one typed column a field."""
        return _typed(
            pd.read_sql_query(f"SELECT * FROM records ORDER BY {', '.join(KEY)}", self._db)
        )

    def curves(self) -> pd.DataFrame:
        """All curves: image_id, method, metric, repetition, name, points (a list)."""
        frame = pd.read_sql_query(
            "SELECT * FROM curves ORDER BY metric, name, method, image_id, repetition", self._db
        )
        frame["points"] = [list(struct.unpack(f"<{len(p) // 8}d", p)) for p in frame["points"]]
        return frame

    def close(self) -> None:
        """Close the database, its write-ahead log merged in."""
        self._db.close()


def read_frame(path: Path) -> pd.DataFrame:
    """The records of a run store that nobody needs to write.

    Raises:
        RunError: no run store there.
    """
    if not path.is_file():
        raise RunError(f"There is no run store at {path}; give the folder that `xbench run` wrote.")
    with closing(Store(path)) as store:
        return store.frame()


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    kinds = {"str": "str", "int": "int64", "float": "float64", "float | None": "float64"}
    return frame.astype({f.name: kinds.get(_type_name(f.type), "str") for f in fields(Record)})


def _type_name(kind: object) -> str:
    return kind if isinstance(kind, str) else getattr(kind, "__name__", str(kind))
