"""The guard: notices when a method or metric changed the model, and puts it back."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from xbench.classifier import Classifier

_TABLES = ("_modules", "_parameters", "_buffers")
_WATCHED = ("_modules", "_parameters")
"""Where a module keeps its parts; a part that was put in, taken out or exchanged shows there. Some
modules exchange buffers as they run, so that for these the values alone count."""


class Guard:
    """Watches weights, buffers, parts, flags and hooks of a classifier's module.

    Args:
        model: the classifier; its state now is what `harm` restores.
    """

    def __init__(self, model: Classifier) -> None:
        self._module = model.module
        self._state = {
            key: value.detach().clone() for key, value in self._module.state_dict().items()
        }
        self._parts = [
            (
                module,
                vars(module).get("forward"),
                {name: dict(vars(module)[name]) for name in _TABLES},
            )
            for module in self._module.modules()
        ]
        self._hooks = self._count_hooks()

    def harm(self) -> str | None:
        """What was changed since the last call, in words, or None; it is put right again."""
        found = []
        if self._parts_changed():
            self._restore_parts()
            found.append("exchanged parts of the model")
        if self._values_changed():
            self._restore_values()
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

    def _parts_changed(self) -> bool:
        return any(
            vars(module).get("forward") is not forward
            or any(_ids(vars(module)[name]) != _ids(tables[name]) for name in _WATCHED)
            for module, forward, tables in self._parts
        )

    def _restore_parts(self) -> None:
        for module, forward, tables in self._parts:
            vars(module).pop("forward", None)
            if forward is not None:
                vars(module)["forward"] = forward
            for name, parts in tables.items():
                vars(module)[name].clear()
                vars(module)[name].update(parts)

    def _restore_values(self) -> None:
        with torch.no_grad():
            for key, value in self._module.state_dict(keep_vars=True).items():
                kept = self._state[key]
                if value.shape != kept.shape or value.dtype != kept.dtype:
                    value.data = kept.clone()
                else:
                    value.data.copy_(kept)

    def _values_changed(self) -> bool:
        now = self._module.state_dict()
        return now.keys() != self._state.keys() or not all(
            _same(value, self._state[key]) for key, value in now.items()
        )

    def _count_hooks(self) -> int:
        return sum(len(hooks) for module in self._module.modules() for hooks in _hooks(module))

    def _drop_hooks(self) -> None:
        for module in self._module.modules():
            for hooks in _hooks(module):
                hooks.clear()


def _ids(table: Mapping[str, object]) -> list[tuple[str, int]]:
    return [(name, id(part)) for name, part in table.items()]


def _hooks(module: nn.Module) -> list[dict[int, Any]]:
    return [
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
    ]


def _same(value: Tensor, kept: Tensor) -> bool:
    """Whether two tensors are equal; NaNs are where both have them."""
    if value.shape != kept.shape or value.dtype != kept.dtype:
        return False
    if torch.equal(value, kept):
        return True
    return value.dtype.is_floating_point and bool(
        value.isclose(kept, rtol=0, atol=0, equal_nan=True).all()
    )
