"""On a real network and real photographs the controls get nothing and explanations something."""

import pytest
import torch
import torchvision
from faithfulness_tools import no_explain
from PIL import Image
from torchvision.transforms import v2

from xbench.classifier import Classifier, Normalization
from xbench.contracts import Bank, Case
from xbench.registry import METHODS, METRICS
from xbench.streams import Streams

N = 4


@pytest.fixture(scope="module")
def photos(imagenet_sample):
    network = torchvision.models.mobilenet_v2(weights=None)
    weights = torch.load(imagenet_sample / "mobilenet_v2.pt", weights_only=True)
    network.load_state_dict({key: value.float() for key, value in weights.items()})
    normalization = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    model = Classifier(network, normalization=normalization, batch_size=16)
    prepare = v2.Compose(
        [
            v2.ToImage(),
            v2.Resize(256, antialias=True),
            v2.CenterCrop(224),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )
    files = sorted((imagenet_sample / "images").glob("*/*"))[: 2 * N]
    images = torch.stack([prepare(Image.open(file).convert("RGB")) for file in files])
    confidence, targets = model.probabilities(images).max(dim=1)
    best = confidence.topk(N).indices
    ids = [files[i].name for i in best]
    streams = Streams(seed=0, image_ids=ids, scope="test")
    bank = Bank()
    cases = {}
    for name in ("random", "random_smooth", "input_x_gradient", "gradcam"):
        maps = METHODS.create(name).value.explain(
            model, images[best], targets[best], streams=streams.scoped(name)
        )
        cases[name] = Case(model, images[best], targets[best], maps, no_explain, ids, bank=bank)
    return cases, streams


@pytest.mark.slow
def test_road_gap_is_zero_for_the_controls_and_not_for_explanations(photos):
    cases, streams = photos
    one = METRICS.create("road").value
    gap = {
        name: one.score(case, streams=streams).values.mean().item() for name, case in cases.items()
    }
    assert abs(gap["random"]) < 0.1
    assert abs(gap["random_smooth"]) < 0.15
    assert gap["input_x_gradient"] > 0.1
    assert gap["gradcam"] > 0.1


@pytest.mark.slow
def test_explanations_beat_the_random_control_on_deletion_and_insertion(photos):
    cases, streams = photos
    for metric, name in (("deletion", "input_x_gradient"), ("insertion", "gradcam")):
        one = METRICS.create(f"{metric}[steps=14]")
        sign = 1 if one.card.direction == "higher" else -1
        found, control = (
            sign * one.value.score(cases[k], streams=streams).values.mean().item()
            for k in (name, "random")
        )
        assert found > control + 0.03
