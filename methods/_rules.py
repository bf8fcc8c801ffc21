"""Which networks the rules of FullGrad and DeepLIFT cover, and hooks on their nonlinearities."""

import operator
from typing import Any

from torch import fx, nn

from xbench.classifier import Classifier
from xbench.classifier.preparation import ACTIVATIONS, prepared
from xbench.errors import UnsupportedError

_LAYERS: tuple[type[nn.Module], ...] = (
    nn.Conv2d,
    nn.ConvTranspose2d,
    nn.Linear,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.MaxPool2d,
    nn.Dropout,
    nn.Dropout2d,
    nn.AlphaDropout,
    nn.Identity,
    nn.Flatten,
    nn.Unflatten,
    nn.ZeroPad2d,
    nn.ReflectionPad2d,
    nn.ReplicationPad2d,
    nn.Upsample,
    nn.ChannelShuffle,
    nn.PixelShuffle,
    *ACTIVATIONS,
)
# fmt: off
_LINEAR = frozenset((
    "add", "sub", "rsub", "neg", "floordiv", "eq", "ne", "_assert", "is_scripting", "cat",
    "concat", "stack", "flatten", "reshape", "view", "contiguous", "permute", "transpose", "t",
    "expand", "squeeze", "unsqueeze", "getattr", "getitem", "size", "dim", "chunk", "split",
    "unbind", "pad", "mean", "sum", "interpolate", "dropout", "dropout2d", "feature_dropout",
    "stochastic_depth", "channel_shuffle", "pixel_shuffle", "adaptive_avg_pool2d", "avg_pool2d",
))
# fmt: on
_SCALING = frozenset(("mul", "truediv", "div", "matmul"))


def uncovered(model: Classifier) -> str | None:
    """Why a model is not a composition of affine layers, elementwise activations and max pooling.

    There, products of two signals (gates, attention), normalizations by the input's own statistics
    and softmax have no rule. Returns None where all is covered.
    """
    try:
        copy = prepared(model).module
    except UnsupportedError as error:
        return str(error)
    if not isinstance(copy, fx.GraphModule):
        return "The model cannot be traced by torch.fx, so its operations are not known."
    for node in copy.graph.nodes:
        if node.op == "call_module":
            layer = copy.get_submodule(node.target)
            if not isinstance(layer, _LAYERS):
                return f"There is no rule for {type(layer).__name__} ('{node.target}')."
        elif node.op in ("call_function", "call_method") and not _covered(node):
            return f"There is no rule for the operation '{_name(node)}' in the model ({node.name})."
    return None


def _name(node: fx.Node) -> str:
    target: Any = node.target
    return str(target if isinstance(target, str) else getattr(target, "__name__", target)).rstrip(
        "_"
    )


def _covered(node: fx.Node) -> bool:
    name = _name(node)
    if name in _SCALING:
        signals = [n for n in node.all_input_nodes if n.op != "get_attr"]
        divided = name in ("truediv", "div") and isinstance(node.args[0], int | float)
        return len(signals) <= 1 and not divided
    if node.target in (operator.getitem, getattr):
        return True
    return name in _LINEAR
