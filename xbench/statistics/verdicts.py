"""What `xbench audit` found of each metric, shipped with the package for judges to read."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from xbench.errors import RunError

Standing = Literal["passes", "coarse", "fails", "descriptive", "ungraded"]
VERDICTS: Final = Path(__file__).parent.parent / "audit" / "verdicts.json"


@dataclass(frozen=True)
class Verdict:
    """How one metric stands on planted truth.

    Attributes:
        metric: its label.
        standing: "passes": it ranks the truth, a degraded truth, noise and the opposite in this
            order; "coarse": it puts the truth above noise and above its opposite, but a smaller
            step is not shown; "fails": it does not; "descriptive": it has no direction, so there is
            nothing to rank; "ungraded": it could not be run on planted truth.
        reason: why, a sentence; empty where it passes.
    """

    metric: str
    standing: Standing
    reason: str = ""

    @property
    def usable(self) -> bool:
        """Whether a recommendation may rest on the metric."""
        return self.standing in ("passes", "coarse")


def verdicts(path: Path | None = None) -> dict[str, Verdict]:
    """The verdict of every audited metric by label, from the last audit.

    A metric that is not there (an own one, or other parameters) was not audited; see `verdict_of`.

    Args:
        path: another file than the shipped one.

    Raises:
        RunError: the file is missing or broken.
    """
    path = path or VERDICTS
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["verdicts"]
        return {row["metric"]: Verdict(**row) for row in rows}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"The verdicts on metrics cannot be read from {path}; run `xbench audit` to make them."
        ) from error


def verdict_of(label: str, known: Mapping[str, Verdict]) -> Verdict | None:
    """The verdict on a metric, on the one of its name where its parameters were not audited.

    Args:
        label: for example `deletion[steps=14]`.
        known: from `verdicts`.
    """
    return known.get(label) or known.get(label.partition("[")[0])


def verdict_rows(labels: Iterable[str]) -> list[dict[str, str]]:
    """The shipped verdicts on some metrics, for a manifest; empty without an audit."""
    known = verdicts() if VERDICTS.is_file() else {}
    found = {label: verdict_of(label, known) for label in labels}
    return as_rows({label: one for label, one in found.items() if one is not None})


def verdicts_of(manifest: Mapping[str, Any]) -> dict[str, Verdict]:
    """The verdicts that a run keeps in its manifest; a later audit does not change the run."""
    return {row["metric"]: Verdict(**row) for row in manifest.get("verdicts", [])}


def as_rows(found: Mapping[str, Verdict]) -> list[dict[str, str]]:
    """The verdicts as they are written to the file."""
    return [asdict(verdict) for verdict in found.values()]
