"""Part 2c of the protocols, on the embedded network and planted scenes."""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import pandas as pd

from xbench.audit.findings import Finding, Found, short, told
from xbench.audit.measuring import run_frame, together
from xbench.classifier import Classifier
from xbench.contracts import Source
from xbench.models.reference import reference_classifier
from xbench.registry import DATASETS, METHODS, METRICS
from xbench.running.grid import Grid

IG: Final = "integrated_gradients[n_steps=16]"
IG_ABS: Final = "integrated_gradients_abs[n_steps=16]"
SG: Final = "smoothgrad_abs[n_samples=16]"
EXPLAINERS: Final = (
    "gradient_abs",
    "input_x_gradient",
    IG,
    SG,
    "smoothgrad_squared[n_samples=16]",
    "guided_backprop_abs",
    "gradcam",
    "occlusion",
    "rise[n_masks=400]",
)
CONTROLS: Final = ("random", "random_smooth", "center_prior", "edges", "oracle")
READERS: Final = ("gradient", IG, "input_x_gradient", "smoothgrad[n_samples=16]")
_WHERE: Final = "rank_accuracy,mass_accuracy,pointing_game,distractor_mass"
_CASCADE: Final = "cascading_randomization"
_SEEDS: Final = 3  # one draw of a small last layer says little


def planted_findings(images: int, few: int, tell: Callable[[str], None]) -> list[Finding]:
    """Rows Y1 to Y11 without Y9.

    Args:
        images: scenes for localization and removal.
        few: scenes for the rows that explain again.
        tell: given one line whenever a part begins.
    """
    model = reference_classifier(batch_size=256)
    source = DATASETS.create("planted").value.open(model.geometry, limit=images, seed=0, classes=8)
    some = DATASETS.create("planted").value.open(model.geometry, limit=few, seed=0, classes=8)
    tell("planted scenes: localization and removal")
    explainers, controls = ",".join(EXPLAINERS), ",".join(CONTROLS)
    removal = "single_deletion,insertion,deletion,road"
    wide = grid_frame(model, source, f"{explainers},{IG_ABS},{controls}", f"{_WHERE},{removal}")
    tell("planted scenes: randomization")
    readers = ",".join([*READERS, "guided_backprop", "gradcam", "edges"])
    cascade = mean_of_seeds(
        [grid_frame(model, some, readers, _CASCADE, seed=seed) for seed in range(_SEEDS)]
    )
    tell("planted scenes: disconnected mosaics")
    mosaics = grid_frame(model, some, f"gradient,input_x_gradient,{IG},gradcam,random", "difull")
    found = Found(together([wide, cascade, mosaics]))
    area = float(source.read(range(len(source))).truth.double().mean())  # type: ignore[union-attr]
    return [
        *_localization(found, area, images),
        *_removal(found, images),
        *_randomization(found, few),
        *_mosaics(found, few),
        *_oracle(found, images),
    ]


def grid_frame(
    model: Classifier, source: Source, methods: str, metrics: str, *, seed: int = 0
) -> pd.DataFrame:
    """Records of named methods and metrics on a source; see `run_frame`."""
    grid = Grid(
        model=model,
        source=source,
        methods=METHODS.select(methods),
        metrics=METRICS.select(metrics),
        chunk=min(len(source), 16),
        target="label",
        seed=seed,
    )
    return run_frame(grid)


