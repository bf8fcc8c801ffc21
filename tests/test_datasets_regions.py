"""VOC and COCO: boxes, masks and run lengths, written by each test."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from on_disk import ALL, AS_IS, box_xml, save, save_mask, write
from xbench.datasets import _regions
from xbench.datasets.coco import Coco
from xbench.datasets.voc import CLASSES, Voc

from xbench.contracts import Geometry
from xbench.errors import DataError


def voc(root: Path) -> np.ndarray:
    base = root / "VOCdevkit" / "VOC2012"
    values = np.zeros((16, 20), dtype=np.uint8)
    values[2:10, 3:15] = 8  # cat
    values[12:14, 1:4] = 15  # person
    values[1, :] = 255
    for number, name in enumerate(("a", "b", "c")):
        save(base / "JPEGImages" / f"{name}.jpg", number)
    save_mask(base / "SegmentationClass" / "a.png", values)
    save_mask(base / "SegmentationClass" / "b.png", np.where(values == 8, 12, 0))
    for name, person in (("a", True), ("b", False)):
        objects = [("cat", 4, 3, 15, 10)] + ([("person", 1, 1, 2, 2)] if person else [])
        write(base / "Annotations" / f"{name}.xml", box_xml(*objects))
    write(base / "ImageSets/Segmentation/val.txt", "a\nb\nc\n")
    write(base / "ImageSets/Main/val.txt", "a\nb\n")
    return values


def test_voc_segmentations(tmp_path: Path) -> None:
    values = voc(tmp_path)
    source = Voc(str(tmp_path)).open(AS_IS, **ALL, classes=20)
    assert [source.class_names[label] for label in source.labels] == ["cat", "dog"]
    assert "its mask c.png" in source.skipped["c.jpg"]
    samples = source.read([0, 1])
    assert samples.truth is not None
    assert np.array_equal(samples.truth[0].numpy(), values == 8)
    assert np.array_equal(samples.extras["others"][0].numpy(), values == 15)
    assert not samples.extras["others"][1].any()
    single = Voc(str(tmp_path), single=True).open(AS_IS, **ALL)
    assert list(single.ids) == ["b.jpg"]


def test_voc_boxes(tmp_path: Path) -> None:
    values = voc(tmp_path)
    for root in (tmp_path, tmp_path / "VOCdevkit", tmp_path / "VOCdevkit" / "VOC2012"):
        source = Voc(str(root), masks="boxes").open(AS_IS, **ALL, classes=1000)
        assert list(source.labels) == [-1, -1]
        samples = source.read([0])
        assert samples.truth is not None
        assert np.array_equal(samples.truth[0].numpy(), values == 8), "corners count from one"
        assert int(samples.extras["others"].sum()) == 4


def test_voc_masks_follow_the_crop(tmp_path: Path) -> None:
    values = voc(tmp_path)
    source = Voc(str(tmp_path)).open(Geometry(crop=(16, 16), resize=16), **ALL)
    truth = source.read([0]).truth
    assert truth is not None
    assert np.array_equal(truth[0].numpy(), values[:, 2:18] == 8)


def test_voc_missing_parts(tmp_path: Path) -> None:
    voc(tmp_path)
    with pytest.raises(
        DataError, match=r"has no ImageSets/Segmentation/test\.txt; voc:ROOT expect"
    ):
        Voc(str(tmp_path), split="test").open(AS_IS, **ALL)
    assert len(CLASSES) == 20
    assert sorted(CLASSES) == list(CLASSES)


def coco(root: Path) -> None:
    for number in (1, 2, 3):
        save(root / "val2017" / f"{number:012d}.jpg", number)
    square = [3.0, 2.0, 15.0, 2.0, 15.0, 10.0, 3.0, 10.0]
    runs = {"size": [16, 20], "counts": [0, 32, 288]}  # the two leftmost columns
    content = {
        "categories": [{"id": 90, "name": "brush"}, {"id": 1, "name": "person"}],
        "images": [{"id": n, "file_name": f"{n:012d}.jpg"} for n in (1, 2, 3)],
        "annotations": [
            {"image_id": 1, "category_id": 90, "area": 96, "segmentation": [square]},
            {"image_id": 1, "category_id": 1, "area": 32, "segmentation": runs},
            {"image_id": 2, "category_id": 1, "area": 32, "segmentation": runs},
        ],
    }
    write(root / "annotations" / "instances_val2017.json", json.dumps(content))


def test_coco(tmp_path: Path) -> None:
    coco(tmp_path)
    source = Coco(str(tmp_path)).open(AS_IS, **ALL, classes=2)
    assert list(source.class_names) == ["person", "brush"]
    assert list(source.labels) == [1, 0]
    samples = source.read([0, 1])
    square = torch.zeros(16, 20, dtype=torch.bool)
    square[2:10, 3:15] = True
    columns = torch.zeros(16, 20, dtype=torch.bool)
    columns[:, :2] = True
    assert samples.truth is not None
    assert torch.equal(samples.truth[0], square)
    assert torch.equal(samples.extras["others"][0], columns)
    assert torch.equal(samples.truth[1], columns)
    person = Coco(str(tmp_path), category="person").open(AS_IS, **ALL)
    assert list(person.labels) == [0, 0]
    with pytest.raises(DataError, match="no category 'persn'; it has person, brush"):
        Coco(str(tmp_path), category="persn").open(AS_IS, **ALL)
    assert len(Coco(str(tmp_path), single=True).open(AS_IS, **ALL)) == 1
    write(tmp_path / "annotations" / "instances_val2017.json", "{}")
    with pytest.raises(DataError, match="is no COCO instances file"):
        Coco(str(tmp_path)).open(AS_IS, **ALL)


def written_counts(lengths: list[int]) -> str:
    """Run lengths as COCO writes them, straight from the rule."""
    text = ""
    for place, length in enumerate(lengths):
        value = length - lengths[place - 2] if place > 2 else length
        more = True
        while more:
            group = value & 31
            value >>= 5
            more = value != -1 if group & 16 else value != 0
            text += chr(48 + (group | 32 if more else group))
    return text


@pytest.mark.parametrize("seed", range(5))
def test_run_lengths(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = np.kron(rng.random((6, 5)) < 0.4, np.ones((9, 11), dtype=bool)).astype(bool)
    flat = mask.T.reshape(-1)
    edges = (
        np.flatnonzero(np.diff(np.concatenate([[False], flat]).astype(int))) if flat.any() else []
    )
    lengths = np.diff(np.concatenate([[0], edges, [flat.size]])).astype(int).tolist()
    size = {"size": list(mask.shape)}
    plain = _regions.region({**size, "counts": lengths}, mask.shape[::-1])
    text = _regions.region({**size, "counts": written_counts(lengths)}, mask.shape[::-1])
    assert np.array_equal(plain, mask)
    assert np.array_equal(text, mask)


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ({"size": [4, 4], "counts": [16]}, "is 4 x 4, not 5 x 4"),
        ({"size": [4, 5], "counts": [7]}, "do not add up"),
        ({"size": [4, 5], "counts": "P"}, "end in the middle"),
        ([[1.0, 2.0, 3.0]], "fewer than three corners"),
        ("xx", "neither polygons nor"),
    ],
)
def test_bad_regions(segmentation: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        _regions.region(segmentation, (5, 4))
