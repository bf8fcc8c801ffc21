"""Binding a method to a batch of images, so that metrics can explain again."""

from dataclasses import dataclass

import torch
from torch import Tensor

from xbench.classifier import Classifier
from xbench.contracts import Explain, Method, TruthMethod, check_maps
from xbench.reading import Reading
from xbench.streams import Streams


@dataclass(frozen=True)
class _Bound:
    method: Method
    model: Classifier
    images: Tensor
    targets: Tensor
    streams: Streams
    truth: Tensor | None
    reading: Reading

    def __call__(
        self,
        images: Tensor,
        *,
        model: Classifier | None = None,
        targets: Tensor | None = None,
        rows: Tensor | None = None,
        call: str = "",
    ) -> Tensor:
        rows = torch.arange(len(self.streams)) if rows is None else rows
        if isinstance(self.method, TruthMethod) and self.truth is not None:
            maps = self.method.from_truth(self.truth[rows.to(self.truth.device)])
            return check_maps(maps, images, "The method")
        chosen = self.targets[rows.to(self.targets.device)] if targets is None else targets
        maps = self.method.explain(
            model or self.model,
            images,
            chosen,
            streams=self.streams.select(rows).called(call),
        )
        return self.reading(check_maps(maps, images, "The method"), images)


def bind(
    method: Method,
    model: Classifier,
    images: Tensor,
    targets: Tensor,
    streams: Streams,
    truth: Tensor | None = None,
    reading: Reading | None = None,
) -> Explain:
    """The method's bound explanation, see `xbench.contracts.Explain`.

    Args:
        method: which one.
        model: the classifier of the case.
        images: (N, C, H, W) of the case.
        targets: int64 (N,).
        streams: scoped to the method, one stream an image.
        truth: bool (N, H, W), for controls made from it.
        reading: how maps are read, default as they are.
    """
    return _Bound(method, model, images, targets, streams, truth, reading or Reading())
