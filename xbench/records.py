"""The run store: SQLite in write-ahead mode, one transaction a finished unit, the identity as key.

A kill at any moment loses at most the unit in flight; writing a unit again replaces its rows. Every
unit carries a checksum of its rows; a store that is damaged or of another run is set aside.
"""

import hashlib
import sqlite3
import struct
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

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
READ_AT_ONCE = 20_000
"""Rows read before they become typed columns, which take a small part of their memory."""
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


class DamagedError(RunError):
    """A store that SQLite cannot read, that is no run store, or that is one of another run."""


class Store:
    """The records of one run; only one process writes.

    Args:
        path: the file; it is made where it is missing.
        readonly: change nothing, not even the files beside it; the file has to be there.

    Raises:
        DamagedError: the file is torn or no run store.
        RunError: it cannot be opened or written.
    """

    def __init__(self, path: Path, *, readonly: bool = False) -> None:
        self.path = path
        try:
            self.db = _connect_readonly(path) if readonly else self._connect()
            self.db.text_factory = _text
            found = tuple(row[1] for row in self.db.execute("PRAGMA table_info(records)"))
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise self.trouble(error) from error
        if found != COLUMNS:
            raise self.damaged("it has other columns than a run store")

    def _connect(self) -> sqlite3.Connection:
        self.db = sqlite3.connect(self.path, timeout=30, isolation_level=None)
        self.db.execute("PRAGMA journal_mode=WAL")
        self.db.execute("PRAGMA synchronous=NORMAL")
        columns = ", ".join(
            f"{f.name} {_TYPES.get(_type_name(f.type), 'TEXT')}" for f in fields(Record)
        )
        self.db.execute(
            f"CREATE TABLE IF NOT EXISTS records ({columns}, PRIMARY KEY ({', '.join(KEY)})) "
            "WITHOUT ROWID"
        )
        self.db.execute(
            "CREATE TABLE IF NOT EXISTS curves (image_id TEXT, method TEXT, metric TEXT, "
            "repetition INTEGER, name TEXT, points BLOB, "
            "PRIMARY KEY (method, metric, name, image_id, repetition)) WITHOUT ROWID"
        )
        self.db.execute(
            "CREATE TABLE IF NOT EXISTS units (method TEXT, other TEXT, metric TEXT, "
            "chunk INTEGER, repetition INTEGER, checksum TEXT, "
            "PRIMARY KEY (method, other, metric, chunk, repetition)) WITHOUT ROWID"
        )
        self.db.execute("CREATE TABLE IF NOT EXISTS about (key TEXT PRIMARY KEY, value TEXT)")
        return self.db

    def damaged(self, reason: str) -> DamagedError:
        """The error of a store whose content cannot be trusted."""
        return DamagedError(
            f"The run store {self.path} cannot be trusted ({reason}); run the same command with "
            "--resume: it sets the file aside and computes its records again."
        )

    def trouble(self, error: Exception) -> RunError:
        """What an error of SQLite means: damaged content, or a folder that cannot be used."""
        if isinstance(error, sqlite3.OperationalError) or not isinstance(
            error, sqlite3.DatabaseError | struct.error | UnicodeDecodeError
        ):
            return RunError(
                f"The run store {self.path} cannot be used ({error}); all finished units are kept: "
                "free some space or make the folder writable, then run the same command with "
                "--resume."
            )
        return self.damaged(str(error))

    def write(self, unit: Unit, records: Iterable[Record], curves: Iterable[Curve] = ()) -> None:
        """Write a finished unit in one transaction.

        Raises:
            RunError: the disk is full or the folder cannot be written; earlier units are kept.
        """
        rows = [stored(record) for record in records]
        packed = [(*astuple(c)[:5], struct.pack(f"<{len(c.values)}d", *c.values)) for c in curves]
        self.write_rows(unit, rows, packed)

    def write_rows(
        self, unit: Unit, rows: Sequence[Sequence[object]], curves: Sequence[Sequence[object]]
    ) -> None:
        """Write a finished unit whose rows have the form that the tables have.

        Raises:
            RunError: the disk is full or the folder cannot be written; earlier units are kept.
        """
        marks = ", ".join("?" * len(COLUMNS))
        checksum = text_of(sum(map(row_sum, rows)) + sum(map(row_sum, curves)))
        try:
            self.db.execute("BEGIN IMMEDIATE")
            self.db.executemany(f"INSERT OR REPLACE INTO records VALUES ({marks})", rows)
            self.db.executemany("INSERT OR REPLACE INTO curves VALUES (?, ?, ?, ?, ?, ?)", curves)
            self.db.execute(
                "INSERT OR REPLACE INTO units VALUES (?, ?, ?, ?, ?, ?)",
                (*astuple(unit), checksum),
            )
            self.db.execute("COMMIT")
        except sqlite3.Error as error:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            raise self.trouble(error) from error

    def copy(self, source: "Store") -> None:
        """Take over everything that another store of the same run holds, in one transaction.

        Raises:
            RunError: the disk is full or the folder cannot be written.
        """
        try:
            self.db.execute("BEGIN IMMEDIATE")
            for table in ("records", "curves", "units"):
                found = source.db.execute(f"SELECT * FROM {table}")
                marks = ", ".join("?" * len(found.description))
                self.db.executemany(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", found)
            self.db.execute("COMMIT")
        except sqlite3.Error as error:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            raise self.trouble(error) from error

    def units(self) -> set[Unit]:
        """Every finished unit."""
        rows = self.db.execute("SELECT method, other, metric, chunk, repetition FROM units")
        return {Unit(*row) for row in rows}

    def verdict(self, unit: Unit) -> tuple[Status, str]:
        """Status and reason of a finished unit, as they stand in its first row."""
        row = self.db.execute(
            "SELECT status, reason FROM records WHERE method=? AND other=? AND metric=? "
            "AND chunk=? AND repetition=?",
            astuple(unit),
        ).fetchone()
        return ("ok", "") if row is None else (row[0], row[1])

    def frame(self) -> pd.DataFrame:
        """All records, sorted by identity, one typed column a field.

        Raises:
            DamagedError: pages of the file are torn.
        """
        return self._read("", ())

    def _read(self, where: str, values: tuple[int, ...]) -> pd.DataFrame:
        query = f"SELECT * FROM records {where} ORDER BY {', '.join(KEY)}"
        try:
            parts = pd.read_sql_query(query, self.db, params=values, chunksize=READ_AT_ONCE)
            return pd.concat([_typed(part) for part in parts], ignore_index=True)
        except (sqlite3.Error, pd.errors.DatabaseError, ValueError, TypeError) as error:
            raise self.damaged(str(error)) from error

    def frame_of(self, chunk: int) -> pd.DataFrame:
        """The records of one chunk, as `frame` gives them.

        Raises:
            DamagedError: pages of the file are torn.
        """
        return self._read("WHERE chunk = ?", (chunk,))

    def curves(self) -> pd.DataFrame:
        """All curves: image_id, method, metric, repetition, name, points (a list).

        Raises:
            DamagedError: pages of the file are torn.
        """
        try:
            frame = pd.read_sql_query(
                "SELECT * FROM curves ORDER BY metric, name, method, image_id, repetition", self.db
            )
            frame["points"] = [list(struct.unpack(f"<{len(p) // 8}d", p)) for p in frame["points"]]
        except (sqlite3.Error, pd.errors.DatabaseError, struct.error, TypeError) as error:
            raise self.damaged(str(error)) from error
        return frame

    def close(self) -> None:
        """Close the database, its write-ahead log merged in."""
        self.db.close()


def _text(content: bytes) -> str:
    """Text of a store; bytes that are no text stay visible, so that their checksum fails."""
    return content.decode(errors="backslashreplace")


def _connect_readonly(path: Path) -> sqlite3.Connection:
    """Read a store without touching it, also where its folder cannot be written."""
    address = path.resolve().as_uri()
    db = sqlite3.connect(f"{address}?mode=ro", uri=True, timeout=30, isolation_level=None)
    try:
        db.execute("SELECT count(*) FROM sqlite_master")
    except sqlite3.OperationalError:
        log = path.with_name(f"{path.name}-wal")
        if log.exists() and log.stat().st_size:
            raise  # what the log holds would be missed
        db.close()
        db = sqlite3.connect(f"{address}?immutable=1", uri=True, isolation_level=None)
    return db


def read_frame(path: Path) -> pd.DataFrame:
    """The records of a run store that nobody needs to write.

    Raises:
        RunError: no run store there.
    """
    if not path.is_file():
        raise RunError(f"There is no run store at {path}; give the folder that `xbench run` wrote.")
    with closing(Store(path, readonly=True)) as store:
        return store.frame()


def stored(record: Record) -> tuple[object, ...]:
    """A record as its table gives it back: numbers of its columns' types, no negative zeros."""
    return tuple(
        _stored(value, _type_name(f.type))
        for f, value in zip(fields(Record), astuple(record), strict=True)
    )


def _stored(value: Any, kind: str) -> object:
    if value is None:
        return None
    if kind.startswith("float"):
        return float(value) + 0.0
    return int(value) if kind == "int" else str(value)


def row_sum(row: Sequence[object]) -> int:
    """A checksum of one row; those of a unit are added, so that their order plays no part."""
    return int.from_bytes(hashlib.blake2b(repr(tuple(row)).encode(), digest_size=16).digest())


def text_of(total: int) -> str:
    """A sum of row checksums as it stands in the table of units."""
    return f"{total % 2**128:032x}"


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    kinds = {"str": "str", "int": "int64", "float": "float64", "float | None": "float64"}
    return frame.astype({f.name: kinds.get(_type_name(f.type), "str") for f in fields(Record)})


def _type_name(kind: object) -> str:
    return kind if isinstance(kind, str) else getattr(kind, "__name__", str(kind))
