"""A training loop that is the same whether or not it was interrupted."""

import hashlib
import math
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xbench.contracts import Source
from xbench.errors import DataError, RunError
from xbench.models.augment import Augment
from xbench.optional import seeded
from xbench.streams import seed_of

Progress = Callable[[int, int, str], None]
"""Told of every batch: batches done, batches at most, a few words (epoch, loss)."""


@dataclass(frozen=True)
class Pixels:
    """Training images in memory.

    Attributes:
        images: uint8 (N, C, H, W); files have eight bits a channel, so nothing is lost.
        labels: int64 (N,).
    """

    images: Tensor
    labels: Tensor

    @staticmethod
    def read(*sources: Source, chunk: int = 256) -> "Pixels":
        """All images of some sources.

        Raises:
            DataError: there are none.
        """
        images, labels = [], []
        for source in sources:
            for start in range(0, len(source), chunk):
                samples = source.read(range(start, min(start + chunk, len(source))))
                images.append(samples.images.mul(255).round().to(torch.uint8))
                labels.append(samples.labels)
        if not images:
            raise DataError("There are no images to train on.")
        return Pixels(torch.cat(images), torch.cat(labels))

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, index: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
        """Images float32 (B, C, H, W) in [0, 1] and labels (B,), on the device."""
        pixels = self.images[index].to(device).float().div(255)
        return pixels.contiguous(memory_format=torch.channels_last), self.labels[index].to(device)


@dataclass(frozen=True)
class Fit:
    """How to train: AdamW, the rate rising linearly for a fifth of the way, then a cosine to 0.

    Attributes:
        epochs: passes over the images, at most.
        batch: images a step.
        rate: highest learning rate.
        decay: weight decay.
        seed: decides the order of the images and the augmentation.
        goal: stop after an epoch whose accuracy on the training images (as they are, in eval
            mode) is at least this; looked at where it is below 1, every fourth epoch.
        augment: changes each batch, or None.
    """

    epochs: int
    batch: int = 32
    rate: float = 3e-3
    decay: float = 0.01
    seed: int = 0
    goal: float = 1.0
    augment: Augment | None = field(default=None, repr=False)


def fit(
    network: nn.Module,
    pixels: Pixels,
    settings: Fit,
    *,
    progress: Progress | None = None,
    checkpoint: Path | None = None,
) -> None:
    """Train a network in place; it is left in eval mode.

    Every draw depends on the seed and the epoch alone, so a run that was killed and started again
    with the same checkpoint file ends with the weights of an undisturbed one.

    Args:
        network: maps images in [0, 1] to logits.
        pixels: the training images.
        settings: how.
        progress: told of every batch.
        checkpoint: written after every epoch and removed at the end; a fitting one is resumed.
    """
    device = next(network.parameters()).device
    optimizer = torch.optim.AdamW(network.parameters(), settings.rate, weight_decay=settings.decay)
    identity = _identity(network, pixels, settings)
    start = _resume(checkpoint, identity, network, optimizer)
    steps = math.ceil(len(pixels) / settings.batch)
    for epoch in range(start, settings.epochs):
        generator = torch.Generator().manual_seed(seed_of(settings.seed, "epoch", epoch))
        order = torch.randperm(len(pixels), generator=generator)
        network.train()
        with seeded(seed_of(settings.seed, "dropout", epoch)):
            for step, index in enumerate(order.tensor_split(steps)):
                done = epoch * steps + step
                _set_rate(optimizer, settings.rate, done / (settings.epochs * steps))
                images, labels = pixels.batch(index, device)
                if settings.augment is not None:
                    images = settings.augment(images, generator, done / (settings.epochs * steps))
                loss = F.cross_entropy(network(images), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if progress is not None:
                    words = f"epoch {epoch + 1} of {settings.epochs}, loss {loss.item():.3f}"
                    progress(done + 1, settings.epochs * steps, words)
        network.eval()
        if settings.goal < 1 and epoch % 4 == 3 and accuracy(network, pixels) >= settings.goal:
            break
        if checkpoint is not None:
            _save(checkpoint, identity, epoch + 1, network, optimizer)
    network.eval()
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)


@torch.no_grad()
def predictions(network: nn.Module, pixels: Pixels, batch: int = 100) -> Tensor:
    """The most probable classes, int64 (N,); the network runs in the mode it is in."""
    device = next(network.parameters()).device
    index = torch.arange(len(pixels))
    found = [network(pixels.batch(part, device)[0]).argmax(dim=1) for part in index.split(batch)]
    return torch.cat(found).cpu()


def accuracy(network: nn.Module, pixels: Pixels) -> float:
    """Share of images whose most probable class is their label."""
    return float((predictions(network, pixels) == pixels.labels).double().mean())


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that nobody ever sees half of it.

    Raises:
        RunError: the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise RunError(f"{path} cannot be written ({error.strerror}).") from error


def save_weights(path: Path, module: nn.Module) -> None:
    """Write a module's weights and buffers as safetensors, atomically."""
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in module.state_dict().items()}
    write_atomically(path, safetensors.torch.save(tensors))


def _set_rate(optimizer: torch.optim.Optimizer, highest: float, progress: float) -> None:
    rise = 0.2
    if progress < rise:
        factor = 0.04 + 0.96 * progress / rise
    else:
        factor = 0.5 * (1 + math.cos(math.pi * (progress - rise) / (1 - rise)))
    for group in optimizer.param_groups:
        group["lr"] = highest * factor


def _identity(network: nn.Module, pixels: Pixels, settings: Fit) -> str:
    """A hash of all that a checkpoint must agree with: start weights, images, labels, settings."""
    digest = hashlib.sha256(repr(settings).encode())
    for tensor in (*network.state_dict().values(), pixels.images, pixels.labels):
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _save(
    path: Path, identity: str, epoch: int, network: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    with tempfile.TemporaryFile() as file:
        state = {"network": network.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save({"identity": identity, "epoch": epoch, **state}, file)
        file.seek(0)
        write_atomically(path, file.read())


def _resume(
    path: Path | None, identity: str, network: nn.Module, optimizer: torch.optim.Optimizer
) -> int:
    """Load a checkpoint that belongs to this very training; the epoch to go on with."""
    if path is None or not path.is_file():
        return 0
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:
        return 0  # broken: begin anew
    if state.get("identity") != identity:
        return 0
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["epoch"])
