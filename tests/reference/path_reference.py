"""Slow twins of the path methods, one image at a time, written from the papers."""

from collections.abc import Callable

import numpy as np
import torch
from reference.gradient_reference import gradient
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

Score = Callable[[Tensor], Tensor]


def idgi(score: Score, image: Tensor, baseline: Tensor, steps: int) -> Tensor:
    """Yang 2023, algorithm 1 on the straight line."""
    total = torch.zeros_like(image)
    for j in range(steps):
        here = baseline + j / steps * (image - baseline)
        there = baseline + (j + 1) / steps * (image - baseline)
        g = gradient(score, here)
        change = (score(there[None]) - score(here[None]))[0].detach()
        total += g * g * change / (g * g).sum()
    return total


def blur_ig(score: Score, image: Tensor, max_sigma: float, steps: int) -> Tensor:
    """Xu 2020, finite differences of the blur in its scale, edges replicated."""

    def blurred(sigma: float) -> Tensor:
        if sigma == 0:
            return image
        planes = [gaussian_filter(c, sigma, mode="nearest", truncate=6) for c in image.numpy()]
        return torch.from_numpy(np.stack(planes))

    total, h = torch.zeros_like(image), 0.01
    for k in range(steps):
        sigma = k * max_sigma / steps
        slope = (blurred(sigma + h) - blurred(sigma)) / h
        total -= slope * gradient(score, blurred(sigma)) * max_sigma / steps
    return total


def guided_ig(
    score: Score, image: Tensor, baseline: Tensor, steps: int, fraction: float, max_dist: float
) -> Tensor:
    """Kapishnikov 2021, algorithm 1 with anchoring to the straight line, in numpy."""
    end, start = image.double().numpy(), baseline.double().numpy()
    x, total = start.copy(), np.zeros_like(start)
    length = np.abs(end - start).sum()
    for step in range(steps):
        g = gradient(score, torch.from_numpy(x).float()).double().numpy()
        ranked = np.abs(g)
        alpha = (step + 1) / steps
        low, high = max(alpha - max_dist, 0.0), min(alpha + max_dist, 1.0)
        x_low, x_high = start + (end - start) * low, start + (end - start) * high
        target, gamma = length * (1 - alpha), np.inf
        before = x.copy()
        while gamma > 1.0:
            with np.errstate(divide="ignore", invalid="ignore"):
                along = (x - start) / (end - start)
            x = np.where(np.nan_to_num(along, nan=high) < low, x_low, x)
            current = np.abs(x - end).sum()
            if abs(current - target) <= 1e-9 * max(current, target, 1):
                break
            ranked = np.where(x == x_high, np.inf, ranked)
            threshold = np.quantile(ranked, fraction, method="lower")
            chosen = (ranked <= threshold) & np.isfinite(ranked)
            room = np.abs(x - x_high)[chosen].sum()
            gamma = (current - target) / room if room > 0 else np.inf
            x = np.where(chosen, x_high if gamma > 1 else x + (x_high - x) * gamma, x)
        total += (x - before) * g
    return torch.from_numpy(total).float()


def fullgrad(layers: list[nn.Module], image: Tensor, target: int) -> tuple[Tensor, float]:
    """Srinivas 2019 on a list of convolutions, batch norms, ReLUs and a pooled linear head."""
    x = image[None].clone().requires_grad_(True)
    outputs, z = [], x
    for layer in layers:
        z = layer(z)
        z.retain_grad()
        outputs.append(z)
    z[0, target].backward()
    assert x.grad is not None
    terms = [x.grad * x.detach()]
    for layer, output in zip(layers, outputs, strict=True):
        if isinstance(layer, nn.BatchNorm2d):
            bias = layer.bias - layer.weight * layer.running_mean / torch.sqrt(
                layer.running_var + layer.eps
            )
        elif isinstance(layer, nn.Conv2d | nn.Linear):
            bias = layer.bias
        else:
            continue
        shape = (1, -1, 1, 1) if output.ndim == 4 else (1, -1)
        terms.append((output.grad * bias.view(shape)).detach())
    total, size = torch.zeros(image.shape[1:]), tuple(image.shape[1:])
    for term in terms:
        if term.ndim == 4:
            magnitude = term.abs() - term.abs().min()
            magnitude = magnitude / magnitude.max()
            grown = nn.functional.interpolate(magnitude, size=size, mode="bilinear")
            total += grown[0].sum(0)
    return total, float(sum(term.sum() for term in terms))


def deeplift(layers: list[nn.Module], image: Tensor, baseline: Tensor, target: int) -> Tensor:
    """Shrikumar 2017, Rescale rule, backward by hand through a list of layers."""
    inputs, x = [], torch.stack([image, baseline])
    for layer in layers:
        inputs.append(x)
        x = layer(x).detach()
    m = torch.zeros_like(x[:1])
    m[0, target] = 1
    for layer, given in zip(reversed(layers), reversed(inputs), strict=True):
        z, reference = given[:1], given[1:]
        change = z - reference
        if isinstance(layer, nn.MaxPool2d):
            moved, size = torch.zeros_like(z), layer.kernel_size
            for _, k, i, j in torch.ones_like(m).nonzero().tolist():
                window = (0, k, slice(i * size, (i + 1) * size), slice(j * size, (j + 1) * size))
                a, b = z[window], reference[window]
                top = torch.maximum(a.max(), b.max())
                part = torch.zeros_like(a).flatten()
                part[a.argmax()] += top - b.max()
                part[b.argmax()] += a.max() - top
                moved[window] += m[0, k, i, j] * part.view_as(a)
            m = torch.where(change == 0, torch.zeros_like(change), moved / change)
        elif isinstance(layer, nn.ReLU | nn.Sigmoid | nn.SiLU | nn.GELU | nn.ReLU6):
            ratio = (layer(z) - layer(reference)) / change
            m = m * torch.where(change == 0, torch.zeros_like(change), ratio)
        else:
            v = z.clone().requires_grad_(True)
            (m,) = torch.autograd.grad((layer(v) * m).sum(), v)
    return (m * (image - baseline))[0]
