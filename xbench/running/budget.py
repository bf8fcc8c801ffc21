"""Budget-matched comparison: every method gets the same number of model calls for a map."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from xbench.classifier import Classifier
from xbench.contracts import Method, Source
from xbench.errors import ParameterError
from xbench.registry import METHODS, Chosen

TUNABLE = ("n_samples", "n_masks", "n_permutations", "n_designs", "n_steps")
"""Parameters that buy accuracy; the first that a method has and that moves its cost is set. Others
in a cost formula (segments, windows, grids, areas) say what is estimated, not how well."""
_LARGEST = 2**30


@dataclass(frozen=True)
class Fitted:
    """A method at a budget.

    Attributes:
        label: as in the records.
        base: the method without the parameter that was set; the same at every budget.
        budget: model calls a map may need.
        calls: what it needs.
        parameter, value: what was set; None and None for a method at its own cost.
    """

    label: str
    base: str
    budget: int
    calls: float
    parameter: str | None = None
    value: int | None = None


@dataclass(frozen=True)
class Budgets:
    """How the methods of a run were set to budgets.

    Attributes:
        budgets: in rising order.
        fitted: every method at every budget that it fits; controls and methods that this model does
            not allow are left as they are, and left out here.
        refused: a sentence for every method and budget that do not fit.
    """

    budgets: tuple[int, ...]
    fitted: tuple[Fitted, ...]
    refused: tuple[str, ...]

    @property
    def own(self) -> tuple[str, ...]:
        """Methods that have no such parameter, and run at their own cost."""
        return tuple(dict.fromkeys(one.label for one in self.fitted if one.parameter is None))

    @property
    def sentences(self) -> tuple[str, ...]:
        """What a user has to know: who runs at its own cost, and who does not fit."""
        if not self.own:
            return self.refused
        return (f"At their own cost: {', '.join(self.own)}.", *self.refused)


def parse_budgets(text: str | None) -> tuple[int, ...]:
    """Budgets in rising order, each once.

    >>> parse_budgets("1024, 64")
    (64, 1024)

    Raises:
        ParameterError: something that is no number of calls.
    """
    if text is None:
        return ()
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ParameterError(
            f"--budget takes numbers of model calls, for example 512 or 64,256,1024, not '{text}'."
        )
    return tuple(sorted({int(part) for part in parts}))


def at_budgets(
    methods: Sequence[Chosen[Method]],
    budget: str | None,
    limit: int | None,
    model: Classifier,
    source: Source,
) -> tuple[list[Chosen[Method]], Budgets | None]:
    """The methods at the budgets that were asked for, if any, on the images of a source.

    Args:
        methods: as chosen.
        budget: as on the command line.
        limit: model calls that a map may need, None for no limit.
        model, source: what cost formulas depend on.

    Raises:
        ParameterError: a budget above the limit, or one that no method fits.
    """
    budgets = parse_budgets(budget)
    if not budgets:
        return list(methods), None
    if limit is not None and budgets[-1] > limit:
        raise ParameterError(
            f"A budget of {budgets[-1]:,} is above what --max-map-calls allows ({limit:,}); "
            "raise it too."
        )
    return match(methods, budgets, model, model.facts(source.read([0]).images.shape))


def match(
    methods: Sequence[Chosen[Method]],
    budgets: Sequence[int],
    model: Classifier,
    facts: Mapping[str, object],
) -> tuple[list[Chosen[Method]], Budgets]:
    """The methods at every budget, each setting once, and how they were set.

    Args:
        methods: as chosen; what they set of a tuned parameter is set anew.
        budgets: model calls a map may need.
        model: says which methods it does not allow.
        facts: what cost formulas may use, see `Classifier.facts`.

    Raises:
        ParameterError: no explanation fits any budget.
    """
    chosen: dict[str, Chosen[Method]] = {}
    fitted: list[Fitted] = []
    refused: list[str] = []
    for method in methods:
        if method.card.control or method.value.supports(model) is not None:
            chosen.setdefault(method.identity, method)
            continue
        name = tunable(method, facts)
        for budget in budgets:
            one = method if name is None else fit(method, name, budget, facts)
            calls = None if one is None else one.value.cost(facts).calls
            if one is None or calls is None or calls > budget:
                refused.append(_refusal(method, name, budget, facts))
                continue
            chosen.setdefault(one.identity, one)
            value = None if name is None else int(getattr(one.value, name))
            fitted.append(Fitted(one.label, _base(method, name), budget, calls, name, value))
    if not fitted:
        raise ParameterError(
            "No method fits a budget; choose other methods or a larger --budget. "
            + " ".join(dict.fromkeys(refused[:3]))
        )
    return list(chosen.values()), Budgets(tuple(budgets), tuple(fitted), tuple(refused))


def tunable(method: Chosen[Method], facts: Mapping[str, object]) -> str | None:
    """The parameter that buys a method's accuracy with model calls; None if it has none."""
    numbers = {f.name for f in fields(method.value) if type(getattr(method.value, f.name)) is int}
    own = method.value.cost(facts).calls
    for name in TUNABLE:
        if name in numbers and own != _calls(method, name, 2 * getattr(method.value, name), facts):
            return name
    return None


def fit(
    method: Chosen[Method], name: str, budget: int, facts: Mapping[str, object]
) -> Chosen[Method] | None:
    """The method with the largest value of a parameter whose calls are within a budget.

    Returns:
        None where its smallest value needs more.
    """

    def over(value: int) -> bool:
        calls = _calls(method, name, value, facts)
        return calls is not None and calls > budget

    low, high = 0, 1
    while not over(high) and high < _LARGEST:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if over(middle) else (middle, high)
    while low > 0 and _calls(method, name, low, facts) is None:
        low -= 1  # a value that the method does not take
    return METHODS.adjust(method, **{name: low}) if low else None


def _calls(
    method: Chosen[Method], name: str, value: int, facts: Mapping[str, object]
) -> float | None:
    """Model calls at a value of a parameter; None where the method does not take it."""
    try:
        return METHODS.adjust(method, **{name: value}).value.cost(facts).calls
    except ParameterError:
        return None


def _base(method: Chosen[Method], name: str | None) -> str:
    if name is None:
        return method.label
    return METHODS.adjust(method, **{name: method.entry.parameters[name]}).label


def _refusal(
    method: Chosen[Method], name: str | None, budget: int, facts: Mapping[str, object]
) -> str:
    if name is None:
        calls = method.value.cost(facts).calls
        return f"{method.label} needs {calls:,.0f} model calls, more than the budget of {budget:,}."
    least = next(v for v in range(1, 10_000) if _calls(method, name, v, facts) is not None)
    calls = _calls(method, name, least, facts) or 0.0
    return (
        f"{_base(method, name)} needs {calls:,.0f} model calls at its cheapest ({name}={least}), "
        f"more than the budget of {budget:,}."
    )
