"""What all sources say of a missing folder; pets and tables."""

import re
from pathlib import Path

import numpy as np
import pytest
from on_disk import ALL, AS_IS, save, save_mask, write
from xbench.datasets.pets import Pets
from xbench.datasets.table import Table

from xbench.errors import DataError
from xbench.registry import DATASETS


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
