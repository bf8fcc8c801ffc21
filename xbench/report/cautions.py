"""What a reader has to know before believing a run, one sentence each."""

import pandas as pd

from xbench.report.findings import Findings
from xbench.statistics.fills import manifest_warnings
from xbench.statistics.sequential import decision_sentence
from xbench.statistics.words import enumerated, grouped

SHARE = 0.05


def cautions(findings: Findings) -> list[str]:
    """Sentences on few images, skipped images, shared fills, blanks and dropped metrics."""
    board, manifest = findings.board, findings.manifest
    decision = manifest.get("decision")
    found = [] if decision is None else [decision_sentence(decision)]
    if board.preliminary:
        found.append(
            f"Only {board.images} images: the order is preliminary, and few differences can show."
        )
    skipped = manifest["dataset"]["skipped"]
    if skipped:
        names = ", ".join(f"{name} ({why})" for name, why in list(skipped.items())[:3])
        more = f" and {len(skipped) - 3} more" if len(skipped) > 3 else ""
        found.append(f"{_count(len(skipped), 'image')} could not be read: {names}{more}.")
    planned = int(manifest["dataset"]["images"])
    if board.images < planned and not (decision or {}).get("decided"):
        found.append(f"Only {board.images} of {planned} images were reached; resume the run.")
    found += manifest_warnings(manifest)
    for metric, reason in board.ranking.dropped.items():
        found.append(f"{metric} is not ranked. {reason}")
    for reason, methods in grouped(board.ranking.unranked).items():
        verb = "has" if len(methods) == 1 else "have"
        found.append(f"{enumerated(methods)} {verb} no place: {reason}.")
    return found + _blanks(findings.records)


def _blanks(records: pd.DataFrame) -> list[str]:
    """Undefined, invalid and failed rows, counted by metric."""
    found = []
    rows = records[~records["metric"].str.contains("/", regex=False)]
    for status in ("undefined", "invalid", "error"):
        bad = rows[rows["status"] == status]
        for metric, group in bad.groupby("metric", sort=True):
            total = int((rows["metric"] == metric).sum())
            if status == "undefined" and len(group) < SHARE * total:
                continue
            reason = str(group["reason"].mode().iloc[0]) if len(group) else ""
            name = "Maps" if metric == "explain" else str(metric)
            found.append(
                f"{name}: {len(group)} of {total} values are {status} and left out of the means"
                + (f" ({reason.rstrip('.')})." if reason else ".")
            )
    return found


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
