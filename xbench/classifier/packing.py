"""Convolutions that keep frozen weights in oneDNN's own order and apply what follows at once.

On a CPU, PyTorch reorders the weights of a convolution at every call, and passes over its output
once more for the activation. Here the first happens once, the second inside the convolution. The
values are the same. Calls that are cast or compiled go the usual way.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_ACTIVATIONS: dict[
    type[nn.Module] | None, tuple[Callable[[Tensor], Tensor], tuple[str, list[float], str]]
] = {
    None: (lambda found: found, ("none", [], "")),
    nn.ReLU: (F.relu, ("relu", [], "")),
    nn.ReLU6: (F.relu6, ("hardtanh", [0.0, 6.0], "")),
}


class PackedConv2d(nn.Conv2d):
    """A convolution with frozen weights; `renewed` has to be called after they changed."""

    activation: type[nn.Module] | None = None
    _packed: Tensor | None = None
    _usable = True

    def takes(self, activation: nn.Module | None) -> bool:
        """Whether this convolution applies the activation behind it from now on."""
        if activation is None or self.activation is not None:
            return False
        self.activation = type(activation) if type(activation) in _ACTIVATIONS else None
        return self.activation is not None

    def renewed(self) -> None:
        """Forget the weights as they were."""
        self._packed = None

    def forward(self, images: Tensor) -> Tensor:
        """See `torch.nn.Conv2d`; with the activation, if there is one."""
        if self._usable and _is_plain(images):
            try:
                found: Tensor = _Convolution.apply(images, self)
                return found
            except (AttributeError, NotImplementedError):  # another PyTorch, another processor
                self._usable = False
        return _ACTIVATIONS[self.activation][0](super().forward(images))

    def convolved(self, images: Tensor) -> Tensor:
        """The packed convolution, without a gradient."""
        geometry = (self.padding, self.stride, self.dilation, self.groups)
        if self._packed is None:
            self._packed = torch.ops.mkldnn._reorder_convolution_weight(
                self.weight, *geometry, list(images.shape)
            )
        found: Tensor = torch.ops.mkldnn._convolution_pointwise(
            images, self._packed, self.bias, *geometry, *_ACTIVATIONS[self.activation][1]
        )
        return found

    def __getstate__(self) -> dict[str, Any]:
        """Without the packed weights, which cannot be copied."""
        return {key: value for key, value in vars(self).items() if key != "_packed"}


class _Convolution(torch.autograd.Function):
    """A packed convolution with a gradient for the images; the frozen weights get none."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, layer: PackedConv2d) -> Tensor:
        found = layer.convolved(images)
        ctx.layer = layer
        ctx.save_for_backward(images, found)
        return found

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        layer, (images, found) = ctx.layer, ctx.saved_tensors
        if layer.activation is nn.ReLU:
            gradient = torch.ops.aten.threshold_backward(gradient, found, 0)
        elif layer.activation is nn.ReLU6:
            gradient = torch.ops.aten.hardtanh_backward(gradient, found, 0, 6)
        changed, _, _ = torch.ops.aten.convolution_backward(
            gradient,
            images,
            layer.weight,
            None,
            layer.stride,
            layer.padding,
            layer.dilation,
            False,
            (0, 0),
            layer.groups,
            (True, False, False),
        )
        return changed, None


def can_pack(convolution: nn.Conv2d) -> bool:
    """Whether a convolution has a packed twin."""
    return (
        torch.backends.mkldnn.is_available()
        and convolution.weight.device.type == "cpu"
        and convolution.weight.dtype == torch.float32
        and convolution.padding_mode == "zeros"
        and not isinstance(convolution.padding, str)
    )


def _is_plain(images: Tensor) -> bool:
    return bool(
        images.device.type == "cpu"
        and images.dtype == torch.float32
        and torch.backends.mkldnn.enabled
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )
