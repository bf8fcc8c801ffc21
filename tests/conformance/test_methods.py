"""What every saliency method must do, whoever wrote it: found in the registry, never listed."""

import math
from dataclasses import dataclass
from typing import ClassVar

import nets
import numpy as np
import pytest
import torch
from conformance import networks

from xbench.classifier import Classifier
from xbench.conformance import _like, check, check_card, examine
from xbench.contracts import Method, MethodCard, TruthMethod
from xbench.errors import ParameterError, UnsupportedError
from xbench.matrix import NETWORKS, Cell, matrix, matrix_markdown, pictures, reduced
from xbench.registry import METHODS, Chosen, Entry
from xbench.streams import Streams

ENTRIES = list(METHODS)
FACTS = {"height": 33, "width": 47, "classes": 5, "channels": 16, "tail": True, "layers": 3}

pytestmark = pytest.mark.filterwarnings("ignore:An ill-conditioned matrix")  # LIME, few samples


def name_of(entry: Entry) -> str:
    return entry.name


def test_nothing_is_broken():
    assert METHODS.broken == {}
    assert len(ENTRIES) >= 55


@pytest.mark.parametrize("entry", ENTRIES, ids=name_of)
def test_card_is_complete(entry):
    method = reduced(entry)
    assert check_card(method) == []
    cost = method.value.cost(FACTS)
    for calls in (cost.forwards, cost.backwards, cost.tails):
        assert calls >= 0
        assert calls == math.floor(calls)
    assert cost.backwards > 0 or "gradients" not in entry.card.needs


@pytest.mark.parametrize("network", networks.SMALL)
@pytest.mark.parametrize("entry", ENTRIES, ids=name_of)
def test_conforms(entry, network):
    given = networks.setting(network)
    verdict = examine(reduced(entry), given.classifier, given.images)
    assert verdict.findings == []
    if network == "vit":
        assert verdict.refusal is None or "attention" not in entry.card.needs
    elif "attention" in entry.card.needs:
        assert verdict.refusal is not None
    elif "cnn" in network:
        assert verdict.refusal is None


@pytest.mark.parametrize("entry", ENTRIES, ids=name_of)
def test_one_image_and_none_of_the_users_module_is_touched(entry):
    module = nets.build(nets.SmallCNN).train()
    module.features[0].requires_grad_(False)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    flags = [p.requires_grad for p in module.parameters()]
    method, images = reduced(entry), pictures((21, 15), count=1)
    if isinstance(method.value, TruthMethod):
        pytest.skip("made from masks, without the model")
    try:
        maps = method.value.explain(
            Classifier(module, batch_size=4),
            images,
            torch.tensor([2]),
            streams=Streams(0, ["a"], method.identity),
        )
    except UnsupportedError:
        maps = torch.zeros(1, 21, 15)
    assert maps.shape == (1, 21, 15)
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())
    assert [p.requires_grad for p in module.parameters()] == flags
    assert all(p.grad is None for p in module.parameters())
    assert all(child.training for child in module.modules())


@pytest.mark.slow
@pytest.mark.parametrize("entry", ENTRIES, ids=name_of)
def test_calls_equal_the_formula_with_default_parameters(entry):
    method = METHODS.create(reduced(entry).label if entry.name == "inverse" else entry.name)
    if isinstance(method.value, TruthMethod) or "attention" in entry.card.needs:
        pytest.skip("calls nothing here")
    model, images = (
        Classifier(nets.build(nets.SmallCNN), batch_size=32),
        pictures((23, 29), count=2),
    )
    cost = method.value.cost(model.facts(tuple(images.shape[1:])))
    before = model.counter.read()
    streams = Streams(0, ["a", "b"], method.identity)
    method.value.explain(model, images, torch.tensor([1, 2]), streams=streams)
    assert model.counter.read() - before == cost * 2


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_no_cell_of_the_matrix_is_broken(network):
    broken = [cell for cell in matrix(ENTRIES, [network]) if cell.verdict.findings]
    assert [cell.verdict.reason for cell in broken] == []


# ---- the checks themselves: each catches what it is there for


