"""The boards that a run is judged by, kept in its manifest: another machine says the same."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from xbench.contracts import Board, BoardCard
from xbench.registry import LEADERBOARDS


def board_rows() -> list[dict[str, Any]]:
    """Every board of the catalogue as plain data, for a manifest."""
    return [board_row(entry.name) for entry in LEADERBOARDS]


def board_row(name: str) -> dict[str, Any]:
    """One board of the catalogue as plain data.

    Raises:
        UnknownNameError: there is no such board.
    """
    chosen = LEADERBOARDS.create(name)
    board = chosen.value
    return {"card": asdict(chosen.card), "alpha": board.alpha, "min_images": board.min_images}


def boards_of(manifest: Mapping[str, Any]) -> list[Board]:
    """The boards that a manifest keeps, in its order; the catalogue's where it keeps none."""
    rows = manifest.get("boards") or board_rows()
    return [_board(row) for row in rows]


def overall_board(manifest: Mapping[str, Any]) -> Board:
    """The board that a run ends with."""
    return next(board for board in boards_of(manifest) if board.card.name == "overall")


def _board(row: Mapping[str, Any]) -> Board:
    known = {f.name for f in fields(BoardCard)}
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in row["card"].items()
        if key in known
    }
    kind = type("KeptBoard", (Board,), {"card": BoardCard(**values)})
    kept: Board = kind(alpha=float(row["alpha"]), min_images=int(row["min_images"]))
    return kept
