"""Joint image-text models: what compares pictures with words, from a file or from open_clip."""

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import torchvision.transforms.functional as TF
from torch import Tensor
from torchvision.transforms import InterpolationMode

from xbench.errors import ModelError, XbenchError
from xbench.models.built import nearest
from xbench.models.checkpoints import fit_weights, read_checkpoint
from xbench.optional import optional, seeded
from xbench.user_files import import_file, importable

KINDS = "open_clip:ARCHITECTURE with --clip-weights FILE, or PATH.py:FUNCTION"
"""What can be written for a joint image-text model."""

_open_clip = optional("open_clip", "install it with `pip install 'xbench[clip]'`")
_CHUNK = 64
_NO_WEIGHTS = ("input_resolution", "context_length", "vocab_size")
"""Numbers that the first published files keep among the weights."""


class ImageTextModel(Protocol):
    """What embeds pictures and words in one space; only directions count."""

    def encode_images(self, pixels: Tensor) -> Tensor:
        """Embeddings (N, D) of pixels float32 (N, C, H, W) in [0, 1]."""

    def encode_texts(self, texts: list[str]) -> Tensor:
        """Embeddings (M, D) of texts."""


@dataclass(frozen=True)
class Encoder:
    """A joint image-text model whose answers are checked.

    Attributes:
        name: as written.
        model: what encodes.
        digest: hash of the file that it came from.
        notes: what was assumed or repaired.
    """

    name: str
    model: ImageTextModel
    digest: str = ""
    notes: Sequence[str] = ()

    def images(self, pixels: Tensor, told: Callable[[int], None] | None = None) -> Tensor:
        """Embeddings of pixels (N, C, H, W), float32 (N, D) of length 1, on the CPU.

        Args:
            pixels: in [0, 1].
            told: told of the images done.

        Raises:
            ModelError: the encoder fails, or answers with something else.
        """
        parts = []
        for start in range(0, len(pixels), _CHUNK):
            part = pixels[start : start + _CHUNK]
            parts.append(self._unit("encode_images", part, len(part)))
            if told is not None:
                told(min(start + _CHUNK, len(pixels)))
        return torch.cat(parts)

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Embeddings of texts, float32 (M, D) of length 1, on the CPU.

        Raises:
            ModelError: the encoder fails, or answers with something else.
        """
        parts = [
            self._unit("encode_texts", list(texts[start : start + _CHUNK]), None)
            for start in range(0, len(texts), _CHUNK)
        ]
        found = torch.cat(parts)
        if len(found) != len(texts):
            raise ModelError(
                f"encode_texts of {self.name} gives {len(found)} rows for {len(texts)} texts."
            )
        return found

    def _unit(self, call: str, given: Tensor | list[str], rows: int | None) -> Tensor:
        try:
            with torch.no_grad():
                found = getattr(self.model, call)(given)
        except XbenchError:
            raise
        except Exception as error:
            first = (str(error).splitlines() or [""])[0]
            raise ModelError(
                f"{call} of {self.name} fails with {type(error).__name__}: {first}."
            ) from error
        if not isinstance(found, Tensor) or found.ndim != 2 or rows not in (None, len(found)):
            what = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ModelError(
                f"{call} of {self.name} gives {what}; it must give a tensor with a row an item."
            )
        rows_of: Tensor = found.detach().float().cpu()
        length: Tensor = rows_of.norm(dim=1, keepdim=True)
        if not bool(torch.isfinite(rows_of).all()) or not bool((length > 0).all()):
            raise ModelError(f"{call} of {self.name} gives rows that are zero or not finite.")
        unit: Tensor = rows_of / length
        return unit


def load_encoder(spec: str, weights: Path | None, device: torch.device) -> Encoder:
    """The joint image-text model of a specification.

    Args:
        spec: see `KINDS`.
        weights: of open_clip; a state dict or safetensors, read without running code.
        device: where it runs.

    Raises:
        ModelError: unknown, missing or misfitting.
    """
    spec = spec.strip()
    path, _, function = spec.rpartition(":")
    if path.endswith(".py"):
        if weights is not None:
            raise ModelError(f"'{spec}' brings its own weights; leave out --clip-weights.")
        return _from_file(spec, Path(path).expanduser(), function)
    if spec.endswith(".py"):
        raise ModelError(f"Say which function of '{spec}' gives the encoder: {spec}:FUNCTION.")
    kind, _, architecture = spec.partition(":")
    if kind != "open_clip" or not architecture:
        raise ModelError(f"There is no joint image-text model '{spec}'; write {KINDS}.")
    if _open_clip.reason is not None:
        raise ModelError(f"{spec} needs the open_clip library: {_open_clip.reason}")
    if weights is None:
        raise ModelError(
            f"{spec} needs --clip-weights FILE, a state dict or safetensors of {architecture}; "
            "nothing is downloaded."
        )
    path_of = Path(weights).expanduser()
    model, notes = _from_open_clip(architecture, path_of, device)
    return Encoder(spec, model, _digest(path_of), notes)


def _from_file(spec: str, path: Path, function: str) -> Encoder:
    module = import_file(path, ModelError)
    call = getattr(module, function, None)
    if not callable(call):
        public = [name for name in vars(module) if not name.startswith("_")]
        raise ModelError(f"'{path}' has no function '{function}'.{nearest(function, public)}")
    with importable(path.parent):
        try:
            model = call()
        except XbenchError:
            raise
        except Exception as error:
            raise ModelError(
                f"{function}() in '{path}' fails with {type(error).__name__}: {error}; it is "
                "called without arguments."
            ) from error
    missing = [name for name in ("encode_images", "encode_texts") if not hasattr(model, name)]
    if missing:
        raise ModelError(
            f"{function}() in '{path}' returns a {type(model).__name__} without {missing[0]}; it "
            "must return an object with encode_images and encode_texts."
        )
    return Encoder(spec, model, _digest(path))


class OpenClip:
    """A network of open_clip, from pixels in [0, 1] and plain words.

    Args:
        network: the network.
        tokenizer: from texts to tokens int64 (M, L).
        device: where it runs.
    """

    def __init__(
        self, network: Any, tokenizer: Callable[[list[str]], Tensor], device: torch.device
    ) -> None:
        self.network = network.to(device).eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.device = device
        wanted = network.visual.preprocess_cfg
        side = wanted["size"]
        self.size = (side, side) if isinstance(side, int) else (int(side[0]), int(side[1]))
        self.mean = torch.tensor(wanted["mean"], device=device).view(1, -1, 1, 1)
        self.std = torch.tensor(wanted["std"], device=device).view(1, -1, 1, 1)

    def encode_images(self, pixels: Tensor) -> Tensor:
        """See `ImageTextModel.encode_images`: short side resized, center cropped, normalized."""
        images = pixels.to(self.device, torch.float32)
        images = images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
        short = min(self.size)
        images = TF.resize(images, [short], InterpolationMode.BICUBIC, antialias=True)
        images = TF.center_crop(images, list(self.size)).clamp(0, 1)
        found: Tensor = self.network.encode_image((images - self.mean) / self.std)
        return found

    def encode_texts(self, texts: list[str]) -> Tensor:
        """See `ImageTextModel.encode_texts`."""
        found: Tensor = self.network.encode_text(self.tokenizer(texts).to(self.device))
        return found


def _from_open_clip(
    architecture: str, weights: Path, device: torch.device
) -> tuple[OpenClip, list[str]]:
    known = _open_clip.list_models()
    if architecture not in known:
        raise ModelError(
            f"open_clip has no architecture '{architecture}'."
            f"{nearest(architecture, known)} See open_clip.list_models()."
        )
    tensors, notes = read_checkpoint(weights)
    tensors = {name: value for name, value in tensors.items() if name not in _NO_WEIGHTS}
    try:
        with seeded(0), _quiet():  # drawn at random, then every weight is replaced
            network = _open_clip.create_model(
                architecture, pretrained=None, pretrained_image=False, pretrained_text=False
            )
            tokenizer = _open_clip.get_tokenizer(architecture)
    except Exception as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"open_clip:{architecture} cannot be built ({first}); take an architecture that needs "
            "no further download, such as ViT-B-32."
        ) from error
    notes += fit_weights(network, tensors, weights, f"open_clip:{architecture}")
    return OpenClip(network, tokenizer, device), notes


@contextmanager
def _quiet() -> Iterator[None]:
    """Without warnings of the log, such as that weights are random: they are replaced next."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
