"""Crash-safety: signals, locks, damaged parts, full disks, read-only folders."""

import errno
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest
from grids import TIMINGS, run_in, small_grid

from xbench import files
from xbench.checked_store import open_checked
from xbench.errors import RunError, StoppedError
from xbench.records import Store, read_frame
from xbench.running import session
from xbench.running.folder import RunFolder
from xbench.running.local import execute
from xbench.running.lock import NAME, RunLock
from xbench.running.maps import MapCache
from xbench.running.session import Run, Settings, run_grid
from xbench.running.stopping import resume_command

METHODS, METRICS = "gradient,gradcam,random", "deletion[steps=4],sparseness,iou"


@pytest.fixture(scope="module", autouse=True)
def _small_grids() -> Iterator[None]:
    """Runs are of a tiny network, built in no time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            session,
            "make_grid",
            lambda settings: small_grid(METHODS, METRICS, count=6, seed=settings.seed),
        )
        yield


class Signals:
    """Progress that sends this very process signals after some units."""

    def __init__(self, after: int, number: int, times: int = 1) -> None:
        self.left, self.number, self.times, self.steps = after, number, times, 0

    def start(self, total: int, done: int) -> None:
        """Nothing."""

    def step(self, what: str) -> None:
        """Count, and send."""
        self.steps += 1
        if self.steps == self.left:
            for _ in range(self.times):
                signal.raise_signal(self.number)


def settings(out: Path, **changed: object) -> Settings:
    command = ["xbench", "run", "--limit", "6"]
    return Settings(out=out, command=command, **changed)  # type: ignore[arg-type]


def records(run: Run) -> pd.DataFrame:
    return run.records.drop(columns=TIMINGS)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, _small_grids: None) -> Run:
    """The undisturbed run."""
    return run_grid(settings(tmp_path_factory.mktemp("whole") / "run"))


@pytest.fixture
def part(tmp_path: Path) -> Path:
    """A run that stopped after eleven units."""
    with pytest.raises(StoppedError):
        run_grid(settings(tmp_path / "part"), progress=Signals(11, signal.SIGINT))
    return tmp_path / "part"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_unit_and_says_how_to_go_on(
    whole: Run, tmp_path: Path, number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    progress = Signals(5, number)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(StoppedError) as caught:
        run_grid(settings(out), progress=progress)
    assert progress.steps == 5
    assert caught.value.exit_code == 128 + number
    assert f"xbench run --limit 6 --out {out} --resume" in str(caught.value)
    assert "after the unit in flight" in capfd.readouterr().err
    with closing(Store(out / "records.sqlite", readonly=True)) as store:
        assert len(store.units()) == 5
    assert signal.getsignal(signal.SIGINT) is before
    run = run_grid(settings(out, resume=True))
    assert run.tally is not None
    assert run.tally.kept == 5
    pd.testing.assert_frame_equal(records(whole), records(run))


def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    with pytest.raises(StoppedError, match=r"at once.*--resume") as caught:
        run_grid(settings(tmp_path / "run"), progress=Signals(2, signal.SIGINT, times=2))
    assert caught.value.exit_code == 130


def test_the_command_that_goes_on_is_complete() -> None:
    words = ["xbench", "run", "--out=here", "--resume"]
    assert resume_command(words, Path("here")) == "xbench run --out=here --resume"
    assert "resume=True" in resume_command(["xbench.run"], Path("here"))


def test_the_command_line_exits_as_shells_expect(tmp_path: Path) -> None:
    code = (
        "import signal, sys\n"
        "from xbench.running.local import Tally\n"
        "import xbench.running.making as making\n"
        "def execute(grid, store, cache, *, check, **_):\n"
        "    signal.raise_signal(signal.SIGTERM)\n"
        "    check()\n"
        "making.execute = execute\n"
        "from xbench.cli import main\n"
        "main()\n"
    )
    out = tmp_path / "a run"
    words = ("run", "--limit", "2", "--methods", "gradient", "--metrics", "sparseness",
             "--batch-size", "4", "--out", str(out))  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == 143, done.stderr
    assert f"--out '{out}' --resume" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_second_process_is_refused_and_a_killed_one_blocks_nobody(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from xbench.running.lock import RunLock\n"
        f"with RunLock(Path({str(tmp_path)!r})): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with (
            pytest.raises(RunError, match=rf"in use by process {holder.pid} on"),
            RunLock(tmp_path),
        ):
            pass
        holder.kill()
    assert (tmp_path / NAME).exists()  # it could not clean up
    with RunLock(tmp_path):
        assert json.loads((tmp_path / NAME).read_text())["pid"] == os.getpid()
        with pytest.raises(RunError, match="already runs"), RunLock(tmp_path):
            pass
    assert not (tmp_path / NAME).exists()


@pytest.mark.parametrize(
    ("card", "free"),
    [
        ({"pid": 2**22 + 1, "host": None}, True),  # nobody has this number
        ({"pid": 1, "host": None}, False),
        ({"pid": 1, "host": "another-host"}, False),
        ({}, True),
    ],
)
def test_without_locks_of_the_system_the_file_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, card: dict[str, object], free: bool
) -> None:
    monkeypatch.setattr("xbench.running.lock.fcntl", None)
    if card:
        host = card["host"] or os.uname().nodename
        (tmp_path / NAME).write_text(json.dumps({**card, "host": host}))
    if free:
        with RunLock(tmp_path):
            pass
        return
    with pytest.raises(RunError, match="in use by process 1"), RunLock(tmp_path):
        pass


def damage_pages(path: Path) -> None:
    content = bytearray((path / "records.sqlite").read_bytes())
    for start in range(4096, len(content), 4096):
        content[start : start + 64] = b"\xff" * 64
    (path / "records.sqlite").write_bytes(content)


def damage_head(path: Path) -> None:
    (path / "records.sqlite").write_bytes(b"no database at all" * 100)


def damage_end(path: Path) -> None:
    content = (path / "records.sqlite").read_bytes()
    (path / "records.sqlite").write_bytes(content[: len(content) // 2])


def damage_by_another_schema(path: Path) -> None:
    (path / "records.sqlite").unlink()
    with closing(sqlite3.connect(path / "records.sqlite")) as db:
        db.execute("CREATE TABLE records (a, b)")


def damage_by_another_run(path: Path) -> None:
    (path / "records.sqlite").unlink()
    open_checked(path / "records.sqlite", "of another run", print).close()


@pytest.mark.parametrize(
    "damage",
    [damage_pages, damage_head, damage_end, damage_by_another_schema, damage_by_another_run],
)
def test_a_damaged_store_is_set_aside(
    whole: Run, part: Path, damage: Callable[[Path], None]
) -> None:
    damage(part)
    broken = (part / "records.sqlite").read_bytes()
    told: list[str] = []
    run = run_grid(settings(part, resume=True), notice=told.append)
    assert len(told) == 1
    assert "Set aside as records.sqlite.torn." in told[0]
    assert (part / "records.sqlite.torn").stat().st_size == len(broken)
    assert run.tally is not None
    assert run.tally.kept == 0
    pd.testing.assert_frame_equal(records(whole), records(run))


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE records SET value = value + 1 WHERE method='gradcam' AND metric='sparseness'",
        "UPDATE records SET chunk = 7 WHERE method='gradcam' AND metric='sparseness'",
        "DELETE FROM records WHERE method='gradcam' AND metric='sparseness' AND chunk=0",
        "UPDATE curves SET points = zeroblob(40) WHERE method='gradcam'",
        "UPDATE units SET checksum = NULL WHERE method='gradcam'",
    ],
)
def test_changed_rows_are_named_and_computed_again(whole: Run, part: Path, change: str) -> None:
    with closing(sqlite3.connect(part / "records.sqlite", isolation_level=None)) as db:
        assert db.execute(change).rowcount > 0
    told: list[str] = []
    run = run_grid(settings(part, resume=True), notice=told.append)
    assert "gradcam" in told[0]
    assert "computed again" in told[0]
    assert run.tally is not None
    assert 0 < run.tally.kept < 11
    pd.testing.assert_frame_equal(records(whole), records(run))
    pd.testing.assert_frame_equal(whole.curves, run.curves)


def test_reading_a_damaged_store_is_one_sentence(part: Path) -> None:
    damage_pages(part)
    with pytest.raises(RunError, match="cannot be trusted"):
        read_frame(part / "records.sqlite")


def test_a_torn_manifest_is_written_anew_and_the_store_still_knows_its_run(
    whole: Run, part: Path
) -> None:
    manifest = part / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:200])
    with pytest.raises(RunError, match="cannot be read"):
        run_grid(settings(part))
    told: list[str] = []
    run = run_grid(settings(part, resume=True), notice=told.append)
    assert "manifest.json.torn" in told[0]
    pd.testing.assert_frame_equal(records(whole), records(run))
    manifest.write_bytes(b"{")
    run_grid(settings(part, resume=True, seed=5), notice=told.append)
    assert "another run" in told[2]  # the seed is of the manifest, whose store says no
    assert (part / "records.sqlite.torn").exists()


def test_foreign_and_torn_maps_are_not_read(whole: Run, part: Path) -> None:
    with closing(sqlite3.connect(part / "records.sqlite", isolation_level=None)) as db:
        db.execute("DELETE FROM units WHERE metric='sparseness'")  # so that maps are read again
    first, second = sorted(
        path for path in (part / "maps").glob("*.safetensors") if "images" not in path.name
    )[:2]
    first.write_bytes(second.read_bytes())
    content = bytearray(second.read_bytes())
    content[-3] ^= 64  # one bit of one pixel
    second.write_bytes(content)
    told: list[str] = []
    run = run_grid(settings(part, resume=True), notice=told.append)
    assert any(f"{first.name} are foreign" in text for text in told)
    assert any(f"{second.name} are torn" in text for text in told)
    pd.testing.assert_frame_equal(records(whole), records(run))


def test_leftovers_of_a_killed_process_do_not_block(whole: Run, tmp_path: Path) -> None:
    out = tmp_path / "run"
    (out / "maps").mkdir(parents=True)
    (out / "maps").rmdir()
    (out / ".manifest.json.77.tmp").write_text("{")
    (out / NAME).write_text("{")
    run = run_grid(settings(out))
    assert not list(out.glob(".*"))
    pd.testing.assert_frame_equal(records(whole), records(run))


def test_nothing_of_a_failed_write_stays(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail() -> None:
        with files.replacing(path) as temporary:
            temporary.write_text("new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert path.read_text() == "old"
    assert files.set_aside(path, "torn").name == "file.torn"
    path.write_text("again")
    assert files.set_aside(path, "torn").name == "file.torn-2"


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of half a megabyte; needs the right to mount."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=512k", "none", str(disk)]
    try:
        mounted = subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("mounting is not allowed here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_one_sentence_and_the_run_goes_on(whole: Run, tiny_disk: Path) -> None:
    with pytest.raises(RunError, match=r"units are kept|records are kept|cannot be") as caught:
        run_grid(settings(tiny_disk / "run"))
    assert caught.value.exit_code == 2
    assert str(caught.value).count("\n") == 0
    kept = 0
    if (tiny_disk / "run" / "records.sqlite").exists():
        with closing(Store(tiny_disk / "run" / "records.sqlite", readonly=True)) as store:
            kept = len(store.units())
    subprocess.run(["mount", "-o", "remount,size=64m", str(tiny_disk)], check=True)
    run = run_grid(settings(tiny_disk / "run", resume=True))
    assert run.tally is not None
    assert run.tally.kept == kept
    pd.testing.assert_frame_equal(records(whole), records(run))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_maps_and_texts_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(RunError, match="kept") as caught:
        run_in(tmp_path, small_grid())
    assert os.strerror(number) in str(caught.value)
    with pytest.raises(RunError, match="records are kept"):
        RunFolder(tmp_path).write_text(tmp_path / "report.html", "text")
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_store_that_cannot_be_written(tmp_path: Path) -> None:
    grid = small_grid("gradient", "sparseness", count=40, chunk=40)
    with closing(Store(tmp_path / "records.sqlite")) as store:
        store.db.execute("PRAGMA max_page_count=1")  # as on a full disk
        with pytest.raises(RunError, match=r"full.*finished units are kept.*--resume"):
            execute(grid, store, MapCache(tmp_path / "maps"))


def test_a_read_only_run_folder(whole: Run, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run_grid(settings(out))
    mounted = subprocess.run(
        ["mount", "--bind", str(out), str(out)], capture_output=True
    ).returncode
    if mounted:
        pytest.skip("mounting is not allowed here")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(out)], check=True)
        with pytest.raises(RunError, match=r"cannot be written.*is kept"):
            run_grid(settings(out, resume=True))
        pd.testing.assert_frame_equal(records(whole), records(Run(out)))
        assert len(Run(out).curves)
    finally:
        subprocess.run(["umount", str(out)], check=True)
