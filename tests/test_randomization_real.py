"""Findings on a real MobileNetV2 and photographs, skipped where they are absent."""

import pytest
import torch
from explainers import case_of, streams_of

from xbench.models.loading import load_classifier
from xbench.registry import DATASETS, METHODS, METRICS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def photographs(imagenet_sample):
    model = load_classifier(
        "torchvision:mobilenet_v2",
        weights=imagenet_sample / "mobilenet_v2.pt",
        device="cpu",
        batch_size=4,
    )
    dataset = DATASETS.create(f"imagefolder:{imagenet_sample / 'images'}").value
    source = dataset.open(model.geometry, limit=None, seed=0, classes=1000)
    return model, source.read(range(0, 64, 16)).images


def measured(photographs, method, metric):
    model, images = photographs
    case = case_of(METHODS.create(method).value, model, images)
    chosen = METRICS.create(metric)
    return chosen.value.score(case, streams=streams_of(case, chosen.identity))


@pytest.mark.parametrize(
    ("method", "low", "high"),
    [
        ("gradient", -0.3, 0.3),
        ("integrated_gradients[n_steps=4]", -0.3, 0.3),
        ("guided_backprop", 0.9, 1.0),
        ("edges", 0.9999, 1.0001),
        ("center_prior", 0.9999, 1.0001),
        ("random", -0.05, 0.05),
    ],
)
def test_cascade_after_the_logits(photographs, method, low, high):
    found = measured(photographs, method, "cascading_randomization")
    assert found.curves["spearman"].shape == (4, 6)
    assert low < found.details["after_logits"].mean() < high
    assert found.curves["logits"].abs().mean() < 0.1
    if method == "guided_backprop":
        assert found.curves["spearman"][:, 1].mean() > 0.9
    elif method not in ("edges", "center_prior"):
        assert found.details["after_full"].mean().abs() < 0.15


@pytest.mark.parametrize(
    ("method", "low", "high"),
    [
        ("guided_backprop", 0.9, 1.0),
        ("gradient", -0.6, 0.6),
        ("input_x_gradient", -0.6, 0.6),
        ("gradcam", -0.6, 0.6),
        ("edges", 0.9999, 1.0001),
    ],
)
def test_class_sensitivity(photographs, method, low, high):
    assert low < measured(photographs, method, "class_sensitivity").values.nanmean() < high


def test_order_of_max_sensitivity(photographs):
    names = ["center_prior", "gradcam", "smoothgrad[n_samples=4]", "gradient"]
    found = [measured(photographs, n, "max_sensitivity[draws=2]").values.nanmean() for n in names]
    assert found[0] == 0
    assert found == sorted(found)
    assert torch.stack(found)[1] < 0.4
