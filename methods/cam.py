"""Class activation maps: CAM, and feature maps weighed by first derivatives of the target's score.

Symbols: A_k is the k-th feature map of a layer, Y the raw score of the class, G_k = dY/dA_k.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from xbench.classifier import Classifier
from xbench.contracts import Method, MethodCard
from xbench.errors import UnsupportedError
from xbench.registry import METHODS
from xbench.streams import Streams

from ._cam import feature_layer, linear_head, refuse_without_features, to_pixels, weigh

COARSE = "As coarse as the layer's grid."


def grad_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    """sum_k mean(G_k) A_k: (N, K, h, w) twice to (N, h, w)."""
    return weigh(gradients.mean(dim=(2, 3)), activations)


def hires_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    """sum_k G_k * A_k, place by place: (N, K, h, w) twice to (N, h, w)."""
    return (gradients * activations).sum(dim=1)


def elementwise_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    """sum_k ReLU(G_k * A_k): (N, K, h, w) twice to (N, h, w)."""
    return (gradients * activations).relu().sum(dim=1)


def layer_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    """sum_k ReLU(G_k) * A_k: (N, K, h, w) twice to (N, h, w)."""
    return (gradients.relu() * activations).sum(dim=1)


def xgrad_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    """sum_k w_k A_k with w_k = sum(G_k * A_k) / sum(A_k): (N, K, h, w) twice to (N, h, w).

    A channel whose sum is zero has no such weight and is left out.
    """
    total = activations.sum(dim=(2, 3))
    product = (gradients * activations).sum(dim=(2, 3))
    empty = total.abs() <= 1e-7 * activations.abs().sum(dim=(2, 3))
    return weigh((product / total.masked_fill(empty, 1.0)).masked_fill(empty, 0.0), activations)


RULES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "gradcam": grad_cam,
    "hirescam": hires_cam,
    "gradcam_elementwise": elementwise_cam,
    "layercam": layer_cam,
    "xgradcam": xgrad_cam,
}


@METHODS.register
@dataclass(frozen=True)
class Cam(Method):
    """L = ReLU(sum_k w_k A_k) with w_k the weight from channel k to the class in a linear head.

    Only for networks that end in global average pooling and one linear layer, which is checked on
    the numbers: weights @ mean(A) + bias must be the logits. The sum of the map before the ReLU,
    over the number of cells, is the logit less its bias.

    Attributes:
        layer: a role or dotted name, the feature maps that are pooled.
        relu: keep positive evidence only.
    """

    card: ClassVar[MethodCard] = MethodCard(
        name="cam",
        summary="Feature maps weighed by the linear head.",
        paper="Zhou et al. 2016, Learning Deep Features for Discriminative Localization",
        limitations=f"Needs global average pooling and one linear layer behind it. {COARSE}",
        family="cam",
        needs=("convolution", "linear head"),
        signed=False,
        forwards="1",
    )
    layer: str = "last_conv"
    relu: bool = True

    def supports(self, model: Classifier) -> str | None:
        """Refuses models without feature maps; the head is checked on the first images."""
        return refuse_without_features(model)

    def explain(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """Maps (N, H, W); one forward an image."""
        layer = feature_layer(model, images, self.layer)
        activations, logits = model.features(images, layer)
        head = linear_head(model, activations, logits)
        if head is None:
            raise UnsupportedError(
                "CAM needs logits that are one linear layer over the average of feature maps; "
                f"between '{layer.name}' and the logits this model does more. Use gradcam."
            )
        features, weights = head
        return to_pixels(weigh(weights[targets], features), images, relu=self.relu)


@dataclass(frozen=True)
class GradientCam(Method):
    """Feature maps combined with the gradient of the class's raw score for them.

    Attributes:
        layer: a role or dotted name, whose feature maps are weighed.
        relu: keep positive evidence only, as in the papers.
    """

    layer: str = "last_conv"
    relu: bool = True

    @abstractmethod
    def combine(self, activations: Tensor, gradients: Tensor) -> Tensor:
        """The map at layer resolution: (N, K, h, w) twice to (N, h, w)."""

    def supports(self, model: Classifier) -> str | None:
        """Refuses models without feature maps."""
        return refuse_without_features(model)

    def explain(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """Maps (N, H, W); one forward and one backward an image."""
        layer = feature_layer(model, images, self.layer)
        activations, gradients, _ = model.activation_gradients(images, targets, layer)
        return to_pixels(self.combine(activations, gradients), images, relu=self.relu)


def _card(name: str, summary: str, paper: str, limitations: str) -> MethodCard:
    return MethodCard(
        name=name,
        summary=summary,
        paper=paper,
        limitations=limitations,
        family="cam",
        needs=("gradients", "convolution"),
        signed=False,
        forwards="1",
        backwards="1",
    )


@METHODS.register
@dataclass(frozen=True)
class GradCam(GradientCam):
    """L = ReLU(sum_k w_k A_k) with w_k = mean over places of dY/dA_k.

    On a network with global average pooling and a linear head this is CAM divided by the number of
    cells.

    Attributes:
        layer: a role or dotted name, whose feature maps are weighed.
        relu: keep positive evidence only, as in the paper.
    """

    card: ClassVar[MethodCard] = _card(
        "gradcam",
        "Feature maps weighed by their mean gradient.",
        "Selvaraju et al. 2017, Grad-CAM",
        "Weights are averages over places: the map may show places that the score ignores. "
        + COARSE,
    )

    def combine(self, activations: Tensor, gradients: Tensor) -> Tensor:
        """sum_k mean(G_k) A_k."""
        return grad_cam(activations, gradients)


@METHODS.register
@dataclass(frozen=True)
class HiResCam(GradientCam):
    """L = ReLU(sum_k G_k * A_k), place by place.

    Before the ReLU the map sums to the class's score where the rest of the network is linear
    (less its bias). Equal to Grad-CAM on a network with global average pooling and a linear head.

    Attributes:
        layer: a role or dotted name, whose feature maps are weighed.
        relu: keep positive evidence only; the paper shows the positive part too.
    """

    card: ClassVar[MethodCard] = _card(
        "hirescam",
        "Gradient times feature map, place by place.",
        "Draelos and Carin 2020, HiResCAM",
        COARSE,
    )

    def combine(self, activations: Tensor, gradients: Tensor) -> Tensor:
        """sum_k G_k * A_k."""
        return hires_cam(activations, gradients)


@METHODS.register
@dataclass(frozen=True)
class GradCamElementwise(GradientCam):
    """L = sum_k ReLU(G_k * A_k), place by place: positive contributions never cancel.

    Attributes:
        layer: a role or dotted name, whose feature maps are weighed.
        relu: no effect here, since no term is negative.
    """

    card: ClassVar[MethodCard] = _card(
        "gradcam_elementwise",
        "Positive part of gradient times feature map, place by place.",
        "Pillai and Pirsiavash 2021, Explainable Models with Consistent Interpretations",
        f"Evidence against the class is dropped channel by channel. {COARSE}",
    )

    def combine(self, activations: Tensor, gradients: Tensor) -> Tensor:
        """sum_k ReLU(G_k * A_k)."""
        return elementwise_cam(activations, gradients)


@METHODS.register
@dataclass(frozen=True)
class LayerCam(GradientCam):
    """L = ReLU(sum_k ReLU(G_k) * A_k), place by place, meant for shallow layers too.

    Attributes:
        layer: a role or dotted name, whose feature maps are weighed.
        relu: keep positive values only, as in the paper.
    """

    card: ClassVar[MethodCard] = _card(
        "layercam",
        "Positive gradient times feature map, place by place.",
        "Jiang et al. 2021, LayerCAM",
        f"Negative gradients are dropped. {COARSE}",
    )

    def combine(self, activations: Tensor, gradients: Tensor) -> Tensor:
        """sum_k ReLU(G_k) * A_k."""
        return layer_cam(activations, gradients)


@METHODS.register
@dataclass(frozen=True)
class XGradCam(GradientCam):
    """L = ReLU(sum_k w_k A_k) with w_k = sum(G_k * A_k) / sum(A_k).

    The weights that come nearest to two axioms, sensitivity and conservation.

    Attributes:
        layer: a role or dotted name, whose feature maps are weighed.
        relu: keep positive evidence only, as in the paper.
    """

    card: ClassVar[MethodCard] = _card(
        "xgradcam",
        "Feature maps weighed by their normalized gradient times activation.",
        "Fu et al. 2020, Axiom-based Grad-CAM",
        "Unstable where the feature maps are signed and a channel's sum is near zero. " + COARSE,
    )

    def combine(self, activations: Tensor, gradients: Tensor) -> Tensor:
        """sum_k w_k A_k with w_k = sum(G_k * A_k) / sum(A_k)."""
        return xgrad_cam(activations, gradients)
