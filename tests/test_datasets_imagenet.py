"""ImageNet in its official layouts, written by each test."""

from pathlib import Path

import numpy as np
import pytest
import torch
from on_disk import ALL, AS_IS, box_xml, save, write
from xbench.datasets.imagenet import ImageNet

from xbench.errors import DataError


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
