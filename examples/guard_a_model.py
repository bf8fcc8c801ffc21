"""A model that took a shortcut is caught: the explanation may no longer be trusted.

python examples/guard_a_model.py [RUN_FOLDER]
"""

import sys
import tempfile
from pathlib import Path

import xbench

METHODS = "gradcam,gradient,random,random_smooth,center_prior,edges,intensity"
METRICS = "deletion,insertion,rank_accuracy,class_sensitivity"


def main(out: str | None = None) -> None:
    """Run the reference classifier and the one that reads a watermark, and compare."""
    before = Path(out or Path(tempfile.mkdtemp()) / "run")
    after = before.with_name("shortcut")
    for path, model in ((before, "reference"), (after, "reference-shortcut")):
        xbench.run(model, methods=METHODS, metrics=METRICS, limit=12, out=path)
    found = xbench.gate(before, after, method="gradcam")
    print(found.reason)
    for check in found.checks:
        print("holds" if check.passed else "lost", check.name)
    print(f"The report is {after / 'report.html'}.")


if __name__ == "__main__":
    main(*sys.argv[1:2])
