"""Cost formulas: one string on the card, printed in tables and evaluated in plans and tests."""

import ast
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from xbench.errors import XbenchError

_OPERATORS: dict[type, Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
}
_FUNCTIONS: dict[str, Callable[..., float]] = {
    "ceil": math.ceil,
    "floor": math.floor,
    "min": min,
    "max": max,
    "round": round,
    "sqrt": math.sqrt,
    "log2": math.log2,
}


@dataclass(frozen=True)
class Cost:
    """Model calls an image: forward images, backward images, and passes of the network's tail."""

    forwards: float = 0.0
    backwards: float = 0.0
    tails: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.forwards + other.forwards,
            self.backwards + other.backwards,
            self.tails + other.tails,
        )

    def __mul__(self, times: float) -> "Cost":
        return Cost(self.forwards * times, self.backwards * times, self.tails * times)

    def __sub__(self, other: "Cost") -> "Cost":
        return self + other * -1

    def within(self, most: "Cost") -> bool:
        """Whether no kind of call is made more often."""
        return (
            self.forwards <= most.forwards
            and self.backwards <= most.backwards
            and self.tails <= most.tails
        )

    @property
    def calls(self) -> float:
        """Forward plus backward images; tails are a fraction of a call and not counted here."""
        return self.forwards + self.backwards


class Facts(dict[str, object]):
    """What cost formulas may use; of layers it holds the facts of the role `last_conv`.

    Args:
        values: by name.
        read: gives the facts of another layer by its role or dotted name.
    """

    def __init__(
        self, values: Mapping[str, object], read: Callable[[str], Mapping[str, object]]
    ) -> None:
        super().__init__(values)
        self._read = read

    def at(self, layer: str) -> dict[str, object]:
        """The facts with those of this layer."""
        return {**self, **self._read(layer)}


def evaluate(formula: str, values: Mapping[str, object]) -> float:
    """The value of an arithmetic formula over named numbers.

    Args:
        formula: arithmetic over the names, with ceil, floor, min, max, round, sqrt and log2, and
            `a if condition else b` with comparisons.
        values: the numbers (hyper-parameters, height, width, classes, channels ...).

    Raises:
        XbenchError: an unknown name or an operation that is no arithmetic.

    >>> evaluate("ceil(n_samples / 2) + 1", {"n_samples": 5})
    4.0
    """
    tree = ast.parse(formula, mode="eval").body
    return float(_walk(tree, formula, values))


def _walk(node: ast.AST, formula: str, values: Mapping[str, object]) -> Any:
    def walk(child: ast.AST) -> Any:
        return _walk(child, formula, values)

    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name) if name in values:
            return values[name]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](walk(left), walk(right))
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](walk(operand))
        case ast.Call(func=ast.Name(id=name), args=arguments) if name in _FUNCTIONS:
            return _FUNCTIONS[name](*map(walk, arguments))
        case ast.IfExp(test=test, body=body, orelse=orelse):
            return walk(body) if walk(test) else walk(orelse)
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            comparison = {
                ast.Eq: operator.eq,
                ast.NotEq: operator.ne,
                ast.Lt: operator.lt,
                ast.LtE: operator.le,
                ast.Gt: operator.gt,
                ast.GtE: operator.ge,
            }[type(op)]
            return comparison(walk(left), walk(right))
    raise XbenchError(f"The cost formula '{formula}' uses something that is not arithmetic.")
