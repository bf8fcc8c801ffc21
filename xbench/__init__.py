"""xbench: which saliency method can you trust, for your model and your images, at what cost?"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xbench.api import (
        Classifier,
        Compared,
        Leaderboard,
        Method,
        MethodCard,
        Metric,
        MetricCard,
        Normalization,
        Recommendation,
        Run,
        XbenchError,
        as_method,
        as_metric,
        compare,
        explain,
        gate,
        method,
        open_run,
        run,
        use_catalogue,
    )

__version__ = "0.1.0"

__all__ = [
    "Classifier",
    "Compared",
    "Leaderboard",
    "Method",
    "MethodCard",
    "Metric",
    "MetricCard",
    "Normalization",
    "Recommendation",
    "Run",
    "XbenchError",
    "__version__",
    "as_method",
    "as_metric",
    "compare",
    "explain",
    "gate",
    "method",
    "open_run",
    "run",
    "use_catalogue",
]


def __getattr__(name: str) -> Any:
    """Load the public names when they are first used, so that the command line starts fast."""
    if name in __all__:
        return getattr(import_module("xbench.api"), name)
    raise AttributeError(f"module 'xbench' has no attribute '{name}'")
