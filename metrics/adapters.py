"""Other packages' metrics as they are, for comparison with papers that used them.

`quantus:Sparseness[normalise=false]` and `captum:infidelity` run the peer's own code, one image
at a time, so that no batch neighbor changes a score. Where a definition here deviates,
`docs/parity.md` says why.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from xbench.classifier import Classifier
from xbench.contracts import Case, Metric, MetricCard, Scores
from xbench.errors import ParameterError
from xbench.optional import optional, seeded
from xbench.registry import METRICS
from xbench.streams import Streams

from ._peers import DEFECTS, REFUSED, listed

_quantus = optional("quantus", "install it with `pip install xbench[quantus]`")
_captum = optional("captum.metrics")
_REMOVED = "trapz"


@METRICS.register
@dataclass(frozen=True)
class Quantus(Metric):
    """A metric of Quantus 0.6, run on one image at a time; None keeps its own default.

    Attributes:
        name: class in Quantus, for example Sparseness.
        abs: take absolute values of the map.
        normalise: divide the map by its largest absolute value.
        softmax: look at probabilities instead of logits.
        perturb_baseline: black, white, mean, uniform ...
        features_in_step: values perturbed a step.
        subset_size: values in a subset.
        nr_runs: subsets.
        nr_samples: noisy copies.
        patch_size: side of a patch.
        k: number of top pixels.
        eps: threshold of effective complexity.
        num_classes: classes to draw another one from.
        weighted: weight by the size of the mask.
        concept_influence: divide by the share of the mask.
        layer_order: top_down, bottom_up or independent.
    """

    name: str
    abs: bool | None = None
    normalise: bool | None = None
    softmax: bool | None = None
    perturb_baseline: str | None = None
    features_in_step: int | None = None
    subset_size: int | None = None
    nr_runs: int | None = None
    nr_samples: int | None = None
    patch_size: int | None = None
    k: int | None = None
    eps: float | None = None
    num_classes: int | None = None
    weighted: bool | None = None
    concept_influence: bool | None = None
    layer_order: str | None = None

    card: ClassVar[MetricCard] = MetricCard(
        name="quantus",
        summary="A metric of Quantus as it is: quantus:Sparseness, quantus:PixelFlipping ...",
        paper="Hedstrom et al. 2023, Quantus",
        limitations=f"Known defects of version 0.6. {listed(DEFECTS)}",
        property="adapters",
        direction="none",
        range=(float("-inf"), float("inf")),
        needs=("model", "explain"),
        chance="as its own documentation says",
    )

    def supports(self, case: Case) -> str | None:
        """Refuses missing libraries, unknown names, and metrics of several images at once."""
        if _quantus.reason is not None:
            return _quantus.reason
        if self.name in REFUSED:
            return f"Quantus' {self.name} {REFUSED[self.name]}, so it has no score an image."
        kind = getattr(_quantus, self.name, None)
        if not isinstance(kind, type) or not issubclass(kind, _quantus.Metric):
            return f"Quantus has no metric '{self.name}'; write its class, as in quantus:AUC."
        if _localizes(kind) and case.truth is None:
            return f"Quantus' {self.name} needs masks of the object and the data bring none."
        return None

    def score(self, case: Case, *, streams: Streams) -> Scores:
        """The peer's score of each image; curves are reduced as the peer does."""
        values: list[float] = []
        with _old_numpy(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for i in range(len(case)):
                with seeded(streams.seed_for(i, "quantus")):
                    values.append(self._one(self.made(), case, i))
        reason = f"Quantus' {self.name} takes no constant map, no empty mask, or gives no number"
        return Scores.of(torch.tensor(values, dtype=torch.float64), reason=reason)

    def made(self) -> Any:
        """The peer's own object, new for every image."""
        return getattr(_quantus, self.name)(**self._parameters())

    def _parameters(self) -> dict[str, Any]:
        given = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "name"}
        chosen = {k: v for k, v in given.items() if v is not None and k != "softmax"}
        code = getattr(_quantus, self.name).__init__.__code__
        known = code.co_varnames[: code.co_argcount]
        for key in chosen:
            if key not in known:
                raise ParameterError(f"Quantus' {self.name} has no parameter '{key}'.")
        for key in ("return_auc_per_sample", "return_average_correlation"):
            if key in known:
                chosen[key] = True
        return {**chosen, "disable_warnings": True, "display_progressbar": False}

    def _one(self, metric: Any, case: Case, i: int) -> float:
        one = slice(i, i + 1)
        flat = bool(case.maps[i].amax() == case.maps[i].amin())
        if flat or (_localizes(type(metric)) and not _masked(case, i)):
            return float("nan")
        found = metric(
            model=case.model.network,
            x_batch=_array(case.images[one]),
            y_batch=_array(case.targets[one]),
            a_batch=_array(case.maps[one, None]),
            s_batch=None if case.truth is None else _array(case.truth[one, None]),
            channel_first=True,
            explain_func=_explainer(case, i),
            device=str(case.model.device),
            batch_size=1,
            **({} if self.softmax is None else {"softmax": self.softmax}),
        )
        return _number(found)


