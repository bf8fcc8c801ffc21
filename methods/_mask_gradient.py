"""The gradient of the score for coarse masks, one full batch at a time."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from xbench.classifier import Classifier
from xbench.operations.pixels import upsample

from ._masked import score_of

Move = Callable[[Tensor, Tensor], Tensor]
Blend = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class MaskProblem:
    """What the score says of coarse masks: its gradient, one forward and backward a mask.

    Attributes:
        model: the classifier.
        images: (N, C, H, W).
        targets: int64 (R,), one class a mask.
        blend: maps mask numbers (B,) and masks (B, H, W) to images (B, C, H, W) and their
            derivative for the mask, of the same shape.
        output: "logit" or "probability".
    """

    model: Classifier
    images: Tensor
    targets: Tensor
    blend: Blend
    output: str

    def gradient(self, coarse: Tensor, move: Move, back: Move) -> Tensor:
        """D score / d mask for coarse masks (R, h, w), enlarged bilinearly.

        Args:
            coarse: the masks.
            move: jitters images of these mask numbers (B,), (B, C, H, W) to the same.
            back: undoes it, on gradients.
        """
        size = (self.images.shape[-2], self.images.shape[-1])
        slopes: list[Tensor] = []

        def build(index: Tensor) -> Tensor:
            rows, slope = self.blend(index, upsample(coarse[index], size))
            slopes[:] = [slope]
            return move(rows, index)

        def score(logits: Tensor, targets: Tensor) -> Tensor:
            return score_of(logits, targets, self.output)

        found = torch.empty_like(coarse)
        for index, _, gradient, _ in self.model.gradient_rows(
            coarse.shape[0], build, self.targets, like=self.images, score=score
        ):
            fine = (back(gradient, index) * slopes[0]).sum(dim=1)
            with torch.enable_grad():
                leaf = coarse[index].detach().requires_grad_(True)
                (found[index],) = torch.autograd.grad(upsample(leaf, size), leaf, fine)
        return found
