"""Broden in its official layout, on a folder of a few pixels that each test writes itself."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_cli import call, refused
from xbench.datasets.broden import Broden
from xbench.datasets.voc import CLASSES, Voc

from xbench.contracts import ConceptMasks, Geometry, LabelName
from xbench.errors import DataError
from xbench.registry import DATASETS

ALL = {"limit": None, "seed": 0}
HEADER = "image,split,ih,iw,sh,sw,color,object,part,material,scene,texture\n"
LABELS = """number,name,category,frequency,coverage,syns
1,red-c,color(2),2,1.0,
2,blue-c,color(2),2,1.0,
300,cat,object(2);part(1),3,1.0,kitty;feline
301,ear,part(1),1,0.1,
302,striped,texture(1),1,1.0,
303,street-s,scene(1),1,1.0,
304,grid,texture(1),1,1.0,
"""


def numbers_file(path: Path, values: np.ndarray) -> None:
    """Red is the number's low byte, green its high byte, blue means nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = np.stack([values % 256, values // 256, np.full_like(values, 7)], axis=-1)
    Image.fromarray(channels.astype(np.uint8)).save(path)


@pytest.fixture
def broden(tmp_path: Path) -> Path:
    """Four images of 16 x 16 with labels of 8 x 8: pixels, plain numbers, several, and none."""
    folder = tmp_path / "images"
    colors = np.ones((8, 8), np.int64)
    colors[:, 4:] = 2
    cat, ear = np.zeros((8, 8), np.int64), np.zeros((8, 8), np.int64)
    cat[2:6, 2:6], ear[2:3, 2:4] = 300, 301
    whisker = np.zeros((8, 8), np.int64)
    whisker[5, 5] = 300
    for number, kind in enumerate(("ade", "ade", "dtd", "dtd")):
        pixels = np.full((16, 16, 3), 40 * number + 60, np.uint8)
        (folder / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / kind / f"{number}.jpg")
        numbers_file(folder / kind / f"{number}_color.png", colors)
    numbers_file(folder / "ade/0_object.png", cat)
    numbers_file(folder / "ade/0_part_1.png", ear)
    numbers_file(folder / "ade/0_part_2.png", whisker)
    numbers_file(folder / "ade/1_object.png", np.zeros((8, 8), np.int64))
    size = "16,16,8,8"
    (tmp_path / "index.csv").write_text(
        HEADER
        + f"ade/0.jpg,train,{size},ade/0_color.png,ade/0_object.png,"
        + "ade/0_part_1.png;ade/0_part_2.png,,303,\n"
        + f"ade/1.jpg,val,{size},ade/1_color.png,ade/1_object.png,,,,\n"
        + f"dtd/2.jpg,train,{size},dtd/2_color.png,,,,,302;304\n"
        + f"dtd/3.jpg,val,{size},dtd/3_color.png,,,,,302\n"
    )
    (tmp_path / "label.csv").write_text(LABELS)
    (tmp_path / "category.csv").write_text("name,first,last,count,frequency\ncolor,1,2,2,4\n")
    (tmp_path / "c_color.csv").write_text("code,number,name,frequency,coverage\n1,1,red-c,2,1\n")
    return tmp_path


def read(root: Path, geometry: Geometry | None = None, **given: str) -> tuple[list, ConceptMasks]:
    source = Broden(str(root), **given).open(geometry or Geometry(), **ALL)
    rows = range(len(source))
    samples = source.read(rows)
    assert samples.labels.tolist() == [-1] * len(samples)
    concepts = source.concepts(rows)
    assert concepts is not None
    return list(samples.ids), concepts


def test_every_kind_of_label_is_read(broden: Path) -> None:
    ids, masks = read(broden)
    assert ids == ["ade/0.jpg", "ade/1.jpg", "dtd/2.jpg", "dtd/3.jpg"]
    assert masks.kinds == {
        "red-c": "color",
        "blue-c": "color",
        "cat": "object",
        "ear": "part",
        "striped": "texture",
        "street-s": "scene",
        "grid": "texture",
    }
    cat = torch.zeros(16, 16, dtype=torch.bool)
    cat[4:12, 4:12] = True  # label files are half as large as the image
    assert torch.equal(masks["cat"][0], cat)
    assert not masks["cat"][1:].any()
    assert int(masks["ear"][0].sum()) == 8
    assert masks["red-c"][:, :, :8].all()
    assert not masks["red-c"][:, :, 8:].any()
    assert masks["striped"].flatten(1).all(dim=1).tolist() == [False, False, True, True]
    assert masks["grid"].flatten(1).all(dim=1).tolist() == [False, False, True, False]
    assert masks["street-s"].flatten(1).all(dim=1).tolist() == [True, False, False, False]


def test_what_is_labeled_where(broden: Path) -> None:
    _, masks = read(broden)
    assert masks.known["color"].all()
    assert masks.known["object"].tolist() == [True, True, False, False]
    assert masks.known["texture"].tolist() == [False, False, True, True]
    assert "material" not in masks.known


