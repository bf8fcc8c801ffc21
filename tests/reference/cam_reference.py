"""Class activation maps written from the papers with plain loops; slow, obvious, independent."""

import math
from collections.abc import Callable

import numpy as np

Array = np.ndarray
Head = Callable[[Array], Array]


def weighted_sum(weights: Array, activations: Array) -> Array:
    """sum_k w_k A_k for one image; activations (K, h, w)."""
    total = np.zeros(activations.shape[1:])
    for k in range(len(activations)):
        total = total + weights[k] * activations[k]
    return total


def gradcam(activations: Array, gradients: Array) -> Array:
    """Selvaraju 2017, equations 1 and 2."""
    k, h, w = activations.shape
    alpha = [gradients[c].sum() / (h * w) for c in range(k)]
    return np.maximum(weighted_sum(np.array(alpha), activations), 0)


def gradcam_plus_plus(activations: Array, first: Array, second: Array, third: Array) -> Array:
    """Chattopadhay 2018, equations 5 and 10; derivatives of Y = exp(S), cell by cell."""
    k, h, w = activations.shape
    weights = np.zeros(k)
    for c in range(k):
        total = activations[c].sum()
        for i in range(h):
            for j in range(w):
                bottom = 2 * second[c, i, j] + total * third[c, i, j]
                alpha = second[c, i, j] / bottom if bottom != 0 else 0.0
                weights[c] += alpha * max(first[c, i, j], 0.0)
    return np.maximum(weighted_sum(weights, activations), 0)


def hirescam(activations: Array, gradients: Array) -> Array:
    """Draelos and Carin 2020, with the positive part."""
    return np.maximum(sum(gradients[c] * activations[c] for c in range(len(activations))), 0)


def elementwise(activations: Array, gradients: Array) -> Array:
    """Positive contributions only, cell by cell."""
    k, h, w = activations.shape
    total = np.zeros((h, w))
    for c in range(k):
        for i in range(h):
            for j in range(w):
                total[i, j] += max(gradients[c, i, j] * activations[c, i, j], 0.0)
    return total


def layercam(activations: Array, gradients: Array) -> Array:
    """Jiang 2021, equations 6 to 8."""
    k, h, w = activations.shape
    total = np.zeros((h, w))
    for c in range(k):
        for i in range(h):
            for j in range(w):
                total[i, j] += max(gradients[c, i, j], 0.0) * activations[c, i, j]
    return np.maximum(total, 0)


def xgradcam(activations: Array, gradients: Array) -> Array:
    """Fu 2020, equation 8."""
    weights = np.zeros(len(activations))
    for c in range(len(activations)):
        total = activations[c].sum()
        if total != 0:
            weights[c] = (activations[c] / total * gradients[c]).sum()
    return np.maximum(weighted_sum(weights, activations), 0)


def ablationcam(activations: Array, target: int, head: Head) -> Array:
    """Desai and Ramaswamy 2020, equations 2 and 3, for a positive score."""
    score = head(activations)[target]
    weights = np.zeros(len(activations))
    for c in range(len(activations)):
        ablated = activations.copy()
        ablated[c] = 0
        weights[c] = (score - head(ablated)[target]) / score
    return np.maximum(weighted_sum(weights, activations), 0)


def scorecam(
    image: Array,
    base: Array,
    activations: Array,
    masks: Array,
    target: int,
    predict: Head,
    strengths: tuple[float, ...] = (1.0,),
) -> Array:
    """Wang 2020, algorithm 1; with several strengths IS-CAM.

    Args:
        image: (C, H, W).
        base: what stands where a mask is 0, (C, H, W); also the baseline image.
        activations: (K, h, w).
        masks: the activations upsampled, (K, H, W), not yet in [0, 1].
        target: the class.
        predict: maps an image to its scores.
        strengths: factors of the mask, averaged over.
    """
    increases = []
    for mask in masks:
        spread = mask.max() - mask.min()
        scaled = (mask - mask.min()) / spread if spread > 0 else np.zeros_like(mask)
        scores = [
            predict(base + s * scaled * (image - base))[target] - predict(base)[target]
            for s in strengths
        ]
        increases.append(sum(scores) / len(scores))
    total = sum(math.exp(x) for x in increases)
    weights = np.array([math.exp(x) / total for x in increases])
    return np.maximum(weighted_sum(weights, activations), 0)


def eigencam(activations: Array) -> Array:
    """Muhammad and Yeasin 2020: projection on the first right singular vector, not centered."""
    matrix = activations.reshape(len(activations), -1).T
    _, _, right = np.linalg.svd(matrix, full_matrices=False)
    return (matrix @ right[0]).reshape(activations.shape[1:])


def fem(activations: Array, k: float = 2.0) -> Array:
    """Fuad 2020: maps thresholded at mean + k sigma, weighed by their mean."""
    total = np.zeros(activations.shape[1:])
    for channel in activations:
        threshold = channel.mean() + k * channel.std()
        total = total + channel.mean() * (channel >= threshold)
    return total
