"""Networks with randomized weights, layer by layer in order of execution (Adebayo et al., 2018).

Every parameter takes part: normalizations, attention projections, class tokens and position
embeddings. Running statistics of batch normalization are buffers and stay as they are.
"""

import copy
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from xbench.errors import ParameterError
from xbench.streams import Streams

if TYPE_CHECKING:
    from xbench.classifier.classifier import Classifier

HOWS = ("permutation", "normal")
ORDERS = ("top_down", "bottom_up", "independent")


@dataclass(frozen=True)
class Weights:
    """The parameters that are randomized in one step.

    Attributes:
        name: dotted name of the module that owns them, or of the parameter itself where its
            owner is a container (class tokens, position embeddings).
        parameters: dotted names; vectors used right behind (normalizations, scales) go along.
    """

    name: str
    parameters: tuple[str, ...]


class _FirstUse(TorchDispatchMode):
    """Notes at which operation of a forward pass each watched tensor is first used."""

    def __init__(self, watched: Collection[Tensor]) -> None:
        super().__init__()
        self.watched = {id(tensor) for tensor in watched}
        self.seen: dict[int, int] = {}
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for leaf in tree_leaves((args, kwargs)):
            if id(leaf) in self.watched:
                self.seen.setdefault(id(leaf), self.operations)
        self.operations += 1
        return func(*args, **kwargs)


@torch.no_grad()
def weights_in_order(module: nn.Module, sample: Tensor) -> list[Weights]:
    """The layers of a network in order of execution, from the input to the logits.

    Args:
        module: the network, in eval mode.
        sample: one input, (1, C, H, W), as the module expects it.

    Returns:
        Every parameter in exactly one entry; parameters that the pass never used come first.
    """
    named = dict(module.named_parameters())
    modules = dict(module.named_modules())
    with _FirstUse(named.values()) as first:
        module(sample)
    units: dict[str, list[str]] = {}
    for name in named:
        owner = modules.get(name.rpartition(".")[0])  # None inside saved programs
        unit = name if owner and any(owner.children()) else name.rpartition(".")[0]
        units.setdefault(unit, []).append(name)

    def position(unit: str) -> int:
        return min(int(first.seen.get(id(named[name]), -1)) for name in units[unit])

    layers: list[Weights] = []
    for unit in sorted(units, key=position):
        vectors = all(named[name].ndim <= 1 for name in units[unit])
        if layers and vectors and position(unit) >= 0:
            last = layers.pop()
            layers.append(Weights(last.name, (*last.parameters, *units[unit])))
        else:
            layers.append(Weights(unit, tuple(units[unit])))
    return layers


def randomized(values: Tensor, how: str, generator: torch.Generator) -> Tensor:
    """One tensor of weights, randomized.

    Args:
        values: the trained weights.
        how: "permutation" shuffles them within the tensor, which keeps their distribution and so
            the scale of activations; "normal" draws from a normal distribution of the same mean
            and standard deviation. A constant tensor holds nothing to destroy and stays.
        generator: on the CPU.

    Raises:
        ParameterError: an unknown way.
    """
    if how == "permutation":
        order = torch.randperm(values.numel(), generator=generator).to(values.device)
        return values.flatten()[order].view_as(values)
    if how == "normal":
        draws = torch.randn(values.shape, generator=generator).to(values)
        spread = values.std(correction=0) if values.numel() > 1 else torch.zeros_like(values)
        return values.mean() + spread * draws
    raise ParameterError(f"Weights are randomized by {' or '.join(HOWS)}, not '{how}'.")


class RandomizedNetwork:
    """A working copy of a network, any of whose layers can be set to random weights and back.

    It holds two copies of the weights, however many depths are visited: the working network and
    its randomized weights. Each tensor has its own seed (run seed, parameter name).

    Args:
        model: the classifier; left untouched.
        images: any images of the right shape.
        how: see `randomized`.
        streams: gives the seeds; images play no part.
    """

    def __init__(self, model: "Classifier", images: Tensor, how: str, streams: Streams) -> None:
        self.model = model
        with model.counter.paused():
            self.layers = weights_in_order(model.module, model.network.normalize(images[:1]))
        self._module = copy.deepcopy(model.module)
        self._trained = dict(model.module.named_parameters())
        self._working = dict(self._module.named_parameters())
        self._random = {
            name: randomized(value.detach(), how, streams.common("randomize", how, name))
            for name, value in self._trained.items()
        }
        self._current: set[int] = set()
        self._last = model.sibling(self._module, f"{model.name} with random weights")
        self._last.network.take_folding(model.network)

    @torch.no_grad()
    def at(self, chosen: Collection[int]) -> "Classifier":
        """The classifier whose layers at these positions (in order of execution) are random.

        It is valid until the next call; it counts its calls with those of the trained one.
        """
        for index in set(chosen) ^ self._current:
            source = self._random if index in chosen else self._trained
            for name in self.layers[index].parameters:
                self._working[name].copy_(source[name])
        self._current = set(chosen)
        # a new classifier for new weights, since methods keep what they prepare for one
        self._last = self._last.renewed()
        return self._last


def stages(layers: int, depths: int, order: str) -> list[list[int]]:
    """Which layers are random at each stage of a randomization test.

    Args:
        layers: number of layers, 0 next to the input.
        depths: at most so many stages, evenly spread, the first and the last always among them.
        order: "top_down" starts at the logits and accumulates to the full network, "bottom_up"
            starts at the input, "independent" takes one layer a stage, from the logits down.

    >>> stages(5, 3, "top_down")
    [[4], [4, 3, 2], [4, 3, 2, 1, 0]]
    >>> stages(5, 3, "independent")
    [[4], [2], [0]]
    """
    counts = spread(layers, depths)
    if order == "independent":
        return [[layers - count] for count in counts]
    sequence: Sequence[int] = range(layers)
    if order == "top_down":
        sequence = sequence[::-1]
    elif order != "bottom_up":
        raise ParameterError(f"Layers are randomized {' or '.join(ORDERS)}, not '{order}'.")
    return [list(sequence[:count]) for count in counts]


def spread(layers: int, depths: int) -> list[int]:
    """At most `depths` counts evenly between 1 and `layers`, both ends included.

    >>> spread(53, 6), spread(3, 6)
    ([1, 11, 22, 32, 43, 53], [1, 2, 3])
    """
    if layers <= depths:
        return list(range(1, layers + 1))
    return [round(1 + i * (layers - 1) / (depths - 1)) for i in range(depths)]