def mean_of_seeds(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Values by method, metric and image, each the mean over runs with other random weights."""
    keys = ["method", "metric", "image_id"]
    values = pd.concat([frame[[*keys, "value"]] for frame in frames], ignore_index=True)
    values["value"] = pd.to_numeric(values["value"], errors="coerce")
    means: pd.DataFrame = values.groupby(keys)[["value"]].mean().reset_index()
    return means


def _below(found: Found, methods: Sequence[str], metric: str, gate: float) -> list[str]:
    return [short(m) for m in methods if not found.mean(m, metric) > gate]


def _localization(found: Found, area: float, n: int) -> list[Finding]:
    weak = _below(found, EXPLAINERS, "rank_accuracy", 0.45)
    random = found.mean("random", "rank_accuracy")
    spilled = [short(m) for m in EXPLAINERS if not found.mean(m, "distractor_mass") < 0.2]
    missing = _below(found, EXPLAINERS, "pointing_game", 0.5999)
    note = "shapes here are strokes of a few pixels, not the pilot's filled 12x12 squares"
    return [
        Finding(
            "Y1",
            "hard",
            "rank accuracy > .45 for every explainer",
            found.said(EXPLAINERS, "rank_accuracy"),
            not weak,
            n,
            f"{', '.join(weak)} below; {note}." if weak else "",
        ),
        Finding(
            "Y1r",
            "hard",
            f"rank accuracy of random within .01 of the mask's share ({area:.3f})",
            f"{random:.3f}",
            abs(random - area) <= 0.01,
            n,
        ),
        Finding(
            "Y1e",
            "soft",
            "edges sees object and distractors alike: rank accuracy .27-.30 in the pilot",
            found.said(["edges", "center_prior"], "rank_accuracy"),
            found.mean("edges", "rank_accuracy") < 0.45,
            n,
        ),
        Finding(
            "Y2",
            "hard",
            "positive mass on distractors < .2 for every explainer",
            found.said([*EXPLAINERS, "edges"], "distractor_mass"),
            not spilled,
            n,
            f"{', '.join(spilled)} above." if spilled else "",
        ),
        Finding(
            "Y3",
            "hard",
            "pointing game >= .6 for every explainer",
            found.said(EXPLAINERS, "pointing_game"),
            not missing,
            n,
            f"{', '.join(missing)} below." if missing else "",
        ),
        Finding(
            "Y4",
            "soft",
            "mass punishes coarse maps: IG above Grad-CAM and RISE",
            found.said([IG, "gradcam", "rise[n_masks=400]"], "mass_accuracy"),
            found.mean(IG, "mass_accuracy")
            > max(found.mean(m, "mass_accuracy") for m in ("gradcam", "rise[n_masks=400]")),
            n,
        ),
    ]


def _removal(found: Found, n: int) -> list[Finding]:
    gap = found.gap(IG, IG_ABS, "single_deletion")
    worse = [
        short(m)
        for m in EXPLAINERS
        if not found.mean(m, "insertion") > found.mean("random", "insertion")
    ]
    controls = ["random", "random_smooth"]
    means = [abs(found.mean(m, "road")) for m in controls]
    return [
        Finding(
            "Y5",
            "hard",
            "single deletion: IG signed - IG abs > .2",
            f"{told(gap)}; {found.said([IG, IG_ABS], 'single_deletion')}",
            gap[0] > 0.2,
            n,
            "" if gap[0] > 0.2 else "strokes leave most of a cell to the background.",
        ),
        Finding(
            "Y6",
            "hard",
            "deletion reports the normalized curve as well, f(x_end) taken for 0",
            found.said([IG], "deletion")
            + "; normalized "
            + found.said([IG], "deletion/normalized"),
            found.count(IG, "deletion/normalized") > 0,
            n,
        ),
        Finding(
            "Y7",
            "hard",
            "insertion: every explainer above random",
            found.said([*EXPLAINERS, "random"], "insertion"),
            not worse,
            n,
            f"{', '.join(worse)} not above." if worse else "",
        ),
        Finding(
            "M17p",
            "hard",
            "ROAD gap of both random controls 0 +- .05, here on planted scenes",
            found.said([*controls, IG, "gradcam"], "road"),
            max(means) <= 0.05,
            n,
        ),
    ]


def _randomization(found: Found, n: int) -> list[Finding]:
    after = f"{_CASCADE}/after_logits"
    full = f"{_CASCADE}/after_full"
    high = [short(m) for m in READERS if not abs(found.mean(m, after)) <= 0.16]
    left = [short(m) for m in READERS if not abs(found.mean(m, full)) < 0.15]
    guided, plain = found.mean("guided_backprop", after), found.mean("gradient", after)
    return [
        Finding(
            "Y8",
            "hard",
            "signed cascade after the logits, 3 seeds: gradient, IG, IxG, SmoothGrad within .16",
            found.said(READERS, after),
            not high,
            n,
            f"{', '.join(high)} outside." if high else "",
        ),
        Finding(
            "Y8f",
            "hard",
            "signed cascade to the end: all of them within .15 of 0, edges 1",
            found.said([*READERS, "edges"], full),
            not left and found.mean("edges", full) > 0.999,
            n,
        ),
        Finding(
            "Y8g",
            "hard",
            "guided backprop stays above the gradient after the logits (pilot .65)",
            found.said(["guided_backprop", "gradcam"], after),
            guided > plain + 0.2,
            n,
        ),
    ]


def _mosaics(found: Found, n: int) -> list[Finding]:
    exact = ["gradient", "input_x_gradient", IG]
    leaks = 1 - found.mean("gradcam", "difull")
    return [
        Finding(
            "Y10",
            "hard",
            "disconnected mosaics: positive mass of gradients outside their cell 0 exactly, "
            "of Grad-CAM above 0",
            found.said([*exact, "gradcam"], "difull", 3),
            all(np.isclose(found.mean(m, "difull"), 1.0, atol=1e-9) for m in exact) and leaks > 0,
            n,
        ),
    ]


def _oracle(found: Found, n: int) -> list[Finding]:
    metrics = ("rank_accuracy", "mass_accuracy", "pointing_game")
    beaten = [
        f"{short(m)} ({metric})"
        for metric in metrics
        for m in EXPLAINERS
        if found.mean(m, metric) > found.mean("oracle", metric)
    ]
    first = min(EXPLAINERS, key=lambda m: found.mean(m, "deletion"))
    return [
        Finding(
            "Y11",
            "hard",
            "no explainer above the mask itself in rank accuracy, mass and pointing",
            ", ".join(f"{metric} {found.mean('oracle', metric):.3f}" for metric in metrics),
            not beaten,
            n,
            f"{', '.join(beaten)} above." if beaten else "",
        ),
        Finding(
            "Y11d",
            "soft",
            "the mask does not have to win deletion",
            found.said(["oracle", first], "deletion"),
            True,
            n,
        ),
    ]
