"""Prepared copies of a model, on which rules for activations and hooks are right.

Libraries that replace the backward rule of an activation (guided backpropagation, DeepLIFT, LRP)
see modules only, once each. Real networks call `relu` as a function, write in place, or run one
module many times; there the libraries fail, or silently return the plain gradient.

    copy = prepared(model)            # a Classifier, cached, counting on the same counter
    copy = prepared(model, images)    # the same, proven equal to the model on this input shape

In the copy every activation and pooling is a module of its own, private to the copy and called
exactly once; `x += y` is `x + y`. Everything else (convolutions, normalizations, heads) is shared
with the model by reference: the copy costs no memory and follows changes of the weights. The model
itself is not touched, so there is nothing to undo.
"""

import copy
import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode

from xbench.classifier.classifier import Classifier
from xbench.errors import UnsupportedError

ACTIVATIONS: tuple[type[nn.Module], ...] = (
    nn.ReLU,
    nn.Hardtanh,  # ReLU6 is one of them
    nn.LeakyReLU,
    nn.PReLU,
    nn.RReLU,
    nn.ELU,
    nn.SELU,
    nn.CELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Hardswish,
    nn.Hardsigmoid,
    nn.Softplus,
    nn.Sigmoid,
    nn.Tanh,
)
POOLINGS: tuple[type[nn.Module], ...] = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)

_Known = tuple[type[nn.Module], tuple[str, ...]]
_POOL = ("kernel_size", "stride", "padding")
_FUNCTIONS: dict[Any, _Known] = {
    F.relu: (nn.ReLU, ()),
    F.relu_: (nn.ReLU, ()),
    torch.relu: (nn.ReLU, ()),
    torch.relu_: (nn.ReLU, ()),
    F.relu6: (nn.ReLU6, ()),
    F.hardtanh: (nn.Hardtanh, ("min_val", "max_val")),
    F.leaky_relu: (nn.LeakyReLU, ("negative_slope",)),
    F.elu: (nn.ELU, ("alpha",)),
    F.selu: (nn.SELU, ()),
    F.celu: (nn.CELU, ("alpha",)),
    F.gelu: (nn.GELU, ("approximate",)),
    F.silu: (nn.SiLU, ()),
    F.mish: (nn.Mish, ()),
    F.hardswish: (nn.Hardswish, ()),
    F.hardsigmoid: (nn.Hardsigmoid, ()),
    F.softplus: (nn.Softplus, ("beta", "threshold")),
    F.sigmoid: (nn.Sigmoid, ()),
    torch.sigmoid: (nn.Sigmoid, ()),
    F.tanh: (nn.Tanh, ()),
    torch.tanh: (nn.Tanh, ()),
    F.max_pool2d: (nn.MaxPool2d, (*_POOL, "dilation", "ceil_mode")),
    torch.max_pool2d: (nn.MaxPool2d, (*_POOL, "dilation", "ceil_mode")),
    F.avg_pool2d: (nn.AvgPool2d, (*_POOL, "ceil_mode", "count_include_pad", "divisor_override")),
    F.adaptive_avg_pool2d: (nn.AdaptiveAvgPool2d, ("output_size",)),
}
_METHODS: dict[str, _Known] = {
    "relu": (nn.ReLU, ()),
    "relu_": (nn.ReLU, ()),
    "sigmoid": (nn.Sigmoid, ()),
    "sigmoid_": (nn.Sigmoid, ()),
    "tanh": (nn.Tanh, ()),
    "tanh_": (nn.Tanh, ()),
}
_CLAMPS = (torch.clamp, torch.clamp_min, "clamp", "clamp_", "clamp_min", "clamp_min_")
_IN_PLACE = {operator.iadd: operator.add, operator.imul: operator.mul, operator.isub: operator.sub}


@dataclass
class _Preparation:
    classifier: Classifier
    untraced: str = ""  # why torch.fx could not read the model, empty where it could
    proven: set[tuple[int, ...]] = field(default_factory=set)


_CACHE: "WeakKeyDictionary[Classifier, _Preparation]" = WeakKeyDictionary()


def prepared(model: Classifier, images: Tensor | None = None) -> Classifier:
    """The model with every activation and pooling as a module of its own, called once.

    The copy is traced by `torch.fx`; its `module` is then an `fx.GraphModule` whose graph can be
    read, leaf modules keeping their dotted names (containers no longer run, so hook leaves). Where
    a model cannot be traced, its structure is copied, which is right as long as no activation is a
    function or is called twice; with `images` this is checked.

    Args:
        model: the classifier; not touched.
        images: any images of the shape in use, (N, C, H, W). With them the logits of the copy are
            compared with the model's, once for each shape, without counting.

    Raises:
        UnsupportedError: the copy would not be right; the sentence says why.
    """
    if images is not None:
        model.size("backward", images)  # measured here, where no hook of a method listens
    found = _CACHE.get(model)
    if found is None:
        found = _CACHE[model] = _prepare(model)
    found.classifier.network.memory_format = model.network.memory_format
    if images is not None and tuple(images.shape[1:]) not in found.proven:
        _prove(model, found, images[:1])
        found.proven.add(tuple(images.shape[1:]))
    return found.classifier


def activations(model: Classifier) -> dict[str, nn.Module]:
    """The activation modules of a prepared classifier by name, in no particular order."""
    named = model.module.named_modules()
    return {name: child for name, child in named if isinstance(child, ACTIVATIONS)}


def is_relu(module: nn.Module) -> bool:
    """Whether an activation is zero up to zero and the identity above, perhaps up to a cap."""
    if isinstance(module, nn.Hardtanh):
        return module.min_val == 0
    return isinstance(module, nn.ReLU)


