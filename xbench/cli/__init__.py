"""The command line: `xbench run`, `plan`, `explain`, `report`, `doctor` and the lists."""

from xbench.cli.app import main

__all__ = ["main"]
