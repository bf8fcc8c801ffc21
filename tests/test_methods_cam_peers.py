"""CAM methods against pytorch-grad-cam and captum on the same network, image and layer."""

from collections.abc import Callable

import nets
import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

from xbench.classifier import Classifier
from xbench.classifier.layers import Layer, to_nchw
from xbench.operations.pixels import upsample
from xbench.registry import METHODS
from xbench.streams import Streams

TARGETS = torch.tensor([3, 5])
SIZE = 64

PEERS = {
    "gradcam": "GradCAM",
    "hirescam": "HiResCAM",
    "gradcam_elementwise": "GradCAMElementWise",
    "layercam": "LayerCAM",
    "xgradcam": "XGradCAM",
    "eigengradcam": "EigenGradCAM",
    "eigencam[center=true]": "EigenCAM",
    "kpcacam": "KPCA_CAM",
}
NETWORKS = [
    "resnet18",
    "squeezenet1_1",
    "vit",
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in (
            "vgg11_bn", "densenet121", "mobilenet_v2", "efficientnet_b0", "convnext_tiny",
            "vit_b_16", "swin_t",
        )
    ),
]  # fmt: skip


def small_vit() -> nn.Module:
    return torchvision.models.VisionTransformer(
        image_size=SIZE, patch_size=16, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=64,
        num_classes=10,
    )  # fmt: skip


def network(name: str) -> nn.Module:
    if name == "vit":
        model = nets.build(small_vit)
    else:
        sized = {"image_size": SIZE} if name == "vit_b_16" else {}
        model = nets.build(getattr(torchvision.models, name), weights=None, num_classes=10, **sized)
    if "vit" in name:  # the head starts at zero there
        torch.nn.init.normal_(
            model.heads.head.weight, 0, 0.1, generator=torch.Generator().manual_seed(0)
        )
    return model


@pytest.fixture(scope="module", params=NETWORKS)
def case(request: pytest.FixtureRequest) -> tuple[Classifier, Tensor]:
    model = Classifier(network(request.param), batch_size=2)
    return model, nets.pictures(2, height=SIZE, width=SIZE)


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Tensor]:
    """Runs a class of pytorch-grad-cam, upsampling as here and leaving the scale as it is."""
    library = pytest.importorskip("pytorch_grad_cam")
    base = library.base_cam

    def resize(maps: np.ndarray, size: tuple[int, int] | None = None) -> np.ndarray:
        if size is None:
            return maps
        return upsample(torch.tensor(np.float32(maps)), (size[1], size[0])).numpy()

    monkeypatch.setattr(base, "scale_cam_image", resize)

    def run(name: str, whole: nn.Module, module: nn.Module, layer: Layer, images: Tensor) -> Tensor:
        targets = [
            library.utils.model_targets.ClassifierOutputTarget(int(target))
            for target in TARGETS[: len(images)]
        ]
        with (
            torch.enable_grad(),
            torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
        ):
            reshape = None if layer.layout == "nchw" else lambda x: to_nchw(x, layer)
            cam = getattr(library, name)(whole, [module], reshape_transform=reshape)
            # DenseNet's own in-place ReLU would overwrite what the library keeps
            guard = module.register_forward_hook(lambda _, __, output: output.clone())
            try:
                return torch.tensor(cam(images.clone().requires_grad_(True), targets))
            finally:
                guard.remove()

    return run


def explain(name: str, model: Classifier, images: Tensor) -> Tensor:
    streams = Streams(seed=0, image_ids=["a", "b"], scope="peers")
    method = METHODS.create(name).value
    return method.explain(model, images, TARGETS[: len(images)], streams=streams)


def correlation(a: Tensor, b: Tensor) -> float:
    if not a.any() and not b.any():
        return 1.0
    return float(np.corrcoef(a.flatten().numpy(), b.flatten().numpy())[0, 1])


