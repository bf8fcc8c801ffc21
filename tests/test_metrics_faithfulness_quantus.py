"""Parity with Quantus where its definition is sound, by running it on grey images.

Quantus flips single channel values, takes colors from the image, and integrates with steps of one;
grey images, one fixed color and a division by the number of steps make the definitions equal.
"""

import nets
import numpy as np
import pytest
import torch
from faithfulness_tools import IDS, no_explain

from xbench.classifier import Classifier
from xbench.contracts import Case
from xbench.operations.solvers import solve_neighbors
from xbench.operations.subsets import random_subsets
from xbench.registry import METRICS
from xbench.streams import Streams

quantus = pytest.importorskip("quantus", exc_type=ImportError)

SIDE = 8


@pytest.fixture(scope="module")
def grey():
    """Three grey images whose smallest value is 0, so that Quantus' "black" is black throughout."""
    model = Classifier(nets.build(nets.SmallCNN, channels=1), batch_size=64)
    images = nets.pictures(3, 1, SIDE, SIDE)
    images[:, :, 0, 0] = 0.0
    maps = torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(8))
    maps[:, 0, 0] = 2.0  # already black: removing it changes nothing, in either order
    targets = model.logits(images).argmax(dim=1)
    streams = Streams(seed=0, image_ids=IDS, scope="test")
    return Case(model, images, targets, maps, no_explain, IDS), streams


def run(metric, case, **more):
    return metric(
        model=case.model.network,
        x_batch=case.images.numpy(),
        y_batch=case.targets.numpy(),
        a_batch=case.maps[:, None].numpy(),
        device="cpu",
        channel_first=True,
        **more,
    )


COMMON = {
    "abs": False,
    "normalise": False,
    "perturb_baseline": "black",
    "disable_warnings": True,
    "display_progressbar": False,
}


def test_pixel_flipping_is_the_deletion_curve(grey):
    case, streams = grey
    theirs = np.array(run(quantus.PixelFlipping(features_in_step=4, **COMMON), case, softmax=True))
    ours = METRICS.create("deletion[steps=16,imputer=black]").value.score(case, streams=streams)
    curve = ours.curves["probability"].numpy()
    assert theirs.shape == (3, 16)  # it leaves out the clean image
    assert np.abs(curve[:, 1:] - theirs).max() < 1e-5
    clean = curve[:, :1]
    area = np.trapezoid(np.hstack([clean, theirs]), axis=1) / 16
    assert ours.values.numpy() == pytest.approx(area, abs=1e-5)


def test_faithfulness_correlation_with_the_same_subsets(grey, monkeypatch):
    case, streams = grey
    size, draws = round(0.2 * SIDE * SIDE), 50
    subsets = random_subsets(streams.shared(), SIDE * SIDE, size, draws, 0)
    order = iter(
        [subsets[i, run_].nonzero()[:, 0].numpy() for run_ in range(draws) for i in range(3)]
    )
    monkeypatch.setattr(np.random, "choice", lambda *_, **__: next(order))
    theirs = run(
        quantus.FaithfulnessCorrelation(
            nr_runs=draws, subset_size=size, return_aggregate=False, **COMMON
        ),
        case,
    )
    monkeypatch.undo()
    ours = METRICS.create(
        f"faithfulness_correlation[grid={SIDE},draws={draws},imputer=black]"
    ).value.score(case, streams=streams)
    assert ours.values.tolist() == pytest.approx([float(v) for v in theirs], abs=1e-4)


def test_faithfulness_estimate_pixel_by_pixel(grey):
    case, streams = grey
    theirs = run(quantus.FaithfulnessEstimate(features_in_step=1, **COMMON), case)
    ours = METRICS.create(f"faithfulness_estimate[grid={SIDE},imputer=black]").value.score(
        case, streams=streams
    )
    assert ours.values.tolist() == pytest.approx([float(v) for v in theirs], abs=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
def test_linear_imputation_without_noise(channels):
    images = nets.pictures(1, channels, 14, 11)
    drop = torch.rand(14 * 11, generator=torch.Generator().manual_seed(4)) < 0.7
    impute = pytest.importorskip("quantus.functions.perturb_func").noisy_linear_imputation
    theirs = impute(images[0].double().numpy(), drop.nonzero()[:, 0].numpy(), noise=0.0)
    ours = solve_neighbors(images, drop.view(1, 1, 14, 11))
    assert np.abs(ours[0].numpy() - theirs.reshape(channels, 14, 11)).max() < 1e-4
