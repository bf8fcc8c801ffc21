"""Slow twins of the relevance methods, one image at a time, written from the papers.

Every affine layer becomes an explicit matrix by the definition of a convolution, and relevance is
shared output by output in plain loops. float64 numpy.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

Share = Callable[[np.ndarray, np.ndarray, float, float, float], np.ndarray]
Block = nn.Module | tuple[nn.Module, ...]  # a tuple is a chain of affine modules, read as one


def affine(module: nn.Module, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, tuple]:
    """Matrix (K, J), bias (K,) and output shape of an affine module on inputs of this shape."""
    if isinstance(module, nn.Linear):
        return numpy(module.weight), numpy(module.bias, module.out_features), (len(module.weight),)
    if isinstance(module, nn.BatchNorm2d):
        scale = numpy(module.weight) / np.sqrt(numpy(module.running_var) + module.eps)
        shift = numpy(module.bias) - numpy(module.running_mean) * scale
        places = shape[1] * shape[2]
        return np.diag(np.repeat(scale, places)), np.repeat(shift, places), shape
    assert isinstance(module, nn.Conv2d)
    return convolution(module, shape)


def convolution(conv: nn.Conv2d, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, tuple]:
    weight, bias = numpy(conv.weight), numpy(conv.bias, conv.out_channels)
    _, height, width = shape
    (kh, kw), (sh, sw), (ph, pw) = conv.kernel_size, conv.stride, conv.padding
    h, w = (height + 2 * ph - kh) // sh + 1, (width + 2 * pw - kw) // sw + 1
    outputs, inputs = weight.shape[:2]
    matrix = np.zeros((outputs, h, w, *shape))
    for k in range(outputs):
        first = k // (outputs // conv.groups) * inputs
        for y, x, i, dy, dx in np.ndindex(h, w, inputs, kh, kw):
            row, column = y * sh - ph + dy, x * sw - pw + dx
            if 0 <= row < height and 0 <= column < width:
                matrix[k, y, x, first + i, row, column] = weight[k, i, dy, dx]
    return (
        matrix.reshape(outputs * h * w, -1),
        np.repeat(bias, h * w),
        (outputs, h, w),
    )


def numpy(values: Tensor | None, size: int = 0) -> np.ndarray:
    return np.zeros(size) if values is None else values.detach().double().numpy()


# ---- the share of every input in one output: contributions z_j = a_j w_j, bias, relevance


def epsilon(epsilon: float) -> Share:
    def share(a: np.ndarray, w: np.ndarray, b: float, r: float, rms: float) -> np.ndarray:
        z = (a * w).sum() + b
        z += epsilon * rms * (1 if z >= 0 else -1)
        return a * w / z * r

    return share


def alpha_beta(alpha: float) -> Share:
    def share(a: np.ndarray, w: np.ndarray, b: float, r: float, _: float) -> np.ndarray:
        z = a * w
        plus, minus = np.maximum(z, 0), np.minimum(z, 0)
        positive, negative = plus.sum() + max(b, 0), minus.sum() + min(b, 0)
        found = np.zeros_like(z)
        if positive > 0:
            found += alpha * plus / positive * r
        if negative < 0:
            found -= (alpha - 1) * minus / negative * r
        return found

    return share


def gamma(gamma: float) -> Share:
    def share(a: np.ndarray, w: np.ndarray, b: float, r: float, _: float) -> np.ndarray:
        z = a * w
        if z.sum() + b > 0:
            z, b = z + gamma * np.maximum(z, 0), b + gamma * max(b, 0)
        else:
            z, b = z + gamma * np.minimum(z, 0), b + gamma * min(b, 0)
        return z / (z.sum() + b) * r

    return share


def square(a: np.ndarray, w: np.ndarray, b: float, r: float, _: float) -> np.ndarray:
    return w**2 / (w**2).sum() * r


def box(low: np.ndarray, high: np.ndarray) -> Share:
    def share(a: np.ndarray, w: np.ndarray, b: float, r: float, _: float) -> np.ndarray:
        z = a * w - low * np.maximum(w, 0) - high * np.minimum(w, 0)
        return z / z.sum() * r

    return share


def excitation(a: np.ndarray, w: np.ndarray, b: float, r: float, _: float) -> np.ndarray:
    z = np.maximum(a * w, 0)
    return z / z.sum() * r if z.sum() > 0 else np.zeros_like(z)


def contrast(a: np.ndarray, w: np.ndarray, b: float, r: float, _: float) -> np.ndarray:
    return excitation(a, w, b, r, _) - excitation(a, -w, b, r, _)


# ---- the whole network


def relevance(
    blocks: Sequence[Block],
    image: Tensor,
    target: int,
    rules: Sequence[Share],
    start: float | None = None,
) -> list[np.ndarray]:
    """Relevance of the inputs of every block.

    Args:
        blocks: the network, a chain.
        image: (C, H, W), normalized.
        target: the class.
        rules: one for every affine block, in order.
        start: the relevance of the class, default its logit.
    """
    values, matrices = [numpy(image)], []
    for block in blocks:
        matrix, bias, after = linearized(block, values[-1])
        matrices.append((matrix, bias))
        z = (
            matrix @ values[-1].ravel() + bias
            if matrix is not None
            else np.maximum(values[-1].ravel(), 0)
        )
        values.append(z.reshape(after))
    r = np.zeros_like(values[-1])
    r[target] = values[-1][target] if start is None else start
    found, left = [], list(rules)
    for block, (matrix, bias), a, z in reversed(
        list(zip(blocks, matrices, values[:-1], values[1:], strict=True))
    ):
        if matrix is not None:
            pooling = isinstance(block, nn.MaxPool2d | nn.AvgPool2d | nn.AdaptiveAvgPool2d)
            share = epsilon(0) if pooling else left.pop()
            below, rms = np.zeros(a.size), float(np.sqrt((z**2).mean()))
            for k in range(len(matrix)):
                if r.ravel()[k] != 0:
                    below += share(a.ravel(), matrix[k], bias[k], r.ravel()[k], rms)
            r = below
        r = r.reshape(a.shape)
        found.insert(0, r)
    return found


def linearized(block: Block, a: np.ndarray) -> tuple[np.ndarray | None, np.ndarray, tuple]:
    """A block as a matrix at these inputs; None for ReLU."""
    if isinstance(block, tuple):
        matrix, bias, shape = np.eye(a.size), np.zeros(a.size), a.shape
        for module in block:
            m, b, shape = affine(module, shape)
            matrix, bias = m @ matrix, m @ bias + b
        return matrix, bias, shape
    if isinstance(block, nn.ReLU):
        return None, np.zeros(0), a.shape
    if isinstance(block, nn.Flatten):
        return None, np.zeros(0), (a.size,)
    if isinstance(block, nn.MaxPool2d | nn.AvgPool2d | nn.AdaptiveAvgPool2d):
        return pooled(block, a)
    return affine(block, a.shape)


def pooled(block: nn.Module, a: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple]:
    """Windows without overlap, as averages or as the place of the winner."""
    channels, height, width = a.shape
    size = (height, width)
    if not isinstance(block, nn.AdaptiveAvgPool2d):
        size = (block.kernel_size, block.kernel_size)
    h, w = height // size[0], width // size[1]
    matrix = np.zeros((channels, h, w, *a.shape))
    for c, y, x in np.ndindex(channels, h, w):
        rows, columns = slice(y * size[0], (y + 1) * size[0]), slice(x * size[1], (x + 1) * size[1])
        if isinstance(block, nn.MaxPool2d):
            dy, dx = np.unravel_index(a[c, rows, columns].argmax(), size)
            matrix[c, y, x, c, rows.start + dy, columns.start + dx] = 1
        else:
            matrix[c, y, x, c, rows, columns] = 1 / (size[0] * size[1])
    return matrix.reshape(channels * h * w, -1), np.zeros(channels * h * w), (channels, h, w)


def as_map(values: np.ndarray) -> Tensor:
    """Summed over channels, float32 (H, W)."""
    return torch.from_numpy(values.sum(axis=0)).float()
