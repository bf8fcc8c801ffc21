"""FullGrad: the input gradient and the gradients of every bias, which together give the score."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from xbench.classifier import Classifier
from xbench.classifier.preparation import ACTIVATIONS, prepared
from xbench.classifier.single import right_with_hooks
from xbench.contracts import Method, MethodCard
from xbench.operations.imputers import mean_color
from xbench.operations.pixels import upsample
from xbench.registry import METHODS
from xbench.streams import Streams

from ._cam import refuse_parts
from ._rules import uncovered


@METHODS.register
@dataclass(frozen=True)
class FullGrad(Method):
    """Full-gradient saliency.

    f(x) = dx f . x + sum over biases of f^b, with f^b = (df/dz) b at every place where the bias b
    is added; x is the normalized input. Biases are those of convolutions and linear layers, of
    BatchNorm (beta - gamma mu / sigma), and the implicit ones of activations, a(z) - a'(z) z (zero
    for ReLU, 6 where ReLU6 is at its cap). The map is psi(dx f * x) + sum over layers and channels
    of psi(f^b), psi = upsampling of the magnitude, rescaled to [0, 1] over each layer's maps; the
    biases without a place (linear heads) count in the residual, not in the map.
    """

    card: ClassVar[MethodCard] = MethodCard(
        name="fullgrad",
        family="gradient",
        summary="Input gradient plus the gradients of all biases, layer by layer.",
        paper="Srinivas and Fleuret 2019, Full-Gradient Representation for Neural Network "
        "Visualization",
        limitations="The decomposition is exact only for affine layers, elementwise activations "
        "and max pooling; rescaling each layer gives up its sum.",
        needs=("gradients",),
        signed=False,
        forwards="1",
        backwards="1",
    )

    def supports(self, model: Classifier) -> str | None:
        """Refuses networks with operations that have no bias form."""
        return uncovered(model)

    def explain(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """Maps, at least 0, float32 (N, H, W)."""
        return self._terms(model, images, targets)[0]

    def residual(
        self,
        model: Classifier,
        images: Tensor,
        targets: Tensor,
        maps: Tensor,
        *,
        streams: Streams,
    ) -> Tensor:
        """|f(x) - sum of all terms before psi| / |f(x)|, float64 (N,); one forward and backward."""
        _, total, scores = self._terms(model, images, targets)
        return ((scores - total).abs() / scores.abs()).masked_fill(scores == 0, float("nan"))

    def _terms(
        self, model: Classifier, images: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Maps (N, H, W), the sums of all terms (N,) and the scores (N,)."""
        copy, size = prepared(model, images), (images.shape[2], images.shape[3])
        color = mean_color(model).to(images).view(1, -1, 1, 1)
        found: list[tuple[Tensor, Tensor, Tensor]] = []
        with _bias_terms(copy.module) as terms:

            def build(index: Tensor) -> Tensor:
                terms.clear()  # also what a pass that ran out of memory left
                return images[index]

            for _, rows, gradients, scores in copy.gradient_rows(
                len(images), build, targets, like=images
            ):
                refuse_parts(terms, rows)
                terms.append((rows - color) * gradients)
                planes = [upsample(_rescaled(term), size) for term in terms if term.ndim == 4]
                total = torch.stack([term.double().flatten(1).sum(dim=1) for term in terms])
                found.append((torch.stack(planes).sum(dim=0), total.sum(dim=0), scores.double()))
        maps, totals, scores = (torch.cat(part) for part in zip(*found, strict=True))
        return maps.float(), totals, scores


def _rescaled(term: Tensor) -> Tensor:
    """|term| to [0, 1] over all maps of the layer, summed over them: (N, K, h, w) to (N, h, w)."""
    size = term.abs()
    low = size.amin(dim=(1, 2, 3), keepdim=True)
    high = size.amax(dim=(1, 2, 3), keepdim=True)
    return ((size - low) / (high - low).clamp(min=1e-30)).sum(dim=1)


@contextmanager
def _bias_terms(module: nn.Module) -> Iterator[list[Tensor]]:
    """Collects f^b of every layer during backward passes inside the block."""
    terms: list[Tensor] = []
    handles = []
    for layer in module.modules():
        if isinstance(
            layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear | nn.modules.batchnorm._BatchNorm
        ):
            bias = _bias(layer)
            if bias is not None:
                handles.append(layer.register_forward_hook(_explicit(terms, bias)))
        elif isinstance(layer, ACTIVATIONS) and not isinstance(layer, nn.ReLU):
            handles += _implicit(terms, layer)
    try:
        with right_with_hooks(module):
            yield terms
    finally:
        for handle in handles:
            handle.remove()


def _bias(layer: nn.Module) -> Tensor | None:
    bias = getattr(layer, "bias", None)
    if not isinstance(layer, nn.modules.batchnorm._BatchNorm):
        return bias
    assert layer.running_mean is not None
    assert layer.running_var is not None
    shift = -layer.running_mean / (layer.running_var + layer.eps).sqrt()
    return shift if bias is None else bias + layer.weight * shift


def _explicit(terms: list[Tensor], bias: Tensor):  # type: ignore[no-untyped-def]
    def forward(layer: nn.Module, _: object, output: Tensor) -> None:
        places = (1, -1) if isinstance(layer, nn.Linear) else (1, -1, 1, 1)
        shape = places if output.ndim == len(places) else (1, -1)
        if output.requires_grad:  # not a full backward hook, see `right_with_hooks`
            output.register_hook(lambda gradient: terms.append(gradient * bias.view(shape)))

    return forward


def _implicit(terms: list[Tensor], layer: nn.Module):  # type: ignore[no-untyped-def]
    kept: dict[str, Tensor] = {}

    def forward(_: nn.Module, given: tuple[Tensor, ...], __: Tensor) -> None:
        kept["z"] = given[0].detach()

    def backward(_: nn.Module, own: tuple[Tensor, ...], out: tuple[Tensor, ...]) -> None:
        z = kept.pop("z")
        terms.append(out[0] * layer.forward(z) - own[0] * z)

    return [layer.register_forward_hook(forward), layer.register_full_backward_hook(backward)]
