"""The model under test, as every method and metric sees it."""

from xbench.classifier.classifier import Classifier
from xbench.classifier.layers import Layer
from xbench.classifier.network import Counter, Network, Normalization

__all__ = ["Classifier", "Counter", "Layer", "Network", "Normalization"]
