"""Perturbed copies of a case's images and what the model says of them, shared by all methods."""

import torch
from torch import Tensor

from xbench.contracts import Case
from xbench.errors import ParameterError
from xbench.streams import Streams


def noise(case: Case, kind: str, draw: int, streams: Streams) -> Tensor:
    """One draw of noise for every image, (N, C, H, W), on the model's device.

    Args:
        case: whose images are meant.
        kind: "normal" (standard normal) or "uniform" (in [-1, 1)).
        draw: which draw.
        streams: the run's; all metrics share the draws.
    """
    shared = streams.shared()
    shape = tuple(case.images.shape[1:])

    def compute() -> Tensor:
        if kind == "normal":
            return shared.normal(shape, "noise", draw).to(case.images.device)
        return (2 * shared.uniform(shape, "noise", draw) - 1).to(case.images.device)

    found: Tensor = case.bank.get(("noise", shared.seed, shared.repetition, kind, draw), compute)
    return found


def clean_prediction(case: Case) -> Tensor:
    """The class that the model gives each unperturbed image, int64 (N,); one forward an image."""
    found: Tensor = case.bank.get(
        "clean_prediction", lambda: case.model.logits(case.images).argmax(dim=1)
    )
    return found


def keeps_prediction(case: Case, key: object, images: Tensor) -> Tensor:
    """Whether the model gives each perturbed image the class of the clean one, bool (N,)."""

    def compute() -> Tensor:
        return case.model.logits(images).argmax(dim=1) == clean_prediction(case)

    found: Tensor = case.bank.get(("keeps_prediction", key), compute)
    return found


def nanmax(values: Tensor) -> Tensor:
    """Maximum of each row over the entries that are numbers, NaN where there are none, (N,)."""
    known = ~values.isnan()
    top = values.masked_fill(~known, -torch.inf).amax(dim=1)
    return top.masked_fill(~known.any(dim=1), torch.nan)


def nanmean(values: Tensor) -> Tensor:
    """Mean of each row over the entries that are numbers, NaN where there are none, (N,)."""
    return values.flatten(1).nanmean(dim=1)


def check_count(name: str, value: int) -> None:
    """Refuse a number of draws below one.

    Raises:
        ParameterError: it is.
    """
    if value < 1:
        raise ParameterError(f"{name} must be at least 1.")


def check_share(name: str, value: float) -> None:
    """Refuse a share that is not between 0 and 1.

    Raises:
        ParameterError: it is not.
    """
    if not 0 < value < 1:
        raise ParameterError(f"{name} is a share of the pixels, between 0 and 1.")