@pytest.mark.parametrize("name", list(PEERS))
def test_maps_equal_those_of_grad_cam(
    name: str, case: tuple[Classifier, Tensor], peer: Callable[..., Tensor]
) -> None:
    model, images = case
    layer = model.layer("last_conv", images)
    module = model.module.get_submodule(layer.name)
    expected = peer(PEERS[name], model.network, module, layer, images)
    found = explain(name, model, images)
    for i in range(len(images)):
        if name.startswith(("eigen", "kpca")) and correlation(found[i], expected[i]) < 0.999:
            # the sign of a component is free there: compare with the negative part
            signed = explain(f"{name.rstrip(']')},relu=false]" if "[" in name
                             else f"{name}[relu=false]", model, images)  # fmt: skip
            layer_relu = upsample((-_cells(signed, layer)).relu(), (SIZE, SIZE))
            assert correlation(layer_relu[i], expected[i]) > 0.99
            continue
        assert correlation(found[i], expected[i]) >= 0.999, (name, i)
    assert found.any() or not expected.any()


def _cells(maps: Tensor, layer: Layer) -> Tensor:
    """The value at the middle of each cell, which bilinear upsampling nearly keeps."""
    height, width = layer.grid
    return nn.functional.adaptive_avg_pool2d(
        maps.unflatten(1, (height, -1)).unflatten(3, (width, -1))[:, :, SIZE // height // 2 - 1 :
        SIZE // height // 2 + 1, :, SIZE // width // 2 - 1 : SIZE // width // 2 + 1]
        .mean(dim=(2, 4)), (height, width)
    )  # fmt: skip


def test_gradcam_equals_captum(case: tuple[Classifier, Tensor]) -> None:
    attr = pytest.importorskip("captum.attr")
    model, images = case
    layer = model.layer("last_conv", images)
    if layer.layout != "nchw":
        pytest.skip("captum knows no tokens")
    found = attr.LayerGradCam(model.network, model.module.get_submodule(layer.name)).attribute(
        images.clone().requires_grad_(True), target=TARGETS, relu_attributions=True
    )
    expected = upsample(found.detach()[:, 0], (SIZE, SIZE))
    torch.testing.assert_close(explain("gradcam", model, images), expected, rtol=1e-4, atol=1e-8)


def test_gradcam_plus_plus_equals_grad_cam_where_its_constant_does_not_matter(
    peer: Callable[..., Tensor],
) -> None:
    module = network("resnet18")
    with torch.no_grad():
        module.fc.weight *= 1000  # squared gradients far above the 1e-6 that the library adds
    model = Classifier(module, batch_size=2)
    images = nets.pictures(2, height=SIZE, width=SIZE)
    layer = model.layer("last_conv", images)
    found = explain("gradcam_plus_plus", model, images)
    expected = peer(
        "GradCAMPlusPlus", model.network, model.module.get_submodule(layer.name), layer, images
    )
    for i in range(2):
        assert correlation(found[i], expected[i]) >= 0.999


@pytest.mark.parametrize(
    ("name", "theirs"), [("scorecam", "ScoreCAM"), ("ablationcam", "AblationCAM")]
)
def test_channels_tried_as_by_grad_cam(
    name: str,
    theirs: str,
    cnn: Classifier,
    peer: Callable[..., Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        torch.nn, "UpsamplingBilinear2d", lambda size: lambda x: upsample(x, tuple(size))
    )
    images = nets.pictures(2, height=SIZE, width=SIZE)
    layer = cnn.layer("last_conv", images)
    targets = cnn.logits(images).argmax(dim=1)
    monkeypatch.setattr(f"{__name__}.TARGETS", targets)
    assert (cnn.logits(images).amax(dim=1) > 0).all()
    copy = Classifier(cnn.module, batch_size=2)  # the library replaces layers while it runs
    module = copy.module.get_submodule(layer.name)
    assert cnn.activations(images, layer).amin() == 0  # it ablates to zero only then
    expected = peer(theirs, copy.module, module, layer, cnn.network.normalize(images))
    found = explain(name, cnn, images)
    for i in range(2):
        assert found[i].any()
        assert correlation(found[i], expected[i]) >= 0.999
