"""Writes docs/curves.md: curves measured at some of their steps against all 224 steps.

On the real MobileNetV2 and photographs of ../shared/imagenet-sample (or of XBENCH_SAMPLE). Run from
the root: `.venv/bin/python benchmarks/curves`. The full curves take most of the time; they are kept
in --cache after every image, and the next call goes on from there.
"""

import argparse
import math
import os
import platform
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Part:
    """A set of curves: every method on these images of a data set."""

    model: str
    dataset: str
    limit: int | None
    images: range
    methods: tuple[str, ...]


PHOTOGRAPHS = Part(
    "torchvision:mobilenet_v2",
    "imagefolder:",
    None,
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
)
SET_ON = Part(
    "reference",
    "planted",
    40,
    range(1),
    (
        "gradient",
        "smoothgrad[n_samples=8]",
        "guided_backprop",
        "gradcam",
        "layercam",
        "eigencam",
        "lrp_epsilon",
        "deeplift",
        "input_x_gradient",
        "random",
        "random_smooth",
        "edges",
        "center_prior",
    ),
)
PAGE = """# Curves from some of their steps

Written by `benchmarks/curves`: `deletion[steps={steps}]` and `insertion[steps={steps}]` with every
step measured ({full} points), against fewer points chosen from the same curves by the code of the
metrics (`xbench.operations.adaptive`), evenly, or by bisecting (always the middle of the stretch
with the largest change times length).

{rows} curves: MobileNetV2 at 224 x 224, {images} photographs, both metrics, {methods}.
None of them was looked at when the constants of the adaptive choice and of its estimate were set;
that was done on the curves below. torch {torch}, numpy {numpy}, {machine}, Python {python},
{today:%Y-%m-%d}.

{table}

- *Error*: |area from the chosen points - area from all|. *Within*: share of curves with an error
  of at most {close}.
- *Estimate*: the mean of what the metric itself says of its error (detail `error`). *Covered*:
  share of curves whose error is at most their own estimate.

{split}

## Set on

The constants were set by hand on {few} curves of the embedded classifier (one planted scene of
64 x 64 pixels, {others}), on parts of these curves, and on random walks of log-odds.

{calibration}
"""


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--curves", type=int, default=1000, help="how many at least")
    parser.add_argument("--cache", type=Path, default=Path("build/curves.npz"))
    parser.add_argument("--out", type=Path, default=Path("docs/curves.md"))
    asked = parser.parse_args()
    asked.cache.parent.mkdir(parents=True, exist_ok=True)
    beside = asked.cache.with_stem(f"{asked.cache.stem}-set-on")
    set_on = record_part(SET_ON, len(SET_ON.methods) * len(METRIC_NAMES), beside)
    asked.out.write_text(page(record_part(PHOTOGRAPHS, asked.curves, asked.cache), set_on))


def record_part(part: Part, count: int, cache: Path) -> Curves:
    """At least `count` curves of a part, whole images each, or all of them."""
    folder = Path(os.environ.get("XBENCH_SAMPLE", "../shared/imagenet-sample"))
    weights, dataset = None, part.dataset
    if dataset == "imagefolder:":
        weights, dataset = folder / "mobilenet_v2.pt", f"imagefolder:{folder / 'images'}"
        if not weights.is_file():
            raise DataError(f"There is no {weights}; set XBENCH_SAMPLE to the folder that has it.")
    model = load_classifier(part.model, weights=weights, device="cpu")
    source = DATASETS.create(dataset).value.open(
        model.geometry, limit=part.limit, seed=0, classes=model.class_count
    )
    images = part.images[: math.ceil(count / (len(part.methods) * len(METRIC_NAMES)))]
    return record(model, source, images, part.methods, cache)


def page(curves: Curves, set_on: Curves) -> str:
    """The text of the page."""
    return PAGE.format(
        steps=STEPS,
        full=STEPS + 1,
        rows=len(curves["image"]),
        images=len(set(curves["image"].tolist())),
        methods=methods(curves),
        torch=torch.__version__,
        numpy=np.__version__,
        machine=platform.machine(),
        python=platform.python_version(),
        today=date.today(),
        table=table(curves),
        close=CLOSE,
        split=split(curves),
        few=len(set_on["image"]),
        others=methods(set_on),
        calibration=table(set_on),
    )


def methods(curves: Curves) -> str:
    """Their names."""
    return ", ".join(f"`{name}`" for name in dict.fromkeys(curves["method"].tolist()))


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
