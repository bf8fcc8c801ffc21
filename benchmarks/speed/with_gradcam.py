"""Rows against pytorch-grad-cam."""

from typing import Any

import numpy as np
import torch
from bench import LAST, Bench
from pytorch_grad_cam import AblationCAM, ScoreCAM
from pytorch_grad_cam.metrics.road import ROADCombined
from pytorch_grad_cam.utils.model_targets import (
    ClassifierOutputSoftmaxTarget,
    ClassifierOutputTarget,
)
from rows import Work, peer_row
from torch import Tensor


def _alike(ours: Tensor, theirs: np.ndarray) -> str:
    """Correlation of maps; theirs are scaled to [0, 1]."""
    both = torch.stack([ours.cpu().flatten(), torch.from_numpy(theirs).flatten()]).double()
    return f"r = {torch.corrcoef(both)[0, 1]:.4f} (theirs is scaled to [0, 1])"


@peer_row("grad-cam ROAD", 15.0)
def _road(bench: Bench) -> Work:
    images = bench.images[:1]
    lowest, highest = bench.maps[:1].amin(), bench.maps[:1].amax()
    cams = ((bench.maps[:1] - lowest) / (highest - lowest)).cpu().numpy()
    targets = [ClassifierOutputSoftmaxTarget(int(bench.targets[0]))]
    metric = ROADCombined(percentiles=[10, 30, 50, 70, 90])

    def agree(ours: list[Any], theirs: np.ndarray) -> str:
        mine, other = float(ours[0].values[0]), 2 * float(theirs[0])
        return f"{mine:.4f} and {other:.4f} (the noise is drawn anew)"

    return Work(
        bench.metrics(("road",), 1),
        "5 shares, both orders, 1 image; ROADCombined (twice its value)",
        lambda: metric(images, cams, targets, bench.peer),
        agree,
    )


@peer_row("grad-cam Score-CAM", 2.5)
def _score(bench: Bench) -> Work:
    layer = bench.peer.layer(LAST)
    targets = [ClassifierOutputTarget(int(bench.targets[0]))]

    def peer() -> np.ndarray:
        with ScoreCAM(bench.peer, [layer]) as cam:
            return cam(bench.images[:1].clone(), targets)

    return Work(
        bench.method(f"scorecam[layer={LAST},fill=black]", 1),
        f"the channels of {LAST}, 1 image; ScoreCAM, 16 rows a call",
        peer,
        _alike,
        layer=LAST,
    )


@peer_row("grad-cam Ablation-CAM", 20.0)
def _ablation(bench: Bench) -> Work:
    layer = bench.peer.layer(LAST)
    targets = [ClassifierOutputTarget(int(bench.targets[0]))]

    def peer() -> np.ndarray:
        with AblationCAM(bench.peer, [layer], batch_size=32) as cam:
            return cam(bench.images[:1].clone(), targets)

    return Work(
        bench.method(f"ablationcam[layer={LAST}]", 1),
        f"the channels of {LAST}, 1 image; AblationCAM, 32 rows a call",
        peer,
        _alike,
        layer=LAST,
    )
