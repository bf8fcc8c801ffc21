"""CLIP-Dissect with plain loops, from the equations of Oikarinen and Weng 2023, section 3."""

import math


def word_probabilities(cosines: list[list[float]], a: float) -> list[list[float]]:
    """p(t | x): softmax over the words of a times the cosine."""
    rows = []
    for row in cosines:
        weights = [math.exp(a * value) for value in row]
        rows.append([weight / sum(weights) for weight in weights])
    return rows


def most_active(activations: list[float], top: int) -> list[int]:
    return sorted(range(len(activations)), key=lambda image: -activations[image])[:top]


def soft_wpmi(
    cosines: list[list[float]],
    units: list[list[float]],
    *,
    top: int,
    a: float,
    weight: float,
    soft: bool = True,
) -> list[list[float]]:
    """units[k][x] is the activation of unit k on image x; returned is one row a unit."""
    words = len(cosines[0])
    given = word_probabilities(cosines, a)
    joint = []
    for unit in units:
        chosen = most_active(unit, top)
        row = []
        for word in range(words):
            product = 1.0
            for rank, image in enumerate(chosen):
                inside = 0.998 - rank / top * (0.998 - 0.97)
                p = given[image][word]
                product *= 1 + inside * (p - 1) if soft else p
            row.append(product)
        joint.append(row)
    prior = [sum(row[word] for row in joint) / len(joint) for word in range(words)]
    return [
        [math.log(row[word]) - weight * math.log(prior[word]) for word in range(words)]
        for row in joint
    ]


def correlation(one: list[float], other: list[float]) -> float:
    mean_one, mean_other = sum(one) / len(one), sum(other) / len(other)
    top = sum((a - mean_one) * (b - mean_other) for a, b in zip(one, other, strict=True))
    left = math.sqrt(sum((a - mean_one) ** 2 for a in one))
    right = math.sqrt(sum((b - mean_other) ** 2 for b in other))
    return top / (left * right)
