"""CAM methods of second order, of components, of several layers and with guided gradients."""

import nets
import numpy as np
import pytest
import torch
from attributions import correlation
from cams import TARGETS, DeepHead, deep_head, explain, family, features, grown
from reference import cam_reference as twin
from torch import Tensor, nn
from xbench.methods import (
    cam,
    cam_eigen,
    cam_fusion,
    cam_guided,
    cam_second_order,
    guided,
)

from xbench.classifier import Classifier
from xbench.errors import ParameterError, UnsupportedError
from xbench.registry import METHODS


@pytest.fixture(scope="module")
def deep() -> Classifier:
    return deep_head()


# ---- second order


class Curved(nn.Module):
    """Smooth behind its feature maps."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, stride=4), nn.ReLU())
        self.hidden = nn.Linear(4, 6)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.hidden(self.features(x).mean((2, 3))).tanh())


def _true_derivatives(model: Classifier, image: Tensor, target: int) -> list[np.ndarray]:
    """A, dY/dA, d2Y/dA2 and d3Y/dA3 of Y = exp(S), every cell differentiated by itself."""
    layer = model.layer("last_conv", image[None])
    activations = model.activations(image[None], layer).double()
    tail = model._tail(layer, image[None]).double()

    def score(step: Tensor, cell: int) -> Tensor:
        moved = activations.flatten().clone()
        moved[cell] = moved[cell] + step
        return tail(moved.view(activations.shape))[0, target].exp()

    rows = []
    for cell in range(activations.numel()):
        step = torch.zeros((), dtype=torch.float64, requires_grad=True)
        value, found = score(step, cell), []
        for _ in range(3):
            if not value.requires_grad:
                found.append(0.0)
                continue
            (value,) = torch.autograd.grad(value, step, create_graph=True)
            found.append(float(value.detach()))
        rows.append(found)
    tail.float()
    derivatives = np.array(rows).T.reshape(3, *activations.shape[1:])
    return [activations[0].numpy(), *derivatives]


def test_gradcam_plus_plus_has_the_true_derivatives_on_a_piecewise_linear_tail() -> None:
    network = nets.build(DeepHead)
    model = Classifier(network, batch_size=4)
    images = nets.pictures(2)
    expected = [
        twin.gradcam_plus_plus(*_true_derivatives(model, image, target))
        for image, target in zip(images, (2, 3), strict=True)
    ]
    scale = model.logits(images).gather(1, torch.tensor([[2], [3]]))[:, 0].exp()
    targets = torch.tensor([2, 3])
    exact = explain(cam_second_order.GradCamPlusPlus(), model, images, targets)
    powers = explain(cam_second_order.GradCamPlusPlus(derivatives="powers"), model, images, targets)
    torch.testing.assert_close(exact, powers)
    torch.testing.assert_close(
        exact * scale.view(-1, 1, 1), grown(expected, images), rtol=1e-3, atol=1e-6
    )


def test_powers_are_not_the_derivatives_on_a_curved_tail() -> None:
    model = Classifier(nets.build(Curved), batch_size=2)
    with torch.no_grad():
        model.module.hidden.weight *= 20
        model.module.head.weight *= 5
    image = nets.pictures(1)
    expected = grown([twin.gradcam_plus_plus(*_true_derivatives(model, image[0], 1))], image)
    target = torch.tensor([1])
    powers = explain(cam_second_order.GradCamPlusPlus(derivatives="powers"), model, image, target)
    assert correlation(powers, expected) < 0.999
    with pytest.raises(UnsupportedError, match="derivatives=powers"):
        explain(cam_second_order.GradCamPlusPlus(), model, image, target)


def test_shapleycam_has_the_hessian_product_and_is_gradcam_without_curvature(
    deep: Classifier,
) -> None:
    images = nets.pictures()
    torch.testing.assert_close(
        explain(cam_second_order.ShapleyCam(), deep, images), explain(cam.GradCam(), deep, images)
    )
    model = Classifier(nets.build(Curved), batch_size=2)
    layer = model.layer("last_conv", images)
    activations = model.activations(images, layer).double()
    tail = model._tail(layer, images).double()
    expected = []
    for i, target in enumerate(TARGETS.tolist()):
        one = activations[i : i + 1]
        hessian = torch.autograd.functional.hessian(lambda a, t=target: tail(a)[0, t], one)
        gradient = torch.autograd.functional.jacobian(lambda a, t=target: tail(a)[0, t], one)
        size = one.numel()
        product = (hessian.view(size, size) @ one.flatten()).view(one.shape)
        weights = (gradient - 0.5 * product).mean(dim=(2, 3))
        expected.append(torch.einsum("nk,nkhw->nhw", weights, one)[0].relu().numpy())
    tail.float()
    found = explain(cam_second_order.ShapleyCam(), model, images)
    torch.testing.assert_close(found, grown(expected, images), rtol=1e-3, atol=1e-6)
    assert not torch.allclose(found, explain(cam.GradCam(), model, images), rtol=1e-2)


# ---- components, outliers, several layers


def test_eigencam_and_fem_equal_their_twins(deep: Classifier) -> None:
    images = nets.pictures()
    activations, _ = features(deep, images)
    eigen = [np.abs(twin.eigencam(a)) for a in activations]  # of one sign where A is positive
    torch.testing.assert_close(
        explain(cam_eigen.EigenCam(), deep, images), grown(eigen, images), rtol=1e-4, atol=1e-5
    )
    strong = [twin.fem(a, 1.0) for a in activations]
    torch.testing.assert_close(
        explain(cam_eigen.Fem(k=1.0), deep, images), grown(strong, images), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("shape", [(2, 9, 4, 5), (2, 3, 6, 7)], ids=["wide", "tall"])
def test_components_agree_with_each_other_and_with_sklearn(shape: tuple[int, ...]) -> None:
    maps = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    linear = cam_eigen.first_kernel_component(maps, kernel="linear", gamma=None)
    centered = cam_eigen.first_component(maps, center=True)
    torch.testing.assert_close(linear, centered, rtol=1e-4, atol=1e-5)
    decomposition = pytest.importorskip("sklearn.decomposition")
    for kernel in ("sigmoid", "rbf"):
        found = cam_eigen.first_kernel_component(maps, kernel=kernel, gamma=0.05)
        for i in range(shape[0]):
            rows = maps[i].flatten(1).T.double().numpy()
            rows = rows - rows.mean(axis=0)
            peer = decomposition.KernelPCA(n_components=1, kernel=kernel, gamma=0.05)
            expected = torch.tensor(peer.fit_transform(rows)[:, 0]).view(shape[2:])
            assert abs(correlation(found[i], expected)) > 0.9999


def test_signs_of_components_do_not_flip_between_images_and_their_copies(deep: Classifier) -> None:
    images = nets.pictures(1).expand(6, -1, -1, -1) + torch.linspace(0, 1e-3, 6).view(-1, 1, 1, 1)
    method = cam_eigen.EigenCam(center=True, relu=False)
    maps = explain(method, deep, images, torch.zeros(6, dtype=torch.long))
    for copy in maps[1:]:
        assert correlation(maps[0], copy) > 0.99


def test_class_agnostic_cards_tell_the_truth(deep: Classifier) -> None:
    images = nets.pictures()
    other = torch.tensor([4, 4, 4])
    for name in family():
        chosen = METHODS.create(name)
        if name == "cam":
            continue  # refused here
        same = torch.equal(
            explain(chosen.value, deep, images), explain(chosen.value, deep, images, other)
        )
        assert same == chosen.card.class_agnostic, name


def test_fusedcam_of_one_layer_is_its_cam_scaled_and_of_two_their_mean(cnn: Classifier) -> None:
    images = nets.pictures()
    parts = []
    for layer in ("features.2", "features.6"):
        one = explain(cam.LayerCam(layer=layer), cnn, images)
        parts.append(one / one.amax(dim=(1, 2), keepdim=True))
        fused = explain(cam_fusion.FusedCam(layers=layer), cnn, images)
        torch.testing.assert_close(fused, parts[-1], rtol=1e-4, atol=1e-5)
    both = "features.2+features.6"
    torch.testing.assert_close(
        explain(cam_fusion.FusedCam(layers=both), cnn, images),
        torch.stack(parts).mean(dim=0),
        rtol=1e-4,
        atol=1e-5,
    )
    torch.testing.assert_close(
        explain(METHODS.create(f"fusedcam[how=max,layers={both}]").value, cnn, images),
        torch.stack(parts).amax(dim=0),
        rtol=1e-4,
        atol=1e-5,
    )


def test_guided_gradcam_is_the_product(cnn: Classifier) -> None:
    images = nets.pictures()
    product = explain(guided.GuidedBackprop(), cnn, images) * explain(cam.GradCam(), cnn, images)
    torch.testing.assert_close(explain(cam_guided.GuidedGradCam(), cnn, images), product)
    assert product.abs().amax() > 0


@pytest.mark.parametrize(
    "name",
    [
        "sscam[n_samples=0]",
        "sscam[stdev=-1.0]",
        "iscam[n_steps=0]",
        "fem[k=-1.0]",
        "kpcacam[kernel=cubic]",
        "gradcam_plus_plus[derivatives=most]",
        "fusedcam[rule=none]",
        "fusedcam[how=sum]",
        "fusedcam[n_layers=0]",
        "guided_gradcam[pooling=best]",
    ],
)
def test_wrong_parameters_are_answered(name: str) -> None:
    with pytest.raises(ParameterError):
        METHODS.create(name)
