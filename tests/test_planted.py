"""Planted scenes: bytes, balance, masks, and that nothing but the shape tells the class."""

import hashlib
import time

import numpy as np
import pytest
import torch

from xbench.contracts import Geometry, Samples
from xbench.errors import ParameterError
from xbench.registry import DATASETS

LEVELS = ("standard", "clutter", "crowd", "small", "faint", "texture", "shortcut", "conflict")


def opened(text: str, *, limit: int | None = None, seed: int = 0, geometry: Geometry | None = None):
    return DATASETS.create(text).value.open(geometry or Geometry(), limit=limit, seed=seed)


def read(text: str, count: int) -> Samples:
    return opened(text).read(range(count))


# The bytes of scenes 0..7; if a recipe is changed on purpose, the shipped weights must follow.
DIGESTS: dict[str, str] = {
    "standard": "4b1cf396cd8141c1",
    "clutter": "602c8e64925704a6",
    "crowd": "749ea214a92bbebc",
    "small": "e3ca69b602dbaaf1",
    "faint": "7e8a77a2707030a4",
    "texture": "03d31c6b9a254912",
    "shortcut": "a0bed6ca901d82e0",
    "conflict": "f5c3cb3fa27b24d8",
}


@pytest.mark.parametrize("level", LEVELS)
def test_the_same_bytes_on_every_machine(level: str) -> None:
    samples = read(f"planted[level={level}]", 8)
    pixels = (samples.images * 255).round().to(torch.uint8).numpy().tobytes()
    masks = samples.truth.numpy().tobytes() + samples.extras["distractors"].numpy().tobytes()
    assert hashlib.sha256(pixels + masks).hexdigest()[:16] == DIGESTS[level]


@pytest.mark.parametrize("level", LEVELS)
def test_masks_are_there_and_disjoint(level: str) -> None:
    samples = read(f"planted-{level}" if level != "standard" else "planted", 64)
    assert samples.images.shape == (64, 3, 64, 64)
    assert samples.images.dtype == torch.float32
    assert 0 <= samples.images.min() <= samples.images.max() <= 1
    assert samples.truth.dtype == torch.bool
    sizes = samples.truth.flatten(1).sum(dim=1)
    assert sizes.min() > 20
    assert bool(samples.truth_defined.all())
    total = samples.truth.int() + sum(mask.int() for mask in samples.extras.values())
    assert total.max() == 1
    assert ("watermark" in samples.extras) == (level in ("shortcut", "conflict"))
    assert ("others" in samples.extras) == (level == "crowd")
    if level in ("shortcut", "conflict"):
        assert samples.extras["watermark"].flatten(1).sum(dim=1).tolist() == [100] * 64


def test_each_scene_depends_on_its_own_key_alone() -> None:
    source = opened("planted")
    whole = source.read(range(70))
    for index in (0, 13, 69):
        alone = source.read([index])
        assert torch.equal(alone.images[0], whole.images[index])
        assert torch.equal(alone.truth[0], whole.truth[index])
    shuffled = source.read([5, 3, 5])
    assert shuffled.ids == [source.ids[5], source.ids[3], source.ids[5]]
    assert torch.equal(shuffled.images[1], whole.images[3])


def test_ids_labels_and_names() -> None:
    source = opened("planted")
    assert len(source) == 1000
    assert source.ids[123] == "planted-000123"
    assert len(source.class_names) == 8
    assert np.bincount(source.labels).tolist() == [125] * 8
    samples = source.read(range(16))
    assert samples.labels.tolist() == list(source.labels[:16])
    assert source.read([]).images.shape == (0, 3, 64, 64)


@pytest.mark.parametrize("limit", [1, 8, 20, 100])
def test_a_limit_is_balanced_and_chosen_by_the_seed(limit: int) -> None:
    first, same, other = (opened("planted", limit=limit, seed=seed) for seed in (0, 0, 1))
    assert len(first) == limit
    assert list(first.ids) == list(same.ids)
    assert list(first.ids) != list(other.ids)
    assert first.digest == same.digest != other.digest
    counts = np.bincount(first.labels, minlength=8)
    assert counts.max() - counts.min() <= 1
    alone = opened("planted").read([int(first.ids[0][-6:])])
    assert torch.equal(first.read([0]).images, alone.images)


