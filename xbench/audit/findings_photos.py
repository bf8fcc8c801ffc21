"""Part 2a of the protocols, on a real MobileNetV2 and photographs, where they are at hand."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from torch import Tensor

from xbench.audit.findings import Finding, Found, interval, short, told
from xbench.audit.findings_planted import grid_frame
from xbench.audit.measuring import together
from xbench.classifier import Classifier
from xbench.contracts import Source
from xbench.explaining import explain_samples
from xbench.models.loading import load_classifier
from xbench.registry import DATASETS, METHODS
from xbench.selection import only_correct

VARIABLE: Final = "XBENCH_SAMPLE"
CELL_OCCLUSION: Final = "occlusion[stride=56,window=56]"
IG: Final = "integrated_gradients[n_steps=12]"
_ROWS: Final = ("M1", "M2", "M3", "M4", "M5", "M8", "M11", "M14", "M15", "M16", "M17")


def sample_folder() -> Path | None:
    """The folder with `mobilenet_v2.pt` and `images/`: XBENCH_SAMPLE, or beside the checkout."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "imagenet-sample"
    folder = Path(os.environ.get(VARIABLE, beside))
    return folder if (folder / "mobilenet_v2.pt").is_file() else None


def photo_findings(images: int, few: int, tell: Callable[[str], None]) -> list[Finding]:
    """Rows M1 to M17; all skipped where the sample is absent.

    Args:
        images: photographs for the rows that remove pixels.
        few: photographs for the rows that explain again.
        tell: given one line whenever a part begins.
    """
    folder = sample_folder()
    if folder is None or images == 0:
        said = f"no MobileNetV2 and photographs here; name their folder in {VARIABLE}"
        why = "not asked for (--photos 0)" if folder is not None else said
        return [Finding(row, "hard", "see docs/reproduce.md", why, None, 0) for row in _ROWS]
    model = load_classifier(
        "torchvision:mobilenet_v2", weights=folder / "mobilenet_v2.pt", batch_size=16
    )
    dataset = DATASETS.create(f"imagefolder:{folder / 'images'}").value

    def right(limit: int) -> Source:
        return only_correct(
            model,
            lambda n: dataset.open(model.geometry, limit=n, seed=0, classes=1000),
            limit=limit,
            seed=0,
        )

    source, some = right(images), right(few)
    parts = []
    for title, data, methods, metrics in _GRIDS:
        tell(f"photographs: {title}")
        chosen = some if data == "few" else source
        parts.append(grid_frame(model, chosen, methods, metrics))
    found = Found(together(parts))
    return [
        *_completeness(model, right(max(images, 48)), tell),
        *_removal(found, len(source)),
        *_insertion(found, len(source)),
        *_cells(found, len(source)),
        *_randomization(found, len(some)),
        *_mosaics(found, len(some)),
        *_stability(found, len(some)),
    ]


_GRIDS: Final = (
    (
        "removal",
        "all",
        f"random,random_smooth,{IG},input_x_gradient,gradient_abs,gradcam",
        "deletion[steps=14],deletion[steps=14,imputer=black],insertion[steps=14],road",
    ),
    (
        "single deletion",
        "all",
        f"random,{CELL_OCCLUSION},{IG},input_x_gradient,gradcam",
        "single_deletion",
    ),
    (
        "randomization",
        "few",
        "gradient,integrated_gradients[n_steps=4],input_x_gradient,guided_backprop,gradcam",
        "cascading_randomization,class_sensitivity",
    ),
    ("mosaics", "few", "random,edges,gradient_abs,input_x_gradient,gradcam", "gridpg"),
    (
        "sensitivity",
        "few",
        "center_prior,random,gradcam,smoothgrad[n_samples=4],gradient",
        "max_sensitivity[draws=4]",
    ),
)


def _completeness(model: Classifier, source: Source, tell: Callable[[str], None]) -> list[Finding]:
    """M1: the relative error of integrated gradients with 12 and with 50 steps."""
    tell("photographs: completeness")
    samples = source.read(range(len(source)))
    labels = samples.labels.to(model.device)
    errors: dict[int, Tensor] = {}
    for steps in (12, 50):
        method = METHODS.create(f"integrated_gradients[n_steps={steps}]")
        maps = explain_samples(model, samples, method, labels, 0)
        logits = model.logits(samples.images.to(model.device))
        start = model.normalization.mean
        blank = samples.images.new_tensor(start).view(1, -1, 1, 1).expand_as(samples.images)
        index = labels[:, None]
        drop = (logits - model.logits(blank.contiguous())).gather(1, index)[:, 0]
        errors[steps] = (maps.flatten(1).sum(dim=1) - drop).abs() / drop.abs()
    coarse, fine = float(errors[12].median()), float(errors[50].median())
    return [
        Finding(
            "M1",
            "hard",
            "IG completeness: median error <= .06 at 50 steps and a third of that at 12",
            f"median {fine:.3f} at 50 steps, {coarse:.3f} at 12",
            fine <= 0.06 and fine <= coarse / 3,
            len(source),
        )
    ]


def _removal(found: Found, n: int) -> list[Finding]:
    mean, black = "deletion[steps=14]", "deletion[imputer=black,steps=14]"
    own = [IG, "input_x_gradient"]
    gaps = {m: found.gap("random", m, mean) for m in own}
    dark = {m: found.gap("random", m, black) for m in own}
    order = [found.mean(m, mean) for m in (*own, "gradient_abs")]
    return [
        Finding(
            "M4",
            "hard",
            "deletion with the fill that is their baseline (mean): IG and IxG below random",
            found.said([*own, "gradient_abs", "random"], mean, 3),
            all(gap[0] > 0 for gap in gaps.values()),
            n,
        ),
        Finding(
            "M4o",
            "soft",
            "and in the order IG < IxG < gradient",
            ", ".join(f"{value:.3f}" for value in order),
            order == sorted(order),
            n,
        ),
        Finding(
            "M4b",
            "soft",
            "with black they fall to the level of random: the lead shrinks",
            ", ".join(
                f"{short(m)} leads random by {told(gaps[m], 3)} with mean, {told(dark[m], 3)} "
                "with black"
                for m in own
            ),
            all(dark[m][0] < gaps[m][0] for m in own),
            n,
        ),
    ]


