"""The guard: notices when a method or metric changed the model, and puts it back."""

import torch
from torch import Tensor

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
        for parameter in self._module.parameters():
            parameter.grad = None
            parameter.requires_grad_(False)
        return " and ".join(found) or None

    def _checksum(self) -> tuple[float, ...]:
        return tuple(_sum(value) for value in self._module.state_dict().values())

    def _count_hooks(self) -> int:
        return sum(
            len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks)
            for m in self._module.modules()
        )

    def _drop_hooks(self) -> None:
        for module in self._module.modules():
            module._forward_hooks.clear()
            module._forward_pre_hooks.clear()
            module._backward_hooks.clear()


def _sum(value: Tensor) -> float:
    """A checksum that any realistic change of a tensor moves: plain and position-weighted sums."""
    flat = value.detach().flatten().double()
    weights = torch.arange(flat.numel(), device=flat.device, dtype=torch.float64) % 8191 + 1
    return float(flat @ weights)
