"""Sources in their official layouts, on tiny samples that each test writes itself."""

import json
import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from xbench.datasets import _regions
from xbench.datasets.cifar import Cifar10
from xbench.datasets.coco import Coco
from xbench.datasets.imagenet import ImageNet
from xbench.datasets.pets import Pets
from xbench.datasets.table import Table
from xbench.datasets.voc import CLASSES, Voc

from xbench.contracts import Geometry
from xbench.errors import DataError, ParameterError
from xbench.registry import DATASETS

AS_IS = Geometry()
ALL = {"limit": None, "seed": 0}


def save(path: Path, seed: int = 0, size: tuple[int, int] = (20, 16)) -> Path:
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(path)
    return path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def save_mask(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values.astype(np.uint8))
    if path.suffix == ".png" and "Segmentation" in str(path):
        image.putpalette(bytes(range(256)) * 3)
    image.save(path)
    return path


@pytest.mark.parametrize(
    "name", ["broden", "cifar10", "cifar100", "imagenet", "voc", "coco", "pets", "table"]
)
def test_missing_folder_shows_the_layout(name: str, tmp_path: Path) -> None:
    dataset = DATASETS.create(f"{name}:{tmp_path / 'nowhere'}").value
    with pytest.raises(DataError, match=r"There is no .*nowhere'; \w+:[A-Za-z.]+ expects .+"):
        dataset.open(AS_IS, limit=None, seed=0)
    if name != "table":
        with pytest.raises(DataError, match=rf"{name}:ROOT expects .*ROOT/"):
            DATASETS.create(f"{name}:{tmp_path}").value.open(AS_IS, limit=None, seed=0)


# ---- CIFAR


def python2_pickle(content: dict[bytes, object]) -> bytes:
    """The official files: protocol 2, arrays by the old module name, byte-string keys."""
    data = pickle.dumps(content, protocol=2)
    return data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def cifar10(root: Path, per_batch: int = 6) -> np.ndarray:
    rng = np.random.default_rng(0)
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    pixels = rng.integers(0, 256, (per_batch, 3, 32, 32), dtype=np.uint8)
    labels = [i % 10 for i in range(per_batch)]
    batch = {b"data": pixels.reshape(per_batch, -1), b"labels": labels, b"batch_label": b"x"}
    for name in [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]:
        (folder / name).write_bytes(python2_pickle(batch))
    names = [f"class{i}".encode() for i in range(10)]
    (folder / "batches.meta").write_bytes(python2_pickle({b"label_names": names}))
    return pixels


def test_cifar10_batches(tmp_path: Path) -> None:
    pixels = cifar10(tmp_path)
    for root in (tmp_path, tmp_path / "cifar-10-batches-py"):
        source = Cifar10(str(root)).open(AS_IS, **ALL, classes=10)
        samples = source.read(range(6))
        assert torch.equal((samples.images * 255).round().to(torch.uint8), torch.from_numpy(pixels))
        assert samples.labels.tolist() == [0, 1, 2, 3, 4, 5]
        assert list(source.class_names)[3] == "class3"
        assert samples.ids[2] == "test_batch/00002"
        assert samples.truth is None
    train = Cifar10(str(tmp_path), split="train").open(AS_IS, **ALL)
    assert len(train) == 30
    other = Cifar10(str(tmp_path)).open(AS_IS, **ALL, classes=1000)
    assert set(other.labels) == {-1}
    assert "labels count as unknown" in other.notes[0]


def test_cifar100_batches_and_presets(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    batch = {b"data": np.zeros((2, 3072), dtype=np.uint8), b"fine_labels": [99, 5]}
    (folder / "test").write_bytes(python2_pickle(batch))
    chosen = DATASETS.create(f"cifar100:{tmp_path}")
    assert list(chosen.value.open(AS_IS, limit=None, seed=0).labels) == [99, 5]
    with pytest.raises(ParameterError, match="editions of 10 and 100"):
        Cifar10("x", edition=7)


def test_cifar_folders(tmp_path: Path) -> None:
    for index in range(10):
        save(tmp_path / "test" / f"c{index}" / "a.png", size=(32, 32))
    source = Cifar10(str(tmp_path)).open(AS_IS, **ALL)
    assert list(source.labels) == list(range(10))
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"")
    with pytest.raises(DataError, match="extract the archive first"):
        Cifar10(str(tmp_path), split="train").open(AS_IS, **ALL)


class Poison:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_cifar_pickles_do_not_run_and_damage_is_said(tmp_path: Path) -> None:
    cifar10(tmp_path)
    batch, mark = tmp_path / "cifar-10-batches-py" / "test_batch", tmp_path / "ran"
    whole = batch.read_bytes()
    damaged = {
        "it asks for": pickle.dumps({b"data": Poison(mark)}),
        "is no CIFAR batch": whole[: len(whole) // 2],
        "holds a list": pickle.dumps([1]),
        r"is no CIFAR-10 batch \(data, labels\)": pickle.dumps({b"data": 1, b"labels": []}),
        "labels do not fit": pickle.dumps(
            {b"data": np.zeros((1, 3072), dtype=np.uint8), b"labels": [10]}
        ),
    }
    for message, content in damaged.items():
        batch.write_bytes(content)
        with pytest.raises(DataError, match=message):
            Cifar10(str(tmp_path)).open(AS_IS, **ALL)
    assert not mark.exists()
    (batch.parent / "data_batch_3").unlink()
    with pytest.raises(DataError, match="data_batch_3' is missing; extract the whole archive"):
        Cifar10(str(tmp_path), split="train").open(AS_IS, **ALL)


# ---- ImageNet


def box_xml(*objects: tuple[str, int, int, int, int], difficult: int = 0) -> str:
    inner = "".join(
        f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{a}</xmin>"
        f"<ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>"
        for name, a, b, c, d in objects
    )
    return f"<annotation><size><width>20</width><height>16</height></size>{inner}</annotation>"


def imagenet(root: Path) -> None:
    images, boxes = "ILSVRC/Data/CLS-LOC/val", "ILSVRC/Annotations/CLS-LOC/val"
    for number, synset in ((1, "n01440764"), (2, "n15075141"), (3, "n01514668")):
        name = f"ILSVRC2012_val_{number:08d}"
        save(root / images / f"{name}.JPEG", number)
        if number != 3:
            text = box_xml((synset, 2, 3, 10, 8), ("n02084071", 0, 0, 20, 16))
            write(root / boxes / f"{name}.xml", text)
    rows = "ILSVRC2012_val_00000003,n01514668 1 2 3 4 \nILSVRC2012_val_00000001,n01440764 0 0 1 1"
    write(root / "LOC_val_solution.csv", f"ImageId,PredictionString\n{rows}\n")


def test_imagenet_official(tmp_path: Path) -> None:
    imagenet(tmp_path)
    source = ImageNet(str(tmp_path)).open(AS_IS, **ALL, classes=1000)
    assert list(source.labels) == [0, 999, 7]
    samples = source.read([0, 1, 2])
    expected = torch.zeros(16, 20, dtype=torch.bool)
    expected[3:8, 2:10] = True
    assert samples.truth is not None
    assert samples.truth_defined is not None
    assert torch.equal(samples.truth[0], expected)
    assert torch.equal(samples.truth[1], expected)
    assert samples.truth_defined.tolist() == [True, True, False]
    assert source.read([2]).truth is not None, "a batch without truth looks like the others"
    sized = ImageNet(str(tmp_path), min_area=0.1, max_area=0.2).open(AS_IS, **ALL)
    assert list(sized.labels) == [0, 999]
    assert sized.skipped == {}
    with pytest.raises(DataError, match=r"covers 0\.9 to 1 of the input"):
        ImageNet(str(tmp_path), min_area=0.9).open(AS_IS, **ALL)
    with pytest.raises(DataError, match="shares of the input"):
        ImageNet(str(tmp_path), min_area=0.9, max_area=0.1).open(AS_IS, **ALL)


def test_imagenet_synset_folders_without_boxes(tmp_path: Path) -> None:
    save(tmp_path / "val" / "n01514668" / "a.JPEG")
    source = ImageNet(str(tmp_path)).open(AS_IS, **ALL, classes=1000)
    assert list(source.labels) == [7]
    assert source.read([0]).truth is None
    assert "no truth" in source.notes[0]


def test_imagenet_devkit(tmp_path: Path) -> None:
    from scipy.io import savemat

    save(tmp_path / "val" / "ILSVRC2012_val_00000002.JPEG")
    with pytest.raises(DataError, match=r"The class of ILSVRC2012_val_00000002\.JPEG is not known"):
        ImageNet(str(tmp_path)).open(AS_IS, **ALL)
    data = tmp_path / "ILSVRC2012_devkit_t12" / "data"
    write(data / "ILSVRC2012_validation_ground_truth.txt", "1\n2\n")
    kinds = [("ILSVRC2012_ID", "i4"), ("WNID", "O")]
    synsets = np.array([(1, "n01440764"), (2, "n01514668")], dtype=kinds)
    savemat(data / "meta.mat", {"synsets": synsets})
    assert list(ImageNet(str(tmp_path)).open(AS_IS, **ALL).labels) == [7]


def test_imagenet_broken_annotation_is_named(tmp_path: Path) -> None:
    imagenet(tmp_path)
    folder = tmp_path / "ILSVRC/Annotations/CLS-LOC/val"
    name = "ILSVRC2012_val_00000001"
    write(folder / f"{name}.xml", "<annotation><object></annotation>")
    write(tmp_path / "LOC_val_solution.csv", "\n".join(
        f"ILSVRC2012_val_0000000{i},n01440764 0 0 1 1" for i in (1, 2, 3)
    ))  # fmt: skip
    source = ImageNet(str(tmp_path)).open(AS_IS, **ALL)
    assert f"its annotation {name}.xml" in source.skipped[f"{name}.JPEG"]
    assert len(source) == 2


# ---- VOC


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


# ---- COCO


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


# ---- pets


def pets(root: Path) -> None:
    trimap = np.full((16, 20), 2, dtype=np.uint8)
    trimap[4:12, 4:16] = 3
    trimap[5:11, 5:15] = 1
    for number, name in enumerate(("Abyssinian_1", "great_dane_7")):
        save(root / "images" / f"{name}.jpg", number)
        save_mask(root / "annotations" / "trimaps" / f"{name}.png", trimap)
    write(root / "annotations" / "test.txt", "#Image\nAbyssinian_1 1 1 1\ngreat_dane_7 37 2 9\n")


def test_pets(tmp_path: Path) -> None:
    pets(tmp_path / "oxford-iiit-pet")
    source = Pets(str(tmp_path)).open(AS_IS, **ALL, classes=37)
    assert list(source.labels) == [0, 36]
    assert source.class_names[36] == "great dane"
    samples = source.read([1])
    assert samples.truth is not None
    assert int(samples.truth.sum()) == 60
    assert int(samples.extras["border"].sum()) == 96 - 60
    assert bool(samples.truth[0, 5:11, 5:15].all())
    (tmp_path / "oxford-iiit-pet/annotations/trimaps/Abyssinian_1.png").unlink()
    left = Pets(str(tmp_path)).open(AS_IS, **ALL)
    assert list(left.skipped) == ["Abyssinian_1.jpg"]
    write(tmp_path / "oxford-iiit-pet/annotations/test.txt", "Abyssinian_1 99\n")
    with pytest.raises(DataError, match="expected NAME CLASS"):
        Pets(str(tmp_path)).open(AS_IS, **ALL)


# ---- table


def test_table(tmp_path: Path) -> None:
    mask = np.zeros((16, 20), dtype=np.uint8)
    mask[:4] = 7
    mask[4:8] = 9
    save(tmp_path / "sub" / "a.png", 0)
    save(tmp_path / "b.png", 1)
    save_mask(tmp_path / "m.png", mask)
    path = write(tmp_path / "t.csv", "path;Label;mask\nsub/a.png;3;m.png\n\nb.png;;\nc.png;1;\n")
    source = Table(str(path)).open(AS_IS, **ALL, classes=4)
    assert list(source.ids) == ["sub/a.png", "b.png"]
    assert list(source.labels) == [3, -1]
    assert "No such file" in source.skipped["c.png"]
    samples = source.read([0, 1])
    assert samples.truth is not None
    assert samples.truth_defined is not None
    assert samples.truth_defined.tolist() == [True, False]
    assert int(samples.truth[0].sum()) == 160
    nine = Table(str(path), value=9).open(AS_IS, **ALL).read([0])
    assert nine.truth is not None
    assert int(nine.truth.sum()) == 80


def test_table_labels(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    save(tmp_path / "b.png")

    def labels(first: str, second: str, classes: int | None = None) -> list[int]:
        text = f"path,label\na.png,{first}\nb.png,{second}\n"
        table = Table(str(write(tmp_path / "t.csv", text)))
        return list(table.open(AS_IS, **ALL, classes=classes).labels)

    assert labels("dog", "cat", 2) == [1, 0]
    assert labels("n15075141", "n01440764", 1000) == [999, 0]
    assert labels("4", "") == [4, -1]
    with pytest.raises(DataError, match="2 names of classes, the model tells 10"):
        labels("dog", "cat", 10)
    with pytest.raises(DataError, match="has the label 4; the model tells 3"):
        labels("4", "0", 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no column path; table:FILE.csv expects"),
        ("image,label\na.png,1\n", "has no column path"),
        ("path\n", "lists no images"),
        ("path,label\n,3\n", "Row 2 of the table"),
        ("path\na.png\na.png\n", "lists a.png twice"),
    ],
)
def test_bad_tables(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "t.csv", text)
    with pytest.raises(DataError, match=re.escape(message)):
        Table(str(path)).open(AS_IS, **ALL)


def test_table_masks_of_another_size_or_in_color(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    save(tmp_path / "b.png", 1)
    save(tmp_path / "c.png", 2)
    save_mask(tmp_path / "small.png", np.zeros((4, 4)))
    rows = "a.png,small.png\nb.png,c.png\nc.png,\n"
    path = write(tmp_path / "t.csv", f"path,mask\n{rows}")
    source = Table(str(path)).open(AS_IS, **ALL)
    assert list(source.ids) == ["c.png"]
    assert "4 x 4 pixels, the image 20 x 16" in source.skipped["a.png"]
    assert "in color" in source.skipped["b.png"]
