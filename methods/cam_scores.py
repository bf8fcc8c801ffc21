"""CAMs that try each channel as a mask of the image: Score-CAM, IS-CAM, SS-CAM.

Symbols: A_k is the k-th feature map of a layer, Y the raw score of the class, X the image.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from xbench.classifier import Classifier
from xbench.classifier.network import target_logit
from xbench.contracts import Method, MethodCard
from xbench.errors import ParameterError
from xbench.operations.pixels import fill, rows_of, upsample
from xbench.registry import METHODS
from xbench.streams import Streams

from ._cam import (
    feature_layer,
    image_chunks,
    refuse_without_features,
    to_pixels,
    unit_range,
    weigh,
)

Fill = Literal["mean", "black", "gray", "blur"]


@METHODS.register
@dataclass(frozen=True)
class ScoreCam(Method):
    """L = ReLU(sum_k w_k A_k), w = softmax over k of Y(X * H_k), H_k = A_k upsampled to [0, 1].

    The score of a baseline image, which the paper subtracts, is the same for all channels and
    leaves the softmax as it is, so it is not computed. A constant channel shows nothing: H_k = 0.

    Attributes:
        layer: a role or dotted name, whose feature maps are the masks.
        fill: what stands where the mask is 0; "mean" is the zero of normalized pixels, as in the
            paper.
        relu: keep positive values only, as in the paper.
    """

    card: ClassVar[MethodCard] = MethodCard(
        name="scorecam",
        summary="Feature maps weighed by the score of the image seen through them.",
        paper="Wang et al. 2020, Score-CAM",
        limitations="One forward a channel. The softmax over raw scores may leave few channels "
        "any weight. As coarse as the layer's grid.",
        family="cam",
        needs=("convolution",),
        signed=False,
        forwards="channels + 1",
        at_most=True,
        baseline="mean",
    )
    layer: str = "last_conv"
    fill: Fill = "mean"
    relu: bool = True

    def supports(self, model: Classifier) -> str | None:
        """Refuses models without feature maps."""
        return refuse_without_features(model)

    def explain(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """Maps (N, H, W); one forward a channel and one for the feature maps.

        An image's constant channels share one.
        """
        trial = _Trial(model, self.layer, self.fill, streams)
        return to_pixels(trial.maps(images, targets, samples=1), images, relu=self.relu)


@METHODS.register
@dataclass(frozen=True)
class IsCam(Method):
    """Score-CAM with w = softmax over k of the mean over i = 1..n of Y(X * (i / n) H_k).

    The mask is faded in, so that a channel's score is an integral and no single value. With
    n_steps=1 this is Score-CAM.

    Attributes:
        layer: a role or dotted name, whose feature maps are the masks.
        n_steps: number n of mask strengths.
        fill: what stands where the mask is 0.
        relu: keep positive values only.
    """

    card: ClassVar[MethodCard] = MethodCard(
        name="iscam",
        summary="Score-CAM over masks that are faded in.",
        paper="Naidu et al. 2020, IS-CAM",
        limitations="n_steps forwards a channel. As coarse as the layer's grid.",
        family="cam",
        needs=("convolution",),
        signed=False,
        forwards="channels * n_steps + 1",
        at_most=True,
        baseline="mean",
    )
    layer: str = "last_conv"
    n_steps: int = 10
    fill: Fill = "mean"
    relu: bool = True

    def __post_init__(self) -> None:
        """Refuses an empty integral."""
        if self.n_steps < 1:
            raise ParameterError("iscam[n_steps=...] takes a number of at least 1.")

    def supports(self, model: Classifier) -> str | None:
        """Refuses models without feature maps."""
        return refuse_without_features(model)

    def explain(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """Maps (N, H, W); n_steps forwards a channel and one for the feature maps."""
        trial = _Trial(model, self.layer, self.fill, streams, fade=True)
        maps = trial.maps(images, targets, samples=self.n_steps)
        return to_pixels(maps, images, relu=self.relu)


@METHODS.register
@dataclass(frozen=True)
class SsCam(Method):
    """Score-CAM with w = softmax over k of the mean over n draws of Y(X * (H_k + noise)).

    The noise is Gaussian, one value a pixel, added to the mask after it was stretched to [0, 1]
    (the paper's first variant, which smooths the feature maps).

    Attributes:
        layer: a role or dotted name, whose feature maps are the masks.
        n_samples: number n of noisy masks a channel (the paper takes 10 to 35).
        stdev: standard deviation of the noise; the paper takes 2.
        fill: what stands where the mask is 0.
        relu: keep positive values only.
    """

    card: ClassVar[MethodCard] = MethodCard(
        name="sscam",
        summary="Score-CAM over noisy masks.",
        paper="Wang et al. 2020, SS-CAM",
        limitations="n_samples forwards a channel: the most expensive of the CAMs. Noise as large "
        "as the paper's leaves little of the image. As coarse as the layer's grid.",
        family="cam",
        needs=("convolution",),
        signed=False,
        stochastic=True,
        forwards="channels * n_samples + 1",
        baseline="mean",
    )
    layer: str = "last_conv"
    n_samples: int = 10
    stdev: float = 2.0
    fill: Fill = "mean"
    relu: bool = True

    def __post_init__(self) -> None:
        """Refuses no samples and negative noise."""
        if self.n_samples < 1:
            raise ParameterError("sscam[n_samples=...] takes a number of at least 1.")
        if self.stdev < 0:
            raise ParameterError("sscam[stdev=...] takes a number that is not negative.")

    def supports(self, model: Classifier) -> str | None:
        """Refuses models without feature maps."""
        return refuse_without_features(model)

    def explain(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """Maps (N, H, W); n_samples forwards a channel and one for the feature maps."""
        trial = _Trial(model, self.layer, self.fill, streams, stdev=self.stdev)
        maps = trial.maps(images, targets, samples=self.n_samples)
        return to_pixels(maps, images, relu=self.relu)


@dataclass(frozen=True)
class _Trial:
    """Trying every channel as a mask of the image.

    Attributes:
        model, layer, fill, streams: as in the methods.
        fade: sample i of n uses the mask at strength (i + 1) / n.
        stdev: noise on the mask.
    """

    model: Classifier
    layer: str
    fill: str
    streams: Streams
    fade: bool = False
    stdev: float = 0.0

    def maps(self, images: Tensor, targets: Tensor, *, samples: int) -> Tensor:
        """sum_k w_k A_k at layer resolution, (N, h, w), w from `samples` masks a channel."""
        layer = feature_layer(self.model, images, self.layer)
        rows = layer.channels * samples
        found = []
        for part in image_chunks(images, rows, self.model.classes(images)):
            streams = self.streams.select(range(len(self.streams))[part])
            activations = self.model.activations(images[part], layer)
            scores = self._scores(images[part], targets[part], activations, samples, streams)
            found.append(weigh(scores.softmax(dim=1), activations))
        return torch.cat(found)

    def _scores(
        self,
        images: Tensor,
        targets: Tensor,
        activations: Tensor,
        samples: int,
        streams: Streams,
    ) -> Tensor:
        """Mean score of each channel's masked images, (N, K)."""
        n, channels = activations.shape[:2]
        size = (int(images.shape[2]), int(images.shape[3]))
        base = fill(
            images, self.fill, mean=self.model.network.get_buffer("mean").flatten(), streams=streams
        )
        change = images - base

        flat = activations.flatten(2)
        constant = flat.amax(dim=2) == flat.amin(dim=2)
        places = self._places(constant, samples)

        def build(index: Tensor) -> Tensor:
            image, channel, sample = places[index].unbind(1)
            mask = unit_range(upsample(activations[image, channel], size))
            mask = mask * ~constant[image, channel].view(-1, 1, 1)  # no stretched rounding
            if self.fade:
                mask = mask * ((sample + 1) / samples).view(-1, 1, 1)
            if self.stdev > 0:
                mask = mask + self.stdev * self._noise(image, channel, sample, size, streams)
            return (mask[:, None] * rows_of(change, image)).add_(rows_of(base, image))

        logits = self.model.rows(len(places), build, like=images)
        scores = logits.new_zeros(n, channels, samples)
        scores[places.unbind(1)] = target_logit(logits, targets[places[:, 0]])
        first = constant.int().argmax(dim=1)[:, None]
        blank = scores[..., 0].gather(1, first)  # of an image without constant channels: not used
        means = scores.mean(dim=2)
        return means if self.stdev > 0 else torch.where(constant, blank, means)

    def _places(self, constant: Tensor, samples: int) -> Tensor:
        """What to try, (rows, 3): image, channel, sample.

        Without noise an image's constant channels all show its baseline, so one is tried, once.
        """
        if self.stdev > 0:
            constant = torch.zeros_like(constant)
        tried = (~constant)[..., None].repeat(1, 1, samples)
        tried[..., 0] |= constant & (constant.cumsum(dim=1) == 1)
        return tried.nonzero()

    def _noise(
        self,
        image: Tensor,
        channel: Tensor,
        sample: Tensor,
        size: tuple[int, int],
        streams: Streams,
    ) -> Tensor:
        draws = [
            torch.randn(size, generator=streams.generator(i, "mask", k, s))
            for i, k, s in zip(image.tolist(), channel.tolist(), sample.tolist(), strict=True)
        ]
        return torch.stack(draws).to(image.device)
