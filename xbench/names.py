"""Names are identity: `smoothgrad[n_samples=25]` is CLI argument, cache key and label."""

import re
from collections.abc import Mapping

from xbench.errors import ParameterError

Value = bool | int | float | str | None

_HEAD = re.compile(r"^[A-Za-z_*?][\w*?.\-]*$")
_LITERALS: dict[str, Value] = {"true": True, "false": False, "none": None}


def split(text: str) -> list[str]:
    """Split a comma-separated list, leaving commas inside brackets alone.

    >>> split("gradient, smoothgrad[n_samples=5,stdev=0.1]")
    ['gradient', 'smoothgrad[n_samples=5,stdev=0.1]']
    """
    parts, depth, start = [], 0, 0
    for position, character in enumerate(text):
        if character == "[":
            depth += 1
        elif character == "]":
            depth -= 1
            if depth < 0:
                raise ParameterError(f"'{text}' closes a bracket that it never opened.")
        elif character == "," and depth == 0:
            parts.append(text[start:position])
            start = position + 1
    if depth:
        raise ParameterError(f"'{text}' opens a bracket that it never closes.")
    parts.append(text[start:])
    return [part.strip() for part in parts if part.strip()]


def parse(text: str) -> tuple[str, str | None, dict[str, Value]]:
    """Read `head`, `head[key=value,...]` or `head:argument[key=value,...]`.

    Returns:
        The head, the argument after the colon (None without one), and the parameters.

    Raises:
        ParameterError: the text is not of that form.

    >>> parse("smoothgrad[stdev=0.1,n_samples=5]")
    ('smoothgrad', None, {'stdev': 0.1, 'n_samples': 5})
    >>> parse("images:photos/cats")
    ('images', 'photos/cats', {})
    """
    text = text.strip()
    body, parameters = text, ""
    if text.endswith("]") and "[" in text:
        body, parameters = text[: text.index("[")], text[text.index("[") + 1 : -1]
    head, colon, argument = body.partition(":")
    if not _HEAD.match(head.strip()):
        raise ParameterError(f"'{text}' is not a name; write for example smoothgrad[n_samples=50].")
    values: dict[str, Value] = {}
    for part in split(parameters):
        key, equals, value = part.partition("=")
        if not equals or not key.strip().isidentifier():
            raise ParameterError(f"'{part}' in '{text}' is not of the form parameter=value.")
        if key.strip() in values:
            raise ParameterError(f"'{text}' sets the parameter '{key.strip()}' twice.")
        values[key.strip()] = read_value(value.strip())
    return head.strip(), (argument.strip() if colon else None), values


def read_value(text: str) -> Value:
    """Read one parameter value: a number, true, false, none, or else the text itself.

    >>> [read_value(text) for text in ("3", "0.5", "true", "none", "blur")]
    [3, 0.5, True, None, 'blur']
    """
    if text.lower() in _LITERALS:
        return _LITERALS[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def write(head: str, values: Mapping[str, Value], argument: str | None = None) -> str:
    """Write a name back, parameters sorted.

    >>> write("smoothgrad", {"stdev": 0.15, "n_samples": 25})
    'smoothgrad[n_samples=25,stdev=0.15]'
    """
    text = head if argument is None else f"{head}:{argument}"
    if not values:
        return text
    return f"{text}[{','.join(f'{key}={_text(values[key])}' for key in sorted(values))}]"


def _text(value: Value) -> str:
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return repr(value) if isinstance(value, float) else str(value)
