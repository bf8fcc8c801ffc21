"""Training: resumed runs equal undisturbed ones, twins know permuted labels by heart."""

from pathlib import Path

import nets
import pytest
import safetensors.torch
import torch
from torch import nn

from xbench.classifier import Classifier, Normalization
from xbench.contracts import Samples, Source
from xbench.errors import DataError, RunError
from xbench.models import augment
from xbench.models.fitting import Fit, Pixels, accuracy, fit, save_weights, write_atomically
from xbench.models.reference import reference_card, reference_module
from xbench.models.training import (
    _labelled,
    permuted,
    reinitialized,
    train_masked,
    train_reference,
    train_twin,
)


class Blobs(Source):
    """Images whose class is the brightest channel; labels unknown where asked."""

    def __init__(self, count: int, *, labelled: bool = True, classes: int = 3) -> None:
        self.name = "blobs"
        self.ids = [f"blob-{i}" for i in range(count)]
        truth = [i % classes for i in range(count)]
        self.labels = truth if labelled else [-1] * count
        noise = torch.rand(count, 3, 12, 12, generator=torch.Generator().manual_seed(0))
        bright = nn.functional.one_hot(torch.tensor(truth, dtype=torch.int64), 3)[:, :, None, None]
        self.images = ((0.5 * noise + 0.4 * bright) * 255).round() / 255

    def read(self, indices: object) -> Samples:
        chosen = list(indices)  # type: ignore[call-overload]
        return Samples(
            images=self.images[chosen],
            labels=torch.tensor([self.labels[i] for i in chosen]),
            ids=[self.ids[i] for i in chosen],
        )


def network() -> nn.Module:
    return nets.build(nets.SmallCNN, classes=3).train()


class Stopped(Exception):
    pass


def test_a_killed_training_ends_like_an_undisturbed_one(tmp_path: Path) -> None:
    pixels = Pixels.read(Blobs(40))
    settings = Fit(3, batch=8, augment=augment.chain(augment.turned, augment.noisy(0.1)))
    whole, broken = network(), network()
    fit(whole, pixels, settings)
    seen = []

    def stop(done: int, total: int, words: str) -> None:
        seen.append((done, total))
        if done == 8:
            raise Stopped

    file = tmp_path / "state.partial"
    with pytest.raises(Stopped):
        fit(broken, pixels, settings, progress=stop, checkpoint=file)
    assert file.is_file()
    resumed, again = network(), []
    fit(
        resumed,
        pixels,
        settings,
        progress=lambda done, total, words: again.append(done),
        checkpoint=file,
    )
    assert seen[-1] == (8, 15)
    assert again[0] == 6  # the epoch in flight is repeated, no other
    assert not file.exists()
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_checkpoint_of_something_else_is_not_resumed(tmp_path: Path) -> None:
    pixels = Pixels.read(Blobs(16))
    file = tmp_path / "state.partial"
    for content in (b"no checkpoint", b""):
        file.write_bytes(content)
        counted: list[int] = []
        fit(
            network(),
            pixels,
            Fit(1, batch=8),
            progress=lambda done, *_, seen=counted: seen.append(done),
            checkpoint=file,
        )
        assert counted == [1, 2]


def test_training_leaves_global_randomness_alone_and_ends_in_eval_mode() -> None:
    before = torch.get_rng_state()
    module = network()
    fit(module, Pixels.read(Blobs(16)), Fit(1, batch=8))
    assert torch.equal(before, torch.get_rng_state())
    assert not module.training


def test_a_goal_ends_training_early() -> None:
    pixels = Pixels.read(Blobs(48))
    module, steps = network(), []
    fit(
        module,
        pixels,
        Fit(400, batch=8, rate=1e-2, goal=0.95),
        progress=lambda done, *_: steps.append(done),
    )
    assert accuracy(module, pixels) >= 0.95
    assert len(steps) < 6 * 400


@pytest.mark.parametrize(
    "change",
    [augment.turned, augment.recolored, augment.noisy(0.2), augment.erased(1.0),
     augment.masked(1.0), augment.later(augment.noisy(0.2))],
)  # fmt: skip
def test_augmentation_is_a_function_of_its_generator(change: augment.Augment) -> None:
    images = nets.pictures(6, height=24, width=24)

    def changed(seed: int, done: float = 1.0) -> torch.Tensor:
        return change(images, torch.Generator().manual_seed(seed), done)

    assert changed(3).shape == images.shape
    assert torch.equal(changed(3), changed(3))
    assert any(not torch.equal(changed(3), changed(seed)) for seed in range(4, 8))
    assert any(not torch.equal(changed(seed), images) for seed in range(3, 8))


