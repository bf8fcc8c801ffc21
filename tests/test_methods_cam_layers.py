"""CAMs on a layer of the user's choice: what they cost there, and where they have no map."""

import nets
import pytest
import torch

from xbench.classifier import Classifier
from xbench.cost import Cost
from xbench.errors import ModelError, UnsupportedError
from xbench.registry import METHODS
from xbench.streams import Streams

OF_CHANNELS = (
    "ablationcam[layer={}]",
    "scorecam[layer={}]",
    "iscam[layer={},n_steps=2]",
    "sscam[layer={},n_samples=2]",
)


def spent(name: str, model: Classifier, images: torch.Tensor) -> tuple[Cost, Cost]:
    """The calls of two images as counted, and as the card has it."""
    method = METHODS.create(name).value
    promised = method.cost(model.facts(images.shape)) * len(images)
    before = model.counter.read()
    streams = Streams(0, ["a", "b"], name)
    method.explain(model, images, torch.tensor([1, 2]), streams=streams)
    return model.counter.read() - before, promised


@pytest.mark.parametrize("name", OF_CHANNELS)
@pytest.mark.parametrize("layer", ["features.0", "features.2"])
def test_calls_are_those_of_the_layer_that_is_named(name: str, layer: str) -> None:
    model, images = Classifier(nets.build(nets.SmallCNN), batch_size=32), nets.pictures(2)
    channels = {role: model.layer(role, images).channels for role in ("last_conv", layer)}
    assert len(set(channels.values())) == 2, "the two layers must differ for this test to say much"
    counted, promised = spent(name.format(layer), model, images)
    assert counted == promised
    other = spent(name.format("last_conv"), model, images)[1]
    assert other != promised


def test_a_layer_around_which_the_image_goes_costs_whole_passes() -> None:
    class Around(torch.nn.Module):
        """Two branches: behind the first one the network cannot be cut."""

        def __init__(self) -> None:
            super().__init__()
            self.one = torch.nn.Conv2d(3, 4, 3, padding=1)
            self.two = torch.nn.Conv2d(3, 4, 3, padding=1)
            self.last = torch.nn.Conv2d(4, 6, 3, padding=1)
            self.head = torch.nn.Linear(6, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            last = self.last((self.one(x) + self.two(x)).relu()).relu()
            return self.head(last.mean(dim=(2, 3)))

    model, images = Classifier(nets.build(Around), batch_size=32), nets.pictures(2)
    for layer, expected in (("one", Cost(5)), ("last", Cost(1, 0, 7))):
        counted, promised = spent(f"ablationcam[layer={layer}]", model, images)
        assert counted == promised == expected * 2


def test_smoothing_costs_what_its_base_costs_on_its_layer() -> None:
    model, images = Classifier(nets.build(nets.SmallCNN), batch_size=32), nets.pictures(2)
    counted, promised = spent(
        "smoothgrad[base=ablationcam[layer=features.0],n_samples=2]", model, images
    )
    assert counted == promised


def test_an_unknown_layer_has_no_cost_and_is_refused_in_use() -> None:
    model, images = Classifier(nets.build(nets.SmallCNN), batch_size=32), nets.pictures(2)
    method = METHODS.create("scorecam[layer=nowhere]").value
    assert method.cost(model.facts(images.shape)) == Cost(1)
    with pytest.raises(ModelError, match="no layer 'nowhere'"):
        spent("scorecam[layer=nowhere]", model, images)


def test_fem_refuses_grids_on_which_no_cell_can_stand_out() -> None:
    fem = METHODS.create("fem[k=2]").value
    one_of_five = torch.zeros(1, 1, 1, 5)
    one_of_five[..., 2] = 1.0  # (1 - 0.2) / 0.4 = 2 deviations: the most there can be
    assert (fem.combine(one_of_five) > 0).flatten().tolist() == [False, False, True, False, False]
    for shape in ((1, 3, 2, 2), (1, 3, 1, 3)):
        with pytest.raises(UnsupportedError, match=f"{shape[2]}x{shape[3]} grid"):
            fem.combine(torch.rand(shape))
    assert METHODS.create("fem[k=1]").value.combine(torch.eye(2)[None, None]).amax() > 0
