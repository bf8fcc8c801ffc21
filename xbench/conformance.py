"""What every saliency method must do, as checks that answer in sentences.

The test suite, the table of methods by network and whoever writes a method of their own use the
same checks; a conforming method has no findings.
"""

import gc
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from xbench.classifier import Classifier
from xbench.classifier.moving import rebuilt
from xbench.classifier.network import private_copy
from xbench.contracts import Method, MethodCard, TruthMethod, check_maps
from xbench.cost import Cost
from xbench.errors import InvalidMapError, ParameterError, UnsupportedError
from xbench.optional import random_state
from xbench.registry import Chosen
from xbench.running.cases import bind
from xbench.running.guard import Guard
from xbench.streams import Streams

FAMILIES = (
    "attention",
    "cam",
    "control",
    "gradient",
    "path",
    "perturbation",
    "relevance",
    "surrogate",
)
# Two ways of batching may differ by what float32 sums in another order give, as a share of the
# largest magnitude. A unit that is zero but for rounding may fall to either side of its activation
# and move a map by more; whether it was rounding shows in float64, where nothing of it is left.
RELATIVE = 1e-4
SAME = 1e-6
_CLASSES = 4  # whose maps may show a contrast
COSTLY = 100  # calls an image from which the checks make do with fewer explanations


@dataclass(frozen=True)
class Verdict:
    """What the checks say of one method on one classifier.

    Attributes:
        refusal: why the method does not run on this classifier, None if it runs.
        findings: what is wrong, one sentence each.
    """

    refusal: str | None
    findings: list[str]

    @property
    def state(self) -> str:
        """ok, refused or broken."""
        if self.findings:
            return "broken"
        return "ok" if self.refusal is None else "refused"

    @property
    def reason(self) -> str:
        """The refusal or the findings, empty where all is well."""
        return " ".join(self.findings) or self.refusal or ""


def check(
    method: Chosen[Method], classifier: Classifier, images: Tensor, targets: Tensor | None = None
) -> list[str]:
    """Everything that is wrong with a method: its card, then its maps on these images.

    Args:
        method: which one, see `METHODS.create`.
        classifier: a model that the method should run on; a refusal is no finding.
        images: float32 (N, C, H, W) in [0, 1], at least two, of any size that the model takes.
        targets: int64 (N,), default each image's most probable class.

    Returns:
        One sentence a finding; empty for a conforming method.

    Raises:
        ParameterError: fewer than two images, which have no neighbors.
    """
    return check_card(method) + examine(method, classifier, images, targets).findings


def check_card(method: Chosen[Method]) -> list[str]:
    """What is missing from a card, one sentence each."""
    card, name = method.card, method.label
    if not isinstance(card, MethodCard):
        return [f"'{name}' has no method card; set `card: ClassVar[MethodCard] = MethodCard(...)`."]
    found = []
    if not (card.summary[:1].isupper() and card.summary.endswith(".") and len(card.summary) > 15):
        found.append(f"The summary of '{name}' is no sentence; start with a capital, end in a dot.")
    if card.family not in FAMILIES:
        found.append(
            f"'{name}' is of the family '{card.family}'; take one of {', '.join(FAMILIES)}."
        )
    if not card.paper and not card.control:
        found.append(f"'{name}' names no paper; say where it comes from.")
    if not card.limitations.endswith("."):
        found.append(f"'{name}' names no limitations; say in sentences where it misleads.")
    kind = type(method.value)
    if not kind.__doc__ or kind.__doc__.startswith(f"{kind.__name__}("):  # a dataclass's own
        found.append(f"The class of '{name}' has no docstring; give the formula and its source.")
    return found


def examine(
    method: Chosen[Method],
    classifier: Classifier,
    images: Tensor,
    targets: Tensor | None = None,
    *,
    guard: Guard | None = None,
    costly: int = COSTLY,
) -> Verdict:
    """The verdict on a method's maps: refused with a sentence, in order, or what is wrong.

    Methods of more calls an image than `costly` are checked on two images.

    Args:
        method, classifier, images, targets: as in `check`.
        guard: of the classifier, to be used again where many methods are examined.
        costly: calls an image from which fewer images must do.

    Raises:
        ParameterError: fewer than two images.
    """
    if len(images) < 2:
        raise ParameterError("Conformance is checked on at least two images; hand over more.")
    guard = guard or Guard(classifier)
    refusal, findings = _attempt(_Examination(method, classifier, images, targets, costly))
    harm = guard.harm()
    if harm:
        findings.append(f"'{method.label}' {harm}; put it back in a `finally` block.")
    if refusal is not None and not (refusal.endswith(".") and len(refusal.split()) > 4):
        findings.append(f"'{method.label}' refuses without a sentence that says why: '{refusal}'.")
    return Verdict(refusal, findings)


