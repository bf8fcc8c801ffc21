"""Whatever is written to a store is what is read, and its checksums agree."""

from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from xbench import records as stores
from xbench.checked_store import damaged_units, open_checked
from xbench.records import COLUMNS, Curve, Record, Store, Unit, stored

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
NUMBER = st.floats(allow_nan=False)
COUNT = st.integers(-(2**63), 2**63 - 1)


@st.composite
def rows(draw: st.DrawFn) -> tuple[Unit, list[Record], list[Curve]]:
    """A unit of a few images with a detail, and curves."""
    label = draw(TEXT.filter(lambda text: "/" not in text))
    unit = Unit(draw(TEXT), draw(TEXT), label, draw(st.integers(0, 9)))
    images = draw(st.lists(TEXT, min_size=1, max_size=4, unique=True))
    records = [
        Record(
            *(draw(TEXT), image, draw(COUNT), draw(TEXT), unit.method, unit.other),
            *(metric, 0, draw(st.none() | NUMBER), "ok", draw(TEXT)),
            *(draw(NUMBER), draw(NUMBER), draw(NUMBER), draw(NUMBER), draw(NUMBER)),
            *(draw(COUNT), draw(COUNT), draw(NUMBER), unit.chunk),
        )
        for image in images
        for metric in (label, f"{label}/detail")
    ]
    points = st.lists(st.floats(), max_size=5)
    curves = [Curve(i, unit.method, label, 0, draw(TEXT), draw(points)) for i in images]
    return unit, records, curves if unit.other == "" else []


@settings(max_examples=60)
@given(rows())
def test_what_is_written_is_what_is_read(found: tuple[Unit, list[Record], list[Curve]]) -> None:
    unit, records, curves = found
    with TemporaryDirectory() as folder:
        path = Path(folder) / "records.sqlite"
        with closing(open_checked(path, "run", print)) as store:
            store.write(unit, records, curves)
            store.write(unit, records, curves)  # a unit that is written again replaces itself
        with closing(Store(path, readonly=True)) as store:
            assert damaged_units(store) == []
            assert store.units() == {unit}
            read = list(store.db.execute("SELECT * FROM records"))
            assert sorted(map(repr, read)) == sorted(repr(stored(record)) for record in records)
            assert len(store.curves()) == len(curves)
            frame = store.frame()
        assert list(frame.columns) == list(COLUMNS)
        assert isinstance(frame, pd.DataFrame)


def test_records_read_in_parts_are_those_read_at_once(tmp_path: Path, monkeypatch) -> None:
    unit = Unit("m", "", "deletion", 0)
    written = [
        Record(
            *("data", f"image {i}", i, "net", "m", "", "deletion", 0),
            *(None if i < 4 else i / 3, "ok", "", 1.0, 2.0, 0.0, 0.5, 0.0, i, i, 0.25, 0),
        )
        for i in range(10)
    ]
    with closing(open_checked(tmp_path / "records.sqlite", "run", print)) as store:
        store.write(unit, written, [])
        whole = store.frame()
        monkeypatch.setattr(stores, "READ_AT_ONCE", 3)  # the first part has no values at all
        pd.testing.assert_frame_equal(store.frame(), whole)
        assert list(store.frame_of(0).index) == list(range(10))
        assert len(store.frame_of(7)) == 0
