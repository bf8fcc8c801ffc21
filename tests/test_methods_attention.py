"""Attention methods against slow twins with whole matrices, on ViT, DeiT and Swin."""

from collections.abc import Callable

import nets
import numpy as np
import pytest
import torch
import torchvision
from reference import attention_reference as twin
from torch import Tensor, nn
from xbench.methods import _attention
from xbench.methods.attention import AttentionGradient, AttentionRollout, RawAttention

from xbench.classifier import Classifier
from xbench.errors import ParameterError, UnsupportedError
from xbench.operations.pixels import upsample
from xbench.registry import METHODS
from xbench.streams import Streams

NAMES = ["raw_attention", "attention_rollout", "attention_gradient"]
TARGETS = torch.tensor([0, 3, 1])


def vit() -> nn.Module:
    return torchvision.models.VisionTransformer(
        image_size=32, patch_size=8, num_layers=3, num_heads=2, hidden_dim=16, mlp_dim=32,
        num_classes=5,
    )  # fmt: skip


def swin() -> nn.Module:
    return torchvision.models.SwinTransformer(
        patch_size=[4, 4], embed_dim=8, depths=[2, 2], num_heads=[2, 2], window_size=[4, 4],
        num_classes=5,
    )  # fmt: skip


def timm_model(kind: str, **arguments: object) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        timm = pytest.importorskip("timm")
        if kind == "swin":
            return timm.models.swin_transformer.SwinTransformer(
                img_size=64, patch_size=4, embed_dim=8, depths=(2, 2), num_heads=(2, 2),
                window_size=4, num_classes=5, **arguments,
            )  # fmt: skip
        cls = timm.models.vision_transformer.VisionTransformer
        if kind == "deit":
            cls = timm.models.deit.VisionTransformerDistilled
        return cls(
            img_size=32, patch_size=8, embed_dim=16, depth=3, num_heads=2, num_classes=5,
            **arguments,
        )  # fmt: skip

    return make


MODELS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "torchvision-vit": (vit, 32),
    "torchvision-swin": (swin, 64),
    "timm-vit": (timm_model("vit"), 32),
    "timm-vit-average": (timm_model("vit", global_pool="avg"), 32),
    "timm-vit-registers": (timm_model("vit", reg_tokens=4, qk_norm=True), 32),
    "timm-deit": (timm_model("deit"), 32),
    "timm-swin": (timm_model("swin"), 64),
}


def classifier(name: str) -> Classifier:
    """Random weights large enough that attention is not uniform; heads are not zero."""
    network = nets.build(MODELS[name][0], seed=3)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in network.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(0.3 * noise / max(1, parameter.shape[-1]) ** 0.25)
    return Classifier(network, batch_size=2)


@pytest.fixture(scope="module", params=list(MODELS))
def case(request: pytest.FixtureRequest) -> tuple[Classifier, Tensor]:
    size = MODELS[request.param][1]
    return classifier(request.param), nets.pictures(3, height=size, width=size)


def explain(method: object, model: Classifier, images: Tensor) -> Tensor:
    streams = Streams(seed=0, image_ids=[str(i) for i in range(len(images))], scope="a")
    return method.explain(model, images, TARGETS[: len(images)], streams=streams)


# ---- an independent way to the weights: hooks on modules, unfused


class Taken:
    """Weights of every block from the modules themselves, with gradients for them."""

    def __init__(self, model: Classifier, image: Tensor, target: int) -> None:
        self.weights: list[Tensor] = []
        handles, fused = [], []
        for module in model.module.modules():
            if isinstance(module, nn.MultiheadAttention):
                handles.append(module.register_forward_hook(self._multi_head, with_kwargs=True))
            if hasattr(module, "attn_drop"):
                fused.append((module, module.fused_attn))
                module.fused_attn = False
                handles.append(module.attn_drop.register_forward_hook(self._keep))
        with torch.enable_grad():
            score = model.network(image[None].requires_grad_(True))[0, target]
            gradients = torch.autograd.grad(score, self.weights)
        for handle in handles:
            handle.remove()
        for module, value in fused:
            module.fused_attn = value
        self.gradients = [g.double().numpy() for g in gradients]
        self.values = [w.detach().double().numpy() for w in self.weights]

    def _keep(self, _: nn.Module, __: object, output: Tensor) -> Tensor:
        self.weights.append(output)
        return output

    def _multi_head(self, module: nn.Module, args: tuple, kwargs: dict, _: object) -> tuple:
        x = args[0]
        n, t, d = x.shape
        q, k, v = (
            part.view(n, t, module.num_heads, -1).transpose(1, 2)
            for part in (x @ module.in_proj_weight.T + module.in_proj_bias).split(d, dim=-1)
        )
        weights = (q @ k.transpose(2, 3) / (d / module.num_heads) ** 0.5).softmax(dim=-1)
        self.weights.append(weights)
        return module.out_proj((weights @ v).transpose(1, 2).reshape(n, t, d)), None


