"""Times methods and metrics against the limit and against peers; writes docs/speed.md.

Run from the root: `.venv/bin/python benchmarks/speed` (that is `make bench`).

    --only GLOB     rows whose name matches, printed and not written
    --rounds N      default 5
    --parts LIST    of limits, peers, sharing, memory; default all
    --device cuda   writes docs/speed-gpu.md
    --quick         one round on a tiny network, printed and not written: a trial of the harness
"""

import argparse
import fnmatch
import importlib
import logging
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import limits  # noqa: F401 - enters its rows
import memory
import page
import sharing
import tqdm
from bench import ROOT, Bench, Settings
from rows import ROWS, Outcome, Row, run_row

from xbench.allocator import keep_freed_memory

PARTS = ("limits", "peers", "sharing", "memory")


def main() -> None:
    """Measure and write."""
    asked = _arguments()
    parts = asked.parts.split(",")
    _quiet()
    keep_freed_memory()
    _load_peers()
    bench = Bench(Settings(asked.device, asked.quick))
    chosen = [row for row in ROWS if _wanted(row, parts, asked.only)]
    rounds = 1 if asked.quick else asked.rounds
    outcomes = _measured(chosen, bench, rounds)
    extras = [] if asked.only or asked.device != "cpu" else _extras(parts, asked.quick)
    for text in extras:
        print(text)
    if asked.out or not (asked.only or asked.quick or set(parts) != set(PARTS)):
        name = "speed.md" if asked.device == "cpu" else "speed-gpu.md"
        path = asked.out or ROOT / "docs" / name
        page.write(path, bench, outcomes, rounds, extras)
        print(f"wrote {path}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, prog="benchmarks/speed")
    parser.add_argument("--only", default="")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def _quiet() -> None:
    """Peers warn and draw progress bars; neither belongs into a table."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    original = tqdm.tqdm.__init__

    def silent(self: tqdm.tqdm, *args: object, **options: object) -> None:
        original(self, *args, **{**options, "disable": True})

    tqdm.tqdm.__init__ = silent


def _load_peers() -> None:
    """Enter the rows of each peer that can be imported."""
    for module in ("with_quantus", "with_captum", "with_gradcam"):
        try:
            importlib.import_module(module)
        except ImportError as error:
            print(f"{module}: {error}; its rows are left out", flush=True)


def _wanted(row: Row, parts: Sequence[str], only: str) -> bool:
    return f"{row.kind}s" in parts and fnmatch.fnmatch(row.name.lower(), only.lower() or "*")


def _measured(rows: Sequence[Row], bench: Bench, rounds: int) -> list[Outcome]:
    outcomes = []
    for number, row in enumerate(rows, start=1):
        start = time.perf_counter()
        outcomes.append(run_row(row, bench, rounds))
        seconds = time.perf_counter() - start
        print(f"[{number}/{len(rows)}, {seconds:.0f} s] {page.line(outcomes[-1])}", flush=True)
    return outcomes


def _extras(parts: Sequence[str], quick: bool) -> list[str]:
    texts = []
    if "sharing" in parts:
        methods = "gradient,gradcam,random" if quick else "all"
        texts.append(page.sharing(sharing.measure(methods)))
    if "memory" in parts:
        texts.append(page.memory(memory.measure(*((4, 8) if quick else (200, 2000)))))
    return texts


if __name__ == "__main__":
    main()
