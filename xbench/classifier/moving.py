"""A classifier on another device."""

from xbench.classifier.classifier import Classifier
from xbench.classifier.network import private_copy


def on_device(model: Classifier, device: str) -> Classifier:
    """A copy of a classifier on another device, which counts on the same counter.

    Args:
        model: it stays where it is.
        device: for example cpu.
    """
    other = Classifier(
        private_copy(model.module),
        name=model.name,
        normalization=model.normalization,
        geometry=model.geometry,
        class_names=model.class_names,
        device=device,
        batch_size=model.batch_size,
        layers=model.roles,
        own=True,
    )
    other.masked_training = model.masked_training
    other.notes = list(model.notes)
    other.counter = model.counter
    other.network.counter = model.counter
    other.network.get_buffer("mean").copy_(model.network.get_buffer("mean"))  # see shifted.py
    return other
