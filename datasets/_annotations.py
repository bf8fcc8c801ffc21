"""What annotation files say: PASCAL-style XML, and labels that fit the model or do not."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from xbench.errors import DataError


@dataclass(frozen=True)
class Box:
    """One object: class name, (left, top, right, bottom) as written, whether marked difficult."""

    name: str
    corners: tuple[float, float, float, float]
    difficult: bool = False


def read_boxes(path: Path) -> list[Box]:
    """The objects of a PASCAL-style annotation file.

    Raises:
        DataError: unreadable, or an object without a name or a box; the message is a reason.
    """
    try:
        root = ElementTree.parse(path).getroot()
        return [_box(element) for element in root.iter("object")]
    except (OSError, ElementTree.ParseError, ValueError, TypeError) as error:
        raise DataError(f"its annotation {path.name} cannot be read ({error})") from error


def _box(element: ElementTree.Element) -> Box:
    corners = [float(_text(element, f"bndbox/{key}")) for key in ("xmin", "ymin", "xmax", "ymax")]
    left, top, right, bottom = corners
    return Box(
        _text(element, "name"),
        (left, top, right, bottom),
        (element.findtext("difficult") or "0").strip() == "1",
    )


def _text(element: ElementTree.Element, path: str) -> str:
    text = element.findtext(path)
    if text is None:
        raise ValueError(f"an object without {path}")
    return text.strip()


def fit_labels(
    labels: Sequence[int], own: int, classes: int | None, kind: str
) -> tuple[list[int], list[str]]:
    """The labels, or -1 everywhere where the model tells apart other classes than the data.

    Args:
        labels: class indices among the data set's own classes.
        own: how many classes the data set has.
        classes: how many the model has, None if unknown.
        kind: the data set, for the note.

    Returns:
        The labels, and a sentence where they were dropped.
    """
    if classes is None or classes == own:
        return list(labels), []
    note = f"The model tells {classes} classes apart, {kind} has {own}: labels count as unknown."
    return [-1] * len(labels), [note]
