"""Class visualization, units and dreams: what is made large gets large, and repeats."""

from pathlib import Path

import pytest
import torch
from nets import SmallCNN, build
from probing import probe, reference, same, scenes, sound
from test_cli import call, refused
from torch import nn

from xbench.classifier import Classifier
from xbench.probes import _dreaming as d
from xbench.probes.visualize import blank


def test_a_linear_score_is_climbed_to_its_corner() -> None:
    """Without regularizers every pixel ends where its weight points."""
    weight = torch.randn(3, 6, 6, generator=torch.Generator().manual_seed(0))
    how = d.Regularizers(steps=80, rate=0.1, l2=0, blur=0, jitter=0, clip=0, tv=0)
    start, gray = torch.full((3, 6, 6), 0.5), torch.full((3, 1, 1), 0.5)
    generator = torch.Generator().manual_seed(0)
    found = d.ascend(lambda x: (x * weight).sum(), start, how, generator, lambda step: None, gray)
    large = weight.abs() > 0.3
    assert torch.equal(found.image[large], (weight > 0).float()[large])
    assert found.goals[-1] > found.goals[0]
    assert max(found.snapshots) == 80


@pytest.mark.parametrize("name", ["tv", "l2", "blur", "clip"])
def test_each_regularizer_does_what_it_says(name: str) -> None:
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(3, 16, 16, generator=generator)
    plain = dict(steps=24, rate=0.05, l2=0.0, blur=0.0, jitter=0, clip=0.0, tv=0.0)
    strength = {"tv": 1.0, "l2": 0.1, "blur": 1.5, "clip": 0.4}[name]
    gray = torch.full((3, 1, 1), 0.5)

    def climbed(**values: float) -> torch.Tensor:
        how = d.Regularizers(**{**plain, **values})
        draws = torch.Generator().manual_seed(0)
        goal = lambda x: (x * noise).sum()  # noqa: E731
        return d.ascend(goal, gray.expand(3, 16, 16), how, draws, lambda step: None, gray).image

    def roughness(image: torch.Tensor) -> float:
        return float((image[..., 1:] - image[..., :-1]).abs().mean())

    without, given = climbed(), climbed(**{name: strength})
    if name in ("tv", "blur"):
        assert roughness(given) < 0.9 * roughness(without)
    else:
        assert (given - 0.5).abs().mean() < 0.95 * (without - 0.5).abs().mean()


def test_a_class_is_scored_at_its_image(tmp_path: Path) -> None:
    model = reference()
    one = probe("visualize", target="ring,2", steps=60)
    exhibit = one.run(model, blank(model))
    sound(exhibit, tmp_path)
    table = exhibit.numbers["scores"].frame
    assert (
        table["class"].tolist() == [model.class_names[0], model.class_names[2]] or len(table) == 2
    )
    assert (table["rank"] == 1).all()
    assert (table["probability"] > 0.9).all()
    assert same(exhibit, one.run(model, blank(model)))
    assert not same(exhibit, one.run(model, blank(model), seed=1))


def test_a_unit_and_a_dream_answer_more_than_before(tmp_path: Path) -> None:
    model = reference()
    samples = scenes(model, 1)
    fingerprint = model.fingerprint()
    unit = probe("visualize", unit="features.9:5", steps=30).run(model, samples)
    dream = probe("visualize", dream="last_conv", steps=30, octaves=2).run(model, samples)
    for number, exhibit in enumerate((unit, dream)):
        sound(exhibit, tmp_path / str(number))
        row = exhibit.numbers["scores"].frame.iloc[0]
        assert row["activation"] > 1.5 * row["before"]
    assert model.fingerprint() == fingerprint


class Prior(nn.Module):
    """Codes of three numbers to images of one color."""

    def forward(self, code: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(code)[:, :, None, None].expand(-1, -1, 16, 16)


def test_a_generator_keeps_images_in_its_range() -> None:
    model = Classifier(build(SmallCNN), batch_size=4)
    how = d.Regularizers(steps=20, rate=0.05, l2=0)
    goal = d.class_goal(model, 1)
    found = d.through_generator(goal, Prior(), torch.zeros(1, 3), how, lambda step: None)
    assert found.goals[-1] > found.goals[0]
    assert torch.equal(found.image, found.image[:, :1, :1].expand_as(found.image))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "Say what to visualize"),
        (("ring", "--unit", "features.9:1"), "Say what to visualize"),
        (("circle",), "no class 'circle'"),
        (("--unit", "features.9:999"), "999 is none"),
        (("--unit", "features.9"), "LAYER:NUMBER"),
        (("--unit", "nowhere:1"), "no layer 'nowhere'"),
        (("--dream", "last_conv"), "starts from an image"),
        (("ring", "--steps", "0"), "steps"),
        (("ring", "--generator", "prior"), "PATH.py:FUNCTION"),
    ],
)
def test_mistakes_are_one_sentence(words: tuple[str, ...], sentence: str) -> None:
    assert sentence in refused("visualize", *words, "--batch-size", "4")


def test_the_command_and_its_british_alias(tmp_path: Path) -> None:
    result = call("visualise", "ring", "--steps", "2", "--batch-size", "4", "--out", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert "visualise" not in call("--help").output