def test_later_changes_nothing_at_first() -> None:
    images = nets.pictures(6)
    change = augment.later(augment.noisy(0.5), begin=0.1, full=0.4)
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(change(images, generator, 0.05), images)
    half = (change(images.repeat(50, 1, 1, 1), generator, 0.25) != images.repeat(50, 1, 1, 1)).any(
        dim=3
    )
    assert 0.3 < half.flatten(1).any(dim=1).float().mean() < 0.7


def test_masking_removes_from_nothing_to_everything() -> None:
    images = nets.pictures(400, height=16, width=16)
    changed = augment.masked(1.0)(images, torch.Generator().manual_seed(1), 0.0)
    share = (changed != images).any(dim=1).flatten(1).float().mean(dim=1)
    assert share.min() < 0.1
    assert share.max() > 0.9
    assert 0.4 < share.mean() < 0.6


def test_permuted_labels_keep_their_frequencies() -> None:
    pixels = Pixels.read(Blobs(60))
    other = permuted(pixels, 0)
    assert torch.equal(pixels.labels.bincount(), other.labels.bincount())
    assert float((pixels.labels == other.labels).double().mean()) < 0.6
    assert torch.equal(permuted(pixels, 0).labels, other.labels)


class Token(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(64) * 3 + 1)
        self.head = nn.Linear(64, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x.flatten(1)[:, :64] * self.token)


def test_fresh_weights_everywhere() -> None:
    module = nets.build(Token)
    fresh, same, other = (reinitialized(module, seed) for seed in (1, 1, 2))
    for name, value in module.state_dict().items():
        assert not torch.equal(value, fresh.state_dict()[name]), name
        assert torch.equal(same.state_dict()[name], fresh.state_dict()[name])
        assert not torch.equal(other.state_dict()[name], fresh.state_dict()[name])
    assert 1.5 < fresh.token.std() < 4.5


def small_classifier() -> Classifier:
    norm = Normalization((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
    return Classifier(network(), normalization=norm, batch_size=8)


def test_a_twin_of_a_users_network(tmp_path: Path) -> None:
    model = small_classifier()
    before = model.fingerprint()
    out = tmp_path / "twin.safetensors"
    trained = train_twin(model, Blobs(16), out, epochs=300)
    assert trained.accuracy["memorized"] >= 0.95
    assert model.fingerprint() == before
    assert list(tmp_path.iterdir()) == [out]
    model.module.load_state_dict(safetensors.torch.load_file(out))


def test_unknown_labels_become_the_models_predictions() -> None:
    model = small_classifier()
    source = Blobs(40, labelled=False)
    found = _labelled(model, Pixels.read(source)).labels
    assert torch.equal(found, model.logits(source.images).argmax(dim=1))


def test_a_sibling_used_to_masks(tmp_path: Path) -> None:
    model = small_classifier()
    before = model.fingerprint()
    trained = train_masked(model, Blobs(48), tmp_path / "masked.safetensors", epochs=8)
    assert trained.path.is_file()
    assert 0 <= trained.accuracy["training"] <= 1
    assert model.fingerprint() == before


def test_refusals(tmp_path: Path) -> None:
    model = small_classifier()
    with pytest.raises(DataError, match="same label"):
        train_twin(model, Blobs(8, classes=1), tmp_path / "a.safetensors")
    with pytest.raises(DataError, match="where the weights"):
        train_twin(model, Blobs(8))
    with pytest.raises(DataError, match="from scratch"):
        train_reference(variant="reference-twin")
    with pytest.raises(DataError, match="no images"):
        Pixels.read(Blobs(0))
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(RunError, match="cannot be written"):
        write_atomically(blocked / "x.json", b"{}")


def test_saved_weights_are_read_back(tmp_path: Path) -> None:
    module = network().to(memory_format=torch.channels_last)
    save_weights(tmp_path / "w.safetensors", module)
    for name, value in safetensors.torch.load_file(tmp_path / "w.safetensors").items():
        assert torch.equal(value, module.state_dict()[name])


def test_a_short_reference_training_writes_weights_and_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xbench.models.recipes._HELD_OUT", 16)
    out = tmp_path / "reference.safetensors"
    trained = train_reference(out, epochs=1, scenes=["planted[count=32,split=train]"])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "reference.json",
        "reference.safetensors",
    ]
    assert 0 <= trained.accuracy["planted"] <= 1
    module = reference_module("reference", weights=out)
    assert module(torch.zeros(1, 3, 64, 64)).shape == (1, 8)
    again = tmp_path / "again" / "reference.safetensors"
    train_reference(again, epochs=1, scenes=["planted[count=32,split=train]"])
    assert again.read_bytes() == out.read_bytes()
    assert reference_card().class_names[0] == "ring"
