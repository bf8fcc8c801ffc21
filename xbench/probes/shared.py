"""Small things that several probes say alike."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from xbench import __version__
from xbench.classifier import Classifier
from xbench.contracts import Samples
from xbench.contracts.cards import parameters
from xbench.probes.contract import Probe
from xbench.statistics.intervals import Interval

MOST_NAMES = 64


def about(
    probe: Probe, model: Classifier, samples: Samples, seed: int, **more: object
) -> Mapping[str, object]:
    """What made an exhibit, as plain values."""
    return {
        "probe": probe.card.name,
        "model": model.name,
        "weights": model.weights_hash,
        "seed": seed,
        "version": f"xbench {__version__}",
        "images": list(samples.ids)[:MOST_NAMES],
        "parameters": parameters(probe),
        **more,
    }


def text_of(found: Interval, digits: int = 2) -> str:
    """An estimate with its interval, in words.

    >>> text_of(Interval(0.5, 0.4, 0.625))
    '0.50 [0.40, 0.62]'
    """
    if math.isnan(found.value):
        return "not defined"
    if math.isnan(found.low):
        return f"{found.value:.{digits}f}"
    return f"{found.value:.{digits}f} [{found.low:.{digits}f}, {found.high:.{digits}f}]"


def correlation_interval(value: float, count: int) -> Interval:
    """A correlation with its 95 % interval by Fisher's z (standard error 1.03 for ranks).

    The factor is that of Fieller, Hartley and Pearson 1957 for Spearman's coefficient.
    """
    if math.isnan(value) or count < 5:
        return Interval(value, math.nan, math.nan)
    z = math.atanh(max(-0.999999, min(0.999999, value)))
    half = 1.96 * 1.03 / math.sqrt(count - 3)
    return Interval(value, math.tanh(z - half), math.tanh(z + half))


def rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The records of a table, one dictionary a row."""
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def counted(number: int, word: str) -> str:
    """A number with its word.

    >>> counted(1, "image"), counted(2, "image")
    ('1 image', '2 images')
    """
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
