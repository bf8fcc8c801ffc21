"""Objects of captum, pytorch-grad-cam and Quantus, taken as they are.

An attribution object is bound to a model; xbench binds a copy of it to every model that it is
asked about (the private copy under test, one with random weights), layers by their names. Its
images are pixels in [0, 1], since the network under test normalizes inside: a baseline of 0 is
black.
"""

import copy
import inspect
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from xbench.contracts import Method, Metric
from xbench.errors import ParameterError
from xbench.operations.pixels import upsample
from xbench.optional import optional
from xbench.plugins.functions import method_class
from xbench.registry import METRICS, Entry

_gradcam = optional("pytorch_grad_cam", "install it with `pip install xbench[gradcam]`")

_PROPERTIES = {
    "Faithfulness": "faithfulness",
    "Localisation": "localization",
    "Robustness": "robustness",
    "Randomisation": "randomization",
    "Complexity": "complexity",
    "Axiomatic": "axioms",
}


def foreign_method(found: Any, name: str = "", **options: Any) -> type[Method] | None:
    """The method class of a captum or grad-cam object or class; None if it is neither.

    Args:
        found: for example `captum.attr.IntegratedGradients(model)`, the class itself, or
            `pytorch_grad_cam.GradCAM(model, target_layers=[model.layer4])`.
        name: of the method, default `captum_...` or `gradcam_...` by its class.
        options: handed to captum's `attribute` at every call, for example n_steps=20.

    Raises:
        ParameterError: a class that needs a layer, or an object that cannot be bound anew.
    """
    kind = found if isinstance(found, type) else type(found)
    library = kind.__module__.partition(".")[0]
    home = next((h for b in kind.__mro__ if (h := b.__module__.partition(".")[0]) in _MAKERS), "")
    if not home:
        return None
    prefix, make = _MAKERS[home]
    function = make(found, options)
    function.__module__ = kind.__module__
    function.__doc__ = f"{kind.__name__} of {library}, as it is."
    label = name or f"{prefix}_{kind.__name__}"
    return method_class(function, label, paper=f"{kind.__name__} of {library}")


def foreign_metric(found: Any, name: str = "") -> str | None:
    """Register a metric of Quantus under a name, and say it; None if it is no such object.

    Its direction and property are what Quantus says of it.

    Args:
        found: for example `quantus.Sparseness()`.
        name: default `quantus_` and its class.

    Raises:
        ParameterError: a class instead of an instance.
    """
    kind = found if isinstance(found, type) else type(found)
    if not any(base.__module__.startswith("quantus.") for base in kind.__mro__):
        return None
    if isinstance(found, type):
        raise ParameterError(f"{kind.__name__} is a class; hand over an instance, for example "
                             f"quantus.{kind.__name__}().")  # fmt: skip
    adapter = METRICS.entry("quantus")

    def made(self: Any) -> Any:
        own = copy.deepcopy(found)
        for flag in ("return_auc_per_sample", "return_average_correlation"):
            if hasattr(own, flag):
                setattr(own, flag, True)
        return own

    label = name or f"quantus_{kind.__name__}"
    direction = str(getattr(getattr(found, "score_direction", ""), "value", "none"))
    category = str(getattr(getattr(found, "evaluation_category", ""), "value", ""))
    card = replace(
        adapter.card,
        name=label,
        summary=f"{kind.__name__} of Quantus, the object as it is.",
        direction=direction if direction in ("higher", "lower") else "none",
        property=_PROPERTIES.get(category, "adapters"),
    )
    space = {"made": made, "card": card, "__doc__": card.summary, "__module__": kind.__module__}
    own: type[Metric] = type(f"Object_{kind.__name__}", (adapter.factory,), space)
    METRICS.put(Entry(label, own, {"name": kind.__name__}, card, kind.__module__))
    return label


