"""ROAR and KAR on a task whose evidence is known: without it nothing can be learned."""

from dataclasses import dataclass
from typing import ClassVar

import nets
import pytest
import torch
from faithfulness_tools import no_explain

from xbench.classifier import Classifier
from xbench.contracts import Case, Method, MethodCard
from xbench.errors import ParameterError
from xbench.models.fitting import Fit
from xbench.models.retrainer import Retrainer, initialize
from xbench.registry import METRICS
from xbench.streams import Streams

SIDE, CLASSES = 8, 2


def scenes(n, seed):
    """Class 1 has bright stripes in a corner, class 0 dark ones; the rest is noise."""
    generator = torch.Generator().manual_seed(seed)
    images = 0.4 + 0.2 * torch.rand(n, 1, SIDE, SIDE, generator=generator)
    labels = torch.arange(n) % CLASSES
    images[:, :, :2, :3] = torch.where(labels == 1, 0.95, 0.05).view(-1, 1, 1, 1)
    return images, labels


@dataclass(frozen=True)
class Known(Method):
    """The corner, its inverse, or noise."""

    kind: str = "oracle"
    card: ClassVar[MethodCard] = MethodCard(name="known", summary="", family="control")

    def explain(self, model, images, targets, *, streams):
        if self.kind == "noise":
            return streams.normal((SIDE, SIDE))
        maps = 0.1 * streams.uniform((SIDE, SIDE))
        maps[:, :2, :3] += 1.0
        return maps if self.kind == "oracle" else -maps


def case_for(kind, ids=tuple(f"test-{i}" for i in range(40))):
    model = Classifier(
        nets.build(nets.SmallCNN, channels=1, classes=CLASSES, width=4), batch_size=64
    )
    images, labels = scenes(len(ids), 1)
    train, train_labels = scenes(80, 2)
    names = [f"train-{i}" for i in range(80)]
    method = Known(kind)
    retrainer = Retrainer(
        model,
        method,
        train,
        train_labels,
        Streams(seed=0, image_ids=names, scope="known"),
        Fit(epochs=8, batch=16, rate=0.02),
    )
    streams = Streams(seed=0, image_ids=ids, scope="test")
    maps = method.explain(model, images, labels, streams=streams)
    case = Case(model, images, labels, maps, no_explain, ids, labels=labels, retraining=retrainer)
    return case, streams


def test_roar_and_kar_know_oracle_from_noise_from_inverse():
    roar = {}
    for kind in ("oracle", "noise", "inverse"):
        case, streams = case_for(kind)
        weights = case.model.fingerprint()
        before = case.model.counter.read()
        got = METRICS.create("roar").value.score(case, streams=streams)
        roar[kind] = got.values.mean().item()
        assert (case.model.counter.read() - before).forwards == 5 * len(case)
        assert case.model.fingerprint() == weights
        assert got.curves["right"].shape == (40, 5)
    assert roar["oracle"] < 0.65  # guessing
    assert roar["inverse"] > 0.95
    assert roar["oracle"] < roar["noise"] <= roar["inverse"]
    case, streams = case_for("oracle")
    assert METRICS.create("kar").value.score(case, streams=streams).values.mean() > 0.9


def test_models_are_trained_once_for_all_batches_and_undefined_is_undefined():
    case, streams = case_for("oracle")
    calls = []
    fit = case.retraining.train
    case.retraining.train = lambda *a, **k: calls.append(a[0]) or fit(*a, **k)
    one = METRICS.create("roar").value
    first = one.score(case, streams=streams)
    trained = len(case.retraining._trained)
    labels = case.labels.clone()
    labels[0] = -1
    maps = case.maps.clone()
    maps[1, 0, 0] = float("nan")
    again = Case(
        case.model,
        case.images,
        case.targets,
        maps,
        no_explain,
        case.image_ids,
        labels=labels,
        retraining=case.retraining,
    )
    second = one.score(again, streams=streams)
    assert len(case.retraining._trained) == trained == 5
    assert second.defined.tolist() == [False, False] + [True] * 38
    assert torch.equal(second.values[2:], first.values[2:])


def test_refusals():
    case, _ = case_for("oracle")
    bare = Case(case.model, case.images, case.targets, case.maps, no_explain, case.image_ids)
    assert "training images" in METRICS.create("roar").value.supports(bare)
    assert METRICS.create("kar").value.supports(case) is None
    for text in ("roar[repeats=0]", "roar[imputer=noisy_linear]"):
        with pytest.raises(ParameterError):
            METRICS.create(text)


def test_initialization_depends_on_the_seed_alone_and_reaches_every_parameter():
    one, two, three = (nets.build(nets.SmallCNN, seed=s) for s in (1, 2, 3))
    state = torch.get_rng_state()
    initialize(one, 7)
    initialize(two, 7)
    initialize(three, 8)
    assert torch.equal(torch.get_rng_state(), state)
    for (name, a), b, c in zip(
        one.named_parameters(), two.parameters(), three.parameters(), strict=True
    ):
        assert torch.equal(a, b)
        if "weight" in name and a.ndim > 1:
            assert not torch.equal(a, c)
