"""CAM methods against slow twins and closed forms; what every CAM promises."""

from functools import partial

import nets
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from attributions import correlation
from cams import TARGETS, deep_head, explain, family, features, grown
from reference import cam_reference as twin
from torch import Tensor, nn
from xbench.methods import (
    cam,
    cam_ablation,
    cam_scores,
)

from xbench.classifier import Classifier
from xbench.contracts import Method
from xbench.errors import ModelError, UnsupportedError
from xbench.operations.pixels import upsample
from xbench.registry import METHODS
from xbench.streams import Streams


@pytest.fixture(scope="module")
def deep() -> Classifier:
    return deep_head()


# ---- slow twins


@pytest.mark.parametrize(
    ("method", "reference"),
    [
        (cam.GradCam(), twin.gradcam),
        (cam.HiResCam(), twin.hirescam),
        (cam.GradCamElementwise(), twin.elementwise),
        (cam.LayerCam(), twin.layercam),
        (cam.XGradCam(), twin.xgradcam),
    ],
    ids=lambda x: type(x).__name__ if isinstance(x, Method) else "",
)
def test_gradient_cams_equal_their_twins(method: Method, reference, deep: Classifier) -> None:
    images = nets.pictures()
    activations, gradients = features(deep, images)
    expected = grown(
        [reference(*pair) for pair in zip(activations, gradients, strict=True)], images
    )
    torch.testing.assert_close(explain(method, deep, images), expected, rtol=1e-4, atol=1e-6)
    assert expected.abs().amax() > 0


def test_ablationcam_equals_its_twin_where_the_score_is_positive(deep: Classifier) -> None:
    images = nets.pictures()
    targets = deep.logits(images).argmax(dim=1)
    assert (deep.logits(images).amax(dim=1) > 0).all()

    def head(activations: np.ndarray) -> np.ndarray:
        x = torch.tensor(activations).float()[None]
        x = F.adaptive_avg_pool2d(x, (6, 4)).flatten(1)
        return deep.module.head(deep.module.hidden(x).relu())[0].detach().double().numpy()

    activations, _ = features(deep, images)
    expected = grown(
        [twin.ablationcam(a, int(t), head) for a, t in zip(activations, targets, strict=True)],
        images,
    )
    found = explain(cam_ablation.AblationCam(), deep, images, targets)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


def test_ablationcam_does_not_turn_over_where_the_score_is_negative(deep: Classifier) -> None:
    images = nets.pictures()
    lowest = deep.logits(images).argmin(dim=1)
    assert (deep.logits(images).amin(dim=1) < 0).all()
    shifted = Classifier(deep.module, normalization=deep.normalization, batch_size=4)
    with torch.no_grad():
        shifted.module.head.bias += 10.0  # every score positive, every difference as before
    one = explain(cam_ablation.AblationCam(relu=False), deep, images, lowest)
    two = explain(cam_ablation.AblationCam(relu=False), shifted, images, lowest)
    for a, b in zip(one, two, strict=True):
        assert correlation(a, b) > 0.9999


def test_ablationcam_gives_the_same_where_the_network_cannot_be_cut(cnn: Classifier) -> None:
    images = nets.pictures()
    whole = Classifier(cnn.module, normalization=cnn.normalization, batch_size=4)
    layer = whole.layer("last_conv", images)
    whole._tails[(layer.name, tuple(images.shape[1:]))] = None
    method = cam_ablation.AblationCam()
    torch.testing.assert_close(explain(method, whole, images), explain(method, cnn, images))


def _predict(model: Classifier):
    def predict(image: np.ndarray) -> np.ndarray:
        return model.logits(torch.tensor(image).float()[None])[0].double().numpy()

    return predict


@pytest.mark.parametrize(
    ("method", "strengths"),
    [
        (cam_scores.ScoreCam(), (1.0,)),
        (cam_scores.IsCam(n_steps=3), (1 / 3, 2 / 3, 1.0)),
        (cam_scores.SsCam(n_samples=2, stdev=0.0), (1.0,)),
        (cam_scores.IsCam(n_steps=1), (1.0,)),
    ],
    ids=["scorecam", "iscam", "sscam-without-noise", "iscam-one-step"],
)
def test_score_cams_equal_their_twin(
    method: Method, strengths: tuple[float, ...], deep: Classifier
) -> None:
    images = nets.pictures()
    activations, _ = features(deep, images)
    base = torch.tensor(deep.normalization.mean).view(3, 1, 1).expand(3, 20, 17).double().numpy()
    expected = []
    for image, target, a in zip(images, TARGETS, activations, strict=True):
        masks = upsample(torch.tensor(a)[None], (20, 17))[0].numpy()
        expected.append(
            twin.scorecam(
                image.double().numpy(), base, a, masks, int(target), _predict(deep), strengths
            )
        )
    found = explain(method, deep, images)
    torch.testing.assert_close(found, grown(expected, images), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["scorecam", "iscam[n_steps=3]"])
