"""Folders of images: decoding, geometry, labels, selection, refusals."""

import csv
import hashlib
import io
import re
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import MobileNet_V2_Weights
from xbench.datasets import _images, _masks
from xbench.datasets._files import Choice, balanced
from xbench.datasets._synsets import INDEX
from xbench.datasets.folders import ImageFolder, Images

from xbench.contracts import Geometry
from xbench.errors import DataError
from xbench.registry import DATASETS

SMALL = Geometry(crop=(16, 16), resize=20)


def picture(width: int = 40, height: int = 30, seed: int = 0, channels: int = 3) -> Image.Image:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (4, 4, channels), dtype=np.uint8)
    return Image.fromarray(coarse.squeeze()).resize((width, height), Image.Resampling.BICUBIC)


def folder(root: Path, names: list[str]) -> Path:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        picture(seed=number).save(root / name)
    return root


@pytest.mark.parametrize("size", [(300, 200), (200, 333), (224, 224), (100, 90), (257, 256)])
def test_geometry_is_torchvisions(size: tuple[int, int]) -> None:
    weights = MobileNet_V2_Weights.IMAGENET1K_V1.transforms()
    image = picture(*size)
    expected = weights(image)
    mean, std = torch.tensor(weights.mean)[:, None, None], torch.tensor(weights.std)[:, None, None]
    ours = _images.to_pixels(_images.fit(image, Geometry(crop=(224, 224), resize=256)), 3)
    torch.testing.assert_close((ours - mean) / std, expected, rtol=0, atol=1e-6)


def test_crop_larger_than_image_pads_like_torchvision() -> None:
    from torchvision.transforms.functional import center_crop

    image = picture(13, 30)
    ours = _images.fit(image, Geometry(crop=(20, 24)))
    assert np.array_equal(np.array(ours), np.array(center_crop(image, [20, 24])))


def test_registered_names() -> None:
    assert isinstance(DATASETS.create("images:/tmp").value, Images)
    assert isinstance(DATASETS.create("imagefolder:/tmp").value, ImageFolder)


def test_every_mode_becomes_rgb(tmp_path: Path) -> None:
    grey = picture(channels=1)
    rgba = picture(channels=4)
    rgba.putalpha(255)
    see_through = Image.new("RGBA", (40, 30), (255, 0, 0, 0))
    wide = Image.fromarray(np.full((30, 40), 0x8080, dtype=np.uint16))
    saved = {
        "grey.png": grey,
        "bit.png": grey.convert("1"),
        "cmyk.jpg": picture().convert("CMYK"),
        "palette.gif": picture().convert("P"),
        "rgba.png": rgba,
        "clear.png": see_through,
        "greyalpha.png": rgba.convert("LA"),
        "wide.png": wide,
        "one.png": Image.new("RGB", (1, 1), (10, 20, 30)),
        "web.webp": picture(),
    }
    for name, image in saved.items():
        image.save(tmp_path / name)
    source = Images(str(tmp_path)).open(SMALL, limit=None, seed=0)
    assert len(source) == len(saved)
    assert source.skipped == {}
    samples = source.read(range(len(source)))
    assert samples.images.shape == (len(saved), 3, 16, 16)
    assert samples.images.dtype == torch.float32
    assert 0 <= float(samples.images.min()) <= float(samples.images.max()) <= 1
    by_name = dict(zip(samples.ids, samples.images, strict=True))
    assert bool((by_name["clear.png"] == 1).all()), "transparent pixels are laid on white"
    torch.testing.assert_close(by_name["wide.png"], torch.full((3, 16, 16), 128 / 255))
    torch.testing.assert_close(
        by_name["one.png"], torch.tensor([10, 20, 30]).view(3, 1, 1).expand(3, 16, 16) / 255
    )
    assert bool((samples.labels == -1).all())
    assert samples.truth is None


def test_one_channel() -> None:
    pixels = _images.to_pixels(picture(), 1)
    assert pixels.shape == (1, 30, 40)


