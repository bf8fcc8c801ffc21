"""A plain function `(model, images, targets) -> maps` as a saliency method."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, make_dataclass, replace
from typing import Any, ClassVar, Final

import torch
from torch import Tensor, nn

from xbench.classifier import Classifier
from xbench.contracts import Method, MethodCard, check_maps
from xbench.contracts.cards import parameters
from xbench.cost import Cost
from xbench.errors import ParameterError, XbenchError
from xbench.optional import random_state, seeded
from xbench.registry import METHODS, Entry
from xbench.streams import Streams

CARD: Final = "__xbench_card__"
"""Attribute of a function that `method` sets: what it says of itself."""
SAYS: Final = (
    "name",
    "summary",
    "paper",
    "limitations",
    "family",
    "signed",
    "stochastic",
    "class_agnostic",
    "forwards",
    "backwards",
    "needs",
    "baseline",
)

Maps = Callable[..., Tensor]


def method(**card: Any) -> Callable[[Maps], Maps]:
    """Decorator: what a function says of itself as a saliency method.

    The function takes `(model, images, targets)`: an `nn.Module` from pixels in [0, 1] to logits,
    images float32 (N, C, H, W) and classes int64 (N,); it returns maps float32 (N, H, W). Further
    parameters with defaults become hyper-parameters; one called `streams` gets the random streams.

    Args:
        card: any of name, summary, paper, limitations, family, signed, stochastic,
            class_agnostic, forwards, backwards, needs, baseline; see `xbench.contracts.MethodCard`.

    Raises:
        ParameterError: something else is said.

    Example:
        >>> @method(class_agnostic=True, paper="Nobody 2025")
        ... def brightness(model, images, targets):
        ...     return images.mean(dim=1)
    """
    for key in card:
        if key not in SAYS:
            raise ParameterError(f"A method says no '{key}' of itself; it says {', '.join(SAYS)}.")

    def say(function: Maps) -> Maps:
        setattr(function, CARD, dict(card))
        return function

    return say


@dataclass(frozen=True)
class FunctionMethod(Method):
    """A user's function; subclasses carry it, with its further parameters as fields.

    Attributes:
        function: the function.
        alone: whether it draws from the global random state, and so is given one image at a time
            with that state seeded by the image; None: not known, and looked at in every call.
        streamed: whether it takes random streams.
    """

    function: ClassVar[Maps]
    alone: ClassVar[bool | None] = None
    streamed: ClassVar[bool] = False

    @classmethod
    def variant(cls, **changed: Any) -> "type[FunctionMethod]":
        """The same class with other class attributes."""
        space = {**changed, "__doc__": cls.__doc__, "__module__": cls.__module__}
        return type(cls.__name__, (cls,), space)

    def explain(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """Maps of the function, in batches that fit; see `Method.explain`."""
        given = parameters(self)

        def work(index: Tensor) -> Tensor:
            more: dict[str, Any] = {"streams": streams.select(index)} if self.streamed else {}
            rows = images[index].detach().clone()
            with torch.enable_grad():
                maps = type(self).function(model.network, rows, targets[index], **given, **more)
            return check_maps(maps, rows, f"The function '{self.card.name}'")

        if self.alone is False:
            return torch.cat(list(model.in_batches("backward", len(images), images, work)))
        if self.alone is None:
            with seeded(0):
                state = random_state()
                maps = torch.cat(list(model.in_batches("backward", len(images), images, work)))
                if random_state() == state:
                    return maps
        parts = []
        for i in range(len(images)):
            with seeded(streams.seed_for(i, "function")):
                parts.append(work(torch.tensor([i], device=images.device)))
        return torch.cat(parts)


def method_class(function: Maps, name: str = "", **card: Any) -> type[FunctionMethod]:
    """The method class of a function; nothing is measured or registered.

    Args:
        function: see `method`.
        name: of the method, default what the function says, or its own name.
        card: what is known of it, over what it says of itself.

    Raises:
        ParameterError: it takes too few arguments, or one without a default that nobody gives.
    """
    own = {**getattr(function, CARD, {}), **card}
    own["name"] = name or own.get("name") or getattr(function, "__name__", type(function).__name__)
    fields, streamed = _fields(function, own["name"])
    first = (inspect.getdoc(function) or "").partition("\n")[0].strip()
    summary = first if first.endswith(".") else f"The function {own['name']} of one's own."
    kind = make_dataclass(
        f"Function_{own['name']}",
        [(key, hint, field(default=value)) for key, (hint, value) in fields.items()],
        bases=(FunctionMethod,),
        frozen=True,
        namespace={
            "__doc__": inspect.getdoc(function) or summary,
            "__module__": function.__module__,
            "function": staticmethod(function),
            "streamed": streamed,
            "card": MethodCard(
                **{
                    "summary": summary,
                    "paper": "One's own",
                    "limitations": "None are known yet.",
                    "family": "gradient",
                    **own,
                }
            ),
        },
    )
    kind.__module__ = function.__module__
    return kind


def measured(kind: type[FunctionMethod], model: Classifier, images: Tensor) -> type[FunctionMethod]:
    """The class with a card that says what one trial shows: calls an image, sign, random draws.

    What the function says of itself is kept.

    Args:
        kind: from `method_class`.
        model: a classifier.
        images: float32 (N, C, H, W) on its device, at least one.
    """
    said = getattr(kind.function, CARD, {})
    targets = model.logits(images).argmax(dim=1)
    streams = Streams(0, [str(i) for i in range(len(images))], kind.card.name)
    with seeded(0):
        state = random_state()
        maps, spent = _trial(kind.variant(alone=False), model, images, targets, streams)
        alone = random_state() != state
    kind = kind.variant(alone=alone)
    if alone:
        maps, spent = _trial(kind, model, images, targets, streams)
    found: dict[str, Any] = {
        "forwards": f"{spent.forwards:g}",
        "backwards": f"{spent.backwards:g}",
        "signed": bool((maps < 0).any()),
        "stochastic": alone or kind.streamed,
        "family": "gradient" if spent.backwards else "perturbation",
    }
    card = replace(kind.card, **{key: value for key, value in found.items() if key not in said})
    return kind.variant(card=card)


def _trial(
    kind: type[FunctionMethod], model: Classifier, images: Tensor, targets: Tensor, streams: Streams
) -> tuple[Tensor, Cost]:
    """Maps, and the calls an image that they took."""
    with model.counter.paused():
        before = model.counter.read()
        maps = kind().explain(model, images, targets, streams=streams)
        return maps, (model.counter.read() - before) * (1 / len(images))


def register(kind: type[Method], *, replacing: bool = False) -> str:
    """Enter a method class under its card's name, and say the name.

    Args:
        kind: with a card.
        replacing: whether an entry of the same name that came from elsewhere gives way.

    Raises:
        XbenchError: the catalogue has a method of that name.
    """
    card = getattr(kind, "card", None)
    if not isinstance(card, MethodCard):
        raise XbenchError(
            f"{kind.__name__} has no card; write `card: ClassVar[MethodCard] = MethodCard("
            "name=..., summary=..., family=...)` in the class, as `xbench new method NAME` does."
        )
    if card.name in METHODS:
        known = METHODS.entry(card.name)
        own = known.module == kind.__module__ or (replacing and not _shipped(known))
        if not own:
            raise XbenchError(
                f"There is a method '{card.name}' already (in {known.module}); give yours another "
                f"name, for example '{card.name}_mine'."
            )
    METHODS.put(Entry(card.name, kind, {}, card, kind.__module__))
    return card.name


def _shipped(entry: Entry[Any]) -> bool:
    return entry.module.startswith("xbench.methods.")


def _fields(function: Maps, name: str) -> tuple[Mapping[str, tuple[Any, Any]], bool]:
    """Hyper-parameters with type and default, and whether the function takes streams."""
    taken = list(inspect.signature(function).parameters.values())
    named = [p for p in taken if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if len(named) < 3 and len(named) == len(taken):
        raise ParameterError(
            f"The function '{name}' takes {len(named)} arguments; write `def {name}(model, images, "
            "targets):`, which returns one map an image."
        )
    found: dict[str, tuple[Any, Any]] = {}
    streamed = False
    for one in named[3:]:
        if one.name == "streams":
            streamed = True
        elif one.default is one.empty:
            raise ParameterError(
                f"The argument '{one.name}' of the function '{name}' has no default; give it one, "
                f"for example {one.name}=8, and it becomes a hyper-parameter."
            )
        elif one.default is not None and not isinstance(one.default, bool | int | float | str):
            raise ParameterError(
                f"The argument '{one.name}' of the function '{name}' has a default of type "
                f"{type(one.default).__name__}; hyper-parameters are numbers, words and none."
            )
        else:
            hint: Any = type(one.default) if one.default is not None else str | float | int | None
            found[one.name] = (hint, one.default)
    return found, streamed


def is_function(found: object) -> bool:
    """Whether this is a plain function (or another callable that is no class and no network)."""
    return callable(found) and not isinstance(found, type | nn.Module)
