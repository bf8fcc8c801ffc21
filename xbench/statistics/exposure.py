"""Do the maps expose a planted shortcut: does their mass lie on the watermark?"""

import numpy as np

from xbench.statistics.leaderboard import Leaderboard, Row
from xbench.statistics.table import MetricInfo

HALF = 0.5
NAMED = 4


def exposure(board: Leaderboard) -> str:
    """One sentence on which methods put more than half of their positive mass on the watermark.

    Returns:
        "" where the run did not measure that. A method that failed a gate exposes nothing.
    """
    found = [score.info for score in board.table.scores.values() if _on_watermark(score.info)]
    if not found:
        return ""
    values = board.table.scores[found[0].label].values
    known = np.isfinite(values)
    means = np.where(known, values, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    mass = {
        row.method: float(means[board.table.column(row.method)])
        for row in board.rows
        if not row.control and known[:, board.table.column(row.method)].any()
    }
    if not mass:
        return ""
    rows = {row.method: row for row in board.rows}
    sound = {method: one for method, one in mass.items() if not _failed(board, rows[method])}
    above = [method for method in sorted(sound, key=lambda m: -sound[m]) if sound[method] > HALF]
    if above:
        names = ", ".join(f"{method} ({sound[method]:.2f})" for method in above[:NAMED])
        more = f" and {len(above) - NAMED} more" if len(above) > NAMED else ""
        verb = "puts" if len(above) == 1 else "put"
        return (
            f"The maps expose a shortcut: {names}{more} {verb} more than half of the positive mass "
            f"on the watermark ({len(above)} of {len(mass)} methods, none of them behind a failed "
            "gate), so the model reads it."
        )
    return _unexposed(mass, sound)


def _unexposed(mass: dict[str, float], sound: dict[str, float]) -> str:
    if not sound:
        return "Every method failed a gate, so nothing can be said about the watermark."
    most = max(sound, key=lambda method: sound[method])
    text = (
        "No method that passes the gates puts more than half of its positive mass on the watermark "
        f"(the most: {most}, {sound[most]:.2f})"
    )
    others = [method for method in mass if method not in sound and mass[method] > HALF]
    if others:
        text += f"; {others[0]} does ({mass[others[0]]:.2f}), but failed a gate"
    return text + ", so nothing says that the model reads it."


def _failed(board: Leaderboard, row: Row) -> bool:
    return any(result.verdict == "fail" for result in board.gates[row.method].values())


def _on_watermark(info: MetricInfo) -> bool:
    return info.name == "watermark_mass" or "region=watermark" in info.label