def expected(name: str, taken: Taken, start: np.ndarray, skip: int) -> np.ndarray:
    """The twin's map on the grid, for networks whose blocks keep their tokens."""
    values = [w[0] for w in taken.values]
    if name == "raw_attention":
        row = start @ values[-1].mean(axis=0)
    elif name == "attention_rollout":
        row = start @ twin.rollout(values)
    else:
        whole = twin.generic(values, [g[0] for g in taken.gradients])
        row = start @ (whole - np.eye(len(whole)))
    return row[skip:].reshape(4, 4)


STARTS = {
    "torchvision-vit": ([0], 1),
    "timm-vit": ([0], 1),
    "timm-vit-average": (range(1, 17), 1),
    "timm-vit-registers": ([0], 5),
    "timm-deit": ([0, 1], 2),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("network", list(STARTS))
def test_maps_equal_their_twins_on_vits(name: str, network: str) -> None:
    model, images = classifier(network), nets.pictures(3, height=32, width=32)
    read, skip = STARTS[network]
    start = np.zeros(16 + skip)
    start[list(read)] = 1 / len(list(read))
    maps = [
        expected(name, Taken(model, image, int(target)), start, skip)
        for image, target in zip(images, TARGETS, strict=True)
    ]
    whole = upsample(torch.tensor(np.stack(maps)).float(), (32, 32))
    assert whole.flatten(1).std(dim=1).amin() > 0
    found = explain(METHODS.create(name).value, model, images)
    torch.testing.assert_close(found, whole, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_maps_equal_their_twins_on_swin(name: str) -> None:
    model, images = classifier("timm-swin"), nets.pictures(2, height=64, width=64)
    maps = []
    for image, target in zip(images, TARGETS, strict=False):
        taken = Taken(model, image, int(target))
        layout = [((16, 16), 0), ((16, 16), 2), ((8, 8), 0), ((8, 8), 2)]
        full = [
            [twin.unwindowed(part, grid, 4, shift) for part in (w, g)]
            for w, g, (grid, shift) in zip(taken.values, taken.gradients, layout, strict=True)
        ]
        row = np.full(64, 1 / 64)
        if name == "raw_attention":
            maps.append((row @ full[-1][0].mean(axis=0)).reshape(8, 8))
            continue
        merge = twin.merging((16, 16))
        early, late = full[:2], full[2:]
        if name == "attention_rollout":
            row = row @ twin.rollout([w for w, _ in late]) @ merge
            row = row @ twin.rollout([w for w, _ in early])
        else:
            once = row @ merge
            row = row @ twin.generic([w for w, _ in late], [g for _, g in late]) @ merge
            row = row @ twin.generic([w for w, _ in early], [g for _, g in early]) - once
        maps.append(row.reshape(16, 16))
    whole = upsample(torch.tensor(np.stack(maps)).float(), (64, 64))
    found = explain(METHODS.create(name).value, model, images)
    torch.testing.assert_close(found, whole, rtol=1e-3, atol=1e-7)


# ---- the way to the weights


def test_recording_changes_no_logit_and_leaves_nothing_behind(
    case: tuple[Classifier, Tensor],
) -> None:
    model, images = case
    plain = model.logits(images)
    before = {k: v.clone() for k, v in model.module.state_dict().items()}
    with torch.no_grad(), _attention._recording(model, grad=False) as recorder:
        torch.testing.assert_close(model.network(images), plain, rtol=1e-4, atol=1e-5)
    for weights, _ in recorder.weights:
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:-1]))
    with (
        pytest.raises(RuntimeError, match="on purpose"),
        _attention._recording(model, grad=True),
    ):
        raise RuntimeError("on purpose")
    assert all(torch.equal(before[k], v) for k, v in model.module.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.module.modules())
    torch.testing.assert_close(model.logits(images), plain, rtol=0, atol=0)


@pytest.mark.parametrize("library", ["torchvision", "timm"])
@pytest.mark.parametrize("grid", [(8, 12), (9, 10)], ids=["whole", "padded"])
@pytest.mark.parametrize("shift", [0, 2])
def test_windows_stand_where_gradients_flow(
    library: str, grid: tuple[int, int], shift: int
) -> None:
    if library == "torchvision":
        from torchvision.models.swin_transformer import ShiftedWindowAttention

        block = ShiftedWindowAttention(8, [4, 4], [shift, shift], 2).eval()
        run = block
    else:
        timm = pytest.importorskip("timm")
        block = timm.models.swin_transformer.SwinTransformerBlock(
            8, grid, num_heads=2, window_size=4, shift_size=shift
        ).eval()
        run = block._attn
    x = torch.randn(1, *grid, 8, generator=torch.Generator().manual_seed(0))
    windows = _attention._windows(block, x)
    tokens = grid[0] * grid[1]
    assert sorted(windows.index[windows.index >= 0].tolist()) == list(range(tokens))
    jacobian = torch.autograd.functional.jacobian(lambda a: run(a).sum(-1), x)
    flows = jacobian.view(tokens, tokens, 8).abs().amax(dim=2) > 1e-12
    together = torch.zeros(tokens, tokens, dtype=torch.bool)
    for window in windows.index:
        real = window[window >= 0]
        together[real[:, None], real] = True
    assert not (flows & ~together).any()
    assert flows[together].float().mean() > (0.9 if shift == 0 else 0.3)