@dataclass(frozen=True)
class Good(Method):
    """The gradient's magnitude, as the registry has it; others below break it in one way each."""

    card: ClassVar[MethodCard] = MethodCard(
        name="good",
        summary="A method for tests of the checks.",
        paper="None, 2025",
        limitations="It is for tests.",
        family="gradient",
        signed=False,
        forwards="1",
        backwards="1",
    )

    def explain(self, model, images, targets, *, streams):
        return self.spoil(model, model.gradients(images, targets).abs().sum(dim=1), streams)

    def spoil(self, model, maps, streams):
        return maps


def chosen(method: Method, **card: object) -> Chosen:
    facts = {**vars(method.card), **card}
    changed = MethodCard(**facts)
    object.__setattr__(method, "card", changed)
    return Chosen("bad", "bad", method, changed, Entry("bad", type(method), {}, changed, "tests"))


class Nan(Good):
    """NaN in one pixel."""

    def spoil(self, model, maps, streams):
        return maps.index_fill(1, torch.tensor([0]), float("nan"))


class Small(Good):
    """Maps of another size."""

    def spoil(self, model, maps, streams):
        return maps[:, 1:]


class Negative(Good):
    """Negative values."""

    def spoil(self, model, maps, streams):
        return -maps


class Spendthrift(Good):
    """One forward too many."""

    def spoil(self, model, maps, streams):
        model.logits(torch.zeros(len(maps), 3, *maps.shape[1:]))
        return maps


class Sociable(Good):
    """Scaled by the batch."""

    def spoil(self, model, maps, streams):
        return maps / maps.sum()


class RowBound(Good):
    """Depends on how many rows go into a call."""

    def spoil(self, model, maps, streams):
        return maps + model.batch_size * maps.roll(1, 1)


class Blind(Good):
    """The same map for every class, and for every pixel."""

    def spoil(self, model, maps, streams):
        return torch.ones_like(maps) + 0 * maps


class Global(Good):
    """Draws from the global random state."""

    def spoil(self, model, maps, streams):
        np.random.random()  # noqa: NPY002
        return maps


class Seeded(Good):
    """Draws although its card says that it does not."""

    def spoil(self, model, maps, streams):
        return maps + streams.uniform(maps.shape[1:], "noise")


class Harmful(Good):
    """Leaves other weights behind."""

    def spoil(self, model, maps, streams):
        next(model.module.parameters()).data.mul_(1.5)
        return maps


class Wanting(Good):
    """Leaves weights that want gradients."""

    def spoil(self, model, maps, streams):
        model.module.requires_grad_(True)
        return maps


class Hooked(Good):
    """Leaves a hook."""

    def spoil(self, model, maps, streams):
        model.module.register_full_backward_pre_hook(lambda *_: None)
        return maps


class Raising(Good):
    """Falls over."""

    def spoil(self, model, maps, streams):
        raise IndexError("no such row")


class Mute(Good):
    """Refuses without a reason."""

    def supports(self, model):
        return "no"


BAD = {
    Nan: "NaN or infinite values",
    Small: "returned maps of shape",
    Negative: "negative values",
    Spendthrift: "spends 2 forwards",
    Sociable: "depends on the neighbors",
    RowBound: "depends on the batch size",
    Blind: "gives every class the same map",
    Global: "global random state",
    Seeded: "depends on the seed",
    Harmful: "changed the model's weights",
    Wanting: "left weights that want gradients",
    Hooked: "left hooks",
    Raising: "raised IndexError: no such row",
    Mute: "refuses without a sentence",
}


def given() -> tuple[Classifier, torch.Tensor]:
    return Classifier(nets.build(nets.SmallCNN), batch_size=7), pictures((17, 13))


def test_a_good_method_has_no_findings():
    assert check(chosen(Good()), *given()) == []


@pytest.mark.parametrize("kind", list(BAD), ids=lambda kind: kind.__name__)
def test_a_bad_method_is_told_what_is_wrong(kind):
    model, images = given()
    weights = model.fingerprint()
    found = check(chosen(kind()), model, images)
    assert any(BAD[kind] in sentence for sentence in found), found
    assert model.fingerprint() == weights


