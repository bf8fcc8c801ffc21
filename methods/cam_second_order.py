"""CAMs whose weights need more than first derivatives: Grad-CAM++ and ShapleyCAM.

Symbols: A_k is the k-th feature map of a layer, S the raw score of the class, G_k = dS/dA_k.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from xbench.classifier import Classifier
from xbench.contracts import Method, MethodCard
from xbench.errors import ParameterError, UnsupportedError
from xbench.registry import METHODS
from xbench.streams import Streams

from ._cam import feature_layer, refuse_without_features, to_pixels, weigh
from ._curvature import curvature
from .cam import grad_cam

Derivatives = Literal["exact", "powers"]

_CURVED = 1e-5  # second derivative, relative to the first over a step as large as the features


def plus_plus(activations: Tensor, gradients: Tensor) -> Tensor:
    """Grad-CAM++ where S is linear around A: (N, K, h, w) twice to (N, h, w).

    Then d^nY/dA^n = exp(S) G^n for Y = exp(S), so alpha = G^2 / (2 G^2 + sum(A) G^3)
    = 1 / (2 + sum(A) G): no small constant is needed, and exp(S) only scales the map.
    """
    bottom = 2 + activations.sum(dim=(2, 3), keepdim=True) * gradients
    alpha = (1 / bottom.masked_fill(bottom == 0, 1.0)).masked_fill(bottom == 0, 0.0)
    return weigh((alpha * gradients.relu()).sum(dim=(2, 3)), activations)


@METHODS.register
@dataclass(frozen=True)
class GradCamPlusPlus(Method):
    """L = ReLU(sum_k w_k A_k), w_k = sum over places of alpha_k ReLU(dY/dA_k), Y = exp(S).

    alpha_k = (d2Y/dA_k^2) / (2 d2Y/dA_k^2 + sum(A_k) d3Y/dA_k^3), place by place. The derivatives
    of Y are exp(S) times G, G^2 + S'' and G^3 + 3 G S'' + S'''. Libraries put in the powers of G
    alone, which is right only where S is piecewise linear in A, as behind the last layer of most
    ReLU networks: there S'' = S''' = 0, which is checked by differentiating twice. Behind the layer
    of other networks (layer normalization, attention, GELU) the true terms would take one pass of
    the tail for each cell of each channel, so the model is refused. The factor exp(S) scales the
    map and is left out; libraries add a small constant to alpha's denominator, which outweighs it
    where gradients are small and changes the map: there is none here.

    Attributes:
        layer: a role or dotted name, whose feature maps are weighed.
        derivatives: "exact" refuses curved networks; "powers" puts in the powers of G everywhere.
        relu: keep positive evidence only, as in the paper.
    """

    card: ClassVar[MethodCard] = MethodCard(
        name="gradcam_plus_plus",
        summary="Grad-CAM with place-wise weights from higher derivatives of exp(score).",
        paper="Chattopadhay et al. 2018, Grad-CAM++",
        limitations="Negative gradients are dropped, so it tells classes apart less than Grad-CAM. "
        "Refused where the score is curved in the feature maps, unless derivatives=powers. As "
        "coarse as the layer's grid.",
        family="cam",
        needs=("gradients", "convolution"),
        signed=False,
        forwards="1",
        backwards="2 if derivatives == 'exact' else 1",
    )
    layer: str = "last_conv"
    derivatives: Derivatives = "exact"
    relu: bool = True

    def __post_init__(self) -> None:
        """Refuses other words."""
        if self.derivatives not in get_args(Derivatives):
            raise ParameterError(
                f"gradcam_plus_plus[derivatives=...] is exact or powers, not '{self.derivatives}'."
            )

    def supports(self, model: Classifier) -> str | None:
        """Refuses models without feature maps; curvature is checked on the first images."""
        return refuse_without_features(model)

    def explain(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """Maps (N, H, W); one forward and, with the check, two backwards an image."""
        layer = feature_layer(model, images, self.layer)
        if self.derivatives == "exact":
            activations, gradients, bend = curvature(model, images, targets, layer, _probe)
            if bool(bend.abs().amax() > _CURVED * gradients.abs().amax()):
                raise UnsupportedError(
                    f"The score is curved in the output of '{layer.name}', so powers of the "
                    "gradient are not the derivatives that Grad-CAM++ asks for; accept them with "
                    "gradcam_plus_plus[derivatives=powers], or name a layer behind the last "
                    "normalization with layer=..."
                )
        else:
            activations, gradients, _ = model.activation_gradients(images, targets, layer)
        return to_pixels(plus_plus(activations, gradients), images, relu=self.relu)


def _probe(activations: Tensor) -> Tensor:
    """A direction of the features' size without any pattern of theirs, the same in every batch."""
    count = activations[0].numel()
    wave = torch.arange(count, device=activations.device, dtype=torch.float32).square().cos()
    return wave.view(1, *activations.shape[1:]) * activations.abs().amax()


@METHODS.register
@dataclass(frozen=True)
class ShapleyCam(Method):
    """L = ReLU(sum_k w_k A_k) with w_k = mean over places of (G - H A / 2)_k, H the Hessian of S.

    The second-order estimate of the channels' Shapley values. Where S is piecewise linear in A,
    as behind the last layer of most ReLU networks, H = 0 and this is Grad-CAM.

    Attributes:
        layer: a role or dotted name, whose feature maps are weighed.
        relu: keep positive evidence only.
    """

    card: ClassVar[MethodCard] = MethodCard(
        name="shapleycam",
        summary="Grad-CAM with a second-order correction of its weights.",
        paper="Cai 2025, CAMs as Shapley Value-based Explainers",
        limitations="Equal to Grad-CAM where the score is piecewise linear in the feature maps. "
        "As coarse as the layer's grid.",
        family="cam",
        needs=("gradients", "convolution"),
        signed=False,
        forwards="1",
        backwards="2",
    )
    layer: str = "last_conv"
    relu: bool = True

    def supports(self, model: Classifier) -> str | None:
        """Refuses models without feature maps."""
        return refuse_without_features(model)

    def explain(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """Maps (N, H, W); one forward and two backwards an image."""
        layer = feature_layer(model, images, self.layer)
        activations, gradients, product = curvature(model, images, targets, layer, lambda a: a)
        cam = grad_cam(activations, gradients - 0.5 * product)
        return to_pixels(cam, images, relu=self.relu)