def _captum_function(found: Any, options: Mapping[str, Any]) -> Callable[..., Tensor]:
    if isinstance(found, type):
        needed = [
            p.name
            for p in list(inspect.signature(found).parameters.values())[1:]
            if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        ]
        if needed:
            raise ParameterError(
                f"{found.__name__} needs {needed[0]}; hand over an instance, for example "
                f"{found.__name__}(model, model.layer4)."
            )
    else:
        _root(found)

    def attribute(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        network = _Open(model)
        bound = found(network) if isinstance(found, type) else _bound(found, _root(found), network)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            maps = bound.attribute(images.requires_grad_(True), target=targets, **options)
        return _pixelwise(maps, images)

    return attribute


def _gradcam_function(found: Any, options: Mapping[str, Any]) -> Callable[..., Tensor]:
    if isinstance(found, type):
        raise ParameterError(
            f"{found.__name__} needs a layer; hand over an instance, for example "
            f"{found.__name__}(model, target_layers=[model.layer4])."
        )
    if options:
        raise ParameterError("Options of grad-cam objects are set on the object itself.")
    found.activations_and_grads.release()  # it hooked the user's model, which is not the one here

    def cam(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        layers = [_same_layer(layer, found.model, model) for layer in found.target_layers]
        one = type(found)(model, layers, reshape_transform=found.reshape_transform)
        wanted = [_gradcam.utils.model_targets.ClassifierOutputTarget(int(t)) for t in targets]
        try:
            maps = one(input_tensor=images.requires_grad_(True), targets=wanted)
        finally:
            one.activations_and_grads.release()
        return torch.from_numpy(maps).to(images)

    return cam


class _Open(nn.Module):
    """The network as captum likes it: hooks may change how many arguments a call has."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, K) of pixels (N, C, H, W)."""
        logits: Tensor = self.network(images)
        return logits


def _root(found: Any) -> nn.Module:
    """The network that a captum object is bound to.

    Raises:
        ParameterError: it wraps a function, which cannot be bound to another network.
    """
    for attribute in ("model", "forward_func"):
        root = getattr(found, attribute, None)
        if isinstance(root, nn.Module):
            return root
    for value in vars(found).values():
        if hasattr(value, "attribute"):
            return _root(value)
    raise ParameterError(
        f"This {type(found).__name__} is bound to a function, not to a network, so it cannot be "
        f"asked about a network with random weights; make it anew with the nn.Module itself: "
        f"{type(found).__name__}(model)."
    )


def _bound(found: Any, root: nn.Module, model: nn.Module) -> Any:
    """A shallow copy of a captum object, bound to another network of the same shape."""
    other = copy.copy(found)
    for key, value in list(vars(found).items()):
        if value is root:
            setattr(other, key, model)
        elif isinstance(value, nn.Module) and (key == "layer" or _inside(value, root)):
            setattr(other, key, _same_layer(value, root, model))
        elif hasattr(value, "attribute"):
            setattr(other, key, _bound(value, root, model))
        elif inspect.ismethod(value) and value.__self__ is found:
            setattr(other, key, value.__func__.__get__(other))
    return other


def _inside(layer: nn.Module, root: nn.Module) -> bool:
    return any(module is layer for module in root.modules())


def _same_layer(layer: nn.Module, root: nn.Module, model: nn.Module) -> nn.Module:
    """The layer of the same name in the network under test, which has the user's inside."""
    inner = getattr(getattr(model, "network", model), "module", model)
    for name, module in root.named_modules():
        if module is layer:
            try:
                return inner.get_submodule(name)
            except AttributeError:
                break
    raise ParameterError(
        f"The layer {type(layer).__name__} of this object is no layer of the model under test; "
        "make the object from the same model that you hand to xbench."
    )


def _pixelwise(maps: Any, images: Tensor) -> Tensor:
    """(N, H, W): summed over channels, and enlarged where they are a layer's."""
    maps = maps[0] if isinstance(maps, tuple) else maps
    if maps.ndim != 4:
        raise ParameterError(
            f"Attributions of shape {tuple(maps.shape)} have no places in the image; choose a "
            "convolutional layer."
        )
    pooled: Tensor = maps.detach().sum(dim=1)
    if pooled.shape[-2:] == images.shape[-2:]:
        return pooled
    return upsample(pooled, (int(images.shape[-2]), int(images.shape[-1])))


_MAKERS: dict[str, tuple[str, Callable[[Any, Mapping[str, Any]], Callable[..., Tensor]]]] = {
    "captum": ("captum", _captum_function),
    "pytorch_grad_cam": ("gradcam", _gradcam_function),
}
