"""Methods at a layer against captum and their closed form."""

import captum.attr
import nets
import pytest
import torch
from attributions import TARGETS, correlation, explain
from torch import Tensor

from xbench.classifier import Classifier
from xbench.errors import UnsupportedError
from xbench.operations.pixels import upsample
from xbench.registry import METHODS
from xbench.streams import Streams


@pytest.mark.parametrize("layer", ["features.0", "last_conv"])
def test_layer_methods_match_captum(layer: str, cnn: Classifier, streams: Streams) -> None:
    images, zeros = nets.pictures(3), torch.zeros(3, 3, 20, 17)
    name = cnn.layer(layer, images).name
    module = cnn.module.get_submodule(name)

    def found(method: str, more: str = "") -> Tensor:
        return explain(f"{method}[layer={layer}{more}]", cnn, images, streams)

    def grown(values: Tensor) -> Tensor:
        return upsample(values.detach().float(), (20, 17))

    attr = captum.attr
    peer = attr.LayerActivation(cnn.network, module).attribute(images.clone())
    assert torch.allclose(found("layer_activation"), grown(peer.mean(1)), atol=1e-6)
    peer = attr.LayerGradientXActivation(cnn.network, module).attribute(images.clone(), TARGETS)
    assert torch.allclose(found("layer_gradient_x_activation"), grown(peer.sum(1)), atol=1e-5)
    if layer == "last_conv":  # only average pooling follows: all places count alike
        with pytest.raises(UnsupportedError, match="no places"):
            found("internal_influence")
    else:
        peer = attr.InternalInfluence(cnn.network, module).attribute(
            images.clone(), zeros, TARGETS, n_steps=20, method="riemann_middle"
        )
        mine = found("internal_influence", ",baseline=black,n_steps=20")
        assert torch.allclose(mine, grown(peer.sum(1)), rtol=1e-3, atol=1e-6)
    peer = attr.LayerConductance(cnn.network, module).attribute(
        images.clone(), zeros, TARGETS, n_steps=200, method="riemann_trapezoid"
    )
    mine = found("layer_conductance", ",baseline=black,n_steps=200")
    assert correlation(mine, grown(peer.sum(1))) > 0.999


def test_layer_conductance_sums_to_the_logit_difference(cnn: Classifier, streams: Streams) -> None:
    images = nets.pictures(3)
    method = METHODS.create("layer_conductance[baseline=black]").value
    cells = method.cells(cnn, images, TARGETS, streams)
    change = cnn.logits(images) - cnn.logits(torch.zeros_like(images))
    expected = change.gather(1, TARGETS[:, None])[:, 0]
    assert torch.allclose(cells.sum(dim=(1, 2)).float(), expected, rtol=1e-3, atol=1e-4)
