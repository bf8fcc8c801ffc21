"""The cache of maps: safetensors shards named by what decides their content."""

import hashlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from xbench import __version__
from xbench.clocks import CLOCKS
from xbench.contracts import Method
from xbench.errors import RunError
from xbench.files import replacing, set_aside
from xbench.registry import Chosen, code_revision

THUMBNAIL = 112
_THUMBNAILS = "images-"
_WORDS = ("torn", "foreign")
_NAME = re.compile(r"[0-9a-z-]+\.safetensors")


@dataclass(frozen=True)
class MapCache:
    """Maps of one run, scaled to a largest absolute value of 1 with the scale kept.

    Maps make the round trip through this form even when they were just computed, so a warm and
    a cold cache give the same numbers to the last bit.

    Attributes:
        folder: where the shards are.
        tell: given a sentence for every file that was set aside.
        written: given the path of every file that was written.
    """

    folder: Path
    tell: Callable[[str], None] = lambda text: None
    written: Callable[[Path], object] = lambda path: None

    def path(self, key: str) -> Path:
        """Where the maps of a key are or would be."""
        return self.folder / f"{key}.safetensors"

    def load(self, key: str, device: torch.device) -> tuple[Tensor, dict[str, str]] | None:
        """The maps of a key, float32 (N, H, W), and what was noted with them, or None.

        A file that is torn, or holds other maps than its name says, counts as absent and is set
        aside as `.torn` or `.foreign`.
        """
        found = self._checked(self.path(key), ("maps", "scale"), key)
        if found is None:
            return None
        tensors, about = found
        return decode(tensors["maps"], tensors["scale"]).to(device), about

    def scaled(
        self, labels: Collection[str], chunks: Collection[int]
    ) -> Iterator[tuple[str, int, Tensor]]:
        """Label, chunk and scaled maps (N, H, W) of every file of some methods and chunks."""
        numbers = {str(chunk) for chunk in chunks}
        for path in sorted(self.folder.glob("*.safetensors")):
            if path.name.startswith(_THUMBNAILS):
                continue
            about = _about(path)
            wanted = about.get("label", "") in labels and about.get("chunk", "") in numbers
            if about and not wanted:
                continue
            found = self._checked(path, ("maps", "scale"), path.stem)
            if found is not None and wanted:
                yield about["label"], int(about["chunk"]), found[0]["maps"]

    def thumbnails(self, chunk: int) -> tuple[list[str], Tensor] | None:
        """Image ids of a chunk and their small pictures, uint8 (N, H, W, 3), or None."""
        found = self._checked(self._thumbnails_path(chunk), ("images",), None)
        return None if found is None else (found[1]["ids"].split("\n"), found[0]["images"])

    def aside(self) -> list[str]:
        """Names of files that were found damaged and set aside."""
        found = {path.name for word in _WORDS for path in self.folder.glob(f"*.{word}*")}
        return sorted(found)

    def _checked(
        self, path: Path, names: Sequence[str], key: str | None
    ) -> tuple[dict[str, Tensor], dict[str, str]] | None:
        """What a file holds, or None: a damaged one is set aside, and never read again."""
        if not path.is_file():
            return None
        found = _read(path, names, key)
        if not isinstance(found, str):
            return found
        try:
            now = f"they were set aside as {set_aside(path, found).name}"
        except OSError as error:  # a folder that can only be read
            now = f"they are left out, but cannot be set aside ({error.strerror or error})"
        self.tell(f"The maps {path.name} are {found}; {now}.")
        return None

    def save(self, key: str, maps: Tensor, about: dict[str, str]) -> None:
        """Write maps atomically; `about` goes into the header, with the key and a checksum."""
        scaled, scale = encode(maps.cpu())
        self._write(self.path(key), {"maps": scaled, "scale": scale}, {**about, "key": key})

    def save_thumbnails(self, chunk: int, images: Tensor, image_ids: Sequence[str]) -> None:
        """Keep small pictures of a chunk's images, uint8 (N, H, W, 3), for reports."""
        longest = max(images.shape[-2:])
        if longest > THUMBNAIL:
            scale = THUMBNAIL / longest
            images = F.interpolate(images, scale_factor=scale, mode="bilinear", antialias=True)
        pictures = (images.clamp(0, 1) * 255).round().to(torch.uint8).cpu()
        pictures = pictures.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).contiguous()
        path = self._thumbnails_path(chunk)
        self._write(path, {"images": pictures}, {"ids": "\n".join(image_ids)})

    def _thumbnails_path(self, chunk: int) -> Path:
        return self.folder / f"{_THUMBNAILS}{chunk:06d}.safetensors"

    def _write(self, path: Path, tensors: dict[str, Tensor], about: dict[str, str]) -> None:
        with CLOCKS.spent("disk"), _told(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary:
                checksum = _checksum(tensors, about)
                save_file(tensors, temporary, metadata={**about, "checksum": checksum})
        self.written(path)

    def accept(self, name: str, content: bytes) -> None:
        """Keep a file that another cache wrote on another machine.

        Raises:
            RunError: its name is none of a cache, or the folder cannot be written.
        """
        if not _NAME.fullmatch(name):
            raise RunError(f"A worker sent a file with the strange name {name!r}.")
        with _told(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            with replacing(self.folder / name) as temporary:
                temporary.write_bytes(content)


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """A full disk or a read-only folder in one sentence."""
    try:
        yield
    except (OSError, SafetensorError) as error:  # safetensors wraps what the system says
        reason = getattr(error, "strerror", None) or error
        raise RunError(
            f"The maps cannot be written to {folder} ({reason}); all finished units are kept: free "
            "some space or make the folder writable, then run the same command with --resume."
        ) from error


def _read(
    path: Path, names: Sequence[str], key: str | None
) -> tuple[dict[str, Tensor], dict[str, str]] | str:
    """The tensors of a file and what was noted with them, or what is wrong with it in a word."""
    try:
        with safe_open(path, framework="pt") as stored:
            about = dict(stored.metadata() or {})
            tensors = {name: stored.get_tensor(name) for name in names}
        if about.pop("checksum", "") != _checksum(tensors, about):
            return "torn"
        return "foreign" if about.get("key") != key else (tensors, about)
    except Exception:  # whatever a damaged header leads the reader to
        return "torn"


def _about(path: Path) -> dict[str, str]:
    """What was noted with a file, empty where it cannot be read; nothing of it is checked yet."""
    try:
        with safe_open(path, framework="pt") as stored:
            return dict(stored.metadata() or {})
    except Exception:
        return {}


def _checksum(tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> str:
    digest = hashlib.sha256(repr(sorted(about.items())).encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"{name}{value.dtype}{tuple(value.shape)}".encode())
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()


def encode(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Maps scaled to a largest absolute value of 1, and the scales (N,); zero maps keep scale 1."""
    scale = maps.abs().amax(dim=(1, 2))
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    return (maps / scale[:, None, None]).contiguous(), scale


def decode(scaled: Tensor, scale: Tensor) -> Tensor:
    """The maps again."""
    return scaled * scale[:, None, None]


def map_key(
    method: Chosen[Method],
    weights: str,
    tensors: Sequence[Tensor],
    image_ids: Sequence[str],
    seed: int,
) -> str:
    """The content hash of an explanation request: weights, inputs, method, seed, code.

    Args:
        method: which one; its identity holds every parameter.
        weights: hash of the model's weights.
        tensors: images, targets, and the truth where the method is made from it.
        image_ids: they seed the draws of stochastic methods.
        seed: of the run.
    """
    digest = hashlib.sha256()
    for part in (
        __version__,
        code_revision(method.entry.factory),
        weights,
        method.identity,
        str(seed),
        *image_ids,
    ):
        digest.update(part.encode() + b"\x1f")
    for tensor in tensors:
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]
