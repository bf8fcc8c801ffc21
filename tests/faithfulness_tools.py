"""Cases, a planted model and a random order that the faithfulness tests share."""

import nets
import torch
from torch import Tensor, nn

from xbench.classifier import Classifier, Normalization
from xbench.contracts import Case
from xbench.streams import Streams

IDS = ["a", "b", "c"]


def no_explain(*_: object, **__: object) -> Tensor:
    raise AssertionError("this metric must not explain anew")


def case_of(
    shape: tuple[int, int, int], *, batch_size: int = 4, only: int | None = None, **fields: object
) -> tuple[Case, Streams]:
    """Three random images of a small random CNN with distinct random signed maps."""
    channels = shape[0]
    norm = Normalization((0.4, 0.5, 0.6)[:channels], (0.2, 0.25, 0.3)[:channels])
    model = Classifier(
        nets.build(nets.SmallCNN, channels=channels), normalization=norm, batch_size=batch_size
    )
    images = nets.pictures(3, *shape)
    maps = torch.randn(3, *shape[1:], generator=torch.Generator().manual_seed(5))
    with model.counter.paused():
        targets = model.logits(images).argmax(dim=1)
    pick = slice(None) if only is None else slice(only, only + 1)
    streams = Streams(seed=0, image_ids=IDS[pick], scope="test")
    case = Case(model, images[pick], targets[pick], maps[pick], no_explain, IDS[pick], **fields)
    return case, streams


def model_function(model: Classifier):
    """One image (C, H, W) numpy to logits, list."""

    def f(x):
        with model.counter.paused():
            return model.logits(torch.from_numpy(x)[None].float())[0].double().tolist()

    return f


class Evidence(nn.Module):
    """Logit of class 1 is relu(sum of evidence over known pixels - threshold); class 0 is 0."""

    def __init__(self, weights: Tensor, bias: float) -> None:
        super().__init__()
        self.register_buffer("weights", weights)
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        seen = (x * self.weights).sum(dim=(1, 2, 3)) + self.bias
        return torch.stack([torch.zeros_like(seen), torch.relu(seen)], dim=1)


def planted(n: int = 6, side: int = 16) -> tuple[Case, Tensor, Streams]:
    """A closed-form model: a bright object is evidence for class 1, a bright bar is against it.

    Returns:
        The case, the exact contribution of every pixel against black, and streams.
    """
    generator = torch.Generator().manual_seed(2)
    weights = torch.zeros(1, 1, side, side)
    weights[..., 3:9, 4:10] = 0.4
    weights[..., 11:14, 2:14] = -0.1
    model = Classifier(Evidence(weights, -2.0), batch_size=16)
    images = 0.2 * torch.rand(n, 1, side, side, generator=generator)
    images[..., 3:9, 4:10] = 0.8 + 0.1 * torch.rand(n, 1, 6, 6, generator=generator)
    images[..., 11:14, 2:14] += 0.7
    ids = [str(i) for i in range(n)]
    targets = torch.ones(n, dtype=torch.long)
    oracle = (weights * images)[:, 0]
    case = Case(model, images, targets, oracle, no_explain, ids)
    return case, oracle, Streams(seed=0, image_ids=ids, scope="test")
