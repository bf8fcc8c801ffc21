"""Hooked backward passes of one image in channels-last order are those of a batch."""

import nets
import pytest
import torch
from torch import Tensor, nn

from xbench.classifier import Classifier
from xbench.classifier.single import right_with_hooks
from xbench.registry import METHODS
from xbench.streams import Streams


class NormLast(nn.Module):
    """An activation whose output goes into a normalization, and one behind a normalization."""

    def __init__(self, activation: type[nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), activation(),
            nn.Conv2d(8, 8, 3), activation(), nn.BatchNorm2d(8),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )  # fmt: skip
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


def channels_last(module: nn.Module) -> Classifier:
    model = Classifier(module, batch_size=7)
    model.network.memory_format = torch.channels_last  # else measured, and different by machine
    model.network.to(memory_format=torch.channels_last)
    return model


@pytest.mark.parametrize("activation", [nn.ReLU, nn.ReLU6, nn.ELU])
@pytest.mark.parametrize("name", ["guided_backprop", "deconvnet", "deeplift", "fullgrad"])
def test_one_image_has_the_map_that_it_has_in_a_batch(
    name: str, activation: type[nn.Module]
) -> None:
    model = channels_last(nets.build(NormLast, activation=activation))
    method, images, targets = METHODS.create(name).value, nets.pictures(3), torch.tensor([0, 1, 2])
    if method.supports(model) is not None:
        pytest.skip("for ReLU only")

    def maps(part: slice) -> Tensor:
        streams = Streams(0, ["a", "b", "c"][part], name)
        return method.explain(model, images[part], targets[part], streams=streams)

    alone = torch.cat([maps(slice(i, i + 1)) for i in range(3)])
    torch.testing.assert_close(alone, maps(slice(0, 3)), rtol=1e-4, atol=1e-6)


def test_the_gradient_of_a_norm_behind_a_hooked_module_is_right_and_nothing_stays() -> None:
    module = nn.Sequential(nn.ReLU(), nn.BatchNorm2d(4)).eval().requires_grad_(False)
    module[1].running_var.fill_(4.0)
    module[0].register_full_backward_hook(lambda *_: None)
    x = torch.rand(1, 4, 5, 6).contiguous(memory_format=torch.channels_last).requires_grad_(True)
    direction = torch.rand(1, 4, 5, 6)  # not in channels-last order
    with right_with_hooks(module):
        (found,) = torch.autograd.grad(module(x), x, direction)
    torch.testing.assert_close(found, direction / 2, rtol=1e-4, atol=0)
    assert not module[1]._forward_pre_hooks


def test_other_batches_pass_as_they_are() -> None:
    norm, seen = nn.BatchNorm2d(4).eval(), []
    with right_with_hooks(norm):
        norm.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        for x in (torch.rand(2, 4, 5, 6), torch.rand(1, 4, 5, 6)):
            norm(x)
            assert seen[-1] is x