def _insertion(found: Found, n: int) -> list[Finding]:
    own = [IG, "input_x_gradient"]
    insertion = found.gap("gradcam", "random_smooth", "insertion[steps=14]")
    controls = [found.mean(m, "road") for m in ("random", "random_smooth")]
    explainers = [found.mean(m, "road") for m in (*own, "gradcam")]
    return [
        Finding(
            "M5",
            "hard",
            "insertion: Grad-CAM above the smooth random control",
            f"by {told(insertion)}; "
            + found.said(["gradcam", "random_smooth", IG], "insertion[steps=14]"),
            insertion[0] > 0,
            n,
        ),
        Finding(
            "M6",
            "soft",
            "insertion: the plain gradient does not beat the smooth random control",
            found.said(["gradient_abs", "random_smooth"], "insertion[steps=14]"),
            found.gap("gradient_abs", "random_smooth", "insertion[steps=14]")[1] <= 0,
            n,
        ),
        Finding(
            "M17",
            "hard",
            "ROAD gap: both random controls 0 +- .05, explainers above .1",
            found.said(["random", "random_smooth", *own, "gradcam"], "road"),
            max(map(abs, controls)) <= 0.05 and min(explainers) > 0.1,
            n,
        ),
    ]


def _cells(found: Found, n: int) -> list[Finding]:
    bound = 3 / np.sqrt(n)
    exact = float(found.values(CELL_OCCLUSION, "single_deletion").min())
    values = [found.mean(m, "single_deletion") for m in ("gradcam", IG, "input_x_gradient")]
    return [
        Finding(
            "M2",
            "hard",
            f"single deletion of random 0 within 3 / sqrt(n) = {bound:.2f}",
            found.said(["random"], "single_deletion"),
            abs(found.mean("random", "single_deletion")) <= bound,
            n,
        ),
        Finding(
            "M3",
            "hard",
            "single deletion of occlusion with the same cells and fill 1 exactly",
            f"smallest {exact:.6f}",
            exact > 1 - 1e-6,
            n,
        ),
        Finding(
            "M8",
            "hard",
            "single deletion: Grad-CAM and IG above IxG (at 128 photographs or more)",
            found.said(["gradcam", IG, "input_x_gradient"], "single_deletion"),
            (values[0] > values[2] and values[1] > values[2]) if n >= 128 else None,
            n,
            "" if n >= 128 else "told, not judged: the gate asks for 128 photographs.",
        ),
    ]


def _randomization(found: Found, n: int) -> list[Finding]:
    after = "cascading_randomization/after_logits"
    full = "cascading_randomization/after_full"
    plain = ["gradient", "integrated_gradients[n_steps=4]"]
    others = [*plain, "input_x_gradient", "gradcam"]
    at_end = [abs(found.mean(m, full)) for m in (*others, "guided_backprop")]
    return [
        Finding(
            "M11",
            "hard",
            "signed cascade after the logits: gradient, IG < .3, guided backprop > .9",
            found.said([*plain, "guided_backprop", "gradcam"], after),
            all(found.mean(m, after) < 0.3 for m in plain)
            and found.mean("guided_backprop", after) > 0.9,
            n,
        ),
        Finding(
            "M11f",
            "hard",
            "signed cascade to the end: all within .15 of 0",
            found.said([*others, "guided_backprop"], full),
            max(at_end) < 0.15,
            n,
        ),
        Finding(
            "M15",
            "hard",
            "class sensitivity, signed: guided backprop > .9, others < .6",
            found.said(["guided_backprop", *others], "class_sensitivity"),
            found.mean("guided_backprop", "class_sensitivity") > 0.9
            and all(found.mean(m, "class_sensitivity") < 0.6 for m in others),
            n,
        ),
    ]


def _mosaics(found: Found, n: int) -> list[Finding]:
    blind, low = [found.mean(m, "gridpg") for m in ("random", "edges")], 0.01
    inputs = [found.mean(m, "gridpg") for m in ("gradient_abs", "input_x_gradient")]
    return [
        Finding(
            "M14",
            "hard",
            "GridPG: random and edges .25 +- .01, Grad-CAM > .6, input-level methods .25 to .6",
            found.said(
                ["random", "edges", "gradient_abs", "input_x_gradient", "gradcam"], "gridpg"
            ),
            all(abs(value - 0.25) <= low for value in blind)
            and found.mean("gradcam", "gridpg") > 0.6
            and all(0.25 <= value <= 0.6 for value in inputs),
            n,
        )
    ]


def _stability(found: Found, n: int) -> list[Finding]:
    metric = "max_sensitivity[draws=4]"
    order: Sequence[str] = ("center_prior", "gradcam", "smoothgrad[n_samples=4]", "gradient")
    values = [found.mean(m, metric) for m in order]
    random = interval(found.values("random", metric).to_numpy(dtype=np.float64))
    return [
        Finding(
            "M16",
            "hard",
            "max-sensitivity: center prior 0 < Grad-CAM < SmoothGrad < gradient, Gaussian noise "
            "drawn anew 1.41",
            found.said(order, metric) + f", random {told(random)}",
            values == sorted(values) and values[0] == 0 and abs(random[0] - 1.414) < 0.03,
            n,
        )
    ]
