"""DeepLIFT and FullGrad: the papers, captum, summation to the score, refusals."""

import captum.attr
import nets
import pytest
import torch
from attributions import TARGETS, correlation, explain, residual
from reference import path_reference
from torch import Tensor, nn

from xbench.classifier import Classifier, Normalization
from xbench.operations.imputers import fill
from xbench.registry import METHODS
from xbench.streams import Streams


@pytest.mark.parametrize("kind", [nn.ReLU, nn.ReLU6, nn.SiLU, nn.GELU, nn.Sigmoid])
@pytest.mark.parametrize("adjacent", [True, False])
def test_deeplift_matches_the_paper_and_captum(
    kind: type[nn.Module], adjacent: bool, streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = nets.build(nets.SmallCNN, width=6)
    network.features[2], network.features[6] = kind(), kind()
    if not adjacent:
        mixed = nets.build(lambda: nn.Conv2d(6, 6, 1))
        network.features[3] = nn.Sequential(mixed, nn.MaxPool2d(2))
    model, images = Classifier(network, batch_size=2), nets.pictures(3)
    found = explain("deeplift[baseline=blur]", model, images, streams)
    assert float(residual("deeplift", model, images, streams).max()) < 1e-3
    # not a constant baseline: its activations tie in every window of the pooling
    start = fill(images, "blur", streams=streams)
    layers = [m for m in network.modules() if not any(m.children())]
    layers.insert(-1, nn.Flatten())
    for i in range(3):
        twin = path_reference.deeplift(layers, images[i], start[i], int(TARGETS[i])).sum(0)
        assert correlation(found[i], twin) > 0.9999
    if adjacent:
        return  # captum 0.9 shares out wrongly where an activation touches a max pooling
    core = captum.attr._core.deep_lift
    monkeypatch.setitem(core.SUPPORTED_NON_LINEAR, kind, core.nonlinear)
    peer = captum.attr.DeepLift(network)
    original = peer.attribute(images.clone(), start, TARGETS).sum(1)
    assert correlation(found, original.detach()) > 0.9999


def test_deeplift_is_complete_over_functional_relus_and_overlapping_windows(
    streams: Streams,
) -> None:
    class Overlapping(nets.FunctionalCNN):
        def forward(self, x: Tensor) -> Tensor:
            x = nn.functional.max_pool2d(self.relu(self.conv1(x)), 3, stride=2, padding=1)
            x = x + self.relu(self.conv2(x))
            x = torch.cat([nn.functional.relu(self.conv3(x))[:, :8], x], 1)
            return self.head(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))

    model = Classifier(nets.build(Overlapping), batch_size=2)
    assert float(residual("deeplift", model, nets.pictures(3), streams).max()) < 1e-3


def test_deeplift_does_not_depend_on_the_scale_of_the_signals(streams: Streams) -> None:
    network = nets.build(nets.SmallCNN)
    images = nets.pictures(3)
    strong = explain("deeplift", Classifier(network, batch_size=4), images, streams)
    batch_norm = network.features[1]
    for value in (batch_norm.weight, batch_norm.bias, network.features[5].running_mean):
        value.data *= 2.0**-30  # faint signals between the layers
    network.features[4].bias.data *= 2.0**-30
    network.features[5].running_var.data *= 2.0**-60
    network.features[5].eps *= 2.0**-60
    faint = explain("deeplift", Classifier(network, batch_size=4), images, streams)
    assert torch.allclose(faint, strong, rtol=1e-3, atol=1e-5 * float(strong.abs().max()))


@pytest.mark.parametrize("name", ["deeplift", "deeplift_shap", "fullgrad"])
def test_operations_without_a_rule_are_refused(name: str) -> None:
    class Gated(nets.SmallCNN):
        def forward(self, x: Tensor) -> Tensor:
            x = self.features(x)
            return self.head((x * x.mean(dim=(2, 3), keepdim=True).sigmoid()).mean(dim=(2, 3)))

    method = METHODS.create(name).value
    reason = method.supports(Classifier(nets.build(Gated)))
    assert reason is not None
    assert "mul" in reason
    normed = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.Flatten())
    reason = method.supports(Classifier(normed))
    assert reason is not None
    assert "GroupNorm" in reason


def test_fullgrad_matches_the_paper_and_is_complete(streams: Streams) -> None:
    network = nets.build(nets.SmallCNN)
    norm = Normalization((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
    model, images = Classifier(network, normalization=norm, batch_size=2), nets.pictures(3)
    found = explain("fullgrad", model, images, streams)
    layers = [*model.module.get_submodule("features"), network.pool, nn.Flatten(), network.head]
    normalized = (images - model.network.mean) / model.network.std
    for i in range(3):
        twin, total = path_reference.fullgrad(layers, normalized[i], int(TARGETS[i]))
        assert torch.allclose(found[i], twin, rtol=1e-3, atol=1e-4)
        assert total == pytest.approx(float(model.logits(images)[i, TARGETS[i]]), rel=1e-4)
    assert float(residual("fullgrad", model, images, streams).max()) < 1e-4


@pytest.mark.parametrize("kind", [nn.ReLU6, nn.GELU, nn.Softplus, nn.LeakyReLU])
def test_fullgrad_counts_the_implicit_biases_of_activations(
    kind: type[nn.Module], streams: Streams
) -> None:
    network = nets.build(nets.SmallCNN)
    network.features[2], network.features[6] = kind(), kind()
    network.features[0].weight.data *= 20  # some units beyond the cap of ReLU6
    model = Classifier(network, batch_size=4)
    assert float(residual("fullgrad", model, nets.pictures(3), streams).max()) < 1e-3
