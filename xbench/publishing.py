"""Publishing a board: a small folder that others can read, compare with and check.

manifest.json        the run's manifest, and what was published
cells.parquet        one row per image x method x metric that the board is judged from
leaderboard.csv, leaderboard.md, leaderboard.json
page.html            the report of the board, without pictures of maps
"""

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from xbench.contracts import Board
from xbench.errors import ParameterError, RunError
from xbench.report.findings import Findings
from xbench.report.html import PUBLISHED, render
from xbench.report.structured import structured
from xbench.report.tables import csv_text, markdown
from xbench.running.folder import RunFolder
from xbench.running.session import Run
from xbench.statistics.boards import board_row, board_rows, boards_of
from xbench.statistics.leaderboard import Leaderboard, build_leaderboard
from xbench.statistics.ranking import wanted
from xbench.statistics.table import metric_infos

FORMAT = 1
CELLS = "cells.parquet"
PAGE = "page.html"
PAIRS = 100_000
"""Rows of pairwise metrics up to which they are published image by image."""


@dataclass(frozen=True)
class Published:
    """A published board, opened.

    Attributes:
        path: its folder.
        manifest: of the run, with what was published under `published`.
        cells: the records that the board is judged from.
    """

    path: Path
    manifest: dict[str, Any]
    cells: pd.DataFrame

    @property
    def board(self) -> Board:
        """The board, as it was when it was published."""
        name = self.manifest["published"]["board"]
        return next(board for board in boards_of(self.manifest) if board.card.name == name)

    def leaderboard(self) -> Leaderboard:
        """The board judged anew from the cells."""
        return build_leaderboard(self.cells, self.manifest, _columns(self.board))


