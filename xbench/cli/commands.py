"""All commands, imported for their registration."""

import xbench.cli.explaining
import xbench.cli.lists
import xbench.cli.reporting
import xbench.cli.running
import xbench.cli.training  # noqa: F401
