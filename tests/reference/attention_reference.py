"""Attention maps written from the papers with whole matrices; slow, obvious, independent."""

import numpy as np

Array = np.ndarray


def rollout(weights: list[Array], share: float = 0.5) -> Array:
    """Abnar and Zuidema 2020: product of (s A + (1 - s) I), A the mean over heads.

    Args:
        weights: one (heads, T, T) a block, in order.
        share: s.

    Returns:
        (T, T); row q is what token q of the last block is made of.
    """
    tokens = weights[0].shape[-1]
    rolled = np.eye(tokens)
    for block in weights:
        mixed = share * block.mean(axis=0) + (1 - share) * np.eye(tokens)
        mixed = mixed / mixed.sum(axis=-1, keepdims=True)
        rolled = mixed @ rolled
    return rolled


def generic(weights: list[Array], gradients: list[Array]) -> Array:
    """Chefer 2021, equations 5 and 6: R = R + mean_h ReLU(grad * A) R, from the identity."""
    tokens = weights[0].shape[-1]
    relevance = np.eye(tokens)
    for block, gradient in zip(weights, gradients, strict=True):
        evidence = np.maximum(gradient * block, 0).mean(axis=0)
        relevance = relevance + evidence @ relevance
    return relevance


def unwindowed(weights: Array, grid: tuple[int, int], window: int, shift: int) -> Array:
    """Windowed attention as one matrix over the grid, by the coordinates of the tokens.

    Args:
        weights: (windows, heads, T, T) of a grid that is a multiple of the window.
        grid: height and width.
        window: side of a window.
        shift: how far the grid is rolled up and left first.

    Returns:
        (heads, H*W, H*W).
    """
    height, width = grid
    across = width // window
    full = np.zeros((weights.shape[1], height * width, height * width))

    def place(row: int, column: int) -> tuple[int, int]:
        i, j = (row - shift) % height, (column - shift) % width
        return i // window * across + j // window, i % window * window + j % window

    for p in range(height * width):
        at, inside = place(*divmod(p, width))
        for q in range(height * width):
            there, other = place(*divmod(q, width))
            if at == there:
                full[:, p, q] = weights[at, :, inside, other]
    return full


def merging(grid: tuple[int, int]) -> Array:
    """Each merged token as the mean of its four, (H*W / 4, H*W)."""
    height, width = grid
    matrix = np.zeros((height * width // 4, height * width))
    for row in range(height):
        for column in range(width):
            matrix[row // 2 * (width // 2) + column // 2, row * width + column] = 0.25
    return matrix
