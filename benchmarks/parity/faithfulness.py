"""Rows of the parity page: faithfulness."""

import numpy as np
from harness import IMAGES, deviation, failure, make_case, ours, part, quiet, theirs


@deviation(
    "PixelFlipping",
    "deletion",
    "It flips single channel values, and its area is not divided by the number of steps; here a "
    "pixel is all its channels, the area is over [0, 1], and both ends count.",
)
def _flipping() -> str:
    case = part(make_case(), 4)
    area = [
        np.mean(
            theirs(quiet("PixelFlipping", features_in_step=s, return_auc_per_sample=True), case)
        )
        for s in (256, 2048)
    ]
    here = [ours(f"deletion[steps={k}]", case).mean() for k in (48, 6)]
    return (
        f"steps of 256 and 2048 values: {area[0]:.2f} and {area[1]:.2f}; "
        f"48 and 6 steps here: {here[0]:.3f} and {here[1]:.3f}"
    )


@deviation(
    "RegionPerturbation",
    "region_perturbation",
    "Declared lower-is-better although a faithful map makes the drop large (Samek et al. 2017); "
    "no mean over the steps.",
)
def _regions() -> str:
    case = part(make_case(), 4)
    truth = case.truth.float() if case.truth is not None else case.maps
    values = []
    for maps in (truth + 1e-3, 1.001 - truth):
        found = theirs(quiet("RegionPerturbation", regions_evaluation=20), case.with_maps(maps))
        values.append(np.mean(np.asarray(found)))
    here = [ours("region_perturbation", case.with_maps(m)).mean() for m in (truth, -truth)]
    return (
        f"mask and inverted mask: {values[0]:.3f} and {values[1]:.3f}, called lower-is-better; "
        f"here {here[0]:.2f} and {here[1]:.2f}, higher-is-better"
    )


@deviation("ROAD", "road", "Fails on color images; a per-image value is not kept.")
def _road() -> str:
    return f"RGB: {failure(quiet('ROAD'), part(make_case(), 4))}"


@deviation(
    "ROAD",
    "road",
    "Only the first batch counts (grey images, where it runs).",
)
def _road_batches() -> str:
    case = make_case(grey=True)
    values = [theirs(quiet("ROAD", percentages=[30]), case, size)[30] for size in (IMAGES, 3)]
    return f"accuracy at 30 %, batches of {IMAGES} and of 3: {values[0]:.2f} and {values[1]:.2f}"


@deviation(
    "IROF",
    "irof",
    "Fails on color images; on grey ones the fill is a mean over the batch, so neighbors enter.",
)
def _irof() -> str:
    case = make_case(grey=True)
    values = [theirs(quiet("IROF", return_aggregate=False), case, size)[0] for size in (IMAGES, 1)]
    return (
        f"RGB: {failure(quiet('IROF'), part(make_case(), 2))[:60]}; "
        f"grey, first image among {IMAGES} and alone: {values[0]:.3f} and {values[1]:.3f}"
    )


@deviation(
    "Infidelity",
    "infidelity",
    "Perturbations add up in raster order and are not sampled, and the map is not scaled to its "
    "best fit (Yeh et al. 2019), so a loud map loses.",
)
def _infidelity() -> str:
    case = part(make_case(), 2)
    loud = case.with_maps(100 * case.maps)
    there = [np.mean(theirs(quiet("Infidelity", n_perturb_samples=1), c)) for c in (case, loud)]
    here = [ours("infidelity[draws=50]", c).mean() for c in (case, loud)]
    return (
        f"the map and 100 times the map: {there[0]:.3g} and {there[1]:.3g}; "
        f"here {here[0]:.4f} and {here[1]:.4f}"
    )


@deviation(
    "SensitivityN",
    "sensitivity_n",
    "Not the paper's random subsets (Ancona et al. 2018), and correlated over the images of a "
    "batch; there is no score an image.",
)
def _sensitivity_n() -> str:
    case = make_case(grey=True)
    values = [
        float(np.mean(theirs(quiet("SensitivityN", features_in_step=256), case, s)))
        for s in (12, 4)
    ]
    return f"the same images in batches of 12 and 4: {values[0]:.3f} and {values[1]:.3f}"


@deviation(
    "FaithfulnessCorrelation",
    "faithfulness_correlation",
    "Draws are not seeded and a subset is 224 values whatever the image; here a share of a grid.",
)
def _correlation() -> str:
    case = part(make_case(), 2)
    metric = quiet("FaithfulnessCorrelation", return_aggregate=False)
    there = [theirs(metric, case, seed=seed)[0] for seed in (0, 1)]
    here = [ours("faithfulness_correlation", case)[0] for _ in range(2)]
    return f"two calls: {there[0]:.3f} and {there[1]:.3f}; here {here[0]:.3f} and {here[1]:.3f}"


@deviation(
    "Monotonicity",
    "monotonicity",
    "A constant image is replaced by the same constant, so every map passes.",
)
def _monotonicity() -> str:
    case = part(make_case(), 4)
    values = [
        np.mean(theirs(quiet("Monotonicity", features_in_step=1024), case.with_maps(maps)))
        for maps in (case.maps, -case.maps)
    ]
    here = [ours("monotonicity", case.with_maps(maps)).mean() for maps in (case.maps, -case.maps)]
    return (
        f"a map and its negative: {values[0]:.2f} and {values[1]:.2f}; "
        f"here {here[0]:.2f} and {here[1]:.2f}"
    )
