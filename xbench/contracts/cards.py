"""Cards: what a catalogue entry says of itself, and the cost formulas on it."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal

from xbench.cost import Cost, Facts, evaluate

Direction = Literal["higher", "lower", "none"]

LAST = "last_conv"  # the role that layers have by default
_OF_A_LAYER = ("channels", "tail")


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a catalogue entry says of itself, declared once; tables, docs and plans read it."""

    name: str
    summary: str
    paper: str = ""
    limitations: str = ""


@dataclass(frozen=True, kw_only=True)
class MethodCard(Card):
    """Card of a saliency method.

    Attributes:
        family: gradient, path, cam, perturbation, surrogate, relevance, attention or control.
        needs: what must be there: "gradients", "convolution", "attention", "relu", "truth" ...
        signed: whether negative values mean evidence against the class.
        stochastic: whether the map depends on random draws.
        class_agnostic: whether the map is the same whichever class is asked for.
        forwards, backwards, tails: cost formulas an image, over the hyper-parameters and
            `height`, `width`, `classes`, `channels` (of the target layer), see `xbench.cost`.
        at_most: whether that is the most an image can need: what shows nothing is not tried.
        baseline: the fill that the method compares with ("black", "mean", "blur"), if any; a
            removal metric with the same fill favors it.
    """

    family: str
    needs: tuple[str, ...] = ()
    signed: bool = True
    stochastic: bool = False
    class_agnostic: bool = False
    forwards: str = "0"
    backwards: str = "0"
    tails: str = "0"
    at_most: bool = False
    baseline: str = ""

    @property
    def control(self) -> bool:
        """Whether this is no explanation but a yardstick that every grid carries."""
        return self.family == "control"


@dataclass(frozen=True, kw_only=True)
class MetricCard(Card):
    """Card of a metric.

    Attributes:
        property: faithfulness, randomization, robustness, localization, agreement, complexity,
            axioms or efficiency.
        direction: whether a higher or a lower value is better; "none" for descriptive metrics.
        range: smallest and largest possible value (may be infinite).
        needs: "model", "truth", "explain", "labels", "twin", "pair" ...
        forwards, backwards, explains: cost formulas an image; `explains` counts calls of the
            method, whose own cost comes on top.
        trainings: how many models are trained a method, once for all images.
        shared: the part of `forwards` that does not depend on the map: paid once an image, by the
            first method, and kept in the bank for all others.
        invariances: transforms of a map that leave the score: "monotone", "scale", "shift", "sign".
        chance: what a random map gets, in words.
        default: whether `--metrics default` includes it.
        gate: the sanity gate that this metric feeds, if any.
    """

    property: str
    direction: Direction
    range: tuple[float, float]
    needs: tuple[str, ...] = ()
    forwards: str = "0"
    backwards: str = "0"
    explains: str = "0"
    trainings: str = "0"
    shared: str = "0"
    invariances: tuple[str, ...] = ()
    chance: str = ""
    default: bool = False
    gate: str = ""


@dataclass(frozen=True, kw_only=True)
class DatasetCard(Card):
    """Card of an image source: what it needs on disk and what truth it brings."""

    argument: str = ""
    layout: str = ""
    labels: bool = True
    truth: str = ""


def parameters(instance: object) -> dict[str, object]:
    """Every field of a dataclass instance by name."""
    return {f.name: getattr(instance, f.name) for f in fields(instance)}  # type: ignore[arg-type]


def cost_of(
    instance: object, forwards: str, backwards: str, tails: str, facts: Mapping[str, object]
) -> Cost:
    """The cost that a card's formulas give for an instance's parameters and these facts.

    Of a layer they speak of the one that the instance names in a parameter `layer`.
    """
    own, formulas = parameters(instance), (forwards, backwards, tails)
    layer = str(own.get("layer", LAST))
    asked = any(fact in formula for fact in _OF_A_LAYER for formula in formulas)
    if asked and layer != LAST and isinstance(facts, Facts):
        facts = facts.at(layer)
    values = {**facts, **own}
    return Cost(*(evaluate(formula, values) for formula in formulas))
