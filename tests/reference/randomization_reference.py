"""Randomization tests, transcribed from Adebayo et al. 2018 with plain loops."""

import copy
import math

import torch


def ranks(values):
    ordered = sorted(values)
    return [
        sum(i + 1 for i, v in enumerate(ordered) if v == value) / ordered.count(value)
        for value in values
    ]


def correlation(first, second):
    n = len(first)
    mean_a, mean_b = sum(first) / n, sum(second) / n
    top = sum((a - mean_a) * (b - mean_b) for a, b in zip(first, second, strict=True))
    below = math.sqrt(sum((a - mean_a) ** 2 for a in first)) * math.sqrt(
        sum((b - mean_b) ** 2 for b in second)
    )
    return top / below if below else math.nan


def rank_correlation(first, second):
    return correlation(ranks(first.flatten().tolist()), ranks(second.flatten().tolist()))


def shuffled(tensor, seed):
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(tensor.numel(), generator=generator).tolist()
    values = tensor.flatten().tolist()
    return torch.tensor([values[i] for i in order]).view(tensor.shape)


def gradient_map(module, image, target):
    pixels = image[None].clone().requires_grad_(True)
    module(pixels)[0, target].backward()
    return pixels.grad[0].sum(dim=0)


def cascade(module, stages, seed_of_parameter, image, target, explain=gradient_map):
    """Signed correlations after each stage; a stage names the parameters randomized by then."""
    original = explain(module, image, target)
    found = []
    for stage in stages:
        other = copy.deepcopy(module)
        parameters = dict(other.named_parameters())
        for name in stage:
            with torch.no_grad():
                parameters[name].copy_(shuffled(parameters[name], seed_of_parameter(name)))
        found.append(rank_correlation(original, explain(other, image, target)))
    return found


def histogram_entropy(values, bins):
    """Hedström et al. 2024: entropy of the histogram over the map's own range, in nats."""
    values = values.flatten().tolist()
    low, high = min(values), max(values)
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, int((value - low) / (high - low) * bins))] += 1
    return -sum(c / len(values) * math.log(c / len(values)) for c in counts if c)


def with_random_weights(module, names, seed_of_parameter):
    other = copy.deepcopy(module)
    parameters = dict(other.named_parameters())
    for name in names:
        with torch.no_grad():
            parameters[name].copy_(shuffled(parameters[name], seed_of_parameter(name)))
    return other


def smoothed(module, image, target, noises):
    total = sum(gradient_map(module, image + noise, target).double() for noise in noises)
    return total / len(noises)
