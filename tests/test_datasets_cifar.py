"""CIFAR in its official layout, written by each test."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from on_disk import ALL, AS_IS, save
from xbench.datasets.cifar import Cifar10

from xbench.errors import DataError, ParameterError
from xbench.registry import DATASETS


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