def _prepare(model: Classifier) -> _Preparation:
    for name, child in model.module.named_modules():
        if isinstance(child, nn.TransformerEncoderLayer | nn.TransformerDecoderLayer):
            raise UnsupportedError(
                f"The model cannot be prepared: {type(child).__name__} ('{name}') calls its "
                "activation as a function, out of reach; use a block with modules."
            )
    try:
        graph = fx.Tracer().trace(model.module)
        traced = fx.GraphModule(model.module, graph)
        _rewrite(traced)
    except Exception as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        return _Preparation(model.sibling(_structural_copy(model.module)), untraced=first)
    return _Preparation(model.sibling(traced.eval()))


# ---- rewriting the graph


def _rewrite(module: fx.GraphModule) -> None:
    """Give every activation and pooling call its own module; make in-place arithmetic ordinary."""
    used: set[str] = set()
    for node in list(module.graph.nodes):
        if node.op == "call_module":
            child = module.get_submodule(node.target)
            if isinstance(child, (*ACTIVATIONS, *POOLINGS)):
                name = _free(module, node.target) if node.target in used else node.target
                used.add(name)
                module.delete_submodule(name)
                module.add_submodule(name, _private(child))
                node.target = name
        elif node.op == "call_function" and node.target in _IN_PLACE:
            node.target = _IN_PLACE[node.target]
        elif (new := _as_module(node)) is not None:
            name = _free(module, node.name)
            used.add(name)
            module.add_submodule(name, new)
            node.args, node.kwargs = (node.args[0] if node.args else node.kwargs["input"],), {}
            node.op, node.target = "call_module", name
    module.graph.lint()
    module.recompile()


def _free(module: nn.Module, name: str) -> str:
    """The first of name_2, name_3 ... (or the name itself) that the module does not have."""
    count, free = 1, name
    while _exists(module, free):
        count += 1
        free = f"{name}_{count}"
    return free


def _exists(module: nn.Module, name: str) -> bool:
    *parents, last = name.split(".")
    return hasattr(module.get_submodule(".".join(parents)), last)


def _private(child: nn.Module) -> nn.Module:
    """A copy of a module with the same weights, hooks left behind."""
    shared = {id(value): value for value in (*child.parameters(), *child.buffers())}
    new = copy.deepcopy(child, shared)
    if hasattr(new, "inplace"):
        new.inplace = False  # type: ignore[assignment]
    return new


def _as_module(node: fx.Node) -> nn.Module | None:
    """The module that a functional call stands for, None if it stands for none."""
    if node.op not in ("call_function", "call_method"):
        return None
    rest = list(node.args[1:])
    named = {k: v for k, v in node.kwargs.items() if k not in ("input", "inplace")}
    if any(isinstance(value, fx.Node) for value in (*rest, *named.values())):
        return None
    if node.target in _CLAMPS:
        return _clamp(rest, named)
    table: dict[Any, _Known] = _FUNCTIONS if node.op == "call_function" else _METHODS
    if node.target not in table or named.pop("return_indices", False):
        return None
    kind, names = table[node.target]
    arguments = {**dict(zip(names, rest, strict=False)), **named}
    return kind(**{k: v for k, v in arguments.items() if k in names and v is not None})


def _clamp(rest: list[Any], named: dict[str, Any]) -> nn.Module | None:
    low, high = ([*rest, None, None])[:2]
    low, high = named.get("min", low), named.get("max", high)
    if low is None or isinstance(low, Tensor) or isinstance(high, Tensor):
        return None
    if high is None:
        return nn.ReLU() if low == 0 else None
    if low >= high:
        return None
    return nn.ReLU6() if (low, high) == (0, 6) else nn.Hardtanh(float(low), float(high))


# ---- models that cannot be traced


def _structural_copy(module: nn.Module) -> nn.Module:
    shared = {id(value): value for value in (*module.parameters(), *module.buffers())}
    return copy.deepcopy(module, shared)


class _Calls(TorchFunctionMode):
    """Counts calls of activation functions, whoever makes them."""

    def __init__(self) -> None:
        super().__init__()
        self.functions = 0

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        known = _FUNCTIONS.get(func)
        name = getattr(func, "__name__", "")
        if (known and issubclass(known[0], ACTIVATIONS)) or name in _METHODS:
            self.functions += 1
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def _prove(model: Classifier, found: _Preparation, image: Tensor) -> None:
    """Refuse a copy that is not right on images of this shape."""
    with model.counter.paused():
        if found.untraced:
            _prove_structure(found, image)
        expected, actual = model.network(image), found.classifier.network(image)
    scale = float(expected.abs().max()) + 1e-6
    if not torch.allclose(actual, expected, rtol=1e-4, atol=1e-5 * scale):
        raise UnsupportedError(
            "The model cannot be prepared: its rewritten copy gives other logits (it depends on "
            "writing in place, or on control flow); write its activations as modules."
        )


def _prove_structure(found: _Preparation, image: Tensor) -> None:
    calls: dict[str, int] = {}
    handles = [
        child.register_forward_hook(_count(calls, name))
        for name, child in activations(found.classifier).items()
    ]
    try:
        with _Calls() as mode:
            found.classifier.network(image)
    finally:
        for handle in handles:
            handle.remove()
    if mode.functions != sum(calls.values()) or any(count > 1 for count in calls.values()):
        raise UnsupportedError(
            "The model cannot be prepared: it calls activations as functions or uses one module "
            f"twice, in code that torch.fx cannot trace ({found.untraced}); use one module a call."
        )


def _count(calls: dict[str, int], name: str) -> Callable[..., None]:
    def hook(*_: object) -> None:
        calls[name] = calls.get(name, 0) + 1

    return hook
