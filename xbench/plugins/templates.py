"""Starting files that `xbench new` writes: methods, metrics, datasets, boards, probes, models.

`NAME` and `CLASS` are filled in; the files conform as they are, so that whoever changes them sees
at once what breaks.
"""

from typing import Final

METHOD: Final = '''"""NAME: say in one line what the map shows."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from xbench.classifier import Classifier
from xbench.contracts import Method, MethodCard
from xbench.errors import ParameterError
from xbench.registry import METHODS
from xbench.streams import Streams


@METHODS.register
@dataclass(frozen=True)
class CLASS(Method):
    """The formula, with the symbols of its paper: here sign(g) |g|^p of the summed gradient g.

    Attributes:
        power: the exponent p, above 0.
    """

    card: ClassVar[MethodCard] = MethodCard(
        name="NAME",
        summary="Signed power of the gradient.",  # a sentence; tables show it
        paper="Your paper, year",
        limitations="Say where it misleads.",
        family="gradient",  # or path, cam, perturbation, surrogate, relevance, attention
        needs=("gradients",),
        signed=True,  # negative values mean evidence against the class
        stochastic=False,  # True if it draws from `streams`
        class_agnostic=False,  # True if the class does not matter
        forwards="1",  # model calls an image: formulas over the parameters below,
        backwards="1",  # `height`, `width`, `classes`; the check counts them
    )
    power: float = 2.0

    def __post_init__(self) -> None:
        if not self.power > 0:
            raise ParameterError(f"power must be above 0, not {self.power}.")

    def explain(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """Maps (N, H, W) of pixels (N, C, H, W) in [0, 1] for classes (N,).

        `model.network` is an nn.Module from pixels to logits; `model.gradients`, `model.rows` and
        `model.activations` pack full batches. Every image by itself, draws from `streams` alone.
        """
        summed = model.gradients(images, targets).sum(dim=1)
        return summed.sign() * summed.abs() ** self.power
'''

METRIC: Final = '''"""NAME: say in one line what the score means."""

from dataclasses import dataclass
from typing import ClassVar

from xbench.contracts import Case, Metric, MetricCard, Scores
from xbench.errors import ParameterError
from xbench.operations.ranks import top_mask
from xbench.registry import METRICS
from xbench.streams import Streams


@METRICS.register
@dataclass(frozen=True)
class CLASS(Metric):
    """The formula, with the symbols of its paper: here |top_q(R) and truth| / |top_q(R)|.

    Attributes:
        q: share of the pixels that count as relevant, between 0 and 1.
    """

    card: ClassVar[MetricCard] = MetricCard(
        name="NAME",
        summary="Share of the most relevant pixels that lie on the truth.",
        paper="Your paper, year",
        limitations="Say where it misleads.",
        property="localization",  # or faithfulness, robustness, randomization, complexity ...
        direction="higher",  # which values are better: higher, lower, none
        range=(0.0, 1.0),
        needs=("truth",),  # model, truth, explain, labels, twin, pool, retraining
        forwards="0",  # model calls an image: formulas over the parameters below
        explains="0",  # how often the method is asked again
        chance="the share of the truth in the image",
    )
    q: float = 0.05

    def __post_init__(self) -> None:
        if not 0 < self.q < 1:
            raise ParameterError(f"q must be between 0 and 1, not {self.q}.")

    def score(self, case: Case, *, streams: Streams) -> Scores:
        """One value an image; NaN is undefined, counted and never averaged."""
        assert case.truth is not None  # the runner sees to it: the card needs it
        top = top_mask(case.maps, self.q, streams, "ties")
        hits = (top & case.truth).sum(dim=(1, 2)).double() / top.sum(dim=(1, 2))
        if case.truth_defined is not None:
            hits = hits.masked_fill(~case.truth_defined, float("nan"))
        return Scores.of(hits, reason="The image has no truth for this class.")
'''

DATASET: Final = '''"""NAME: say in one line what the images are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from xbench.contracts import Dataset, DatasetCard, Geometry, Samples, Source
from xbench.errors import DataError
from xbench.registry import DATASETS


@DATASETS.register
@dataclass(frozen=True)
class CLASS(Dataset):
    """Where the images come from, and what must lie where; here, stripes that need no files.

    Attributes:
        count: how many images there are.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="NAME",
        summary="Stripes of one color; the label is the color.",
        labels=True,
        truth="the stripe",
    )
    count: int = 12

    def open(
        self, geometry: Geometry, *, limit: int | None, seed: int, classes: int | None = None
    ) -> Source:
        """See `Dataset.open`; reads no pixels yet."""
        if self.count < 1:
            raise DataError("count must be at least 1.")
        return Stripes(min(self.count, limit or self.count), geometry)


class Stripes(Source):
    """The opened images: stable ids in a fixed order, and `read` by position."""

    def __init__(self, count: int, geometry: Geometry) -> None:
        self.name = "NAME"
        self.ids = [f"stripe-{i}" for i in range(count)]
        self.labels = [i % 3 for i in range(count)]
        self.class_names = ("red", "green", "blue")
        self.size = geometry.crop or (64, 64)  # what the model wants
        self.digest = f"NAME-{count}-{self.size}"  # of all that decides the content

    def read(self, indices: Sequence[int]) -> Samples:
        """Pixels float32 (N, 3, H, W) in [0, 1], labels, and masks of what counts."""
        height, width = self.size
        truth = torch.zeros(len(indices), height, width, dtype=torch.bool)
        images = torch.zeros(len(indices), 3, height, width)
        for row, index in enumerate(indices):
            left = index * 7 % (width // 2)
            truth[row, :, left : left + width // 4] = True
            images[row, self.labels[index]] = truth[row].float()
        return Samples(
            images=images,
            labels=torch.tensor([self.labels[i] for i in indices]),
            ids=[self.ids[i] for i in indices],
            truth=truth,
        )
'''

