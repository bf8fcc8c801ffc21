"""Similarity of two stacks of maps, by name."""

from torch import Tensor

from xbench.errors import ParameterError
from xbench.operations.ranks import spearman
from xbench.operations.similarity import hog_similarity, map_ssim, top_overlap
from xbench.streams import Streams

SIMILARITIES = ("spearman", "abs_spearman", "ssim", "hog", "top_k")


def similarity(
    name: str, first: Tensor, second: Tensor, streams: Streams, *tag: str | int
) -> Tensor:
    """Similarity of maps (N, H, W), float64 (N,); 1 for equal maps, NaN where undefined.

    Args:
        name: "spearman" (signed), "abs_spearman", "ssim" (of absolute maps clipped at their 99th
            percentile), "hog" (Spearman of HOG descriptors with cells of 16 pixels) or "top_k"
            (intersection over union of the top 10 %).
        first: maps.
        second: maps of the same shape.
        streams: breaks ties of "top_k".
        tag: names the draw.
    """
    if name == "spearman":
        return spearman(first, second)
    if name == "abs_spearman":
        return spearman(first.abs(), second.abs())
    if name == "ssim":
        return map_ssim(first, second)
    if name == "hog":
        return hog_similarity(first, second)
    if name == "top_k":
        return top_overlap(first, second, 0.1, streams, *tag)
    raise ParameterError(f"Similarity is {', '.join(SIMILARITIES)}, not '{name}'.")
