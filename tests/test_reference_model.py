"""The shipped networks: what their cards say, and what explanations of them must show."""

import os

import pytest
import torch

from xbench.classifier import Classifier
from xbench.contracts import Case, Geometry, Samples
from xbench.errors import ModelError, UnknownNameError
from xbench.models.loading import load_classifier
from xbench.models.reference import (
    VARIANTS,
    ReferenceNet,
    reference_card,
    reference_classifier,
    reference_module,
    weights_path,
)
from xbench.registry import DATASETS, METHODS, METRICS
from xbench.streams import Streams


def scenes(name: str, count: int) -> Samples:
    source = DATASETS.create(name).value.open(Geometry(), limit=count, seed=0)
    return source.read(range(count))


@pytest.fixture(scope="module")
def reference() -> Classifier:
    return reference_classifier(batch_size=64)


@pytest.fixture(scope="module")
def seen() -> Samples:
    return scenes("planted", 40)


def share(maps: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Share of the positive mass that lies on the mask, per image."""
    positive = maps.clamp(min=0).flatten(1)
    return (positive * mask.flatten(1)).sum(dim=1) / positive.sum(dim=1)


@pytest.mark.parametrize("variant", VARIANTS)
def test_weights_and_card_are_shipped_and_small(variant: str) -> None:
    path = weights_path(variant)
    assert path.stat().st_size < 1_000_000
    card = reference_card(variant)
    assert card.name == variant
    assert len(card.class_names) == 8
    module = reference_module(variant)
    assert not module.training
    assert sum(p.numel() for p in module.parameters()) < 250_000


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("level", ["planted", "planted-conflict", "planted-texture"])
def test_accuracy_is_what_the_card_says(variant: str, level: str) -> None:
    samples = scenes(level, 120)
    right = reference_classifier(variant, batch_size=64).logits(samples.images).argmax(dim=1)
    found = float((right == samples.labels).double().mean())
    # 120 of the card's 1000 scenes: three standard errors at most.
    assert abs(found - reference_card(variant).accuracy[level]) < 0.13


def test_the_cards_keep_their_promises() -> None:
    clean, shortcut, twin, masked = (reference_card(name).accuracy for name in VARIANTS)
    assert clean["planted"] >= 0.97
    assert masked["planted"] >= 0.97
    assert shortcut["planted-shortcut"] >= 0.97
    assert shortcut["planted-conflict"] <= 0.05
    assert clean["planted-conflict"] >= 0.95
    assert twin["memorized"] >= 0.95
    assert twin["planted"] <= 0.20


def test_reading_the_weights_leaves_global_randomness_alone() -> None:
    before = torch.get_rng_state()
    reference_classifier(batch_size=8)
    assert torch.equal(before, torch.get_rng_state())


def test_specifications_name_them() -> None:
    model = load_classifier("reference", device="cpu", batch_size=8)
    assert model.name == "reference"
    assert model.geometry.crop == (64, 64)
    assert list(model.class_names) == list(reference_card().class_names)
    other = load_classifier("reference-shortcut", device="cpu", batch_size=8)
    assert other.weights_hash != model.weights_hash
    again = load_classifier(
        "reference", weights=weights_path("reference-shortcut"), device="cpu", batch_size=8
    )
    assert again.weights_hash == other.weights_hash


def test_wrong_names_and_weights_are_one_sentence(tmp_path: os.PathLike[str]) -> None:
    with pytest.raises(UnknownNameError, match="reference-twin"):
        reference_module("reference-twins")
    broken = weights_path("reference").read_bytes()[:1000]
    path = tmp_path / "broken.safetensors"
    path.write_bytes(broken)
    with pytest.raises(ModelError):
        reference_module("reference", weights=path)


def test_classes_named_as_the_data_set_names_them(reference: Classifier) -> None:
    source = DATASETS.create("planted").value.open(Geometry(), limit=None, seed=0)
    assert list(source.class_names) == list(reference.class_names)


def test_the_network_is_made_of_modules_that_hooks_see(reference: Classifier) -> None:
    kinds = {type(module).__name__ for module in ReferenceNet().modules()}
    assert {"ReLU", "Conv2d", "AdaptiveAvgPool2d", "Linear"} <= kinds
    layer = reference.layer("last_conv", torch.zeros(1, 3, 64, 64))
    assert layer.channels == 128


def test_no_image_no_class(reference: Classifier, seen: Samples) -> None:
    """With the target painted over in the mean color, no class is left with much probability."""
    mean = seen.images.mean(dim=(2, 3), keepdim=True)
    near = torch.nn.functional.max_pool2d(seen.truth[:, None].float(), 15, 1, 7) > 0
    gone = torch.where(near, mean, seen.images)
    clean = reference.probabilities(seen.images).gather(1, seen.labels[:, None])
    left = reference.probabilities(gone).gather(1, seen.labels[:, None])
    assert clean.mean() > 0.9
    assert left.mean() < 0.3


def test_gradients_lie_on_the_object_more_than_edges_do(
    reference: Classifier, seen: Samples
) -> None:
    chance = float(seen.truth.float().mean())
    case_maps = {
        name: METHODS.create(name).value.explain(
            reference,
            seen.images,
            seen.labels,
            streams=Streams(seed=0, image_ids=seen.ids, scope=name),
        )
        for name in ("gradient", "integrated_gradients[n_steps=10]", "edges", "gradcam")
    }
    found = {name: rank(maps.abs(), seen.truth) for name, maps in case_maps.items()}
    assert found["gradient"] > 5 * chance
    assert found["integrated_gradients[n_steps=10]"] > found["edges"] + 0.05
    assert found["gradcam"] > found["edges"]
    for name in ("gradient", "integrated_gradients[n_steps=10]", "gradcam"):
        target, wrong = (
            float(share(case_maps[name], mask).nanmean())
            for mask in (seen.truth, seen.extras["distractors"])
        )
        assert target > 2 * wrong, name
    edges = case_maps["edges"]
    assert float(share(edges, seen.truth).mean()) < 1.5 * float(
        share(edges, seen.extras["distractors"]).nanmean()
    )


def rank(maps: torch.Tensor, truth: torch.Tensor) -> float:
    hits = [
        float(mask.flatten()[one.flatten().topk(int(mask.sum())).indices].float().mean())
        for one, mask in zip(maps, truth, strict=True)
    ]
    return sum(hits) / len(hits)


@pytest.mark.parametrize(
    "metric",
    ["deletion[steps=10]", "insertion[steps=10]", "deletion[imputer=blur,steps=10]",
     "pointing_game", "rank_accuracy", "mass_accuracy"],
)  # fmt: skip
def test_the_mask_beats_random_beats_the_inverted_mask(
    metric: str, reference: Classifier, seen: Samples
) -> None:
    chosen = METRICS.create(metric)
    if "model" not in chosen.card.needs:
        seen = scenes("planted", 1000)  # an inverted mask still hits the tolerated border
    streams = Streams(seed=0, image_ids=seen.ids, scope=chosen.identity)
    truth = seen.truth.float()
    means = []
    for maps in (truth, streams.uniform((64, 64), "control"), 1 - truth):
        case = Case(
            model=reference,
            images=seen.images,
            targets=seen.labels,
            maps=maps,
            explain=_no_explanation,
            image_ids=seen.ids,
            truth=seen.truth,
            labels=seen.labels,
            extras=seen.extras,
        )
        scores = chosen.value.score(case, streams=streams)
        assert bool(scores.defined.all())
        means.append(float(scores.values.mean()))
    if chosen.card.direction == "lower":
        means = [-mean for mean in means]
    oracle, random, inverted = means
    assert oracle > random + 0.04
    assert random > inverted + 0.02


def _no_explanation(images: torch.Tensor, **_: object) -> torch.Tensor:
    raise AssertionError("these metrics do not explain anew")


def test_the_shortcut_is_exposed(reference: Classifier) -> None:
    """Some methods put most of their mass on the watermark of the network that reads it, and
    none of them does on the clean network."""
    samples = scenes("planted-shortcut", 24)
    streams = Streams(seed=0, image_ids=samples.ids, scope="shortcut")
    names = ("integrated_gradients[n_steps=10]", "gradcam", "input_x_gradient")
    found = {}
    for model in (reference_classifier("reference-shortcut", batch_size=64), reference):
        for name in names:
            maps = METHODS.create(name).value.explain(
                model, samples.images, samples.labels, streams=streams
            )
            found[model.name, name] = float(share(maps, samples.extras["watermark"]).nanmean())
    assert max(found["reference-shortcut", name] for name in names) > 0.5
    assert max(found["reference", name] for name in names) < 0.2
