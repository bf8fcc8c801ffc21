"""The command line: `xbench run`, `plan`, `explain`, `report`, `doctor` and the lists."""

import xbench.cli.auditing
import xbench.cli.comparing
import xbench.cli.conforming
import xbench.cli.editing
import xbench.cli.explaining
import xbench.cli.exporting
import xbench.cli.gating
import xbench.cli.imagining
import xbench.cli.judging
import xbench.cli.lists
import xbench.cli.merging
import xbench.cli.models
import xbench.cli.profiling
import xbench.cli.proving
import xbench.cli.publishing
import xbench.cli.reporting
import xbench.cli.running
import xbench.cli.starting
import xbench.cli.studying
import xbench.cli.training
import xbench.cli.versus  # noqa: F401 - each import registers its commands
from xbench.allocator import keep_freed_memory
from xbench.cli.app import app


def main() -> None:
    """The console script."""
    keep_freed_memory()
    app(prog_name="xbench")
