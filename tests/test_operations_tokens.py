"""Dropping tokens equals running the transformer on a shorter sequence."""

import nets
import pytest
import timm
import torch
from faithfulness_tools import no_explain
from torchvision.models import VisionTransformer

from xbench.classifier import Classifier
from xbench.contracts import Case
from xbench.errors import UnsupportedError
from xbench.operations.tokens import dropping_tokens
from xbench.registry import METRICS
from xbench.streams import Streams

SIDE, PATCH = 32, 8


class Torch(VisionTransformer):
    def __init__(self):
        super().__init__(
            image_size=SIDE,
            patch_size=PATCH,
            num_layers=3,
            num_heads=2,
            hidden_dim=16,
            mlp_dim=32,
            num_classes=5,
        )
        torch.nn.init.normal_(self.heads.head.weight)

    def shortened(self, x, keep):
        tokens = torch.cat([self.class_token.expand(len(x), -1, -1), self._process_input(x)], dim=1)
        tokens = (tokens + self.encoder.pos_embedding)[:, keep]
        return self.heads(self.encoder.ln(self.encoder.layers(tokens))[:, 0])


class Timm(timm.models.VisionTransformer):
    def __init__(self):
        super().__init__(
            img_size=SIDE, patch_size=PATCH, depth=3, num_heads=2, embed_dim=16, num_classes=5
        )
        torch.nn.init.normal_(self.head.weight)

    def shortened(self, x, keep):
        tokens = self._pos_embed(self.patch_embed(x))[:, keep]
        return self.head(self.norm(self.blocks(tokens))[:, 0])


@pytest.mark.parametrize("kind", [Torch, Timm])
def test_a_dropped_token_is_as_good_as_removed(kind):
    model = Classifier(nets.build(kind), batch_size=4)
    images = nets.pictures(1, 3, SIDE, SIDE)
    drop = torch.zeros(1, 1, SIDE, SIDE, dtype=torch.bool)
    drop[..., :PATCH, PATCH : 3 * PATCH] = True  # patches 1 and 2
    drop[..., 2 * PATCH, 0] = True  # less than half of patch 8: it stays
    keep = [0] + [1 + p for p in range(16) if p not in (1, 2)]
    with torch.no_grad(), dropping_tokens(model, images) as mask:
        mask.set(drop)
        got = model.network(images)
    with torch.no_grad():
        want = model.module.shortened(images, keep)
        whole = model.network(images)
    assert torch.allclose(got, want, atol=1e-5)
    assert not torch.allclose(got, whole, atol=1e-4)
    assert not any(child._forward_pre_hooks for child in model.module.modules())


@pytest.mark.parametrize("kind", [Torch, Timm])
def test_deletion_by_tokens_ends_where_only_the_class_token_is_left(kind):
    model = Classifier(nets.build(kind), batch_size=4)
    images = nets.pictures(2, 3, SIDE, SIDE)
    targets = model.logits(images).argmax(dim=1)
    maps = torch.rand(2, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    ids = ["a", "b"]
    streams = Streams(seed=0, image_ids=ids, scope="test")
    case = Case(model, images, targets, maps, no_explain, ids)
    got = METRICS.create("deletion_tokens[steps=4]").value.score(case, streams=streams)
    with torch.no_grad():
        bare = model.module.shortened(images, [0]).softmax(dim=1)
    last = got.curves["probability"][:, -1].float()
    assert torch.allclose(last, bare.gather(1, targets[:, None])[:, 0], atol=1e-5)
    sds = METRICS.create("single_deletion[imputer=tokens]").value.score(case, streams=streams)
    assert sds.defined.all()


def test_a_network_without_tokens_is_refused(cnn):
    with (
        pytest.raises(UnsupportedError, match="transformer"),
        dropping_tokens(cnn, nets.pictures(1)),
    ):
        pass
