"""Rows against captum and lime, which get full batches."""

import itertools
from typing import Any
from unittest import mock

import numpy as np
import torch
from bench import Bench
from captum.attr import IntegratedGradients, NoiseTunnel, Occlusion, Saliency
from lime.lime_image import LimeImageExplainer
from lime.wrappers.scikit_image import SegmentationAlgorithm
from rows import Work, peer_row
from torch import Tensor

from xbench.operations.imputers import mean_color
from xbench.operations.segments import segment

ROWS_A_CALL = 16


def _apart(ours: Tensor, theirs: Tensor) -> str:
    """The largest difference of maps, relative to the largest value, and their correlation."""
    theirs = theirs.detach().to(ours)
    apart = float((ours - theirs).abs().max() / theirs.abs().max())
    both = torch.stack([ours.flatten(), theirs.flatten()]).double()
    return f"max difference {apart:.1e} of the largest value, r = {torch.corrcoef(both)[0, 1]:.4f}"


def _fill(bench: Bench, count: int) -> Tensor:
    """The mean color as a baseline, (count, C, H, W)."""
    color = torch.as_tensor(mean_color(bench.model)).to(bench.images).view(1, -1, 1, 1)
    return color.expand(count, bench.images.shape[1], *bench.images.shape[2:]).contiguous()


@peer_row("captum integrated gradients", 1.6)
def _path(bench: Bench) -> Work:
    count, steps = 2, bench.some(25)
    images, targets = bench.images[:count], bench.targets[:count]
    explainer, start = IntegratedGradients(bench.peer), _fill(bench, count)

    def peer() -> Tensor:
        found = explainer.attribute(
            images.clone(),
            baselines=start,
            target=targets,
            n_steps=steps,
            method="riemann_middle",
            internal_batch_size=ROWS_A_CALL,
        )
        return found.sum(dim=1)

    what = f"{steps} steps, {count} images; IntegratedGradients, {ROWS_A_CALL} rows a call"
    return Work(bench.method(f"integrated_gradients[n_steps={steps}]", count), what, peer, _apart)


@peer_row("captum SmoothGrad (NoiseTunnel)", 1.6)
def _smooth(bench: Bench) -> Work:
    count, samples, stdev = 2, bench.some(24), 0.15
    images, targets = bench.images[:count], bench.targets[:count]
    tunnel = NoiseTunnel(Saliency(bench.peer))
    label = f"smoothgrad[n_samples={samples},stdev={stdev}]"
    spreads = (images.amax(dim=(1, 2, 3)) - images.amin(dim=(1, 2, 3))).tolist()
    at_once = ROWS_A_CALL // count

    def peer() -> Tensor:
        found = tunnel.attribute(
            images.clone(),
            nt_type="smoothgrad",
            nt_samples=samples,
            nt_samples_batch_size=at_once,
            stdevs=stdev * sum(spreads) / count,
            target=targets,
            abs=False,
        )
        return found.sum(dim=1)

    def same() -> Tensor:
        """With our noise, whose size is that of each image; theirs has one size for all."""
        streams, calls = bench.streams(count, label), itertools.count()

        def normal(_: object, like: Tensor) -> Tensor:
            first = at_once * next(calls)
            copies = range(first, first + len(like) // count)
            rows = [
                stdev * spreads[i] * torch.randn(like.shape[1:], generator=generator)
                for i in range(count)
                for generator in (streams.generator(i, "noise", copy) for copy in copies)
            ]
            return torch.stack(rows).to(like)

        with mock.patch.object(torch, "normal", normal):
            return peer()

    what = f"{samples} noisy copies, {count} images; NoiseTunnel over Saliency, {ROWS_A_CALL} rows"
    return Work(bench.method(label, count), what, peer, _apart, same)


@peer_row("captum occlusion", 1.4)
def _occlusion(bench: Bench) -> Work:
    side = bench.images.shape[-1]
    window, stride = side // 7, side // 14
    images, targets, start = bench.images[:1], bench.targets[:1], _fill(bench, 1)
    explainer = Occlusion(bench.peer)

    def peer() -> Tensor:
        with torch.no_grad():
            found = explainer.attribute(
                images,
                sliding_window_shapes=(3, window, window),
                strides=(3, stride, stride),
                baselines=start,
                target=targets,
                perturbations_per_eval=ROWS_A_CALL,
            )
        return found[:, 0]  # the same in all channels

    what = f"windows of {window}, stride {stride}, 1 image; Occlusion, {ROWS_A_CALL} rows a call"
    return Work(bench.method(f"occlusion[window={window},stride={stride}]", 1), what, peer, _apart)


class _Replay(np.random.RandomState):
    """Draws the coalitions that ours draws, so that both fit the same samples."""

    def __init__(self, bench: Bench, label: str) -> None:
        super().__init__(0)
        self.generator = bench.streams(1, label).generator(0, "lime")

    def randint(self, low: int, high: int | None = None, size: Any = None, **more: Any) -> Any:
        if (low, high) != (0, 2):
            return super().randint(low, high, size, **more)
        drawn = torch.randint(2, (int(size),), generator=self.generator, dtype=torch.bool)
        return drawn.long().numpy()


@peer_row("lime", 1.3)
def _lime(bench: Bench) -> Work:
    samples = bench.some(400)
    label = f"lime[n_samples={samples}]"
    pixels = bench.images[0].permute(1, 2, 0).cpu().numpy()
    target = int(bench.targets[0])
    cut = SegmentationAlgorithm(
        "slic", n_segments=50, sigma=1.0, min_size_factor=0.2, start_label=0
    )

    def predict(batch: np.ndarray) -> np.ndarray:
        rows = torch.from_numpy(batch).permute(0, 3, 1, 2).to(bench.device).contiguous()
        with torch.no_grad():
            return bench.peer(rows).softmax(dim=1).cpu().numpy()

    def ours_cut(_: np.ndarray) -> np.ndarray:
        """The same segments with the smallest ones merged, so that there are never more than 50."""
        return segment(bench.images[:1], "slic", 50)[0].cpu().numpy()

    def peer(state: np.random.RandomState | None = None, cut: Any = cut) -> Tensor:
        explainer = LimeImageExplainer(random_state=state or np.random.RandomState(0))
        found = explainer.explain_instance(
            pixels,
            predict,
            labels=(target,),
            top_labels=None,
            num_samples=samples,
            batch_size=ROWS_A_CALL,
            segmentation_fn=cut,
        )
        painted = np.zeros(found.segments.shape, dtype=np.float32)
        for place, weight in found.local_exp[target]:
            painted[found.segments == place] = weight
        return torch.from_numpy(painted)[None]

    return Work(
        bench.method(label, 1),
        f"{samples} coalitions, slic, 1 image, segmentation included; {ROWS_A_CALL} rows a call",
        peer,
        _apart,
        lambda: peer(_Replay(bench, label), ours_cut),
    )
