"""Writes docs/curves.md: curves measured at some of their steps against all 224 steps.

On the real MobileNetV2 and photographs of ../shared/imagenet-sample (or of XBENCH_SAMPLE). Run from
the root: `.venv/bin/python benchmarks/curves`. The full curves take most of the time; they are kept
in --cache after every image, and the next call goes on from there.
"""

import argparse
import math
import os
import platform
from datetime import date
from pathlib import Path

import numpy as np
import torch
from choices import CHOICES, areas, errors
from recording import METRIC_NAMES, STEPS, Curves, record

from xbench.errors import DataError
from xbench.models.loading import load_classifier
from xbench.registry import DATASETS

POINTS = (15, 29, 57)
CLOSE = 0.005
PARTS = {
    "evaluation": (
        range(50),
        (
            "gradient",
            "smoothgrad[n_samples=8]",
            "guided_backprop",
            "integrated_gradients[n_steps=8]",
            "deeplift",
            "gradcam",
            "eigencam",
            "lrp_epsilon_plus",
            "occlusion[stride=56,window=56]",
            "random",
        ),
    ),
    "calibration": (
        range(50, 64),
        (
            "input_x_gradient",
            "hirescam",
            "edges",
            "random_smooth",
            "intensity",
            "gradcam_plus_plus",
        ),
    ),
}
PAGE = """# Curves from some of their steps

Written by `benchmarks/curves`: `deletion[steps={steps}]` and `insertion[steps={steps}]` with every
step measured ({full} points), against fewer points chosen from the same curves by the code of the
metrics (`xbench.operations.adaptive`), evenly, or by bisecting (always the middle of the stretch
with the largest change times length).

{rows} curves: MobileNetV2 at 224 x 224, {images} photographs, both metrics, {methods}.
The constants of the adaptive choice and of its estimate were set on other photographs, other
methods and another network (below), never on these curves.
torch {torch}, numpy {numpy}, {machine}, Python {python}, {today:%Y-%m-%d}.

{table}

- *Error*: |area from the chosen points - area from all|. *Within*: share of curves with an error
  of at most {close}.
- *Estimate*: the mean of what the metric itself says of its error (detail `error`). *Covered*:
  share of curves whose error is at most their own estimate.

{split}

## Set on

{calibration}
"""


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--curves", type=int, default=1000, help="how many at least")
    parser.add_argument("--cache", type=Path, default=Path("build/curves.npz"))
    parser.add_argument("--part", choices=PARTS, default="evaluation")
    parser.add_argument("--out", type=Path, default=Path("docs/curves.md"))
    asked = parser.parse_args()
    curves = _curves(asked.part, asked.curves, asked.cache)
    if asked.part == "calibration":
        print(table(curves))
        return
    asked.out.write_text(page(curves, (Path(__file__).parent / "calibration.md").read_text()))


def _curves(part: str, count: int, cache: Path) -> Curves:
    folder = Path(os.environ.get("XBENCH_SAMPLE", "../shared/imagenet-sample"))
    weights = folder / "mobilenet_v2.pt"
    if not weights.is_file():
        raise DataError(f"There is no {weights}; set XBENCH_SAMPLE to the folder that has it.")
    model = load_classifier("torchvision:mobilenet_v2", weights=weights, device="cpu")
    source = DATASETS.create(f"imagefolder:{folder / 'images'}").value.open(
        model.geometry, limit=None, seed=0
    )
    images, methods = PARTS[part]
    images = images[: math.ceil(count / (len(methods) * len(METRIC_NAMES)))]
    cache.parent.mkdir(parents=True, exist_ok=True)
    return record(model, source, images, methods, cache)


def page(curves: Curves, calibration: str) -> str:
    """The text of the page."""
    methods = [f"`{name}`" for name in dict.fromkeys(curves["method"].tolist())]
    return PAGE.format(
        steps=STEPS,
        full=STEPS + 1,
        rows=len(curves["image"]),
        images=len(set(curves["image"].tolist())),
        methods=", ".join(methods),
        torch=torch.__version__,
        numpy=np.__version__,
        machine=platform.machine(),
        python=platform.python_version(),
        today=date.today(),
        table=table(curves),
        close=CLOSE,
        split=split(curves),
        calibration=calibration.strip(),
    )


def table(curves: Curves) -> str:
    """Each number of points with each way to choose them."""
    lines = [
        f"| points | chosen | mean error | 95th percentile | largest | within {CLOSE} | estimate "
        "| covered |",
        "|---|---|---|---|---|---|---|---|",
    ]
    full = curves["probability"]
    for points in POINTS:
        for name, choose in CHOICES.items():
            found = choose(full, points)
            off = errors(full, found)
            told = ["", ""]
            if name == "adaptive":
                told = [f"{found.error.mean():.4f}", f"{(off <= found.error).mean():.1%}"]
            lines.append(
                f"| {points} | {name} | {off.mean():.5f} | {np.quantile(off, 0.95):.4f} "
                f"| {off.max():.4f} | {(off <= CLOSE).mean():.1%} | {told[0]} | {told[1]} |"
            )
    return "\n".join(lines)


def split(curves: Curves, points: int = 57) -> str:
    """The adaptive choice on each metric and method apart."""
    lines = [
        f"At {points} adaptive points:\n",
        f"| curves of | number | mean area | mean error | within {CLOSE} | estimate | covered |",
        "|---|---|---|---|---|---|---|",
    ]
    full = curves["probability"]
    found = CHOICES["adaptive"](full, points)
    off, area = errors(full, found), areas(full)
    for column in ("metric", "method"):
        for name in dict.fromkeys(curves[column].tolist()):
            own = curves[column] == name
            lines.append(
                f"| `{name}` | {own.sum()} | {area[own].mean():.3f} | {off[own].mean():.5f} "
                f"| {(off[own] <= CLOSE).mean():.1%} | {found.error[own].mean():.4f} "
                f"| {(off[own] <= found.error[own]).mean():.1%} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