@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_orientation(tmp_path: Path, turn: int) -> None:
    image = picture(41, 30)
    exif = Image.Exif()
    exif[0x0112] = turn
    image.save(tmp_path / "turned.png", exif=exif)
    source = Images(str(tmp_path)).open(Geometry(), limit=None, seed=0)
    got = (source.read([0]).images[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    array = np.array(image)
    expected = {
        1: array,
        2: array[:, ::-1],
        3: array[::-1, ::-1],
        4: array[::-1],
        5: array.transpose(1, 0, 2),
        6: np.rot90(array, -1),
        7: np.rot90(array, 2).transpose(1, 0, 2),
        8: np.rot90(array),
    }[turn]
    assert np.array_equal(got, expected)


def test_masks_turn_with_their_image() -> None:
    mask = np.zeros((30, 40), dtype=bool)
    mask[:5, :7] = True  # top left as stored
    turned = _masks.fit_mask(mask, (40, 30), 6, Geometry())
    assert turned.shape == (40, 30)
    assert bool(turned[:7, -5:].all())
    assert int(turned.sum()) == 35
    already = _masks.fit_mask(turned.numpy(), (40, 30), 6, Geometry())
    assert torch.equal(already, turned)
    with pytest.raises(DataError, match="its mask has 3 x 2 pixels"):
        _masks.fit_mask(np.zeros((2, 3), dtype=bool), (40, 30), 1, Geometry())


def test_bad_images_are_named_and_replaced(tmp_path: Path) -> None:
    folder(tmp_path, [f"{i}.jpg" for i in range(4)])
    content = (tmp_path / "1.jpg").read_bytes()
    (tmp_path / "broken.jpg").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty.jpg").write_bytes(b"")
    png = io.BytesIO()
    picture().save(png, "PNG")
    (tmp_path / "half.png").write_bytes(png.getvalue()[:-200])
    (tmp_path / "notes.txt").write_text("not an image, not looked at")
    (tmp_path / ".hidden.jpg").write_bytes(b"")
    source = Images(str(tmp_path)).open(SMALL, limit=None, seed=0)
    assert list(source.ids) == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]
    assert sorted(source.skipped) == ["broken.jpg", "empty.jpg", "half.png", "text.png"]
    assert "truncated or corrupt" in source.skipped["broken.jpg"]
    assert source.skipped["empty.jpg"] == "an empty file"
    assert "no image" in source.skipped["text.png"]
    limited = Images(str(tmp_path)).open(SMALL, limit=4, seed=3)
    assert list(limited.ids) == list(source.ids), "bad images are replaced by good ones"


def test_nothing_readable(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=re.escape("a.jpg: an empty file")):
        Images(str(tmp_path)).open(SMALL, limit=None, seed=0)


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header promises far more pixels than its few bytes hold."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 10_000_000))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(60_000, 60_000), (12_000, 10_000), (200_000, 1)])
def test_bombs_are_refused_at_once(tmp_path: Path, size: tuple[int, int]) -> None:
    folder(tmp_path, ["good.png"])
    (tmp_path / "bomb.png").write_bytes(bomb(*size))
    start = time.perf_counter()
    source = Images(str(tmp_path)).open(Geometry((224, 224), 256), limit=None, seed=0)
    assert time.perf_counter() - start < 1
    assert list(source.ids) == ["good.png"]
    assert re.search("pixels", source.skipped["bomb.png"])


@pytest.mark.parametrize("kind", [Images, ImageFolder])
def test_missing_and_empty_folders(tmp_path: Path, kind: type[Images] | type[ImageFolder]) -> None:
    with pytest.raises(DataError, match=r"There is no folder '.*nowhere'; .*:DIR expects"):
        kind(str(tmp_path / "nowhere")).open(SMALL, limit=None, seed=0)
    with pytest.raises(DataError, match=r"has no images; .*:DIR expects"):
        kind(str(tmp_path)).open(SMALL, limit=None, seed=0)
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(DataError, match="is a file"):
        kind(str(tmp_path / "a.txt")).open(SMALL, limit=None, seed=0)


def test_loose_images_are_pointed_to_images(tmp_path: Path) -> None:
    folder(tmp_path, ["a.png"])
    with pytest.raises(DataError, match=r"no class folders; imagefolder:DIR expects .*use images:"):
        ImageFolder(str(tmp_path)).open(SMALL, limit=None, seed=0)


def test_one_image_file(tmp_path: Path) -> None:
    folder(tmp_path, ["a.png"])
    assert list(Images(str(tmp_path / "a.png")).open(SMALL, limit=None, seed=0).ids) == ["a.png"]


def test_folders_number_classes(tmp_path: Path) -> None:
    folder(tmp_path, ["dog/1.png", "cat/2.png", "cat/deep/3.png", "eel/x.png"])
    (tmp_path / "vacant").mkdir()
    source = ImageFolder(str(tmp_path)).open(SMALL, limit=None, seed=0, classes=3)
    assert list(source.ids) == ["cat/2.png", "cat/deep/3.png", "dog/1.png", "eel/x.png"]
    assert list(source.labels) == [0, 0, 1, 2]
    assert list(source.class_names) == ["cat", "dog", "eel"]
    assert source.read([2, 0]).labels.tolist() == [1, 0]
    with pytest.raises(DataError, match=r"3 class folders .* 10 classes apart"):
        ImageFolder(str(tmp_path)).open(SMALL, limit=None, seed=0, classes=10)


def test_a_list_of_classes(tmp_path: Path) -> None:
    root = folder(tmp_path / "images", ["dog/1.png", "cat/2.png"])
    listing = tmp_path / "classes.txt"
    listing.write_text("ant\ndog\ncat\n")
    source = ImageFolder(str(root), classes=str(listing)).open(SMALL, limit=None, seed=0, classes=3)
    assert list(source.labels) == [2, 1]
    listing.write_text("ant\ndog\n")
    with pytest.raises(DataError, match="'cat' is not listed"):
        ImageFolder(str(root), classes=str(listing)).open(SMALL, limit=None, seed=0, classes=2)


def test_synsets_map_by_themselves(tmp_path: Path) -> None:
    folder(tmp_path, ["n01514668/a.png", "n15075141/b.png", "n01440764/c.png"])
    source = ImageFolder(str(tmp_path)).open(SMALL, limit=None, seed=0, classes=1000)
    assert dict(zip(source.ids, source.labels, strict=True)) == {
        "n01440764/c.png": 0,
        "n01514668/a.png": 7,
        "n15075141/b.png": 999,
    }
    folder(tmp_path, ["n00000001/a.png"])
    with pytest.raises(DataError, match="'n00000001' is none of the 1000"):
        ImageFolder(str(tmp_path)).open(SMALL, limit=None, seed=0, classes=1000)


def test_synset_table() -> None:
    assert len(INDEX) == 1000
    assert list(INDEX) == sorted(INDEX), "class order is the sorted order of the ids"
    digest = hashlib.sha256(" ".join(INDEX).encode()).hexdigest()
    timm_info = pytest.importorskip("timm.data").ImageNetInfo()
    names = [timm_info.index_to_label_name(index) for index in range(1000)]
    assert hashlib.sha256(" ".join(names).encode()).hexdigest() == digest


def test_sample_labels(imagenet_sample: Path) -> None:
    geometry = Geometry((224, 224), 256)
    source = ImageFolder(str(imagenet_sample / "images")).open(
        geometry, limit=None, seed=0, classes=1000
    )
    rows = csv.DictReader((imagenet_sample / "labels.csv").open())
    truth = {row["path"].removeprefix("images/"): int(row["class_index"]) for row in rows}
    assert dict(zip(source.ids, source.labels, strict=True)) == truth


def test_selection_is_balanced_nested_and_seeded() -> None:
    images = [(f"{label}/{i}", label) for label in range(5) for i in range(label * 4 + 1)]
    ten = balanced(images, Choice(10, seed=1))
    counts = np.bincount([images[i][1] for i in ten], minlength=5)
    assert len(ten) == 10
    assert counts[0] == 1
    assert counts[1:].min() >= 2
    assert counts.max() <= 3
    assert set(ten) <= set(balanced(images, Choice(20, seed=1)))
    assert ten == balanced(images, Choice(10, seed=1))
    assert ten != balanced(images, Choice(10, seed=2))
    assert ten == sorted(ten)
    shuffled = list(reversed(images))
    assert {images[i] for i in ten} == {shuffled[i] for i in balanced(shuffled, Choice(10, 1))}


def test_digest_follows_content(tmp_path: Path) -> None:
    folder(tmp_path, ["a.png", "b.png"])
    first = Images(str(tmp_path)).open(SMALL, limit=None, seed=0).digest
    assert first == Images(str(tmp_path)).open(SMALL, limit=None, seed=5).digest
    assert first != Images(str(tmp_path)).open(SMALL, limit=1, seed=0).digest
    assert first != Images(str(tmp_path)).open(Geometry((8, 8), 8), limit=None, seed=0).digest
    picture(seed=77).save(tmp_path / "b.png")
    assert first != Images(str(tmp_path)).open(SMALL, limit=None, seed=0).digest


def test_sizes_must_agree_where_the_model_fixes_none(tmp_path: Path) -> None:
    picture(10, 10).save(tmp_path / "a.png")
    picture(12, 10).save(tmp_path / "b.png")
    with pytest.raises(DataError, match=r"differ in size .*10 x 10.*12 x 10"):
        Images(str(tmp_path)).open(Geometry(), limit=None, seed=0)


def test_a_file_that_vanishes_is_named(tmp_path: Path) -> None:
    folder(tmp_path, ["a.png", "b.png"])
    source = Images(str(tmp_path)).open(SMALL, limit=None, seed=0)
    (tmp_path / "b.png").unlink()
    with pytest.raises(DataError, match=r"b\.png could be read before"):
        source.read([0, 1])


def test_bad_limit(tmp_path: Path) -> None:
    folder(tmp_path, ["a.png"])
    with pytest.raises(DataError, match="limit of 0"):
        Images(str(tmp_path)).open(SMALL, limit=0, seed=0)


def test_links_that_lead_up_are_walked_once(tmp_path: Path) -> None:
    folder(tmp_path, ["sub/a.png"])
    (tmp_path / "sub" / "loop").symlink_to(tmp_path)
    assert len(Images(str(tmp_path)).open(SMALL, limit=None, seed=0)) == 1
