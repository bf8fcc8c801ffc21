"""Attributions at a layer: activation, gradient times activation, conductance, internal influence.

Symbols: y is the layer's output, F the raw score of the class. Values are summed over channels and
brought to the pixels by bilinear upsampling; they are as coarse as the layer's grid.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, get_args

import torch
from torch import Tensor

from xbench.classifier import Classifier
from xbench.classifier.layers import Layer, stages
from xbench.contracts import Method, MethodCard
from xbench.errors import UnsupportedError
from xbench.registry import METHODS
from xbench.streams import Streams

from ._baselines import Baseline, baselines
from ._cam import feature_layer, refuse_without_features, to_pixels
from ._pixel import add_rows, gather, require, row_blocks

_COARSE = "As coarse as the layer's grid."


@METHODS.register
@dataclass(frozen=True)
class LayerActivation(Method):
    """The mean over channels of a layer's output.

    Attributes:
        layer: a role or dotted name.
    """

    layer: str = "last_conv"

    card: ClassVar[MethodCard] = MethodCard(
        name="layer_activation",
        family="path",
        summary="Mean activation of a layer, whatever the class.",
        paper="Zeiler and Fergus 2014, Visualizing and Understanding Convolutional Networks",
        limitations=f"Says where the layer is active, not why. {_COARSE}",
        needs=("convolution",),
        class_agnostic=True,
        forwards="1",
    )

    def supports(self, model: Classifier) -> str | None:
        """Refuses networks without feature maps."""
        return refuse_without_features(model)

    def explain(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """Maps, float32 (N, H, W)."""
        layer = feature_layer(model, images, self.layer)
        return to_pixels(model.activations(images, layer).mean(dim=1), images, relu=False)


@METHODS.register
@dataclass(frozen=True)
class LayerGradientXActivation(Method):
    """sum over channels of y * dF/dy.

    Attributes:
        layer: a role or dotted name.
    """

    layer: str = "last_conv"

    card: ClassVar[MethodCard] = MethodCard(
        name="layer_gradient_x_activation",
        family="path",
        summary="Activation of a layer times its gradient, signed.",
        paper="Ancona et al. 2018, Towards better understanding of gradient-based attribution "
        "methods for Deep Neural Networks",
        limitations=f"First order only. {_COARSE}",
        needs=("gradients", "convolution"),
        forwards="1",
        backwards="1",
    )

    def supports(self, model: Classifier) -> str | None:
        """Refuses networks without feature maps."""
        return refuse_without_features(model)

    def explain(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """Maps, float32 (N, H, W)."""
        layer = feature_layer(model, images, self.layer)
        activations, gradients, _ = model.activation_gradients(images, targets, layer)
        return to_pixels((activations * gradients).sum(dim=1), images, relu=False)


@dataclass(frozen=True)
class LayerPath(Method):
    """What the methods along a line of inputs have in common.

    Attributes:
        layer: a role or dotted name.
        n_steps: steps on the line from the baseline x' to x.
        baseline: x', see `_baselines.baselines`.
    """

    layer: str = "last_conv"
    n_steps: int = 50
    baseline: Baseline = "mean"

    def __post_init__(self) -> None:
        known = get_args(Baseline)
        require(self.n_steps >= 1, "n_steps is at least 1.")
        require(self.baseline in known, f"baseline is one of {', '.join(known)}.")

    def supports(self, model: Classifier) -> str | None:
        """Refuses networks without feature maps."""
        return refuse_without_features(model)

    def _layer(self, model: Classifier, images: Tensor) -> Layer:
        return feature_layer(model, images, self.layer)

    def line(
        self,
        model: Classifier,
        images: Tensor,
        targets: Tensor,
        alphas: Tensor,
        streams: Streams,
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """(row indices, y, dF/dy) of rows image * len(alphas) + point, a block at a time."""
        layer = self._layer(model, images)
        start = baselines(model, images, self.baseline, streams)
        points = len(alphas)
        alphas = alphas.to(images).view(-1, 1, 1, 1)
        for index in row_blocks(model, len(images) * points, images):
            image, point = index // points, index % points
            rows = start[image] + alphas[point] * (images[image] - start[image])
            values, gradients, _ = model.activation_gradients(rows, targets[image], layer)
            yield index, values, gradients


@METHODS.register
@dataclass(frozen=True)
class LayerConductance(LayerPath):
    """Conductance: the part of integrated gradients that flows through each unit of a layer.

    integral of dF/dy * dy/da along the line x' + a (x - x'), by the trapezoid rule in y: sum over
    steps of the mean gradient at both ends times the change of y. At layer resolution it sums to
    F(x) - F(x') where all evidence passes the layer.
    """

    card: ClassVar[MethodCard] = MethodCard(
        name="layer_conductance",
        family="path",
        summary="Integrated gradients that flow through a layer, signed.",
        paper="Dhamdhere, Sundararajan and Yan 2019, How Important is a Neuron?",
        limitations=_COARSE,
        needs=("gradients", "convolution"),
        forwards="n_steps + 1",
        backwards="n_steps + 1",
        baseline="mean",
    )

    def explain(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """Maps, float32 (N, H, W)."""
        return to_pixels(self.cells(model, images, targets, streams), images, relu=False)

    def cells(self, model: Classifier, images: Tensor, targets: Tensor, streams: Streams) -> Tensor:
        """Conductance of each cell of the layer's grid, float64 (N, h, w)."""
        points = self.n_steps + 1
        alphas = torch.linspace(0, 1, points)
        total: Tensor | None = None
        last: tuple[Tensor, Tensor] | None = None
        for index, values, gradients in self.line(model, images, targets, alphas, streams):
            if total is None:
                total = gather(len(images), tuple(values.shape[2:]), images)
            if last is not None:
                values = torch.cat([last[0], values])
                gradients = torch.cat([last[1], gradients])
                index = torch.cat([index[:1] - 1, index])
            steps = (gradients[1:] + gradients[:-1]) / 2 * (values[1:] - values[:-1])
            inside = index[1:] % points != 0
            add_rows(total, (index[1:] // points)[inside], steps.sum(dim=1)[inside])
            last = values[-1:], gradients[-1:]
        assert total is not None
        return total


@METHODS.register
@dataclass(frozen=True)
class InternalInfluence(LayerPath):
    """Internal influence: integral of dF/dy along the line x' + a (x - x'), midpoint rule.

    Attributes:
        layer: a role or dotted name. "middle" is the last layer whose grid is finer than that of
            the last feature maps, since behind these average pooling treats all places alike; where
            all grids are the same it is the last feature maps.
    """

    layer: str = "middle"

    card: ClassVar[MethodCard] = MethodCard(
        name="internal_influence",
        family="path",
        summary="Mean gradient of a layer along the line from a baseline, signed.",
        paper="Leino et al. 2018, Influence-Directed Explanations for Deep Convolutional Networks",
        limitations=f"Refused where the score treats all places of the layer alike. {_COARSE}",
        needs=("gradients", "convolution"),
        forwards="n_steps",
        backwards="n_steps",
        baseline="mean",
    )

    def explain(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """Maps, float32 (N, H, W).

        Raises:
            UnsupportedError: the gradient is the same in all places of the layer.
        """
        alphas = (torch.arange(self.n_steps) + 0.5) / self.n_steps
        total: Tensor | None = None
        for index, _, gradients in self.line(model, images, targets, alphas, streams):
            summed = gradients.sum(dim=1)
            if total is None:
                total = gather(len(images), tuple(summed.shape[1:]), images)
            add_rows(total, index // self.n_steps, summed)
        assert total is not None
        spread = total.amax(dim=(1, 2)) - total.amin(dim=(1, 2))
        if bool((spread <= 1e-6 * total.abs().amax(dim=(1, 2))).all()):
            raise UnsupportedError(
                f"The score treats all places of the layer '{self.layer}' alike (only average "
                "pooling follows), so its influence has no places; name an earlier one with "
                "layer=..."
            )
        return to_pixels(total / self.n_steps, images, relu=False)

    def _layer(self, model: Classifier, images: Tensor) -> Layer:
        if self.layer != "middle":
            return super()._layer(model, images)
        found = stages(model.module, model.trace(images))
        return feature_layer(model, images, found[-2].name if len(found) > 1 else "last_conv")
