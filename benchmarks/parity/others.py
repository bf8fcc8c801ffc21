"""Rows of the parity page: randomization, robustness, complexity, localization."""

from typing import Any

import numpy as np
import torch
from harness import IMAGES, deviation, failure, make_case, ours, part, quiet, theirs
from torch import nn

from xbench.registry import METRICS
from xbench.streams import Streams


@deviation(
    "MPRT",
    "cascading_randomization",
    "The average holds the trivial 1 of the untouched model, every layer gets the same seed, "
    "attention and tokens stay trained; here one seed a layer, and all parameters change.",
)
def _mprt() -> str:
    case = part(make_case(), 4)
    reported = theirs(quiet("MPRT", return_average_correlation=True), case)
    layers = theirs(quiet("MPRT", abs=False), case)
    true = np.mean([np.mean(v) for k, v in layers.items() if k != "original"])
    whole = np.mean(theirs(quiet("MPRT", abs=False, return_average_correlation=True), case))
    return (
        f"average reported {whole:.3f} (of absolute maps {np.mean(reported):.3f}), "
        f"without the trivial 1 {true:.3f}"
    )


@deviation(
    "LocalLipschitzEstimate, RandomLogit",
    "local_lipschitz, class_sensitivity",
    "Maps are divided by the largest value of the whole batch, so a loud neighbor changes a score.",
)
def _normalization() -> str:
    case = part(make_case(), 3)
    loud = case.maps.clone()
    loud[1] *= 20
    metric = quiet("LocalLipschitzEstimate", nr_samples=5)
    values = [theirs(metric, case.with_maps(maps))[0] for maps in (case.maps, loud)]
    return (
        f"first image beside a neighbor and beside one 20 times as loud: "
        f"{values[0]:.2f} and {values[1]:.2f}"
    )


@deviation(
    "RandomLogit",
    "class_sensitivity",
    "Assumes 1000 classes; similarity is an SSIM over flattened maps.",
)
def _random_logit() -> str:
    return f"{failure(quiet('RandomLogit'), part(make_case(), 4))}"


@deviation(
    "EffectiveComplexity",
    "effective_complexity",
    "Counts values above a fixed threshold after scaling by the whole batch; here the threshold "
    "is relative to the map's own maximum.",
)
def _effective() -> str:
    case = part(make_case(), 2)
    loud = case.maps.clone()
    loud[1] *= 1e8
    values = [theirs(quiet("EffectiveComplexity"), case.with_maps(m))[0] for m in (case.maps, loud)]
    here = [ours("effective_complexity", case.with_maps(m))[0] for m in (case.maps, loud)]
    return (
        f"first image beside a neighbor and beside a loud one: {values[0]} and {values[1]} pixels; "
        f"here {here[0]:.3f} and {here[1]:.3f}"
    )


@deviation(
    "Complexity",
    "complexity, entropy",
    "Same value where the map is not zero; a zero map fails there and is undefined here; `entropy` "
    "divides by ln N.",
)
def _complexity() -> str:
    case = make_case()
    there, here = np.asarray(theirs(quiet("Complexity"), case)), ours("complexity", case).numpy()
    return f"largest difference over {IMAGES} images: {np.abs(there - here).max():.1e} nats"


@deviation(
    "Sparseness",
    "sparseness",
    "Same index; it adds 1e-7 to every value, and writes into the caller's maps where "
    "abs and normalise are off.",
)
def _sparseness() -> str:
    case = make_case()
    there, here = np.asarray(theirs(quiet("Sparseness"), case)), ours("sparseness", case).numpy()
    given = np.abs(case.maps[:, None].numpy().copy())
    kept = given.copy()
    theirs(quiet("Sparseness", abs=False, normalise=False), case, a_batch=given)
    return (
        f"largest difference {np.abs(there - here).max():.1e}; "
        f"the caller's maps changed by {np.abs(given - kept).max():.0e}"
    )


@deviation(
    "PointingGame",
    "pointing_game",
    "A hit if any of several maxima lies inside, no tolerance; here one maximum by a seeded draw, "
    "within 15 of 224 pixels.",
)
def _pointing() -> str:
    case = make_case()
    maps = torch.full_like(case.maps, 0.5)
    maps[:, 0, 0] = 0.0
    flat = case.with_maps(maps)
    there = np.mean(theirs(quiet("PointingGame"), flat))
    here = np.mean(
        [
            float(METRICS.create("pointing_game").value.score(flat, streams=s).values.mean())
            for s in (Streams(seed, case.image_ids) for seed in range(20))
        ]
    )
    return (
        f"a map that is flat but for one pixel: {there:.2f}; "
        f"here {here:.2f}, about the dilated share of the image"
    )


@deviation(
    "RelevanceMassAccuracy, AttributionLocalisation",
    "mass_accuracy, attribution_localization",
    "Negative values enter the sums; the paper's shares are of positive relevance (Arras et al. "
    "2022). Equal on maps without negative values.",
)
def _mass() -> str:
    case = make_case()
    there = theirs(quiet("RelevanceMassAccuracy", abs=False), case)
    here = ours("mass_accuracy", case)
    return (
        f"signed gradient, range over {IMAGES} images: {min(there):.2f} to {max(there):.2f}; "
        f"here {here.min():.2f} to {here.max():.2f}"
    )


@deviation(
    "TopKIntersection",
    "top_k_intersection",
    "k is 1000 pixels whatever the image; here a share of the pixels.",
)
def _top_k() -> str:
    case = make_case()
    there = np.mean(theirs(quiet("TopKIntersection", abs=False), case))
    here = ours("top_k_intersection", case).mean()
    return f"64 x 64 pixels, default k: {there:.3f}; here at 2 % {here:.3f}"


@deviation(
    "SmoothMPRT",
    "smooth_randomization",
    "Explains by its own gradient, whatever method is under test.",
)
def _smooth() -> str:
    calls = []

    def explain(model: nn.Module, inputs: Any, targets: Any, **_: object) -> Any:
        calls.append(len(inputs))
        return np.ones((len(inputs), 1, *inputs.shape[2:]), np.float32)

    theirs(quiet("SmoothMPRT", nr_samples=2), part(make_case(), 2), explain_func=explain)
    return f"calls of the user's function: {len(calls)}"
