"""What tests of perturbation methods share."""

import torch

from xbench.registry import METHODS

TARGETS = torch.tensor([0, 3, 1])


def explain(name, model, images, streams, targets=TARGETS):
    return METHODS.create(name).value.explain(model, images, targets, streams=streams)


def score_function(model, target, output="logit"):
    def score(image):
        pixels = torch.from_numpy(image)[None].float()
        logits = model.network(pixels).double()
        values = logits.softmax(1) if output == "probability" else logits
        return float(values[0, target])

    return score


def linear_parts(model, images, baseline):
    """w * (x - b) summed over channels, for each image's target."""
    weights = model.module.head.weight[TARGETS].view(images.shape)
    return (weights * (images - baseline)).sum(1).detach()
