"""Image classifiers of the Hugging Face hub, where transformers is installed."""

import urllib.request
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from xbench.classifier import Normalization
from xbench.contracts import Geometry
from xbench.errors import ModelError
from xbench.models.built import Built
from xbench.models.checkpoints import fit_weights, read_checkpoint
from xbench.optional import optional

_transformers = optional("transformers", "install it with `pip install transformers`")
_hub = optional("huggingface_hub", "install it with `pip install huggingface-hub`")
_SECONDS = 10.0
_RESAMPLING = {0: "nearest", 2: "bilinear", 3: "bicubic"}  # PIL's numbers


class Logits(nn.Module):
    """A network that returns an object with logits, as one that returns the logits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, K) of normalized images."""
        logits: Tensor = self.network(images).logits
        return logits


def cached_file(repository: str, file: str) -> str | None:
    """Where a file of the hub lies on this machine, None if it does not."""
    found = _hub.try_to_load_from_cache(repository, file)
    return found if isinstance(found, str) else None


def reach(url: str) -> None:
    """Ask a server for a page's head, once, so that no library goes on trying for a minute.

    Raises:
        OSError: it does not answer.
    """
    request = urllib.request.Request(url, method="HEAD")
    urllib.request.urlopen(request, timeout=_SECONDS).close()


def reach_hub() -> None:
    """See `reach`; the hub's own address."""
    reach(_hub.constants.ENDPOINT)


def build_hub(name: str, weights: Path | None) -> Built:
    """An image classifier of the hub, or of a folder that transformers saved.

    Only safetensors are read, and no code of the repository runs.

    Args:
        name: for example "microsoft/resnet-50", or a folder.
        weights: a file of weights to load instead of the hub's.

    Raises:
        ModelError: unknown, unreachable, no image classifier, or without safetensors.
    """
    if _transformers.reason is not None:
        raise ModelError(f"hf:{name} needs the transformers library: {_transformers.reason}")
    local = Path(name).expanduser().is_dir()
    try:
        cached = local or cached_file(name, "config.json") is not None
        if not cached:
            reach_hub()
        network = _transformers.AutoModelForImageClassification.from_pretrained(
            name, use_safetensors=True, local_files_only=cached, trust_remote_code=False
        )
        processor = _transformers.AutoImageProcessor.from_pretrained(
            name, local_files_only=cached, trust_remote_code=False
        )
    except Exception as error:
        first = (str(getattr(error, "reason", error)).splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"hf:{name} cannot be loaded ({first}); give the name of an image classifier with "
            "safetensors, or the folder of one that was downloaded."
        ) from error
    geometry, normalization, notes = preprocessing(processor)
    if weights is not None:
        tensors, more = read_checkpoint(weights)
        notes += more + fit_weights(network, tensors, weights, f"hf:{name}")
    labels = network.config.id2label
    names = [str(labels[index]) for index in sorted(labels)]
    return Built(Logits(network), normalization, geometry, names, notes=notes)


def preprocessing(processor: Any) -> tuple[Geometry, Normalization, list[str]]:
    """Geometry and normalization of an image processor, and what was only approximated."""
    notes: list[str] = []
    size = dict(getattr(processor, "size", None) or {})
    crop = dict(getattr(processor, "crop_size", None) or {})
    share = getattr(processor, "crop_pct", None)
    short = size.get("shortest_edge")
    if size.get("height") and size.get("width"):
        side = (int(size["height"]), int(size["width"]))
        resize = min(side)
        if not crop:
            notes.append(
                "The model was trained on images squeezed to its input; here the short side is "
                "resized and the center cropped."
            )
    elif short:
        side = (int(short), int(short))
        resize = int(short / share) if share and short < 384 else int(short)
    else:
        raise ModelError("The model's image processor names no input size; give one.")
    if crop and getattr(processor, "do_center_crop", False):
        side = (int(crop["height"]), int(crop["width"]))
    geometry = Geometry(side, resize, _RESAMPLING.get(int(processor.resample), "bilinear"))
    if not getattr(processor, "do_normalize", True):
        return geometry, Normalization(), notes
    mean, std = processor.image_mean, processor.image_std
    return geometry, Normalization(tuple(mean), tuple(std)), notes
