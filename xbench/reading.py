"""The reading of a map, one for a whole run: pooling, sign, times input, capping of outliers.

Pictures are often read so (Smilkov et al. 2017, SmoothGrad, section on visualization); scores
change with it, so a run names the reading that it used, and the default changes nothing.
"""

from dataclasses import dataclass, fields
from typing import Literal, get_args, get_type_hints

import torch
from torch import Tensor

from xbench import names
from xbench.contracts import Method
from xbench.errors import ParameterError
from xbench.registry import METHODS, Chosen, fit_value

Sign = Literal["signed", "positive", "absolute"]


@dataclass(frozen=True)
class Reading:
    """How maps are read.

    Attributes:
        pooling: how channels become one value, for every method that pools; none for each method's
            own default.
        sign: "signed" keeps it, "positive" drops evidence against the class, "absolute" takes
            magnitudes.
        times_input: multiply by the intensity of the image (mean over channels).
        cap: clip magnitudes at this percentile of each map, for example 99; none for no capping.
    """

    pooling: str | None = None
    sign: Sign = "signed"
    times_input: bool = False
    cap: float | None = None

    def __post_init__(self) -> None:
        if self.sign not in get_args(Sign):
            raise ParameterError(f"sign is one of {', '.join(get_args(Sign))}, not '{self.sign}'.")
        if self.cap is not None and not 0 < self.cap <= 100:
            raise ParameterError(f"cap is a percentile above 0 and at most 100, not {self.cap}.")

    @property
    def text(self) -> str:
        """The reading as one would type it, "" for the default."""
        default = Reading()
        changed = {
            f.name: getattr(self, f.name)
            for f in fields(self)
            if getattr(self, f.name) != getattr(default, f.name)
        }
        return names.write("reading", changed)[len("reading[") : -1] if changed else ""

    def __call__(self, maps: Tensor, images: Tensor) -> Tensor:
        """Maps float32 (N, H, W) as read; images (N, C, H, W) in [0, 1].

        >>> Reading(sign="absolute")(torch.tensor([[[-2.0]]]), torch.ones(1, 3, 1, 1)).item()
        2.0
        """
        if self.times_input:
            maps = maps * images.mean(dim=1)
        if self.sign == "positive":
            maps = maps.clamp(min=0)
        elif self.sign == "absolute":
            maps = maps.abs()
        if self.cap is not None:
            top = torch.quantile(maps.abs().flatten(1), self.cap / 100, dim=1)[:, None, None]
            maps = maps.clamp(-top, top)
        return maps

    def pooled(self, method: Chosen[Method]) -> Chosen[Method]:
        """The method with this reading's pooling, if it pools channels at all."""
        if self.pooling is None or "pooling" not in method.entry.parameters:
            return method
        return METHODS.adjust(method, pooling=self.pooling)


def read_reading(text: str) -> Reading:
    """The reading of a text like `sign=absolute,cap=99`.

    Raises:
        ParameterError: an unknown part, or a value of the wrong kind.
    """
    if not text.strip():
        return Reading()
    values = names.parse(f"reading[{text}]")[2]
    hints = get_type_hints(Reading)
    for key in values:
        if key not in hints:
            raise ParameterError(f"A reading has no '{key}'; it has {', '.join(hints)}.")
        values[key] = fit_value(values[key], hints[key], f"--reading {key}")
    return Reading(**values)  # type: ignore[arg-type]
