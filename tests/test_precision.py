"""Half precision and compilation: close numbers, float32 outside, an identity of its own."""

import warnings

import nets
import pytest
import torch
from torch import nn

from xbench.classifier import Classifier
from xbench.classifier.precision import set_precision
from xbench.errors import ParameterError
from xbench.registry import METHODS
from xbench.running.making import Settings, make_grid
from xbench.streams import Streams


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    )  # fmt: skip


def classifier(precision: str = "float32", *, compiled: bool = False) -> Classifier:
    model = Classifier(network(), batch_size=4)
    set_precision(model, precision, compiled=compiled)
    return model


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_close_and_gives_float32(precision: str) -> None:
    images, targets = nets.pictures(3, 3, 12, 12), torch.tensor([0, 1, 2])
    whole, half = classifier(), classifier(precision)
    logits = half.logits(images)
    assert logits.dtype == torch.float32
    assert not torch.equal(logits, whole.logits(images))
    assert torch.allclose(logits, whole.logits(images), atol=0.02)
    assert half.gradients(images, targets).dtype == torch.float32
    streams = Streams(seed=0, image_ids=["a", "b", "c"], scope="test")
    for name in ("gradcam", "ablationcam", "integrated_gradients[n_steps=4]"):
        maps = METHODS.create(name).value.explain(half, images, targets, streams=streams)
        assert maps.dtype == torch.float32
        assert torch.isfinite(maps).all()


def test_records_and_maps_of_two_precisions_are_never_mixed() -> None:
    hashes = {classifier(name).weights_hash for name in ("float32", "bf16", "fp16")}
    assert len(hashes) == 3
    model = classifier("bf16")
    assert model.fingerprint() == model.weights_hash
    assert classifier().weights_hash == Classifier(network()).weights_hash
    assert model.sibling(network()).network.precision == "bf16"


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ParameterError, match="float32, bf16, fp16"):
        make_grid(Settings(precision="int8", limit=1))


def test_what_cannot_be_compiled_runs_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    images = nets.pictures(2, 3, 12, 12)

    def broken(module: nn.Module, **_: object) -> object:
        def call(*_: object) -> None:
            raise RuntimeError("no compiler")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    model = classifier(compiled=True)
    with pytest.warns(UserWarning, match=r"no compiler.*without --compile"):
        got = model.logits(images)
    assert torch.equal(got, classifier().logits(images))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.logits(images)


def test_plain_passes_alone_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def compiled(module: nn.Module, **_: object) -> object:
        def call(images: torch.Tensor) -> torch.Tensor:
            calls.append(len(images))
            return module(images)

        return call

    monkeypatch.setattr(torch, "compile", compiled)
    model, images = classifier(compiled=True), nets.pictures(2, 3, 12, 12)
    model.logits(images)
    before = len(calls)
    assert before > 0
    model.gradients(images, torch.tensor([0, 1]))
    model.activations(images, model.layer("last_conv", images))
    assert len(calls) == before
