"""Row Y9 of the protocols: identities on a linear model, where the attribution is known."""

import torch
from torch import Tensor, nn

from xbench.audit.findings import Finding
from xbench.classifier import Classifier, Normalization
from xbench.contracts import Case, Method
from xbench.registry import METHODS, METRICS
from xbench.running.cases import bind
from xbench.streams import Streams

_SIZE = 28
_TOLERANCE = 1e-5


class _Linear(nn.Module):
    """Logits w . x, without a bias."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        drawn = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(classes, 3 * _SIZE * _SIZE, generator=drawn) / _SIZE)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight.T


def linear_findings(images: int = 8) -> list[Finding]:
    """Sensitivity-n and faithfulness correlation 1, infidelity 0, occlusion of single pixels 1."""
    gray = Normalization((0.5, 0.5, 0.5), (1.0, 1.0, 1.0))  # w (x - b) with b = 1/2
    model = Classifier(_Linear(), name="linear", normalization=gray, batch_size=256)
    expected = {
        "sensitivity_n": ("input_x_gradient", 1.0),
        "faithfulness_correlation": ("input_x_gradient", 1.0),
        "infidelity": ("input_x_gradient", 0.0),
        "sensitivity_n[grid=28,share=0.002,sizes=1]": ("occlusion[window=1,stride=1]", 1.0),
    }
    rows = []
    for metric, (method, value) in expected.items():
        scores = _scores(model, METHODS.create(method).value, metric, images)
        error = float((scores - value).abs().max())
        rows.append(
            Finding(
                "Y9",
                "hard",
                f"linear model: {metric.partition('[')[0]} of {method.partition('[')[0]} is "
                f"{value:g} within 1e-5",
                f"largest error {error:.1e}",
                error <= _TOLERANCE,
                images,
            )
        )
    return rows


def _scores(model: Classifier, method: Method, metric: str, images: int) -> Tensor:
    drawn = torch.Generator().manual_seed(1)
    pixels = torch.rand(images, 3, _SIZE, _SIZE, generator=drawn)
    targets = torch.arange(images) % 3
    ids = [f"linear-{i}" for i in range(images)]
    explain = bind(method, model, pixels, targets, Streams(0, ids, method.card.name))
    case = Case(
        model=model,
        images=pixels,
        targets=targets,
        maps=explain(pixels),
        explain=explain,
        image_ids=ids,
    )
    chosen = METRICS.create(metric)
    return chosen.value.score(case, streams=Streams(0, ids, chosen.identity)).values  # type: ignore[union-attr]
