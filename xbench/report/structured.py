"""The leaderboard as JSON: everything that the page says in numbers, with its provenance."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from xbench.report.cautions import cautions
from xbench.report.findings import Findings
from xbench.report.tables import DIGITS


def structured(findings: Findings, *, compact: bool = False) -> str:
    """The board, gates, skills, comparisons and cautions as JSON text, NaN as null.

    Args:
        findings: the run.
        compact: leave out the comparisons of all pairs, of which there are many.
    """
    board, manifest = findings.board, findings.manifest
    ranking = board.ranking
    content = {
        "format": 1,
        "xbench": manifest["xbench"],
        "model": manifest["model"],
        "dataset": {k: v for k, v in manifest["dataset"].items() if k != "class_names"},
        "seed": manifest["seed"],
        "command": manifest["command"],
        "environment": manifest["environment"],
        "images": board.images,
        "board": asdict(board.card),
        "metrics": [asdict(metric) for metric in board.metrics],
        "ranked_by": dict(zip((m.label for m in ranking.metrics), ranking.weights, strict=True)),
        "tie_groups": ranking.groups,
        "critical_difference": ranking.friedman and ranking.friedman.critical_difference,
        "rows": [
            {
                **{key: value for key, value in asdict(row).items() if key != "cells"},
                "metrics": {label: asdict(cell) for label, cell in row.cells.items()},
                "gates": {k: asdict(v) for k, v in board.gates[row.method].items()},
                "skill": {k: v.mean[row.method]._asdict() for k, v in findings.skills.items()},
            }
            for row in board.rows
        ],
        "comparisons": [] if compact else [asdict(one) for one in ranking.comparisons],
        **{key: manifest[key] for key in ("decision", "budget") if manifest.get(key)},
        "exposure": findings.exposure,
        "cautions": cautions(findings),
    }
    return json.dumps(_clean(content), indent=1, sort_keys=True, allow_nan=False) + "\n"


def _clean(value: Any) -> Any:
    """Numbers at the digits that every machine agrees on; what is not finite becomes null."""
    if isinstance(value, Mapping):
        return {str(key): _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    return value
