"""Data sets read by other libraries: torchvision's, and those of the Hugging Face hub."""

import io
import struct
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from xbench.datasets import hf
from xbench.datasets.hf import Hub
from xbench.datasets.torchvision_sets import Torchvision

from xbench.contracts import Geometry
from xbench.errors import DataError
from xbench.optional import optional
from xbench.registry import DATASETS

ALL = {"limit": None, "seed": 0}


def mnist(root: Path) -> np.ndarray:
    """The four files of MNIST with five images each."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
    for part in ("train", "t10k"):
        head = struct.pack(">IIII", 0x803, 5, 28, 28)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(head + pixels.tobytes())
        labels = struct.pack(">II", 0x801, 5) + bytes([3, 1, 4, 1, 5])
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(labels)
    return pixels


def test_torchvision(tmp_path: Path) -> None:
    pixels = mnist(tmp_path)
    chosen = DATASETS.create(f"torchvision:MNIST[root={tmp_path}]")
    assert isinstance(chosen.value, Torchvision)
    source = chosen.value.open(Geometry(channels=1), limit=None, seed=0, classes=10)
    samples = source.read(range(5))
    assert samples.labels.tolist() == [3, 1, 4, 1, 5]
    assert np.array_equal((samples.images[:, 0] * 255).round().byte().numpy(), pixels)
    assert source.class_names[3].startswith("3")
    other = chosen.value.open(Geometry(), limit=2, seed=0, classes=1000)
    assert list(other.labels) == [-1, -1]


def test_torchvision_mistakes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no data set 'Flowers'\. Did you mean Flowers102"):
        Torchvision("Flowers").open(Geometry(), **ALL)
    with pytest.raises(DataError, match=r"MNIST cannot be read from .*download"):
        Torchvision("MNIST", str(tmp_path)).open(Geometry(), **ALL)


class Features(dict):
    pass


class ClassLabel:
    def __init__(self, names: list[str]) -> None:
        self.names = names


class HubImage:
    def __init__(self, decode: bool = True) -> None:
        self.decode = decode


HubImage.__name__ = "Image"


class Rows:
    """As much of a table of the datasets library as is used."""

    def __init__(self, rows: list[dict], features: dict) -> None:
        self.rows, self.features = rows, features

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: int | str) -> object:
        return self.rows[key] if isinstance(key, int) else [row[key] for row in self.rows]

    def cast_column(self, name: str, feature: HubImage) -> "Rows":
        assert not feature.decode
        return Rows(self.rows, {**self.features, name: feature})


def encoded(value: int) -> dict:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), (value, 0, 0)).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Rows:
    rows = Rows(
        [
            {"picture": encoded(10), "kind": 1},
            {"picture": {"bytes": b"", "path": None}, "kind": 0},
            {"picture": encoded(30), "kind": 0},
        ],
        {"picture": HubImage(), "kind": ClassLabel(["cat", "dog"])},
    )
    library = types.ModuleType("datasets")

    def load_dataset(name: str, split: str) -> Rows:
        if name != "pets":
            raise FileNotFoundError(f"no {name}\nmore")
        return rows

    library.load_dataset = load_dataset
    library.Image = HubImage
    monkeypatch.setitem(sys.modules, "datasets", library)
    monkeypatch.setattr(hf, "_library", optional("datasets"))
    return rows


def test_hub(hub: Rows) -> None:
    source = Hub("pets").open(Geometry(), **ALL, classes=2)
    assert list(source.ids) == ["test/0000000", "test/0000002"]
    assert list(source.labels) == [1, 0]
    assert list(source.class_names) == ["cat", "dog"]
    assert source.skipped == {"test/0000001": "an empty file"}
    assert round(float(source.read([1]).images[0, 0, 0, 0]) * 255) == 30
    with pytest.raises(DataError, match=r"hf:nothing cannot be loaded \(no nothing\)"):
        Hub("nothing").open(Geometry(), **ALL)
    with pytest.raises(DataError, match="no column 'photo'; it has picture, kind"):
        Hub("pets", image="photo").open(Geometry(), **ALL)


def test_hub_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hf, "_library", optional("datasets_that_nobody_has", "install it"))
    with pytest.raises(DataError, match=r"needs the datasets library: .*install it"):
        Hub("pets").open(Geometry(), **ALL)
