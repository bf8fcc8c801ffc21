"""The contracts that every part of the suite stands on: cards, method, metric, case, scores, data.

Pixels: images are float32 (N, C, H, W) with C 3 or 1, in [0, 1], never normalized; the classifier
normalizes inside. A map is float32 (N, H, W), signed where the method is signed, raw, finite.
"""

from xbench.contracts.boards import Board, BoardCard
from xbench.contracts.cards import Card, DatasetCard, Direction, MethodCard, MetricCard
from xbench.contracts.concepts import ConceptMasks, LabelName
from xbench.contracts.data import Dataset, Geometry, Samples, Source
from xbench.contracts.methods import Complete, Method, TruthMethod, check_maps
from xbench.contracts.metrics import (
    Bank,
    Case,
    Explain,
    Metric,
    PairMetric,
    Retraining,
    Scores,
    Status,
)

__all__ = [
    "Bank",
    "Board",
    "BoardCard",
    "Card",
    "Case",
    "Complete",
    "ConceptMasks",
    "Dataset",
    "DatasetCard",
    "Direction",
    "Explain",
    "Geometry",
    "LabelName",
    "Method",
    "MethodCard",
    "Metric",
    "MetricCard",
    "PairMetric",
    "Retraining",
    "Samples",
    "Scores",
    "Source",
    "Status",
    "TruthMethod",
    "check_maps",
]
