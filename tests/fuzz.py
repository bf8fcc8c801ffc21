"""Hostile files by mutation: images, manifests, tables, settings, parts of a run; `make fuzz`.

Every input is a good file that was cut, spliced, bit-flipped or filled with junk. It may be
refused with a sentence (an XbenchError), or it may be read; then what was read has to be right.
Anything else, or more than a minute, is a failure, and its bytes are kept in fuzz_corpus/.
"""

import argparse
import io
import json
import random
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import torch
import typer
from grids import run_in, small_grid
from PIL import Image
from xbench.datasets.folders import Images
from xbench.datasets.table import Table

from xbench.checked_store import open_checked
from xbench.cli import app
from xbench.cli.configuration import START, read_configuration
from xbench.contracts import Geometry, Source
from xbench.errors import XbenchError
from xbench.records import read_frame
from xbench.running.deadline import within
from xbench.running.folder import RunFolder, identity_of
from xbench.running.manifest import build
from xbench.running.maps import MapCache
from xbench.running.sharding import merge

CORPUS = Path(__file__).parent / "fuzz_corpus"
GEOMETRY = Geometry((16, 16), 18)
LIMIT = 60.0  # seconds an input may take; a busy machine is no hang
JUNK = (
    *(b"", b"\0", b"\xff\xfe", b"=cmd()", b"<script>", b"../../etc/passwd", b"1e999", b"NaN"),
    *(b"-1", b'"', b"\n", b",", b"{", b"]", b"99999999999999999999", "\u202e".encode()),
)


def mutated(content: bytes, draws: random.Random) -> bytes:
    """A few random wounds."""
    data = bytearray(content)
    for _ in range(draws.choice((1, 1, 1, 2, 5, 20))):
        place = draws.randrange(len(data) + 1)
        match draws.randrange(6):
            case 0 if data:
                data[place % len(data)] ^= 1 << draws.randrange(8)
            case 1:
                del data[place:]
            case 2:
                data[place:place] = draws.choice(JUNK)
            case 3:
                end = min(len(data), place + draws.randrange(1, 64))
                data[place:end] = draws.randbytes(end - place)
            case 4:
                del data[place : place + draws.randrange(1, 64)]
            case _:
                other = draws.randrange(len(data) + 1)
                data[place:place] = data[other : other + draws.randrange(1, 256)]
    return bytes(data)


