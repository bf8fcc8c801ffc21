"""Maps without a grid: one call for images, a model and a method."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from xbench.classifier import Classifier, Normalization
from xbench.contracts import Method, Samples, check_maps
from xbench.errors import DataError, ParameterError, UnsupportedError
from xbench.models.loading import load_classifier
from xbench.registry import DATASETS, METHODS, Chosen
from xbench.streams import Streams


@dataclass(frozen=True)
class Prediction:
    """What the model says of one image: probabilities (K,) and the top classes in order."""

    probabilities: Tensor
    top: list[int]


def explain(
    images: Tensor | str | Path | Sequence[str | Path],
    *,
    model: str | Classifier | nn.Module = "reference",
    method: str | Method = "gradcam",
    targets: Tensor | Sequence[int] | None = None,
    normalization: Normalization | None = None,
    seed: int = 0,
) -> Tensor:
    """Saliency maps of images.

    Args:
        images: float32 (N, C, H, W) in [0, 1], or image files.
        model: `reference`, `torchvision:NAME`, `PATH.py:FUNCTION` ..., a classifier, or an
            `nn.Module` that returns logits (say with `normalization` what it expects).
        method: a name such as `smoothgrad[n_samples=25]`, or a method object.
        targets: class indices (N,), None for each image's most probable class.
        normalization: of an `nn.Module`; none if it normalizes inside.
        seed: of stochastic methods.

    Returns:
        float32 (N, H, W), raw, signed where the method is signed.

    Raises:
        UnsupportedError: the method cannot be right on this model.
        XbenchError: one sentence about whatever else is wrong.

    Example:
        >>> import torch, xbench
        >>> xbench.explain(torch.rand(2, 3, 64, 64), method="gradcam").shape
        torch.Size([2, 64, 64])
    """
    classifier = as_classifier(model, normalization)
    if isinstance(images, Tensor):
        samples = from_tensor(images)
    else:
        samples = from_files([images] if isinstance(images, str | Path) else images, classifier)
    pixels = samples.images.to(classifier.device)
    if targets is None:
        classes = classifier.logits(pixels).argmax(dim=1)
    else:
        classes = torch.as_tensor(targets, dtype=torch.int64, device=classifier.device)
        _check_targets(classes, len(samples), classifier.classes(pixels))
    return explain_samples(classifier, samples, method, classes, seed)


def explain_samples(
    classifier: Classifier,
    samples: Samples,
    method: str | Method | Chosen[Method],
    classes: Tensor,
    seed: int,
) -> Tensor:
    """Maps of read images for given classes, checked.

    Raises:
        UnsupportedError: the method cannot be right on this model, or needs masks.
    """
    chosen = METHODS.create(method) if isinstance(method, str) else method
    one = chosen.value if isinstance(chosen, Chosen) else chosen
    label = chosen.label if isinstance(chosen, Chosen) else one.card.name
    scope = chosen.identity if isinstance(chosen, Chosen) else label
    reason = one.supports(classifier)
    if reason is not None:
        raise UnsupportedError(f"The method '{label}' cannot run here: {reason}")
    pixels = samples.images.to(classifier.device)
    streams = Streams(seed=seed, image_ids=list(samples.ids), scope=scope)
    maps = one.explain(classifier, pixels, classes, streams=streams)
    return check_maps(maps, pixels, f"The method '{label}'")


def as_classifier(
    model: str | Classifier | nn.Module, normalization: Normalization | None = None
) -> Classifier:
    """The classifier of a specification, a module, or a classifier itself."""
    if isinstance(model, Classifier):
        return model
    if isinstance(model, nn.Module):
        return Classifier(model, name=type(model).__name__, normalization=normalization)
    return load_classifier(str(model), normalization=normalization)


def from_tensor(images: Tensor) -> Samples:
    """Images in memory, named by a hash of their pixels.

    Raises:
        DataError: not float (N, C, H, W) in [0, 1].
    """
    if images.ndim != 4 or not images.is_floating_point():
        raise DataError(
            f"Images are a float tensor (N, C, H, W), not {images.dtype} of shape "
            f"{tuple(images.shape)}; add a batch dimension or divide by 255."
        )
    if images.numel() and not bool(((images >= 0) & (images <= 1)).all()):
        raise DataError(
            "Images have values in [0, 1]; these have not. Hand over pixels, not normalized input: "
            "the classifier normalizes by itself."
        )
    images = images.detach().to(torch.float32)
    ids = [hashlib.sha256(one.cpu().contiguous().numpy().tobytes()).hexdigest() for one in images]
    labels = torch.full((len(ids),), -1, dtype=torch.int64)
    return Samples(images=images, labels=labels, ids=ids)


def from_files(paths: Sequence[str | Path], classifier: Classifier) -> Samples:
    """Image files, brought to the classifier's input.

    Raises:
        DataError: a file that is no readable image.
    """
    parts = []
    for path in paths:
        if not Path(path).expanduser().is_file():
            raise DataError(f"There is no image file {path}.")
        source = DATASETS.create(f"images:{path}").value.open(
            classifier.geometry, limit=None, seed=0
        )
        if source.skipped:
            name, reason = next(iter(source.skipped.items()))
            raise DataError(f"{name} cannot be read: {reason}")
        parts.append(source.read([0]))
    if not parts:
        raise DataError("There is no image to explain.")
    if len({part.images.shape for part in parts}) > 1:
        raise DataError("The images differ in size, and the model names no input size.")
    return Samples(
        images=torch.cat([part.images for part in parts]),
        labels=torch.cat([part.labels for part in parts]),
        ids=[image_id for part in parts for image_id in part.ids],
    )


def read_images(
    images: Sequence[str], classifier: Classifier, *, limit: int = 1, seed: int = 0
) -> Samples:
    """Image files, or so many images of one data set (`planted`, `imagefolder:DIR` ...).

    Raises:
        DataError: a file that is no readable image, a folder without a word what it is, or a data
            set among files.
    """
    named = [text for text in images if _is_dataset(text)]
    if named and len(images) > 1:
        raise DataError(f"Give image files or one data set, not '{named[0]}' beside others.")
    if named:
        source = DATASETS.create(named[0]).value.open(
            classifier.geometry, limit=limit, seed=seed, classes=classifier.class_count
        )
        return source.read(range(len(source)))
    for text in images:
        if Path(text).expanduser().is_dir():
            raise DataError(f"{text} is a folder; write images:{text} --limit N.")
    return from_files(list(images), classifier)


def _is_dataset(text: str) -> bool:
    """Whether a text names a data set and no file."""
    if Path(text).expanduser().exists():
        return False
    return text.partition(":")[0].partition("[")[0].strip() in DATASETS


def predictions(classifier: Classifier, images: Tensor, top: int) -> list[Prediction]:
    """Probabilities and the top classes of each image (N, C, H, W)."""
    probabilities = classifier.probabilities(images.to(classifier.device)).cpu()
    top = min(top, probabilities.shape[1])
    return [Prediction(row, row.topk(top).indices.tolist()) for row in probabilities]


def _check_targets(classes: Tensor, images: int, count: int) -> None:
    if classes.shape != (images,):
        raise ParameterError(f"{images} images need {images} targets, one class index an image.")
    if images and (int(classes.min()) < 0 or int(classes.max()) >= count):
        raise ParameterError(
            f"The model has {count} classes; targets are between 0 and {count - 1}."
        )