def test_constant_channels_of_an_image_share_one_call(name: str, deep: Classifier) -> None:
    images = nets.pictures()
    layer = deep.layer("last_conv", images)
    before = METHODS.create(name).value
    activations = deep.activations(images, layer)
    silent = activations.clone()
    silent[0, :2], silent[1] = 0.25, 0.0  # two channels of one image, all of another
    silent[2, 0] = 3.0
    trial = partial(cam_scores._Trial, deep, "last_conv", "mean", Streams(0, ["0", "1", "2"]))
    samples, fade = getattr(before, "n_steps", 1), name != "scorecam"
    counted = deep.counter.read()
    scores = trial(fade=fade)._scores(images, TARGETS, silent, samples, None)
    spent = (deep.counter.read() - counted).forwards
    channels = layer.channels
    assert spent == samples * ((channels - 2) + 0 + (channels - 1)) + 3
    blank = torch.tensor(deep.normalization.mean).view(1, 3, 1, 1).expand(3, 3, 20, 17)
    expected = deep.logits(blank)[0, TARGETS]
    for image, channel in ((0, 0), (0, 1), (1, 0), (1, channels - 1), (2, 0)):
        torch.testing.assert_close(scores[image, channel], expected[image])
    whole = trial(fade=fade)._scores(images, TARGETS, activations, samples, None)
    torch.testing.assert_close(scores[0, 2:], whole[0, 2:])
    torch.testing.assert_close(scores[2, 1:], whole[2, 1:])


def test_sscam_draws_noise_by_identity(deep: Classifier) -> None:
    images = nets.pictures()
    method = cam_scores.SsCam(n_samples=3, stdev=1.0)
    maps = explain(method, deep, images)
    torch.testing.assert_close(maps, explain(method, deep, images), rtol=0, atol=0)
    other = method.explain(
        deep, images, TARGETS, streams=Streams(seed=1, image_ids=["0", "1", "2"], scope="cam")
    )
    assert not torch.allclose(maps, other, rtol=1e-3)
    assert not torch.allclose(maps, explain(cam_scores.ScoreCam(), deep, images), rtol=1e-3)


# ---- closed forms