class Targets:
    """Good files of every kind, and what reads them; each reader is given a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.grid = small_grid("gradient,random", "deletion[steps=4],iou", count=4)
        self.run = folder / "run"
        run_in(self.run, self.grid)
        manifest = build(self.grid, ["xbench", "run"])
        RunFolder(self.run).write_json(self.run / "manifest.json", manifest)
        self.identity = identity_of(manifest)
        open_checked(self.run / "records.sqlite", self.identity, print).close()
        self.records = read_frame(self.run / "records.sqlite").astype(str).apply(tuple, axis=1)
        self.known = set(self.records)
        self.shard = next(p for p in (self.run / "maps").iterdir() if "images" not in p.name)
        loaded = MapCache(self.run / "maps").load(self.shard.stem, torch.device("cpu"))
        assert loaded is not None
        self.maps = loaded[0]
        self.seeds: dict[str, list[bytes]] = {
            "image": pictures(),
            "manifest": [(self.run / "manifest.json").read_bytes()],
            "csv": [
                b"path,label,mask\na.png,0,m.png\nb.png,1,\n",
                b"path;label\na.png;cat\nb.png;dog\n",
            ],
            "toml": [START.encode()],
            "store": [(self.run / "records.sqlite").read_bytes()],
            "shard": [self.shard.read_bytes()],
        }
        self.readers: dict[str, Callable[[bytes, Path], None]] = {
            "image": self.image,
            "manifest": self.manifest,
            "csv": self.csv,
            "toml": self.toml,
            "store": self.store,
            "shard": self.part,
        }

    def image(self, content: bytes, folder: Path) -> None:
        (folder / "a.png").write_bytes(content)
        check_pixels(Images(str(folder)).open(GEOMETRY, limit=None, seed=0))

    def csv(self, content: bytes, folder: Path) -> None:
        for name in ("a.png", "b.png", "m.png"):
            (folder / name).write_bytes(self.seeds["image"][0])
        (folder / "t.csv").write_bytes(content)
        source = Table(file=str(folder / "t.csv")).open(GEOMETRY, limit=None, seed=0)
        check_pixels(source)
        assert all(isinstance(label, int) and label >= -1 for label in source.labels)

    def manifest(self, content: bytes, folder: Path) -> None:
        (folder / "manifest.json").write_bytes(content)
        shutil.copy(self.run / "records.sqlite", folder)
        found = RunFolder(folder).manifest()
        if identity_of(found) != self.identity:
            try:
                merge(folder / "joined", [self.run, folder])
            except XbenchError:
                return
            raise AssertionError("a run of another identity was joined")

    def toml(self, content: bytes, folder: Path) -> None:
        if b"catalogue" in content and b"# catalogue" not in content:
            return  # that is code of one's own, which runs as asked
        path = folder / "bench.toml"
        path.write_bytes(content)
        command = typer.main.get_command(app).commands["run"]  # type: ignore[attr-defined]
        context = click.Context(command)
        try:
            read_configuration(context, path)  # type: ignore[arg-type]
        except (click.UsageError, typer.Exit):
            return

    def store(self, content: bytes, folder: Path) -> None:
        path = folder / "records.sqlite"
        path.write_bytes(content)
        open_checked(path, self.identity, lambda text: None).close()
        found = read_frame(path).astype(str).apply(tuple, axis=1)
        assert set(found) <= self.known, "a wrong record was accepted"

    def part(self, content: bytes, folder: Path) -> None:
        (folder / self.shard.name).write_bytes(content)
        found = MapCache(folder).load(self.shard.stem, torch.device("cpu"))
        assert found is None or torch.equal(found[0], self.maps), "wrong maps were accepted"

    def read(self, kind: str, content: bytes) -> str:
        """`read`, `refused`, or the traceback of a failure."""
        with tempfile.TemporaryDirectory() as folder:
            try:
                within(LIMIT, lambda: self.readers[kind](content, Path(folder)))
            except XbenchError as error:
                if "--cell-seconds" in str(error):
                    return f"hung for {LIMIT} seconds"
                return "refused" if "\n" not in str(error).strip() else f"not one line: {error}"
            except Exception:
                return traceback.format_exc()
        return "read"


def pictures() -> list[bytes]:
    noise = random.Random(0).randbytes(20 * 24 * 3)
    image = Image.frombytes("RGB", (24, 20), noise)
    found = []
    forms = [(name, "RGB") for name in ("PNG", "JPEG", "BMP", "WEBP", "TIFF")]
    forms += [("GIF", "P"), ("PNG", "RGBA"), ("PNG", "I;16"), ("JPEG", "CMYK")]
    for form, mode in forms:
        buffer = io.BytesIO()
        one = image.convert("I").convert("I;16") if mode == "I;16" else image.convert(mode)
        one.save(buffer, form)
        found.append(buffer.getvalue())
    return found


def check_pixels(source: Source) -> None:
    samples = source.read(range(len(source)))
    assert samples.images.shape == (len(source), 3, 16, 16)
    assert samples.images.dtype == torch.float32
    assert bool(((samples.images >= 0) & (samples.images <= 1)).all())


def corpus() -> list[Path]:
    return sorted(CORPUS.glob("*-*.bin"))


def fuzz(inputs: int, seed: int) -> dict[str, Any]:
    """Try so many inputs; failures are kept."""
    torch.set_num_threads(1)
    counts: Counter[str] = Counter()
    failures = []
    start, slowest = time.monotonic(), 0.0
    with tempfile.TemporaryDirectory() as folder:
        targets = Targets(Path(folder))
        for number in range(inputs):
            draws = random.Random(f"{seed}-{number}")
            kind = list(targets.seeds)[number % len(targets.seeds)]
            content = mutated(draws.choice(targets.seeds[kind]), draws)
            began = time.monotonic()
            said = targets.read(kind, content)
            slowest = max(slowest, time.monotonic() - began)
            if said not in ("read", "refused"):
                CORPUS.mkdir(exist_ok=True)
                path = CORPUS / f"{kind}-{seed}-{number}.bin"
                path.write_bytes(content)
                failures.append({"input": path.name, "said": said})
                said = "failed"
            counts[f"{kind}: {said}"] += 1
    return {
        "inputs": inputs,
        "seed": seed,
        "counts": dict(sorted(counts.items())),
        "failures": failures,
        "slowest_seconds": round(slowest, 3),
        "seconds": round(time.monotonic() - start, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    warnings.simplefilter("ignore")  # Pillow says what is odd about a file that it reads
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    found = fuzz(chosen.inputs, chosen.seed)
    for failure in found["failures"]:
        print(failure["input"], failure["said"], sep="\n", file=sys.stderr)
    print(json.dumps({**found, "failures": len(found["failures"])}))
    raise SystemExit(bool(found["failures"]))


if __name__ == "__main__":
    main()
