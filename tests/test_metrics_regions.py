"""Mass on further masks: values by hand, undefined cases, refusals, and the crowd of objects."""

import pytest
import torch

from xbench.contracts import Case, Geometry
from xbench.errors import ParameterError
from xbench.models.reference import reference_classifier
from xbench.registry import DATASETS, METHODS, METRICS
from xbench.streams import Streams


def case_of(maps: torch.Tensor, **extras: torch.Tensor) -> Case:
    count = len(maps)
    return Case(
        model=None,  # type: ignore[arg-type]
        images=torch.zeros(count, 3, *maps.shape[1:]),
        targets=torch.zeros(count, dtype=torch.int64),
        maps=maps,
        explain=None,  # type: ignore[arg-type]
        image_ids=[str(i) for i in range(count)],
        extras=extras,
    )


def test_share_by_hand_and_what_is_undefined(streams: Streams) -> None:
    maps = torch.tensor([[[3.0, 1.0], [-9.0, 0.0]], [[1.0, 1.0], [1.0, 1.0]], [[-1.0, 0], [0, 0]]])
    region = torch.tensor([[[False, True], [True, False]], [[False] * 2] * 2, [[True] * 2] * 2])
    scores = METRICS.create("distractor_mass").value.score(
        case_of(maps, distractors=region), streams=streams
    )
    assert scores.values[0].item() == 0.25
    assert scores.defined.tolist() == [True, False, False]
    assert scores.details["chance"].tolist() == [0.5, 0.0, 1.0]


def test_refused_without_the_mask() -> None:
    metric = METRICS.create("watermark_mass").value
    reason = metric.supports(case_of(torch.zeros(1, 2, 2)))
    assert reason is not None
    assert "watermark" in reason
    assert metric.supports(case_of(torch.zeros(1, 2, 2), watermark=torch.ones(1, 2, 2))) is None
    with pytest.raises(ParameterError, match="distractors"):
        METRICS.create("distractor_mass[region=sky]")


def test_maps_of_a_crowd_are_about_the_class_asked_for() -> None:
    """The object of the class asked for gets more mass than the objects of other classes."""
    source = DATASETS.create("planted-crowd").value.open(Geometry(), limit=24, seed=0)
    samples = source.read(range(24))
    model = reference_classifier(batch_size=32)
    for name in ("gradcam", "integrated_gradients[n_steps=8]"):
        streams = Streams(seed=0, image_ids=samples.ids, scope=name)
        maps = METHODS.create(name).value.explain(
            model, samples.images, samples.labels, streams=streams
        )
        positive = maps.clamp(min=0)
        mine = (positive * samples.truth).flatten(1).sum(dim=1) / samples.truth.flatten(1).sum(1)
        others = samples.extras["others"]
        theirs = (positive * others).flatten(1).sum(dim=1) / others.flatten(1).sum(dim=1)
        assert mine.mean() > 2 * theirs.nanmean(), name
