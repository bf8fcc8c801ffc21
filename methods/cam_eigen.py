"""CAMs from the statistics of feature maps: principal components and outliers.

Symbols: A is the matrix of a layer's feature maps, one row a place, one column a channel.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from xbench.classifier import Classifier
from xbench.contracts import Method, MethodCard
from xbench.errors import ParameterError, UnsupportedError
from xbench.registry import METHODS
from xbench.streams import Streams

from ._cam import feature_layer, refuse_without_features, to_pixels
from .cam import GradientCam

Kernel = Literal["sigmoid", "rbf", "linear"]


def first_component(maps: Tensor, *, center: bool, evidence: bool = False) -> Tensor:
    """Projection of each place on the first principal direction of the channels.

    No decomposition fixes the sign. A centered projection goes with the sum over channels; else
    its own sum is positive.

    Args:
        maps: (N, K, h, w).
        center: subtract each channel's mean over places first.
        evidence: the sum over channels is evidence for the class, so the sign always follows it.

    Returns:
        (N, h, w).
    """
    rows = maps.double().flatten(2).transpose(1, 2)  # (N, h*w, K)
    total = rows.sum(dim=2)
    toward = total if center or evidence else torch.ones_like(total)
    if center:
        rows = rows - rows.mean(dim=1, keepdim=True)
    if rows.shape[1] <= rows.shape[2]:
        values, vectors = torch.linalg.eigh(rows @ rows.transpose(1, 2))
        projection = vectors[..., -1] * values[:, -1:].clamp(min=0).sqrt()
    else:
        _, vectors = torch.linalg.eigh(rows.transpose(1, 2) @ rows)
        projection = (rows @ vectors[..., -1:])[..., 0]
    return _oriented(projection, toward).view(maps.shape[0], *maps.shape[2:]).float()


def first_kernel_component(maps: Tensor, *, kernel: str, gamma: float | None) -> Tensor:
    """First component of kernel PCA over places, (N, K, h, w) to (N, h, w).

    Channels are centered over places, then the kernel matrix in its own space.
    """
    rows = maps.double().flatten(2).transpose(1, 2)
    total = rows.sum(dim=2)
    rows = rows - rows.mean(dim=1, keepdim=True)
    products = rows @ rows.transpose(1, 2)
    scale = 1.0 / rows.shape[2] if gamma is None else gamma
    if kernel == "sigmoid":
        matrix = torch.tanh(scale * products + 1)
    elif kernel == "rbf":
        norms = products.diagonal(dim1=1, dim2=2)
        distances = norms[:, :, None] + norms[:, None, :] - 2 * products
        matrix = torch.exp(-scale * distances.clamp(min=0))
    else:
        matrix = products
    matrix = matrix - matrix.mean(dim=1, keepdim=True) - matrix.mean(dim=2, keepdim=True)
    matrix = matrix - matrix.mean(dim=(1, 2), keepdim=True)
    values, vectors = torch.linalg.eigh(matrix)
    projection = vectors[..., -1] * values[:, -1:].clamp(min=0).sqrt()
    return _oriented(projection, total).view(maps.shape[0], *maps.shape[2:]).float()


def _oriented(projection: Tensor, toward: Tensor) -> Tensor:
    """Rows (N, P) with the sign that goes with the rows `toward`."""
    sign = torch.where((projection * toward).sum(dim=1) < 0, -1.0, 1.0)
    return projection * sign[:, None]


def _card(name: str, summary: str, paper: str, limitations: str) -> MethodCard:
    return MethodCard(
        name=name,
        summary=summary,
        paper=paper,
        limitations=f"{limitations} As coarse as the layer's grid.",
        family="cam",
        needs=("convolution",),
        signed=False,
        class_agnostic=True,
        forwards="1",
    )


@dataclass(frozen=True)
class _ActivationCam(Method):
    """What class-agnostic CAMs share: feature maps in, a map out."""

    layer: str = "last_conv"
    relu: bool = True

    @abstractmethod
    def combine(self, activations: Tensor) -> Tensor:
        """The map at layer resolution: (N, K, h, w) to (N, h, w)."""

    def supports(self, model: Classifier) -> str | None:
        """Refuses models without feature maps."""
        return refuse_without_features(model)

    def explain(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """Maps (N, H, W), the same for every class; one forward an image."""
        layer = feature_layer(model, images, self.layer)
        return to_pixels(self.combine(model.activations(images, layer)), images, relu=self.relu)


@METHODS.register
@dataclass(frozen=True)
class EigenCam(_ActivationCam):
    """L = A v1, v1 the first right singular vector of A, with the sign that makes L's sum positive.

    The paper does not center A; some libraries do, and leave the sign to chance.

    Attributes:
        layer: a role or dotted name, whose feature maps are taken.
        relu: keep positive values only.
        center: subtract each channel's mean over places first.
    """

    card: ClassVar[MethodCard] = _card(
        "eigencam",
        "First principal component of the feature maps.",
        "Muhammad and Yeasin 2020, Eigen-CAM",
        "Blind to the class: shows what stands out, not why the model decides.",
    )
    center: bool = False

    def combine(self, activations: Tensor) -> Tensor:
        """A v1."""
        return first_component(activations, center=self.center)


@METHODS.register
@dataclass(frozen=True)
class KpcaCam(_ActivationCam):
    """First component of kernel PCA over the places of the feature maps.

    With the linear kernel this is centered Eigen-CAM.

    Attributes:
        layer: a role or dotted name, whose feature maps are taken.
        relu: keep positive values only.
        kernel: "sigmoid" tanh(gamma x.y + 1), "rbf" exp(-gamma |x - y|^2), or "linear".
        gamma: None for 1 / number of channels.
    """

    card: ClassVar[MethodCard] = _card(
        "kpcacam",
        "First kernel principal component of the feature maps.",
        "Karmani et al. 2024, KPCA-CAM",
        "Blind to the class; the sigmoid kernel saturates where features are large.",
    )
    kernel: Kernel = "sigmoid"
    gamma: float | None = None

    def __post_init__(self) -> None:
        """Refuses other kernels."""
        if self.kernel not in get_args(Kernel):
            raise ParameterError(
                f"kpcacam[kernel=...] is sigmoid, rbf or linear, not '{self.kernel}'."
            )

    def combine(self, activations: Tensor) -> Tensor:
        """The first kernel component."""
        return first_kernel_component(activations, kernel=self.kernel, gamma=self.gamma)


@METHODS.register
@dataclass(frozen=True)
class Fem(_ActivationCam):
    """L = sum_k mean(A_k) 1[A_k >= mean(A_k) + k std(A_k)]: strong activations by the k-sigma rule.

    Some libraries weigh the feature map itself by the share of strong cells instead.

    Attributes:
        layer: a role or dotted name, whose feature maps are taken.
        relu: keep positive values only.
        k: how many standard deviations above the mean count as strong.
    """

    card: ClassVar[MethodCard] = _card(
        "fem",
        "Where channels are stronger than their mean by k standard deviations.",
        "Fuad et al. 2020, Features Understanding in 3D CNNs for Actions Recognition in Video",
        "Blind to the class; empty where no cell stands out; refuses grids of at most k^2 cells.",
    )
    k: float = 2.0

    def __post_init__(self) -> None:
        """Refuses a negative threshold."""
        if self.k < 0:
            raise ParameterError("fem[k=...] takes a number that is not negative.")

    def combine(self, activations: Tensor) -> Tensor:
        """sum_k mean(A_k) 1[A_k >= mean + k std]; channels without any spread are left out.

        Raises:
            UnsupportedError: on so few cells none can be that strong.
        """
        height, width = activations.shape[2:]
        if self.k**2 > height * width - 1:  # one cell apart from equal others: sqrt(cells - 1)
            raise UnsupportedError(
                f"No cell of a {height}x{width} grid can be {self.k:g} standard deviations above "
                "the mean of all; use larger images, an earlier layer=... or a smaller k=..."
            )
        mean = activations.mean(dim=(2, 3), keepdim=True)
        spread = activations.std(dim=(2, 3), keepdim=True, correction=0)
        strong = (activations >= mean + self.k * spread) & (spread > 0)
        return (mean * strong).sum(dim=1)


@METHODS.register
@dataclass(frozen=True)
class EigenGradCam(GradientCam):
    """L = (G * A) v1, v1 the first right singular vector of G * A, oriented by its channel sums.

    Attributes:
        layer: a role or dotted name, whose feature maps are weighed.
        relu: keep positive values only.
        center: subtract each channel's mean over places first, as the library it comes from does.
    """

    card: ClassVar[MethodCard] = MethodCard(
        name="eigengradcam",
        summary="First principal component of gradient times feature maps.",
        paper="Muhammad and Yeasin 2020, Eigen-CAM; with gradients in Gildenblat 2021, grad-cam",
        limitations="Keeps the strongest direction only, whatever its evidence. As coarse as the "
        "layer's grid.",
        family="cam",
        needs=("gradients", "convolution"),
        signed=False,
        forwards="1",
        backwards="1",
    )
    center: bool = True

    def combine(self, activations: Tensor, gradients: Tensor) -> Tensor:
        """(G * A) v1."""
        return first_component(activations * gradients, center=self.center, evidence=True)
