"""Classifiers of the Hugging Face hub: preprocessing, refusals, and the library where it is."""

from pathlib import Path
from types import SimpleNamespace

import nets
import pytest
import torch

from xbench.classifier import Normalization
from xbench.contracts import Geometry
from xbench.errors import ModelError
from xbench.models import hub
from xbench.models.loading import load_classifier
from xbench.optional import optional

STATS = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.2]}


@pytest.mark.parametrize(
    ("said", "geometry"),
    [
        (
            {
                "size": {"shortest_edge": 256},
                "crop_size": {"height": 224, "width": 224},
                "do_center_crop": True,
                "resample": 3,
            },
            Geometry((224, 224), 256, "bicubic"),
        ),
        (
            {"size": {"shortest_edge": 224}, "crop_pct": 0.875, "resample": 2},
            Geometry((224, 224), 256, "bilinear"),
        ),
        (
            {"size": {"shortest_edge": 384}, "crop_pct": 0.875, "resample": 2},
            Geometry((384, 384), 384, "bilinear"),
        ),
        ({"size": {"height": 224, "width": 224}, "resample": 2}, Geometry((224, 224), 224)),
    ],
)
def test_preprocessing(said: dict, geometry: Geometry) -> None:
    found, normalization, notes = hub.preprocessing(SimpleNamespace(**said, **STATS))
    assert found == geometry
    assert normalization == Normalization((0.5, 0.4, 0.3), (0.2, 0.2, 0.2))
    assert bool(notes) == ("height" in said["size"])


def test_preprocessing_without_normalization_or_size() -> None:
    said = SimpleNamespace(size={"shortest_edge": 8}, resample=0, do_normalize=False, **STATS)
    geometry, normalization, _ = hub.preprocessing(said)
    assert geometry.interpolation == "nearest"
    assert normalization == Normalization()
    with pytest.raises(ModelError, match="names no input size"):
        hub.preprocessing(SimpleNamespace(size=None, resample=2, **STATS))


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = optional("transformers_that_nobody_has", "install it")
    monkeypatch.setattr(hub, "_transformers", missing)
    with pytest.raises(ModelError, match=r"hf:some/thing needs the transformers library.*install"):
        load_classifier("hf:some/thing", device="cpu")


def test_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    library = SimpleNamespace(reason=None)
    monkeypatch.setattr(hub, "_transformers", library)
    monkeypatch.setattr(hub, "cached_file", lambda *_: None)
    monkeypatch.setattr("urllib.request.urlopen", offline)
    monkeypatch.setattr(
        hub, "_hub", SimpleNamespace(constants=SimpleNamespace(ENDPOINT="https://example.org"))
    )
    with pytest.raises(ModelError, match=r"hf:some/thing cannot be loaded \(no network\)"):
        load_classifier("hf:some/thing", device="cpu")


def test_saved_folder(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], num_labels=3, layer_type="basic"
    )
    with torch.random.fork_rng(devices=[]):
        network = transformers.ResNetForImageClassification(config).eval()
    network.save_pretrained(tmp_path)
    transformers.ConvNextImageProcessor(
        size={"shortest_edge": 64}, crop_pct=0.875, image_mean=[0.5] * 3, image_std=[0.25] * 3
    ).save_pretrained(tmp_path)
    model = load_classifier(f"hf:{tmp_path}", device="cpu", batch_size=4)
    assert model.geometry.crop == (64, 64)
    assert model.geometry.resize == 73
    assert len(model.class_names) == 3
    images = nets.pictures(2, height=64, width=64)
    with torch.no_grad():
        expected = network((images - 0.5) / 0.25).logits
    torch.testing.assert_close(model.logits(images), expected)
    assert model.find_layer("last_conv", images) is not None