@METRICS.register
@dataclass(frozen=True)
class Captum(Metric):
    """Infidelity or maximal sensitivity of captum, run on one image at a time.

    Attributes:
        name: infidelity or sensitivity_max.
        n_perturb_samples: perturbed copies an image.
        noise: standard deviation of the perturbation of infidelity, in pixels of [0, 1].
        perturb_radius: radius of the uniform perturbation of sensitivity_max.
        normalize: scale the map for the least infidelity, as Yeh et al. do.
    """

    name: Literal["infidelity", "sensitivity_max"]
    n_perturb_samples: int = 10
    noise: float = 0.003
    perturb_radius: float = 0.02
    normalize: bool = False

    card: ClassVar[MetricCard] = MetricCard(
        name="captum",
        summary="Infidelity or largest sensitivity by captum, as they are there.",
        paper="Kokhlikyan et al. 2020, Captum; Yeh et al. 2019",
        limitations="Infidelity depends on the scale of the map unless normalize=true: a map 100 "
        "times as loud scores thousands of times worse. A pixel's value is shared equally by its "
        "channels. sensitivity_max is infinite for a zero map.",
        property="adapters",
        direction="lower",
        range=(0.0, float("inf")),
        needs=("model", "explain"),
        forwards="n_perturb_samples + 1 if name == 'infidelity' else 0",
        explains="0 if name == 'infidelity' else n_perturb_samples + 1",
        chance="none in closed form; compare with the random control",
    )

    def __post_init__(self) -> None:
        if self.n_perturb_samples < 1 or min(self.noise, self.perturb_radius) <= 0:
            raise ParameterError("captum metrics need at least one sample and noise above 0.")

    def supports(self, case: Case) -> str | None:
        """Refuses where captum is missing."""
        return _captum.reason

    def score(self, case: Case, *, streams: Streams) -> Scores:
        """The peer's score of each image."""
        one = self._infidelity if self.name == "infidelity" else self._sensitivity
        values = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for i in range(len(case)):
                with seeded(streams.seed_for(i, "captum")):
                    values.append(float(one(case, i)))
        return Scores.of(
            torch.tensor(values, dtype=torch.float64), reason="captum gives no finite number"
        )

    def _infidelity(self, case: Case, i: int) -> Tensor:
        def perturb(inputs: Tensor) -> tuple[Tensor, Tensor]:
            noise = self.noise * torch.randn(inputs.shape).to(inputs)
            return noise, inputs - noise

        image = case.images[i : i + 1]
        shared = (case.maps[i : i + 1, None] / image.shape[1]).expand_as(image)
        with torch.no_grad():
            found: Tensor = _captum.infidelity(
                case.model.logits,
                perturb,
                image,
                shared,
                target=case.targets[i : i + 1],
                n_perturb_samples=self.n_perturb_samples,
                normalize=self.normalize,
            )
        return found

    def _sensitivity(self, case: Case, i: int) -> Tensor:
        def explained(inputs: Tensor | tuple[Tensor, ...]) -> Tensor:
            images = inputs[0] if isinstance(inputs, tuple) else inputs
            return case.explain(images.detach(), rows=torch.full((len(images),), i))[:, None]

        found: Tensor = _captum.sensitivity_max(
            explained,
            case.images[i : i + 1].clone(),
            perturb_radius=self.perturb_radius,
            n_perturb_samples=self.n_perturb_samples,
        )
        return found


def _explainer(case: Case, i: int) -> Callable[..., np.ndarray[Any, Any]]:
    """The method under test in the form that Quantus calls, also for its randomized models."""
    calls = iter(range(10**9))

    def explain(model: Any, inputs: Any, targets: Any, **_: object) -> np.ndarray[Any, Any]:
        images = torch.as_tensor(inputs, dtype=torch.float32, device=case.model.device)
        other: Classifier | None = None
        if model is not case.model.network:
            other = case.model.sibling(model.module)
        maps = case.explain(
            images,
            model=other,
            targets=torch.as_tensor(targets, device=case.model.device),
            rows=torch.full((len(images),), i),
            call=f"quantus/{next(calls)}",
        )
        return _array(maps[:, None])

    return explain


def _localizes(kind: type) -> bool:
    return "localisation" in kind.__module__


def _masked(case: Case, i: int) -> bool:
    """Whether an image has a mask that is not empty."""
    known = case.truth_defined is None or bool(case.truth_defined[i])
    return case.truth is not None and known and bool(case.truth[i].any())


def _array(tensor: Tensor) -> np.ndarray[Any, Any]:
    """A copy, for Quantus writes into what it is given."""
    found: np.ndarray[Any, Any] = tensor.detach().cpu().numpy().copy()
    return found


def _number(found: Any) -> float:
    """One number from what a metric of Quantus returns for one image."""
    if isinstance(found, dict):
        values = [_number(value) for value in found.values()]
        return float(np.mean(values)) if values else float("nan")
    array = np.asarray(found, dtype=np.float64).ravel()
    if array.size == 0:
        return float("nan")
    return float(array[0]) if array.size == 1 else float(torch.trapezoid(torch.from_numpy(array)))


@contextmanager
def _old_numpy() -> Iterator[None]:
    """Gives numpy back the name `trapz` that Quantus 0.6 calls, where it is gone."""
    missing = not hasattr(np, _REMOVED)
    if missing:
        setattr(np, _REMOVED, np.trapezoid)
    try:
        yield
    finally:
        if missing:
            delattr(np, _REMOVED)
