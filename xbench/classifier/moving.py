"""A classifier around another module, or on another device."""

from torch import nn

from xbench.classifier.classifier import Classifier
from xbench.classifier.network import private_copy


def rebuilt(
    model: Classifier, module: nn.Module, *, device: str | None = None, batch_size: int | None
) -> Classifier:
    """A classifier with the settings of another one, but its own counter and batch sizes.

    Args:
        model: it stays as it is.
        module: taken as it is, not copied.
        device: where it runs, by default where the other one does.
        batch_size: rows a call; None measures the fastest.
    """
    other = Classifier(
        module,
        name=model.name,
        normalization=model.normalization,
        geometry=model.geometry,
        class_names=model.class_names,
        device=device or model.device,
        batch_size=batch_size,
        layers=model.roles,
        own=True,
    )
    other.masked_training = model.masked_training
    other.notes = list(model.notes)
    other.network.get_buffer("mean").copy_(model.network.get_buffer("mean"))  # see shifted.py
    return other


def on_device(model: Classifier, device: str) -> Classifier:
    """A copy of a classifier on another device, which counts on the same counter.

    Args:
        model: it stays where it is.
        device: for example cpu.
    """
    copied = private_copy(model.module)
    other = rebuilt(model, copied, device=device, batch_size=model.batch_size)
    other.counter = model.counter
    other.network.counter = model.counter
    return other