def _attempt(examination: "_Examination") -> tuple[str | None, list[str]]:
    """The refusal and the findings; whatever a method raises is a finding."""
    method = examination.method
    try:
        refusal = method.value.supports(examination.model)
        if refusal is not None:
            return refusal, []
        return None, examination.run()
    except UnsupportedError as error:
        return str(error), []
    except InvalidMapError as error:
        return None, [str(error)]
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        return None, [f"'{method.label}' raised {type(error).__name__}: {first}"]


@dataclass(frozen=True)
class _Examination:
    """One method on one classifier; `run` raises what the method raises."""

    method: Chosen[Method]
    model: Classifier
    images: Tensor
    targets: Tensor | None
    costly: int

    def run(self) -> list[str]:
        """Every finding, one sentence each."""
        cost = self.method.value.cost(self.model.facts(tuple(self.images.shape[1:])))
        costly = cost.calls + cost.tails > self.costly
        images = self.images[:2] if costly else self.images
        targets = self.model.logits(images).argmax(dim=1)
        if self.targets is not None:
            targets = self.targets[: len(images)].to(self.model.device)
        whole, found = self._first(images, targets, cost)
        alone = range(1 if costly else min(3, len(images)))

        def singly(model: Classifier, images: Tensor) -> Tensor:
            each = [self._maps(model, images[i : i + 1], targets[i : i + 1]) for i in alone]
            return torch.cat(each)

        def by_rows(model: Classifier, images: Tensor) -> Tensor:
            return self._maps(_like(model, batch_size=1), images, targets)

        single = singly(self.model, images)
        found += self._same(singly, single, whole, images, targets, "the neighbors")
        if not costly:
            rows = by_rows(self.model, images)
            found += self._same(by_rows, rows, whole, images, targets, "the batch size")
        asked, (targets, whole) = targets, self._speaking(images, targets, whole)
        if costly:
            one = _contrasts(whole).int().argmax()[None]  # an image whose map is not empty
            first = targets is asked and not one
            images, targets = images[one], targets[one]
            whole = single[:1] if first else self._maps(self.model, images, targets)
        found += self._seeds(images, targets, whole)
        found += self._classes(images, targets, whole)
        return found

    @property
    def _name(self) -> str:
        return f"'{self.method.label}'"

    def _first(self, images: Tensor, targets: Tensor, cost: Cost) -> tuple[Tensor, list[str]]:
        """The maps of the whole batch, and what shows on one call."""
        found = []
        kept, state, before = images.clone(), random_state(), self.model.counter.read()
        whole = self._maps(self.model, images, targets)
        spent = self.model.counter.read() - before
        said, card = cost * len(images), self.method.card
        if spent != said and not (card.at_most and spent.within(said)):
            found.append(
                f"{self._name} spends {_calls(spent * (1 / len(images)))} an image where its card "
                f"says {_calls(cost)}; correct the formulas."
            )
        if random_state() != state:
            found.append(f"{self._name} draws from the global random state; draw from `streams`.")
        if not torch.equal(images, kept):
            found.append(f"{self._name} writes into the images; work on a copy.")
        if not _contrasts(self._speaking(images, targets, whole)[1]).any():
            found.append(f"{self._name} gives maps without contrast; refuse such a model instead.")
        if not self.method.card.signed and bool((whole < 0).any()):
            found.append(f"{self._name} has negative values where its card says signed=False.")
        return whole, found

    def _speaking(self, images: Tensor, targets: Tensor, whole: Tensor) -> tuple[Tensor, Tensor]:
        """Targets whose maps have contrast, and these maps: a ReLU may leave those of some empty.

        The given ones where no other class has more to say.
        """
        classes = self.model.classes(images)
        for step in range(min(classes, _CLASSES)):
            others = (targets + step) % classes
            maps = self._maps(self.model, images, others) if step else whole
            if _contrasts(maps).any():
                return (others if step else targets), maps
        return targets, whole

    def _same(
        self,
        way: Callable[[Classifier, Tensor], Tensor],
        maps: Tensor,
        whole: Tensor,
        images: Tensor,
        targets: Tensor,
        what: str,
    ) -> list[str]:
        """A finding if maps made one way differ from those of the whole batch, also in float64."""
        off = float(_off(maps, whole[: len(maps)]).max())
        exact: Classifier | None = None
        unsettled = ""
        if off > RELATIVE and images.dtype == torch.float32:
            try:
                exact = _like(self.model, batch_size=self.model.batch_size, double=True)
                precise = self._maps(exact, images.double(), targets)
                off = float(_off(way(exact, images.double()), precise[: len(maps)]).max())
            except Exception as error:  # none on this device, or in this method: it stands
                unsettled = f"; float64 could not settle it ({type(error).__name__})"
            exact = None
            gc.collect()  # prepared copies hold each other, and with them all weights in float64
        if off <= RELATIVE:
            return []
        advice = {
            "the neighbors": "treat each image alone",
            "the batch size": "pack rows through `model.rows`",
        }[what]
        by = f"by {off:.1g} of the largest value{unsettled}"
        return [f"{self._name} depends on {what} ({by}); {advice}."]

    def _seeds(self, images: Tensor, targets: Tensor, before: Tensor) -> list[str]:
        """Whether draws depend on the seed, and on it alone."""
        found = []
        stochastic = self.method.card.stochastic
        if stochastic and not torch.equal(self._maps(self.model, images, targets), before):
            found.append(f"{self._name} gives two maps for one seed; draw from `streams` alone.")
        same = torch.equal(self._maps(self.model, images, targets, seed=1), before)
        if stochastic and same:
            found.append(f"{self._name} ignores the seed where its card says stochastic=True.")
        if not stochastic and not same:
            found.append(f"{self._name} depends on the seed where its card says stochastic=False.")
        return found

    def _classes(self, images: Tensor, targets: Tensor, before: Tensor) -> list[str]:
        """Whether the card is right on what the class changes."""
        classes = self.model.classes(images)
        if classes < 2 or isinstance(self.method.value, TruthMethod):
            return []
        other = self._maps(self.model, images, (targets + 1) % classes)
        off = float(_off(other, before).max())
        if off <= SAME and not self.method.card.class_agnostic:
            return [f"{self._name} gives every class the same map; its card says otherwise."]
        if off > RELATIVE and self.method.card.class_agnostic:
            return [
                f"{self._name} gives classes different maps; its card says class_agnostic=True."
            ]
        return []

    def _maps(self, model: Classifier, images: Tensor, targets: Tensor, seed: int = 0) -> Tensor:
        ids = [str(self._position(image)) for image in images]
        truth = torch.zeros(len(images), *images.shape[-2:], dtype=torch.bool, device=images.device)
        truth[:, images.shape[2] // 4 : images.shape[2] // 2, : images.shape[3] // 2] = True
        streams = Streams(seed, ids, self.method.identity)
        maps = bind(self.method.value, model, images, targets, streams, truth)(images)
        return check_maps(maps, images, f"The method {self._name}")

    def _position(self, image: Tensor) -> int:
        return next(i for i, one in enumerate(self.images) if torch.equal(one, image))


def _like(model: Classifier, *, batch_size: int | None, double: bool = False) -> Classifier:
    """The same network with another batch size, or a copy of it in float64."""
    module = private_copy(model.module) if double else model.module
    other = rebuilt(model, module, batch_size=batch_size)
    if double or model.network.get_buffer("mean").dtype == torch.float64:
        other.network.double()  # all of it: a method may hand rows of float32 to it
    return other


def _off(found: Tensor, expected: Tensor) -> Tensor:
    """The deviation of each pixel, as a share of its map's largest magnitude, (N, H, W)."""
    scale = expected.abs().amax(dim=(1, 2), keepdim=True)
    return (found - expected).abs() / scale.clamp(min=torch.finfo(torch.float32).tiny)


def _contrasts(maps: Tensor) -> Tensor:
    """Which maps (N, H, W) are not constant, bool (N,)."""
    return maps.amax(dim=(1, 2)) > maps.amin(dim=(1, 2))


def _calls(cost: Cost) -> str:
    return f"{cost.forwards:g} forwards, {cost.backwards:g} backwards, {cost.tails:g} tails"