def test_splits_levels_and_series_are_different_scenes() -> None:
    texts = ["planted", "planted[split=train]", "planted[series=1]", "planted[split=validation]"]
    images = [read(text, 8).images for text in texts]
    ids = [opened(text, limit=4).ids[0] for text in texts]
    assert len(set(ids)) == len(texts)
    for i, first in enumerate(images):
        for second in images[i + 1 :]:
            assert not any(torch.equal(a, b) for a in first for b in second)


def test_the_class_is_in_the_shape_alone() -> None:
    """Color, place, size and distractors of a scene do not change with its label."""
    scenes = pytest.importorskip("xbench.datasets._scenes")
    keys = scenes.keys_of("probe", np.arange(40))
    level = scenes.LEVELS["standard"]
    a = scenes.draw(keys, np.zeros(40, np.int64), level)
    b = scenes.draw(keys, np.full(40, 4), level)
    assert (a.distractors == b.distractors).all()
    outside = ~(a.target | b.target)
    assert (a.pixels[outside] == b.pixels[outside]).all()
    assert (a.target != b.target).any(axis=(1, 2)).all()
    # Inside both shapes the color is the same (but for blended borders): it is the scene's.
    both = a.target & b.target
    deep = both[:, 1:-1, 1:-1] & both[:, :-2, 1:-1] & both[:, 2:, 1:-1]
    deep &= both[:, 1:-1, :-2] & both[:, 1:-1, 2:]
    same = (a.pixels[:, 1:-1, 1:-1] == b.pixels[:, 1:-1, 1:-1]).all(axis=-1)
    assert same[deep].mean() > 0.9


def test_the_watermark_tells_the_class_or_another_one() -> None:
    scenes = pytest.importorskip("xbench.datasets._scenes")
    keys = scenes.keys_of("probe", np.arange(400))
    labels = scenes.labels_of("probe", np.arange(400))
    agree = scenes.draw(keys, labels, scenes.LEVELS["shortcut"])
    differ = scenes.draw(keys, labels, scenes.LEVELS["conflict"])
    assert (agree.marks == labels).all()
    assert (differ.marks != labels).all()
    assert np.bincount(differ.marks, minlength=8).min() > 20
    codes = {
        int(mark): agree.pixels[i][agree.watermark[i]].tobytes()
        for i, mark in enumerate(agree.marks)
    }
    assert len(set(codes.values())) == 8
    for i, mark in enumerate(differ.marks):
        assert differ.pixels[i][differ.watermark[i]].tobytes() == codes[int(mark)]


def test_other_geometries_carry_the_masks_along() -> None:
    geometry = Geometry(crop=(112, 112), resize=128)
    samples = opened("planted", geometry=geometry).read(range(4))
    assert samples.images.shape == (4, 3, 112, 112)
    assert samples.truth.shape == (4, 112, 112)
    native = read("planted", 4)
    center = native.truth[:, 4:60, 4:60]
    assert torch.equal(samples.truth[:, ::2, ::2], center)
    grey = opened("planted", geometry=Geometry(channels=1)).read([0])
    assert grey.images.shape == (1, 1, 64, 64)


def test_labels_are_unknown_to_a_model_with_other_classes() -> None:
    dataset = DATASETS.create("planted").value
    source = dataset.open(Geometry(), limit=4, seed=0, classes=1000)
    assert set(source.labels) == {-1}
    assert source.read([0]).labels.tolist() == [-1]
    assert list(source.class_names) == []


@pytest.mark.parametrize("text", ["count=0", "level=hard", "split=dev"])
def test_wrong_parameters_are_refused(text: str) -> None:
    with pytest.raises(ParameterError, match=r"planted\["):
        DATASETS.create(f"planted[{text}]")


def test_drawing_is_fast() -> None:
    source = opened("planted")
    start = time.process_time()
    source.read(range(256))
    assert 256 / (time.process_time() - start) > 250  # several times more on an idle core