def test_cam_is_gradcam_times_cells_and_hirescam_on_a_gap_head(cnn: Classifier) -> None:
    images = nets.pictures()
    layer = cnn.layer("last_conv", images)
    cells = layer.grid[0] * layer.grid[1]
    plain = explain(cam.Cam(), cnn, images)
    assert plain.abs().amax() > 0
    torch.testing.assert_close(
        explain(cam.GradCam(), cnn, images) * cells, plain, rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(
        explain(cam.HiResCam(), cnn, images) * cells, plain, rtol=1e-4, atol=1e-5
    )


def test_cam_averages_to_the_logit_less_its_bias(cnn: Classifier) -> None:
    images = nets.pictures(height=20, width=16)
    layer = cnn.layer("last_conv", images)
    activations, logits = cnn.features(images, layer)
    head = cnn.module.head
    maps = torch.einsum("nk,nkhw->nhw", head.weight[TARGETS], activations)
    torch.testing.assert_close(
        maps.mean(dim=(1, 2)), logits.gather(1, TARGETS[:, None])[:, 0] - head.bias[TARGETS]
    )
    torch.testing.assert_close(
        explain(cam.Cam(relu=False), cnn, images), upsample(maps, (20, 16)), rtol=1e-4, atol=1e-5
    )


def test_cam_finds_a_functional_relu_before_the_pooling() -> None:
    model = Classifier(nets.build(nets.FunctionalCNN), batch_size=4)
    images = nets.pictures()
    layer = model.layer("last_conv", images)
    assert model.activations(images, layer).amin() < 0  # the layer itself has no ReLU
    with torch.no_grad():
        a = model.activations(images, layer).relu()
        maps = torch.einsum("nk,nkhw->nhw", model.module.head.weight[TARGETS], a).relu()
    torch.testing.assert_close(explain(cam.Cam(), model, images), upsample(maps, (20, 17)))


def test_cam_refuses_another_head_and_says_what_to_use(deep: Classifier) -> None:
    with pytest.raises(UnsupportedError, match="Use gradcam"):
        explain(cam.Cam(), deep, nets.pictures())


def test_an_impulse_in_a_cell_peaks_at_its_center() -> None:
    class Impulse(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool = nn.Conv2d(1, 1, 8, stride=8, bias=False)
            self.head = nn.Linear(1, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.pool(x).mean((2, 3)))

    network = nets.build(Impulse)
    nn.init.ones_(network.pool.weight)
    nn.init.ones_(network.head.weight)
    image = torch.zeros(1, 1, 40, 48)
    image[0, 0, 16:24, 8:16] = 1.0
    maps = explain(cam.GradCam(), Classifier(network, batch_size=1), image, torch.tensor([0]))
    row, column = divmod(int(maps.flatten().argmax()), 48)
    assert abs(row - 19.5) <= 0.5
    assert abs(column - 11.5) <= 0.5


# ---- contracts


@pytest.mark.parametrize("name", family())
def test_costs_batches_and_the_model(name: str, cnn: Classifier) -> None:
    images = nets.pictures(5, height=21, width=18)
    targets = torch.tensor([0, 1, 2, 3, 4])
    chosen = METHODS.create(name)
    assert chosen.value.supports(cnn) is None
    cost = chosen.value.cost(cnn.facts(images.shape))
    explain(chosen.value, cnn, images, targets)  # probes and calibration are behind us
    before, hooks = cnn.counter.read(), _hooks(cnn)
    fingerprint = cnn.fingerprint()
    maps = explain(chosen.value, cnn, images, targets)
    spent = cnn.counter.read() - before
    assert spent.within(cost * 5) if chosen.value.card.at_most else spent == cost * 5
    assert _hooks(cnn) == hooks
    assert cnn.fingerprint() == fingerprint
    assert not any(p.requires_grad or p.grad is not None for p in cnn.module.parameters())
    assert maps.shape == (5, 21, 18)
    assert maps.dtype == torch.float32
    assert torch.isfinite(maps).all()
    assert not maps.requires_grad
    assert maps.flatten(1).std(dim=1).amax() > 0  # ReLU may leave single maps empty
    for i in range(5):
        streams = Streams(seed=0, image_ids=[str(i)], scope="cam")
        alone = chosen.value.explain(cnn, images[i : i + 1], targets[i : i + 1], streams=streams)
        torch.testing.assert_close(alone[0], maps[i], rtol=1e-4, atol=1e-5)


def _hooks(model: Classifier) -> int:
    return sum(
        len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks)
        for m in model.network.modules()
    )


@pytest.mark.parametrize("name", family())
def test_hooks_are_gone_after_an_exception(name: str) -> None:
    model = Classifier(nets.build(nets.SmallCNN), batch_size=4)
    images = nets.pictures()
    model.trace(images)

    def broken(_: Tensor) -> Tensor:
        raise ValueError("broken on purpose")

    model.module.head.forward = broken
    with pytest.raises(ValueError, match="on purpose"):
        explain(METHODS.create(name).value, model, images)
    assert _hooks(model) == 0
    assert not any(p.requires_grad for p in model.module.parameters())


@pytest.mark.parametrize("name", family())
def test_models_without_feature_maps_are_refused(name: str) -> None:
    model = Classifier(nets.build(nets.Linear), batch_size=2)
    method = METHODS.create(name).value
    assert "feature maps" in (method.supports(model) or "")
    with pytest.raises(UnsupportedError, match="no convolutional layer"):
        explain(method, model, nets.pictures(height=12, width=12))


def test_layers_are_named_and_wrong_names_answered(cnn: Classifier) -> None:
    images = nets.pictures()
    early = explain(cam.GradCam(layer="features.2"), cnn, images)
    assert not torch.allclose(early, explain(cam.GradCam(), cnn, images))
    with pytest.raises(ModelError, match="Layers with a spatial output"):
        explain(cam.GradCam(layer="features.99"), cnn, images)
    with pytest.raises(UnsupportedError, match="no spatial output"):
        explain(cam.GradCam(layer="head"), cnn, images)
    relus = Classifier(nets.build(nets.FunctionalCNN), batch_size=2)
    with pytest.raises(UnsupportedError, match="runs 2 times"):
        explain(cam.GradCam(layer="relu"), relus, images)
