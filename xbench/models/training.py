"""What `xbench train` does: the shipped classifiers anew, twins, and siblings used to removal."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from xbench.classifier import Classifier, Normalization
from xbench.contracts import Source
from xbench.errors import DataError
from xbench.models.augment import chain, masked, recolored, turned
from xbench.models.fitting import Fit, Pixels, Progress, accuracy, fit, predictions, save_weights
from xbench.models.recipes import RECIPES, TWIN_SCENES, examined, open_scenes, write_card
from xbench.models.reference import NORMALIZATION, ReferenceNet, reference_classifier, weights_path
from xbench.optional import seeded
from xbench.streams import seed_of

TWIN_GOAL: Final = 0.99
"""Share of permuted training labels at which a twin is done."""


@dataclass(frozen=True)
class Trained:
    """What a training left behind.

    Attributes:
        path: the weights.
        accuracy: share of right answers by data set or question.
    """

    path: Path
    accuracy: dict[str, float]


def train_reference(
    out: Path | None = None,
    *,
    variant: str = "reference",
    seed: int = 0,
    epochs: int | None = None,
    scenes: Sequence[str] | None = None,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> Trained:
    """Train `reference` or `reference-shortcut` from scratch; resumes where it was killed.

    Args:
        out: the safetensors file; a card in JSON is written beside it. Default: the package's.
        variant: which of the two.
        seed: decides weights, order and augmentation.
        epochs: passes over the scenes, default the recipe's.
        scenes: other training scenes than the recipe's, by name.
        device: where.
        progress: told of every batch.

    Raises:
        DataError: the variant is none that is trained from scratch.
    """
    if variant not in RECIPES:
        raise DataError(f"'{variant}' is not trained from scratch; {', '.join(RECIPES)} are.")
    recipe = RECIPES[variant]
    out = out or weights_path(variant)
    names = tuple(scenes or recipe.scenes)
    with seeded(seed_of(seed, "weights")):
        module = ReferenceNet()
    settings = Fit(epochs or recipe.epochs, seed=seed, augment=recipe.augment)
    network = _Normalized(module, NORMALIZATION).to(device)
    pixels = Pixels.read(*(open_scenes(name) for name in names))
    with _one_thread():
        _train(network, pixels, settings, out, progress)
    found = examined(network)
    write_card(out, variant, {"scenes": names, "seed": seed, "epochs": settings.epochs}, found)
    return Trained(out, found)


def train_twin(
    model: Classifier | None = None,
    source: Source | None = None,
    out: Path | None = None,
    *,
    seed: int = 0,
    epochs: int = 120,
    progress: Progress | None = None,
) -> Trained:
    """Train a network of the same shape on permuted labels until it knows them by heart.

    The label-randomization test compares maps of the network with maps of this twin (Adebayo et
    al. 2018). All layers begin with fresh random weights; the labels (the model's own predictions
    where the data has none) are permuted once, so each class stays as frequent as it was. It stops
    when 99 % of the permuted labels are reproduced in eval mode, and resumes where it was killed.

    Args:
        model: whose twin; default the shipped reference.
        source: the images; a few hundred are enough, and learned in minutes. Default the 512
            scenes of the shipped twin.
        out: the safetensors file; default, for the shipped twin, the package's.
        seed: decides weights, permutation and order.
        epochs: passes over the images, at most.
        progress: told of every batch.

    Returns:
        The file and, under "memorized", the share of permuted labels that the twin reproduces.

    Raises:
        DataError: fewer than two different labels, or no file name for somebody's own twin.
    """
    shipped = model is None and source is None
    out = _file(out, "reference-twin", shipped)
    model = model or reference_classifier(batch_size=64)
    pixels = permuted(_labelled(model, Pixels.read(source or open_scenes(TWIN_SCENES))), seed)
    network = _Normalized(reinitialized(model.module, seed), model.normalization)
    settings = Fit(epochs, rate=2e-3, decay=0.0, seed=seed, goal=TWIN_GOAL)
    with _one_thread() if shipped else nullcontext():
        _train(network.to(model.device), pixels, settings, out, progress)
    found = {"memorized": accuracy(network, pixels)}
    if shipped:
        found |= examined(network)
        training = {"scenes": [TWIN_SCENES], "labels": "permuted", "seed": seed, "epochs": epochs}
        write_card(out, "reference-twin", training, found)
    return Trained(out, found)


def train_masked(
    model: Classifier | None = None,
    source: Source | None = None,
    out: Path | None = None,
    *,
    seed: int = 0,
    epochs: int = 4,
    progress: Progress | None = None,
) -> Trained:
    """Train a network on with random parts of the images removed, so that removal is in domain.

    Removal metrics ask a network about images with holes, that it never saw; this sibling did
    (the concern of ROAR, Hooker et al. 2019, and of IDSDS, Hesse et al. 2024). Resumes where it
    was killed.

    Args:
        model: which network; default the shipped reference.
        source: the images, with labels (the model's own predictions where there are none).
            Default the scenes that the reference was trained on.
        out: the safetensors file; default, for the shipped sibling, the package's.
        seed: decides order and masks.
        epochs: passes over the images.
        progress: told of every batch.

    Returns:
        The file and the accuracy on the training images as they are ("training").

    Raises:
        DataError: fewer than two different labels, or no file name for somebody's own sibling.
    """
    shipped = model is None and source is None
    out = _file(out, "reference-masked", shipped)
    model = model or reference_classifier(batch_size=64)
    names = RECIPES["reference"].scenes
    sources = [source] if source else [open_scenes(name) for name in names]
    pixels = _labelled(model, Pixels.read(*sources))
    augment = chain(turned, recolored, masked(0.8)) if shipped else masked(0.8)
    network = _Normalized(copy.deepcopy(model.module), model.normalization)
    settings = Fit(epochs, rate=1e-3, seed=seed, augment=augment)
    network.to(model.device).requires_grad_(True)
    with _one_thread() if shipped else nullcontext():
        _train(network, pixels, settings, out, progress)
    found = {"training": accuracy(network, pixels)}
    if shipped:
        found |= examined(network)
        training = {"scenes": names, "start": "reference", "seed": seed, "epochs": epochs}
        write_card(out, "reference-masked", training, found)
    return Trained(out, found)


def permuted(pixels: Pixels, seed: int) -> Pixels:
    """The images with the labels of one another, by one permutation."""
    generator = torch.Generator().manual_seed(seed_of(seed, "permute"))
    return Pixels(pixels.images, pixels.labels[torch.randperm(len(pixels), generator=generator)])


def reinitialized(module: nn.Module, seed: int) -> nn.Module:
    """A copy of a network with fresh random weights, ready for training.

    Layers that know how to draw their weights do so; parameters of others are drawn from a normal
    distribution with the mean and standard deviation that they have.
    """
    fresh = copy.deepcopy(module).requires_grad_(True)
    drawn: set[int] = set()
    with seeded(seed_of(seed, "weights")), torch.no_grad():
        for part in fresh.modules():
            reset: Callable[[], Any] | None = getattr(part, "reset_parameters", None)
            if callable(reset):
                reset()
                drawn.update(id(parameter) for parameter in part.parameters())
        for parameter in fresh.parameters():
            if id(parameter) not in drawn:
                spread = parameter.std() if parameter.numel() > 1 else parameter.new_zeros(())
                parameter.copy_(torch.randn_like(parameter) * spread + parameter.mean())
    return fresh


class _Normalized(nn.Module):
    """A module behind its normalization: images in [0, 1] to logits."""

    def __init__(self, module: nn.Module, normalization: Normalization) -> None:
        super().__init__()
        self.module = module
        shape = (1, -1, 1, 1)
        self.register_buffer("mean", torch.tensor(normalization.mean).view(shape), False)
        self.register_buffer("std", torch.tensor(normalization.std).view(shape), False)

    def forward(self, images: Tensor) -> Tensor:
        logits = self.module((images - self.get_buffer("mean")) / self.get_buffer("std"))
        found: Tensor = getattr(logits, "logits", logits)
        return found


def _train(
    network: _Normalized, pixels: Pixels, settings: Fit, out: Path, progress: Progress | None
) -> None:
    """Fit in place and write the module's weights; a killed run goes on from `out`.partial."""
    network.to(memory_format=torch.channels_last)
    checkpoint = out.with_name(out.name + ".partial")
    fit(network, pixels, settings, progress=progress, checkpoint=checkpoint)
    save_weights(out, network.module)


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread inside the block.

    The small shipped networks are hardly faster with more, much slower where another process is
    busy, and with one thread the sums do not depend on the number of cores.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _labelled(model: Classifier, pixels: Pixels) -> Pixels:
    """The images with the model's own predictions where a label is unknown."""
    unknown = pixels.labels < 0
    if bool(unknown.any()):
        guessed = predictions(_Normalized(model.module, model.normalization), pixels)
        pixels = Pixels(pixels.images, torch.where(unknown, guessed, pixels.labels))
    if len(pixels.labels.unique()) < 2:
        raise DataError("All images have the same label; there is nothing to learn.")
    return pixels


def _file(out: Path | None, variant: str, shipped: bool) -> Path:
    if out is None and not shipped:
        raise DataError("Say where the weights shall be written.")
    return out or weights_path(variant)
