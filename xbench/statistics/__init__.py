"""Judging: pure functions from per-image records to intervals, tests, ranks and tables."""
