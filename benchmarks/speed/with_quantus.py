"""Rows against Quantus; it gets batches of 8 images."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, ClassVar
from unittest import mock

import numpy as np
import quantus
from bench import Bench
from calls import Pixels
from quantus.helpers.model.pytorch_model import PyTorchModel
from rows import ROWS, Row, Skipped, Work, peer_row

from xbench.classifier.randomize import RandomizedNetwork, stages
from xbench.errors import XbenchError
from xbench.operations.curves import area
from xbench.operations.segments import segment
from xbench.operations.subsets import random_subsets
from xbench.optional import seeded
from xbench.registry import METRICS

COUNT = 8
STEPS = 24  # Quantus flips channel values, and H * W must be a multiple of a step
QUIET = {"disable_warnings": True, "display_progressbar": False, "abs": False, "normalise": False}
Around = Callable[[], Any]


def _run(bench: Bench, metric: Any, *, explains: bool = False, around: Around = nullcontext) -> Any:
    """A metric of Quantus on the first images, seeded, with its own explanations of gradients."""
    arguments: dict[str, Any] = {
        "model": bench.peer,
        "x_batch": bench.images[:COUNT].cpu().numpy(),
        "y_batch": bench.targets[:COUNT].cpu().numpy(),
        "a_batch": bench.maps[:COUNT, None].cpu().numpy(),
        "device": str(bench.device),
        "batch_size": COUNT,
    }
    if explains:
        arguments["explain_func"] = quantus.explain
        arguments["explain_func_kwargs"] = {"method": "Gradient", "device": str(bench.device)}
    with seeded(0), around():
        return metric(**arguments)


def _apart(ours: np.ndarray, theirs: np.ndarray) -> str:
    """The largest difference, and that relative to the largest value."""
    apart = float(np.abs(ours - theirs).max())
    return f"max difference {apart:.1e} of {float(np.abs(theirs).max()):.2g}"


def _flipping(bench: Bench, steps: int) -> Any:
    """Pixel flipping in so many steps; its features are channel values, three a pixel."""
    values = bench.images[0].numel() // steps
    return quantus.PixelFlipping(features_in_step=values, perturb_baseline=0.0, **QUIET)


@peer_row("Quantus pixel flipping, equal steps", 1.5)
def _pixel_flipping(bench: Bench) -> Work:
    metric = _flipping(bench, STEPS)

    def agree(ours: list[Any], theirs: Any) -> str:
        return _apart(ours[0].curves["probability"].numpy()[:, 1:], np.array(theirs))

    return Work(
        bench.metrics((f"deletion[steps={STEPS},imputer=black]",), COUNT),
        f"deletion in {STEPS} steps to black, {COUNT} images; PixelFlipping",
        lambda: _run(bench, metric),
        agree,
    )


@peer_row("Quantus pixel flipping, equal accuracy of the area", 5.0)
def _equal_accuracy(bench: Bench) -> Work:
    label = "deletion_adaptive[points=57,imputer=black]"
    try:
        METRICS.create(label)
    except XbenchError as error:
        raise Skipped(f"There is no adaptive curve here: {error}") from error
    finest = 4 if bench.settings.quick else 28
    dense = finest * STEPS
    (full,) = bench.metrics((f"deletion[steps={dense},imputer=black]",), COUNT)()
    curve, target = full.curves["probability"], area(full.curves["probability"])
    (found,) = bench.metrics((label,), COUNT)()
    error = float((found.values - target).abs().mean())
    chosen, theirs = dense, 0.0
    for steps in (STEPS * k for k in (1, 2, 4, 7, 14, 28) if k <= finest):
        points = curve[:, dense // steps :: dense // steps]  # without the clean image
        theirs = float((area(points) - target).abs().mean())
        chosen = steps
        if theirs <= error:
            break
    metric = _flipping(bench, chosen)
    return Work(
        bench.metrics((label,), COUNT),
        f"{label} (mean error of the area {error:.4f}) and PixelFlipping in {chosen} steps "
        f"({theirs:.4f}; its own area, over the number of its steps); {COUNT} images, against "
        f"{dense} steps",
        lambda: _run(bench, metric),
        tuned=False,
    )


@peer_row("Quantus faithfulness correlation", 2.0)
def _correlation(bench: Bench) -> Work:
    grid, draws = 8, bench.some(50)
    label = f"faithfulness_correlation[grid={grid},share=0.25,draws={draws},imputer=black]"
    size = bench.images[0].numel() // 4
    metric = quantus.FaithfulnessCorrelation(
        nr_runs=draws, subset_size=size, perturb_baseline=0.0, return_aggregate=False, **QUIET
    )

    @contextmanager
    def same_subsets() -> Iterator[None]:
        cells = segment(bench.images[:1], "grid", grid * grid)[0].flatten().cpu()
        channels = bench.images.shape[1]
        streams = bench.streams(COUNT, label).shared()
        subsets = random_subsets(streams, grid * grid, grid * grid // 4, draws, 0)
        order = iter(
            [
                subsets[i, run][cells].repeat(channels).nonzero()[:, 0].numpy()
                for run in range(draws)
                for i in range(COUNT)
            ]
        )
        with mock.patch.object(np.random, "choice", side_effect=lambda *_, **__: next(order)):
            yield

    return Work(
        bench.metrics((label,), COUNT),
        f"{draws} random quarters of the image to black, {COUNT} images; FaithfulnessCorrelation",
        lambda: _run(bench, metric),
        lambda ours, theirs: _apart(ours[0].values.numpy(), np.array(theirs)),
        lambda: _run(bench, metric, around=same_subsets),
    )


def _same_noise(bench: Bench, radius: float) -> Callable[..., np.ndarray]:
    """A perturbation for Quantus that replays our draws, one a call."""
    shape = tuple(bench.images.shape[1:])
    shared, draw = bench.streams(COUNT, "").shared(), iter(range(1000))

    def perturb(arr: np.ndarray, indices: object, **_: object) -> np.ndarray:
        noise = 2 * shared.uniform(shape, "noise", next(draw)) - 1
        return arr + radius * noise.flatten(1).numpy()

    return perturb


def _robustness(
    kind: str, ours: str, spread: str, checked: bool, bench: Bench, radius: float = 0.02
) -> Work:
    """A robustness metric of Quantus, with or without the check that the class stays."""
    draws = bench.some(10)
    label = ours.format(draws=draws, radius=radius)
    options = {**QUIET, "nr_samples": draws, "return_nan_when_prediction_changes": checked}
    make = getattr(quantus, kind)
    metric = make(**{spread: radius}, **options)

    def agree(found: list[Any], theirs: Any) -> str:
        values = found[0].details["same_prediction"] if checked else found[0].values
        other = np.array(theirs, dtype=float)
        return _apart(values.numpy()[np.isfinite(other)], other[np.isfinite(other)])

    extra = ", predictions of all copies too" if checked else "; ours predicts all copies as well"
    return Work(
        bench.metrics((label,), COUNT),
        f"{draws} noisy copies, gradient, {COUNT} images; {kind}{extra}",
        lambda: _run(bench, metric, explains=True),
        agree,
        lambda: _run(
            bench, make(perturb_func=_same_noise(bench, radius), **options), explains=True
        ),
    )


for _name, _goal, _theirs, _ours, _spread in (
    (
        "Quantus max sensitivity",
        1.9,
        "MaxSensitivity",
        "max_sensitivity[draws={draws},radius={radius}]",
        "lower_bound",
    ),
    (
        "Quantus local Lipschitz estimate",
        10.0,
        "LocalLipschitzEstimate",
        "local_lipschitz[draws={draws},radius={radius},normalize=false]",
        "perturb_std",
    ),
):
    ROWS.append(Row(_name, _goal, "peer", partial(_robustness, _theirs, _ours, _spread, False)))
    ROWS.append(
        Row(
            f"{_name}, predictions on both sides",
            None,
            "peer",
            partial(_robustness, _theirs, _ours, _spread, True),
        )
    )


class _Stages:
    """Stands in for Quantus' walk over all layers: ours over six depths, with our weights."""

    depths: ClassVar[int] = 6

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.count = len(self._chosen(self._network()))

    def _network(self) -> RandomizedNetwork:
        shared = self.bench.streams(COUNT, "").shared()
        return RandomizedNetwork(self.bench.model, self.bench.images, "permutation", shared)

    def _chosen(self, network: RandomizedNetwork) -> list[list[int]]:
        return stages(len(network.layers), self.depths, "top_down")

    def walk(self) -> Iterator[tuple[str, Pixels]]:
        """The network at each depth, made anew."""
        network = self._network()
        for stage, layers in enumerate(self._chosen(network)):
            yield f"stage {stage}", Pixels(network.at(layers), self.bench.calls.order, own=True)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Quantus walks over these inside."""
        own = {
            "get_random_layer_generator": lambda model, **_: self.walk(),
            "random_layer_generator_length": self.count,
        }
        with mock.patch.multiple(PyTorchModel, **own):
            yield


@peer_row("Quantus MPRT", 1.9)
def _mprt(bench: Bench) -> Work:
    walked = _Stages(bench)
    metric = quantus.MPRT(**QUIET)

    def agree(ours: list[Any], theirs: dict[str, Any]) -> str:
        mine = ours[0].curves["spearman"].numpy()
        other = np.stack([np.array(theirs[f"stage {i}"]) for i in range(walked.count)], axis=1)
        return _apart(mine, other)

    return Work(
        bench.metrics(("cascading_randomization",), COUNT),
        f"{walked.count} depths, the same weights, gradient, {COUNT} images; MPRT walking over the "
        "depths that ours visits (its own walk visits every layer)",
        lambda: _run(bench, metric, explains=True, around=walked.installed),
        agree,
    )