def test_the_tokens_that_are_read_are_found() -> None:
    for network, (read, skip) in STARTS.items():
        model = classifier(network)
        found = _attention.reaching(model, nets.pictures(1, height=32, width=32))
        assert found.nonzero().flatten().tolist() == list(read), network
        assert len(found) == 16 + skip
        assert float(found.sum()) == pytest.approx(1)


# ---- contracts


@pytest.mark.parametrize("name", NAMES)
def test_costs_batches_and_classes(name: str, case: tuple[Classifier, Tensor]) -> None:
    model, images = case
    chosen = METHODS.create(name)
    assert chosen.value.supports(model) is None
    explain(chosen.value, model, images)
    before = model.counter.read()
    maps = explain(chosen.value, model, images)
    assert model.counter.read() - before == chosen.value.cost(model.facts(images.shape)) * 3
    assert maps.shape == (3, *images.shape[2:])
    assert maps.dtype == torch.float32
    assert torch.isfinite(maps).all()
    assert not maps.requires_grad
    assert maps.flatten(1).std(dim=1).amin() > 0
    alone = explain(chosen.value, model, images[:1])
    torch.testing.assert_close(alone[0], maps[0], rtol=1e-4, atol=1e-7)
    streams = Streams(seed=0, image_ids=["0", "1", "2"], scope="a")
    other = chosen.value.explain(model, images, (TARGETS + 1) % 5, streams=streams)
    assert torch.equal(maps, other) == chosen.card.class_agnostic


def test_rollout_keeps_its_mass_with_padded_windows_and_odd_grids() -> None:
    model = classifier("torchvision-swin")
    images = nets.pictures(2, height=52, width=76)  # 13x19 tokens, then 7x10
    _, sites, _ = next(iter(_attention.attention(model, images)))
    assert [site.windows.grid for site in sites] == [(13, 19)] * 2 + [(7, 10)] * 2
    maps = explain(AttentionRollout(), model, images)
    assert maps.shape == (2, 52, 76)
    # bilinear upsampling by a whole factor keeps the sum up to the borders
    torch.testing.assert_close(maps.sum(dim=(1, 2)) / 16, torch.ones(2), rtol=0.02, atol=0.0)


@pytest.mark.parametrize("name", NAMES)
def test_models_without_attention_are_refused(name: str, cnn: Classifier) -> None:
    method = METHODS.create(name).value
    assert "no self-attention" in method.supports(cnn)
    with pytest.raises(UnsupportedError, match="No attention weights"):
        explain(method, cnn, nets.pictures())


def test_attention_pooling_is_refused() -> None:
    timm = pytest.importorskip("timm")
    network = timm.models.vision_transformer.VisionTransformer(
        img_size=32, patch_size=8, embed_dim=16, depth=1, num_heads=2, num_classes=5,
        global_pool="map", class_token=False,
    )  # fmt: skip
    model = Classifier(network, batch_size=2)
    with pytest.raises(UnsupportedError, match="pools or crosses"):
        explain(AttentionGradient(), model, nets.pictures(2, height=32, width=32))


def test_blocks_and_words_are_checked() -> None:
    model, images = classifier("torchvision-vit"), nets.pictures(2, height=32, width=32)
    first = explain(RawAttention(block=0), model, images)
    assert not torch.allclose(first, explain(RawAttention(), model, images), rtol=1e-2)
    with pytest.raises(UnsupportedError, match="-3 to 2"):
        explain(RawAttention(block=3), model, images)
    for heads in ("max", "min"):
        assert torch.isfinite(explain(AttentionRollout(heads=heads), model, images)).all()
    for text in ("raw_attention[heads=sum]", "attention_rollout[share=0.0]"):
        with pytest.raises(ParameterError):
            METHODS.create(text)


@pytest.mark.parametrize("name", ["gradcam", "hirescam", "layercam", "eigencam", "ablationcam"])
def test_cams_read_tokens(name: str, case: tuple[Classifier, Tensor]) -> None:
    model, images = case
    method = METHODS.create(
        f"{name}[relu=false]"
    ).value  # signed tokens: positive parts may be none
    before = model.counter.read()
    maps = explain(method, model, images)
    assert model.counter.read() - before == method.cost(model.facts(images.shape)) * 3
    assert maps.shape == (3, *images.shape[2:])
    assert torch.isfinite(maps).all()
    assert maps.flatten(1).std(dim=1).amin() > 0