@pytest.mark.parametrize(
    ("card", "sentence"),
    [
        ({"stochastic": True}, "ignores the seed"),
        ({"class_agnostic": True}, "gives classes different maps"),
        ({"backwards": "2"}, "correct the formulas"),
        ({"summary": "no sentence"}, "The summary"),
        ({"paper": ""}, "names no paper"),
        ({"limitations": ""}, "names no limitations"),
        ({"family": "other"}, "of the family 'other'"),
    ],
)
def test_a_wrong_card_is_told_what_is_wrong(card, sentence):
    found = check(chosen(Good(), **card), *given())
    assert len(found) == 1
    assert sentence in found[0]


def test_one_image_has_no_neighbors():
    model, images = given()
    with pytest.raises(ParameterError, match="at least two images"):
        check(chosen(Good()), model, images[:1])


def test_a_constant_map_is_a_finding_unless_another_class_has_contrast():
    class Shy(Good):
        """Shows nothing for the class that the model chooses, as a ReLU may."""

        def explain(self, model, images, targets, *, streams):
            maps = super().explain(model, images, targets, streams=streams)
            return maps * (model.logits(images).argmax(dim=1) != targets)[:, None, None]

    assert check(chosen(Shy(), forwards="2"), *given()) == []
    assert any("maps without contrast" in found for found in check(chosen(Blind()), *given()))


def test_methods_may_spend_less_where_their_card_says_at_most():
    found = check(chosen(Good(), forwards="2", at_most=True), *given())
    assert found == []
    found = check(chosen(Good(), forwards="2"), *given())
    assert any("where its card says 2 forwards" in one for one in found)
    found = check(chosen(Spendthrift(), at_most=True), *given())
    assert any("spends 2 forwards" in one for one in found)


def test_maps_that_are_empty_for_two_classes_are_not_blind_to_the_class():
    class Shier(Good):
        """Shows nothing for the class that the model chooses, nor for the next one."""

        def explain(self, model, images, targets, *, streams):
            maps = super().explain(model, images, targets, streams=streams)
            top = model.logits(images).argmax(dim=1)
            quiet = (targets == top) | (targets == (top + 1) % model.classes(images))
            return maps * ~quiet[:, None, None]

    assert check(chosen(Shier(), forwards="2"), *given()) == []


def test_twins_in_float64_take_rows_of_float32_whatever_their_batch_size():
    model, images = given()
    exact = _like(model, batch_size=7, double=True)
    whole = exact.gradients(images, targets := torch.arange(7) % 5)
    single = _like(exact, batch_size=1).gradients(images, targets)
    torch.testing.assert_close(single, whole, rtol=0, atol=1e-7 * float(whole.abs().max()))
    assert model.network.get_buffer("mean").dtype == torch.float32


def test_what_float64_cannot_settle_is_said():
    model, images = given()

    class Single(Sociable):
        """Knows float32 only."""

        def spoil(self, model, maps, streams):
            return super().spoil(
                model, maps @ torch.eye(maps.shape[2], dtype=torch.float32), streams
            )

    found = check(chosen(Single()), model, images)
    assert "float64 could not settle it (RuntimeError)" in found[0]


def test_the_page_shows_refusals_by_number():
    model, images = given()
    verdicts = {
        "fine": examine(chosen(Good()), model, images),
        "attention_rollout": examine(METHODS.create("attention_rollout"), model, images),
        "raw_attention": examine(METHODS.create("raw_attention"), model, images),
        "worse": examine(chosen(Negative()), model, images),
    }
    page = matrix_markdown([Cell(name, "net", verdict) for name, verdict in verdicts.items()])
    assert "| `fine` | ok |" in page
    assert "| `attention_rollout` | refused (1) |" in page
    assert "| `raw_attention` | refused (1) |" in page
    assert "| `worse` | broken (2) |" in page
    assert f"1. {verdicts['raw_attention'].refusal}" in page
    assert "1 ok, 2 refused, 1 broken" in page