def test_coverage_is_that_of_the_masks(broden: Path) -> None:
    _, masks = read(broden)
    shares = {name: float(mask.float().mean()) for name, mask in masks.items()}
    assert masks.coverage() == pytest.approx({**shares, "cat": shares["cat"] + 4 / 1024})
    some = masks.only(["cat", "grid"])
    assert list(some) == ["cat", "grid"]
    assert torch.equal(some["cat"], masks["cat"])


def test_masks_follow_the_geometry(broden: Path) -> None:
    geometry = Geometry(crop=(8, 8), resize=12)
    _, masks = read(broden, geometry)
    assert masks["cat"].shape == (4, 8, 8)
    assert int(masks["cat"][0].sum()) == 36  # 8 of 16 pixels at 12 of 16, none cut off
    assert int(masks["red-c"][0].sum()) == 32


def test_splits_and_categories(broden: Path) -> None:
    assert read(broden, split="val")[0] == ["ade/1.jpg", "dtd/3.jpg"]
    ids, masks = read(broden, categories="texture+scene")
    assert ids == ["ade/0.jpg", "dtd/2.jpg", "dtd/3.jpg"]
    assert set(masks) == {"striped", "grid", "street-s"}
    one = DATASETS.create(f"broden:{broden}[split=val]").value.open(Geometry(), limit=1, seed=0)
    assert len(one) == 1


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"root": "nowhere"}, "There is no folder"),
        ({"split": "test"}, "no image of split 'test'"),
        ({"categories": "smell"}, "no category 'smell'; it has color, object"),
    ],
)
def test_mistakes_are_one_sentence(broden: Path, given: dict[str, str], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        Broden(**{"root": str(broden), **given}).open(Geometry(), **ALL)


def test_broken_files_are_one_sentence(broden: Path) -> None:
    source = Broden(str(broden)).open(Geometry(), **ALL)
    (broden / "images/ade/0_object.png").unlink()
    with pytest.raises(DataError, match=r"ade/0.jpg: its label file 0_object.png: No such file"):
        source.concepts([0])
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(broden / "images/ade/0_object.png")
    with pytest.raises(DataError, match="no red and green channel"):
        source.concepts([0])
    numbers_file(broden / "images/ade/0_object.png", np.full((8, 8), 65535))
    with pytest.raises(DataError, match="numbers above 32767"):
        source.concepts([0])
    (broden / "label.csv").write_text("number,name\n1,red\n")
    with pytest.raises(DataError, match="no column category"):
        Broden(str(broden)).open(Geometry(), **ALL)
    (broden / "label.csv").unlink()
    with pytest.raises(DataError, match=r"has no label.csv; broden:ROOT expects"):
        Broden(str(broden)).open(Geometry(), **ALL)


def test_two_labels_of_one_name() -> None:
    labels = {1: LabelName("door", "object"), 2: LabelName("door", "part"), 3: LabelName("x", "y")}
    masks = ConceptMasks(torch.tensor([[[[1, 2]]]]).short(), torch.zeros(1, 1).short(), labels, {})
    assert list(masks) == ["door", "door (part)"]
    assert masks["door (part)"].tolist() == [[[False, True]]]


def test_dissection_on_broden(broden: Path, tmp_path: Path) -> None:
    words = ("--limit", "4", "--layers", "1", "--batch-size", "4", "--out", str(tmp_path / "out"))
    result = call("dissect", "--concepts", f"broden:{broden}", *words)
    assert result.exit_code == 0, result.output
    table = (tmp_path / "out" / "layers.csv").read_text().splitlines()[0]
    assert "color,texture,part,object,scene" in table
    sentence = refused("dissect", "--concepts", f"broden:{tmp_path / 'no'}", *words)
    assert "broden:ROOT expects" in sentence


def test_voc_names_all_classes_of_an_image(tmp_path: Path) -> None:
    """Also those that are not its main class, whatever classes the model tells apart."""
    root = tmp_path / "VOC2012"
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True)
    Image.fromarray(np.zeros((10, 12, 3), np.uint8)).save(root / "JPEGImages/a.jpg")
    values = np.zeros((10, 12), np.uint8)
    values[:, :6], values[:2, 8:], values[9] = 8, 12, 255
    picture = Image.fromarray(values)
    picture.putpalette(bytes(range(256)) * 3)
    picture.save(root / "SegmentationClass/a.png")
    (root / "ImageSets/Segmentation/val.txt").write_text("a\n")
    source = Voc(str(tmp_path)).open(Geometry(), limit=None, seed=0, classes=1000)
    masks = source.concepts([0])
    assert masks is not None
    assert masks.kinds == {"cat": "object", "dog": "object"}
    assert torch.equal(masks["cat"][0], torch.from_numpy(values == CLASSES.index("cat") + 1))
    assert int(masks["dog"].sum()) == 8
    assert masks.known["object"].tolist() == [True]
