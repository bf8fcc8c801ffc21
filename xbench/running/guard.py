"""The guard: notices when a method or metric changed the model, and puts it back."""

from typing import Any

import torch
from torch import Tensor, nn

from xbench.classifier import Classifier


class Guard:
    """Watches weights, buffers, flags and hooks of a classifier's module.

    Args:
        model: the classifier; its state now is what `harm` restores.
    """

    def __init__(self, model: Classifier) -> None:
        self._module = model.module
        self._state = {
            key: value.detach().clone() for key, value in self._module.state_dict().items()
        }
        self._sum = self._checksum()
        self._hooks = self._count_hooks()

    def harm(self) -> str | None:
        """What was changed since the last call, in words, or None; it is put right again."""
        found = []
        if self._checksum() != self._sum:
            self._module.load_state_dict(self._state)
            found.append("changed the model's weights")
        if any(module.training for module in self._module.modules()):
            self._module.eval()
            found.append("left the model in training mode")
        if self._count_hooks() != self._hooks:
            self._drop_hooks()
            found.append("left hooks on the model")
        parameters = list(self._module.parameters())
        if any(p.requires_grad or p.grad is not None for p in parameters):
            for parameter in parameters:
                parameter.grad = None
                parameter.requires_grad_(False)
            found.append("left weights that want gradients")
        return " and ".join(found) or None

    def _checksum(self) -> tuple[float, ...]:
        return tuple(_sum(value) for value in self._module.state_dict().values())

    def _count_hooks(self) -> int:
        return sum(len(hooks) for module in self._module.modules() for hooks in _hooks(module))

    def _drop_hooks(self) -> None:
        for module in self._module.modules():
            for hooks in _hooks(module):
                hooks.clear()


def _hooks(module: nn.Module) -> list[dict[int, Any]]:
    return [
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
    ]


def _sum(value: Tensor) -> float:
    """A checksum that any realistic change of a tensor moves: plain and position-weighted sums."""
    flat = value.detach().flatten().double()
    weights = torch.arange(flat.numel(), device=flat.device, dtype=torch.float64) % 8191 + 1
    return float(flat @ weights)
