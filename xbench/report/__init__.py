"""Leaderboards and reports: pure functions of a run folder's records, maps and thumbnails."""

from xbench.report.writing import write_all

__all__ = ["write_all"]