BOARD: Final = '''"""NAME: say in one line what this board asks."""

from dataclasses import dataclass
from typing import ClassVar

from xbench.contracts import Board, BoardCard
from xbench.registry import LEADERBOARDS


@LEADERBOARDS.register
@dataclass(frozen=True)
class CLASS(Board):
    """Which property matters to you, and which gates a method has to pass."""

    card: ClassVar[BoardCard] = BoardCard(
        name="NAME",
        summary="Faithful maps that are cheap enough to be made while one waits.",
        limitations="Say what it leaves out.",
        properties=("faithfulness",),  # equal weight each, and equal within each
        metrics=(),  # further ones by name or glob
        without=(),  # some to leave out
        gates=("cascading_randomization", "class_sensitivity", "controls", "valid"),
        max_calls=20,  # model calls that a map may need
    )
'''

PROBE: Final = '''"""NAME: say in one line what is asked."""

from dataclasses import dataclass
from typing import ClassVar

import pandas as pd

from xbench.classifier import Classifier
from xbench.contracts import Samples
from xbench.errors import ParameterError
from xbench.probes.contract import PROBES, Exhibit, Probe, ProbeCard, Table, Tell, silent


@PROBES.register
@dataclass(frozen=True)
class CLASS(Probe):
    """What is varied and what is measured; here, the confidence in darker and darker images.

    Attributes:
        steps: how many shades, black left out.
    """

    card: ClassVar[ProbeCard] = ProbeCard(
        name="NAME",
        summary="Confidence in the predicted class as the image gets darker.",
        question="Does the model hold on to its class as the light goes?",
        limitations="Say what the numbers do not show.",
    )
    steps: int = 4

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ParameterError(f"steps must be at least 1, not {self.steps}.")

    def run(
        self, model: Classifier, samples: Samples, *, seed: int = 0, tell: Tell = silent
    ) -> Exhibit:
        """Ask, and answer: pictures, tables, and a caption whose numbers stand in them."""
        images = self.check(samples).images.to(model.device)
        targets = model.logits(images).argmax(dim=1)
        rows = []
        for step in range(self.steps, 0, -1):
            light = step / self.steps
            shares = model.logits(images * light).softmax(dim=1).gather(1, targets[:, None])
            rows.append({"light": light, "confidence": float(shares.mean())})
            tell(self.steps - step + 1, self.steps, f"light {light:.2f}")
        frame = pd.DataFrame(rows)
        fall = frame["confidence"].iloc[0] - frame["confidence"].iloc[-1]
        return Exhibit(
            title="Light",
            question=self.card.question,
            caption=(f"The mean confidence falls by {fall:.2f}.",),
            images={},
            numbers={"light": Table(frame, "Mean softmax probability of the first prediction.")},
            limits=(self.card.limitations,),
        )
'''

MODEL: Final = '''"""NAME: say in one line what the network was trained on; `--model NAME` is it."""

from typing import Any

from torch import nn


def build() -> tuple[nn.Module, dict[str, Any]]:
    """The network (from normalized images to logits), and what there is to say of it.

    Weights are loaded by `--weights FILE`; without, they are those that PyTorch draws, always the
    same ones, as xbench seeds the draws and puts the random state back.
    """
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 3),
    )
    return network, {
        "mean": (0.5, 0.5, 0.5),  # of the normalization
        "std": (0.25, 0.25, 0.25),
        "crop": 64,  # side of the input
        "class_names": ["red", "green", "blue"],
    }
'''

TEST: Final = '''"""The checks of xbench on NAME: `pytest FILE`."""

from pathlib import Path

from xbench.checking import check_file

HERE = Path(__file__).resolve().parent


def test_it_conforms() -> None:
    findings = check_file(HERE.parent / "FOLDER" / "NAME.py")
    assert findings == {"KIND NAME": []}
'''

TEMPLATES: Final = {
    "method": ("methods", METHOD),
    "metric": ("metrics", METRIC),
    "dataset": ("datasets", DATASET),
    "board": ("leaderboards", BOARD),
    "probe": ("probes", PROBE),
    "model": ("models", MODEL),
}
