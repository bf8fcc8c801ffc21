"""Dissection: hand-made units answer to the concepts that they were made for."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from nets import SmallCNN, build
from probing import probe, reference, same, scenes, sound
from test_cli import call, refused
from torch import Tensor, nn

from xbench.classifier import Classifier
from xbench.contracts import Geometry
from xbench.probes._concepts import TEXTURES, color_masks, concepts_of, shrunk
from xbench.probes._concepts import scenes as planted
from xbench.probes._dissected import color_table
from xbench.probes._dissection import _ious, dissect, last_layers, most_active
from xbench.probes.contract import nothing

UNITS = ("red", "green", "blue", "stripes across", "nothing")


class HandMade(nn.Module):
    """Units that are on where a color is, one for stripes across, one that is always off."""

    def __init__(self) -> None:
        super().__init__()
        self.colors = nn.Conv2d(3, 3, 1)
        self.edges = nn.Conv2d(3, 1, 3, padding=1, bias=False)
        with torch.no_grad():
            self.colors.weight.copy_((1.5 * torch.eye(3) - 0.75)[..., None, None])
            self.colors.bias.fill_(-0.1)
            self.edges.weight.zero_()
            self.edges.weight[0, :, 0] = -1.0 / 9
            self.edges.weight[0, :, 2] = 1.0 / 9
        self.units = nn.ReLU()
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        down = self.edges(x).abs()
        across = self.edges(x.transpose(2, 3)).abs().transpose(2, 3)
        blurred = nn.functional.avg_pool2d(down - 2 * across, 5, 1, 2)
        units = self.units(torch.cat([self.colors(x), blurred, torch.zeros_like(down) - 1], dim=1))
        return self.head(units.mean(dim=(2, 3)))


def hand_made() -> Classifier:
    geometry = Geometry(crop=(64, 64), resize=64)
    return Classifier(build(HandMade), geometry=geometry, batch_size=16, name="hand-made")


def test_hand_made_units_are_found() -> None:
    model = hand_made()
    concepts = planted(48, 64, 64, 3, 0)
    (layer,) = last_layers(model, concepts.images[:1], 1)
    assert layer.name == "units"
    found = dissect(model, layer, concepts, 0.04).set_index("unit")
    assert [found.loc[unit, "concept"] for unit in range(4)] == list(UNITS[:4])
    assert (found["iou"] > 2 * found["chance"]).all()
    assert (found.loc[:2, "iou"] > 0.3).all()
    assert found.loc[3, "iou"] > 0.1
    assert 4 not in found.index  # a unit that never changes answers to nothing


def test_colors_are_read_from_pixels() -> None:
    colors = {
        "red": (0.9, 0.1, 0.1),
        "yellow": (0.9, 0.9, 0.1),
        "green": (0.1, 0.8, 0.1),
        "cyan": (0, 0.8, 0.8),
        "blue": (0.1, 0.1, 0.9),
        "magenta": (0.9, 0, 0.9),
        "dark": (0.1, 0.1, 0.1),
        "bright": (0.95, 0.95, 0.95),
    }
    for name, color in colors.items():
        found = color_masks(torch.tensor(color).view(1, 3, 1, 1))
        assert [other for other, mask in found.items() if bool(mask.any())] == [name]
    gray = color_masks(torch.full((1, 3, 1, 1), 0.5))
    assert not any(bool(mask.any()) for mask in gray.values())
    assert set(color_masks(torch.full((1, 1, 2, 2), 0.05))) == {"dark", "bright"}


def test_planted_scenes_repeat_and_textures_lie_in_shapes() -> None:
    one, other = planted(16, 48, 40, 3, 1), planted(16, 48, 40, 3, 1)
    assert torch.equal(one.images, other.images)
    assert one.images.shape == (16, 3, 48, 40)
    assert 0 <= float(one.images.min()) <= float(one.images.max()) <= 1
    shapes = torch.stack([m for n, m in one.masks.items() if one.kinds[n] == "shape"]).sum(dim=0)
    assert int(shapes.max()) == 1  # no pixel belongs to two shapes
    for name in set(TEXTURES) & set(one.masks):
        assert bool((one.masks[name] <= shapes.bool()).all())
    assert not torch.equal(one.images, planted(16, 48, 40, 3, 2).images)
    assert planted(8, 32, 32, 1, 0).images.shape[1] == 1


def test_masks_of_a_data_set_become_concepts() -> None:
    model = reference()
    samples = scenes(model, 8)
    found = concepts_of(samples, model.class_names)
    shapes = [name for name, kind in found.kinds.items() if kind == "object"]
    shapes.remove("distractors")
    assert set(shapes) == {model.class_names[label] for label in samples.labels.tolist()}
    total = sum(int(found.masks[name].sum()) for name in shapes)
    assert total == int(samples.truth.sum())
    assert shrunk(samples.truth, (8, 8)).shape == (8, 8, 8)


def test_the_exhibit_with_two_models(tmp_path: Path) -> None:
    model = reference()
    one = probe("dissect", scenes=12, layers=2, beside="reference-shortcut", cut=0.01, share=0.02)
    exhibit = one.run(model, scenes(model, 1))
    sound(exhibit, tmp_path)
    table = exhibit.numbers["layers"].frame
    assert table["model"].tolist() == ["reference"] * 2 + ["reference-shortcut"] * 2
    assert (table["detectors"] <= table["units"]).all()
    assert {"histograms", "kinds", "concepts"} <= set(exhibit.images)
    assert any(said.startswith("reference-shortcut: ") for said in exhibit.caption)
    assert same(exhibit, one.run(model, scenes(model, 1)))


def test_layers_without_activations_are_found_too(cnn: Classifier) -> None:
    names = [layer.name for layer in last_layers(cnn, torch.rand(1, 3, 16, 16), 5)]
    assert names == ["features.2", "features.6"]
    plain = Classifier(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 2)))
    assert [layer.name for layer in last_layers(plain, torch.rand(1, 3, 8, 8), 5)] == ["0"]
    assert build(SmallCNN) is not None


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--layers", "0"), "layers"),
        (("--cut", "1.5"), "cut"),
        (("--limit", "2"), "scenes"),
        (("--beside", "referens"), "no model 'referens'"),
        (("--beside", "exact:and"), "one input size"),
        (("--beside", "reference"), "on the page already"),
        (("--concepts", "nowhere.png"), "--concepts has no data set 'nowhere.png'"),
        (("--concepts", "images"), "needs images"),
        (("--clip-weights", "x.pt"), "belongs to --clip"),
    ],
)
def test_mistakes_are_one_sentence(words: tuple[str, ...], sentence: str) -> None:
    assert sentence in refused("dissect", *words, "--batch-size", "8")


def test_colors_are_counted_by_layer_with_hand_made_units() -> None:
    """Red, green and blue have one unit each of the four that change; the table says so."""
    model = hand_made()
    exhibit = probe("dissect", scenes=48, layers=1, share=0.04).run(model, nothing())
    colors = exhibit.numbers["colors"].frame
    assert dict(zip(colors["color"], colors["units"], strict=True)) == {
        "red": 1,
        "green": 1,
        "blue": 1,
    }
    assert (colors["share"] == 0.25).all()
    assert "colors" in exhibit.images
    assert any("colors where they have most detectors" in said for said in exhibit.caption)


def test_colors_rise_or_fall() -> None:
    units = pd.DataFrame(
        [
            {"model": "m", "layer": layer, "concept": color, "kind": "color", "detector": True}
            for layer, color in (("a", "red"), ("b", "blue"), ("b", "blue"), ("b", "red"))
        ]
    )
    layers = pd.DataFrame({"model": "m", "layer": ["a", "b"], "units": [4, 10]})
    found = color_table(units, layers).set_index(["color", "layer"])["share"]
    assert found.to_dict() == {
        ("blue", "a"): 0.0,
        ("red", "a"): 0.25,
        ("blue", "b"): 0.2,
        ("red", "b"): 0.1,
    }


def test_units_that_are_rarely_on_are_shown_where_they_are() -> None:
    """Their threshold is zero, which is no activity."""
    features = torch.zeros(6, 4, 4)
    features[4, 1, 1], features[2, :2, 1] = 0.5, 0.1
    assert most_active(features, 0.3, 2) == [2, 4]


def test_only_labeled_images_count() -> None:
    """A unit that is on but at one place: its IoU is taken over labeled images alone."""
    masks = torch.zeros(4, 1, 2, 2, dtype=torch.bool)
    masks[:2, :, 0] = True
    known = torch.tensor([[True], [True], [False], [False]])
    features = torch.arange(16.0).view(4, 1, 2, 2) + 1
    features[3, 0, 1, 1] = 0
    order = torch.arange(4)
    every = _ious(features, torch.tensor([0.5]), masks, known | True, order, 4)
    some = _ious(features, torch.tensor([0.5]), masks, known, order, 4)
    assert float(every) == 4 / 15
    assert float(some) == 4 / 8


def test_the_command_on_a_data_set(tmp_path: Path) -> None:
    words = ("--limit", "4", "--layers", "1", "--batch-size", "8", "--out", str(tmp_path))
    result = call("dissect", "--concepts", "planted-texture", *words)
    assert result.exit_code == 0, result.output