def publish(run: Run, board: str, into: Path, *, name: str | None = None) -> Path:
    """Publish a board of a finished run.

    Args:
        run: a finished run.
        board: the board's name.
        into: the folder that holds published boards.
        name: of the new folder, default the board's name; a published board there is replaced.

    Returns:
        the folder.

    Raises:
        UnknownNameError: there is no such board.
        RunError: the run is not finished, or the folder cannot be written or holds something else.
    """
    target = into / _folder_name(name or board)
    manifest, records = _with_board(run.manifest, board), run.records
    _finished(manifest, records)
    chosen = next(one for one in boards_of(manifest) if one.card.name == board)
    cells, left_out = board_cells(records, manifest, chosen)
    if target.exists() and not _is_published(target):
        raise RunError(f"{target} is there and is no published board; choose another --name.")
    temporary = into / f".{target.name}.{os.getpid()}.tmp"
    try:
        temporary.mkdir(parents=True)
        cells.to_parquet(temporary / CELLS, index=False, compression="zstd")
        manifest["published"] = {
            "format": FORMAT,
            "board": board,
            "cells": len(cells),
            "sha256": hashlib.sha256((temporary / CELLS).read_bytes()).hexdigest(),
            "left_out": left_out,
        }
        RunFolder(temporary).write_json(temporary / "manifest.json", manifest)
        _write_tables(open_published(temporary))
        _swap(temporary, target)
    except OSError as error:
        raise RunError(
            f"{target} cannot be written ({error.strerror or error}); choose another folder with "
            "--into."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def open_published(path: Path | str) -> Published:
    """A published board.

    Raises:
        RunError: there is none, or its cells were changed.
    """
    folder = Path(path)
    manifest = RunFolder(folder).manifest()
    if "published" not in manifest or not (folder / CELLS).is_file():
        raise RunError(f"{folder} is no published board; `xbench publish` makes one from a run.")
    content = (folder / CELLS).read_bytes()
    if hashlib.sha256(content).hexdigest() != manifest["published"]["sha256"]:
        raise RunError(f"{folder / CELLS} is not the file that was published; fetch it again.")
    return Published(folder, manifest, pd.read_parquet(folder / CELLS))


def board_cells(
    records: pd.DataFrame, manifest: dict[str, Any], board: Board
) -> tuple[pd.DataFrame, list[str]]:
    """The records that a board is judged from, and what was left out, one sentence each.

    The board's metrics, the gates' metrics with their secondary values, the faithfulness metrics
    (on which controls have to be beaten), the cost of maps, and every invalid cell.
    """
    known = metric_infos(manifest)
    columns = _columns(board)
    shown = [info for info in known if columns is None or wanted(info, board.card)]
    gates = [info for info in known if info.gate or info.property == "faithfulness"]
    left_out = []
    pairs = {info.label for info in shown if info.pairwise}
    count = int(records["metric"].isin(pairs).sum())
    if count > PAIRS:
        shown = [info for info in shown if not info.pairwise]
        left_out.append(
            f"{', '.join(sorted(pairs))}: {count:,} rows of pairs of methods are in the run alone."
        )
    kept = {"explain", *(info.label for info in (*shown, *gates))}
    detailed = {info.label for info in gates if info.gate}
    fine = records["metric"].isin(kept) | (records["status"] == "invalid")
    fine |= records["metric"].str.partition("/")[0].isin(detailed)
    return records[fine].reset_index(drop=True), left_out


def _columns(board: Board) -> Board | None:
    """The overall board shows all metrics of a run, as at the end of a run."""
    return None if board.card.name == "overall" else board


def _with_board(manifest: dict[str, Any], board: str) -> dict[str, Any]:
    """The manifest with the board among those that it keeps; a run may be older than a board."""
    if any(one.card.name == board for one in boards_of(manifest)):
        return manifest
    return {**manifest, "boards": [*manifest.get("boards", board_rows()), board_row(board)]}


def _folder_name(name: str) -> str:
    if not name or name.startswith(".") or not all(c.isalnum() or c in "-_." for c in name):
        raise ParameterError(
            f"'{name}' is no name of a folder; use letters, digits, dots, dashes and underscores."
        )
    return name


def _finished(manifest: dict[str, Any], records: pd.DataFrame) -> None:
    single = [info.label for info in metric_infos(manifest) if not info.pairwise]
    planned = int(manifest["dataset"]["images"]) * len(manifest["methods"]) * (1 + len(single))
    own = records["metric"].isin({"explain", *single}) & (records["other"] == "")
    found = len(records.loc[own, ["image_id", "method", "metric"]].drop_duplicates())
    if found < planned:
        raise RunError(
            f"The run is not finished ({found:,} of {planned:,} cells are there); go on with "
            "`xbench run ... --resume`, or merge its shards, before publishing it."
        )


def _write_tables(published: Published) -> None:
    """Every table and the page, from nothing but the published manifest and cells."""
    manifest, board = published.manifest, published.leaderboard()
    nothing = pd.DataFrame(
        {name: [] for name in ("image_id", "method", "metric", "repetition", "name", "points")}
    )
    maps = published.path / "maps"
    findings = Findings(manifest, published.cells, nothing, board, maps)
    texts = {
        "leaderboard.csv": csv_text(board),
        "leaderboard.md": markdown(board, manifest),
        "leaderboard.json": structured(findings, compact=True),
        PAGE: render(findings, _sections(board)),
    }
    for name, text in texts.items():
        RunFolder(published.path).write_text(published.path / name, text)


def _sections(board: Leaderboard) -> list[str]:
    """The sections of a page; a board that ranks nothing has no order to draw or advise from."""
    ordered = board.card.kind == "ranks"
    return [name for name in PUBLISHED if ordered or name not in ("advice", "ranks", "cost")]


def _is_published(folder: Path) -> bool:
    try:
        return "published" in RunFolder(folder).manifest()
    except RunError:
        return folder.is_dir() and not any(folder.iterdir())


def _swap(temporary: Path, target: Path) -> None:
    """Put the new folder in place of the old one; a reader sees one or the other."""
    old = temporary.with_suffix(".old")
    if target.exists():
        target.rename(old)
    try:
        temporary.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)
