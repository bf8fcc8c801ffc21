"""Opening the store of a run that goes on: damaged and foreign content is named and set aside."""

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from dataclasses import astuple
from pathlib import Path

from xbench.files import set_aside
from xbench.records import COLUMNS, KEY, DamagedError, Store, Unit, row_sum, text_of

_CURVE = ("image_id", "method", "metric", "repetition", "name", "points")
_NAMED = 3  # units named in one sentence


def open_checked(path: Path, identity: str, tell: Callable[[str], None]) -> Store:
    """The store of a run, ready to be written, without anything that cannot be trusted.

    Args:
        path: the file; it is made where it is missing.
        identity: says which run this is; kept in the store the first time.
        tell: given a sentence for everything that was set aside.

    Returns:
        The store. Units whose rows were damaged are not finished in it any more. A file that cannot
        be read, or is of another run, was renamed, and the store is a new one.

    Raises:
        RunError: the folder cannot be written.
    """
    try:
        store = Store(path)
        try:
            bad = _check(store, identity)
        except BaseException:
            store.close()
            raise
    except DamagedError as error:
        tell(f"{error} Set aside as {_set_aside(path).name}.")
        store = Store(path)
        bad = _check(store, identity)
    if bad:
        names = [f"{unit.method} {unit.metric} of chunk {unit.chunk}" for unit in bad[:_NAMED]]
        more = f" and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
        tell(
            f"The rows of {len(bad)} units in {path.name} are not what was written "
            f"({', '.join(names)}{more}); they are left out and computed again."
        )
    return store


def run_of(store: Store) -> str | None:
    """Which run a store is of, None if it was never said."""
    try:
        row = store.db.execute("SELECT value FROM about WHERE key='identity'").fetchone()
    except sqlite3.Error:
        return None
    return None if row is None else str(row[0])


def _check(store: Store, identity: str) -> list[Unit]:
    """Look over a store: its pages, whose it is, and the checksum of every unit."""
    try:
        (found,) = store.db.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise store.damaged(str(found).splitlines()[0])
        store.db.execute("INSERT OR IGNORE INTO about VALUES ('identity', ?)", (identity,))
        if run_of(store) != identity:
            raise store.damaged("it belongs to another run")
        bad = damaged_units(store)
        if bad:
            _drop(store, set(bad))
            if damaged_units(store):  # rows that their own key does not find
                raise store.damaged("its rows are out of order")
        return bad
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise store.trouble(error) from error


def damaged_units(store: Store) -> list[Unit]:
    """Units whose rows are not what was written, and units that rows claim but nobody finished.

    Raises:
        RunError: the store cannot be read.
    """
    rows = store.db.execute("SELECT * FROM units").fetchall()
    expected = {Unit(*row[:5]): row[5] for row in rows}
    sums: dict[Unit, int] = defaultdict(int, {unit: 0 for unit in expected})
    for unit, row in rows_of(store, "records", expected):
        sums[unit] += row_sum(row)
    for unit, row in rows_of(store, "curves", expected):
        sums[unit] += row_sum(row)
    bad = {unit for unit, total in sums.items() if text_of(total) != expected.get(unit)}
    return sorted(bad, key=lambda unit: (unit.chunk, unit.method, unit.other, unit.metric))


def _drop(store: Store, bad: Collection[Unit]) -> None:
    units = store.units() | set(bad)
    records = [row for unit, row in rows_of(store, "records", units) if unit in bad]
    curves = [row for unit, row in rows_of(store, "curves", units) if unit in bad]
    places = [COLUMNS.index(name) for name in KEY]
    store.db.execute("BEGIN IMMEDIATE")
    store.db.executemany(
        f"DELETE FROM records WHERE {' AND '.join(f'{name} IS ?' for name in KEY)}",
        [[row[place] for place in places] for row in records],
    )
    store.db.executemany(
        "DELETE FROM curves WHERE image_id IS ? AND method IS ? AND metric IS ? "
        "AND repetition IS ? AND name IS ?",
        [row[:5] for row in curves],
    )
    store.db.executemany(
        "DELETE FROM units WHERE method=? AND other=? AND metric=? AND chunk=? AND repetition=?",
        [astuple(unit) for unit in bad],
    )
    store.db.execute("COMMIT")


def rows_of(
    store: Store, table: str, units: Collection[Unit]
) -> Iterator[tuple[Unit, tuple[object, ...]]]:
    """Every row of records or curves with the unit that it says it is of."""
    labels = {unit.metric for unit in units}
    chunks = dict(store.db.execute("SELECT DISTINCT image_id, chunk FROM records"))
    for row in store.db.execute(f"SELECT * FROM {table}"):
        if table == "records":
            found = dict(zip(COLUMNS, row, strict=True))
            other, chunk = found["other"], found["chunk"]
        else:
            found = dict(zip(_CURVE, row, strict=True))
            other, chunk = "", chunks.get(found["image_id"], -1)
        metric = str(found["metric"])
        while metric not in labels and "/" in metric:  # a detail: metric/name
            metric = metric.rpartition("/")[0]
        yield Unit(found["method"], other, metric, chunk, found["repetition"]), row


def _set_aside(path: Path) -> Path:
    target = set_aside(path, "torn")
    for ending in ("-wal", "-shm"):  # a log without its store would be played into the next one
        beside = path.with_name(path.name + ending)
        if beside.exists():
            beside.rename(target.with_name(target.name + ending))
    return target
