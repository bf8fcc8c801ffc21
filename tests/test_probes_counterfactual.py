"""Counterfactuals: an edit of what nobody reads moves nothing, and exact maps foretell edits."""

from pathlib import Path

import numpy as np
import pytest
import torch
from probing import exact, probe, reference, same, scenes, sound
from test_cli import call, refused

from xbench.cli import probing as options
from xbench.errors import ParameterError
from xbench.models.exact import STRUCTURES
from xbench.probes._edits import COLORS, SHAPES, Edit, random_boxes, read_box, read_paste
from xbench.probes.maps import DEFAULT_METHODS

MEAN = torch.tensor([0.5])
EXACT = "occlusion[window=8,stride=8],input_x_gradient,integrated_gradients[n_steps=10]"
UNREAD = {"and": "24,24,32,32", "or": "8,8,16,32", "places": "0,24,32,32", "blind": "0,0,32,32"}
EDITS = ("occlude", "recolor", "blur", "paste")


@pytest.mark.parametrize("structure", UNREAD)
@pytest.mark.parametrize("kind", EDITS)
def test_an_edit_outside_everything_read_moves_no_score_and_no_map(
    structure: str, kind: str
) -> None:
    """Cells A, B and C lie at rows and columns 0 and 2 of four; the boxes keep clear of them."""
    assert structure in STRUCTURES
    model, samples = exact(structure, 1)
    text = f"square:{UNREAD[structure]}" if kind == "paste" else UNREAD[structure]
    one = probe("counterfactual", **{kind: text}, methods=EXACT, top=2, draws=0)
    exhibit = one.run(model, samples)
    table = exhibit.numbers["probabilities"].frame
    assert (table["before"] == table["after"]).all()
    assert (table["score_before"] == table["score_after"]).all()
    maps = exhibit.numbers["maps"].frame
    assert (maps["score_fell"] == 0).all()
    read = maps["change_outside"].notna()  # a map of zeros has no largest value
    assert (maps.loc[read, "change_outside"] == 0).all()
    assert (maps.loc[read, ["inside_before", "inside_after"]] == 0).all().all()
    assert read.any() == (structure != "blind")


def test_an_edit_of_what_is_read_moves_the_score() -> None:
    model, samples = exact("and", 1)
    maps = probe("counterfactual", occlude="0,0,8,8", methods=EXACT, draws=0).run(model, samples)
    frame = maps.numbers["maps"].frame
    assert frame["score_fell"].iloc[0] > 0.1
    assert frame["inside_before"].iloc[0] > 0.1


def test_the_exact_map_of_a_linear_network_foretells_every_removal(tmp_path: Path) -> None:
    model, samples = exact("linear", 1)
    methods = "input_x_gradient,random"
    one = probe("counterfactual", occlude="0,0,16,16", methods=methods, draws=40, top=2)
    exhibit = one.run(model, samples)
    sound(exhibit, tmp_path)
    edits = exhibit.numbers["edits"].frame.query("`class` == 'reads'")  # the other is constant
    np.testing.assert_allclose(edits["input_x_gradient"], edits["score_fell"], atol=1e-5)
    found = exhibit.numbers["foretold"].frame.query("`class` == 'reads'")
    found = found.set_index("method")
    assert found.loc["input_x_gradient", "spearman"] > 0.999
    assert abs(found.loc["random", "spearman"]) < 0.5
    assert found.loc["random", "low"] < 0 < found.loc["random", "high"]
    assert same(exhibit, one.run(model, samples))


def test_edits_change_their_pixels_and_no_other() -> None:
    image = torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(0))
    for kind in EDITS:
        for shape in SHAPES if kind == "paste" else ("disk",):
            edit = Edit(kind, (5, 4, 17, 12), shape)
            mask, after = edit.mask(20, 30), edit.apply(image, MEAN)
            assert 0 < int(mask.sum()) <= 12 * 8
            assert not mask[:4].any()
            assert not mask[12:].any()
            assert torch.equal(after[:, ~mask], image[:, ~mask])
            assert not torch.equal(after[:, mask], image[:, mask])
            assert 0 <= float(after.min()) <= float(after.max()) <= 1
    assert torch.equal(
        Edit("occlude", (0, 0, 2, 2)).apply(image, MEAN)[:, :2, :2], torch.full((3, 2, 2), 0.5)
    )
    pasted = Edit("paste", (0, 0, 2, 2), "square", "blue").apply(image, MEAN)
    assert pasted[:, 0, 0].tolist() == pytest.approx(COLORS["blue"])
    gray = Edit("recolor", (0, 0, 4, 4)).apply(image[:1], MEAN)
    assert gray.shape == (1, 20, 30)


def test_random_boxes_lie_in_the_image_and_repeat() -> None:
    boxes = random_boxes(200, 20, 30, torch.Generator().manual_seed(1))
    assert boxes == random_boxes(200, 20, 30, torch.Generator().manual_seed(1))
    assert all(0 <= a < c <= 30 and 0 <= b < d <= 20 for a, b, c, d in boxes)
    assert len(set(boxes)) > 150


def test_boxes_are_read() -> None:
    assert read_box(" 1, 2, 30, 20", 20, 30) == (1, 2, 30, 20)
    assert read_box("0,0,1,1", 20, 30) == (0, 0, 30, 20)
    assert read_paste("ring", 100, 100) == ("ring", (35, 35, 65, 65))
    for text in ("", "1,2,3", "a,b,c,d", "5,5,5,9", "9,9,5,5", "0,0,31,20", "-1,0,5,5", "0,0,0,0"):
        with pytest.raises(ParameterError):
            read_box(text, 20, 30)


def test_the_exhibit_of_the_reference_model(tmp_path: Path) -> None:
    model = reference()
    samples = scenes(model, 1)
    one = probe("counterfactual", paste="disk:4,4,30,30", methods="gradcam,gradient", draws=10)
    exhibit = one.run(model, samples)
    page = sound(exhibit, tmp_path)
    assert "random edits" in page
    assert set(exhibit.images) == {"edit", "probabilities", "maps", "foretold"}
    assert len(exhibit.numbers["maps"].frame) == 2 * 3


def test_the_default_methods_are_the_same_on_the_command_line() -> None:
    assert options.DEFAULT_METHODS == DEFAULT_METHODS


def test_the_command(tmp_path: Path) -> None:
    words = ("--methods", "gradient", "--draws", "5", "--batch-size", "8", "--out", str(tmp_path))
    result = call("counterfactual", "planted", "--recolour", "1,1,20,20", *words)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "Say one edit"),
        (("--blur", "1,1,5,5", "--occlude", "1,1,5,5"), "Say one edit"),
        (("--blur", "1,1,500,5"), "64 x 64"),
        (("--blur", "here"), "LEFT,TOP,RIGHT,BOTTOM"),
        (("--paste", "star"), "no shape 'star'"),
        (("--recolor", "1,1,5,5", "--color", "mauve"), "no color 'mauve'"),
        (("--blur", "1,1,5,5", "--top", "0"), "top"),
    ],
)
def test_mistakes_are_one_sentence(words: tuple[str, ...], sentence: str) -> None:
    assert sentence in refused("counterfactual", "planted", *words, "--batch-size", "4")
