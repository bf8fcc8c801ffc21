"""Fooling images: attacks keep their limits, and the numbers of moved maps have known answers."""

from pathlib import Path

import pytest
import torch
from probing import probe, reference, same, scenes, sound
from test_cli import call, refused

from xbench.classifier import Classifier
from xbench.errors import ParameterError
from xbench.probes._attacks import Limits, attack, rounded
from xbench.probes._moves import hits, move_table, moves, pointing, top_overlap
from xbench.probes.maps import Maps, class_index


def test_ascent_reaches_its_confidence_and_survives_a_file() -> None:
    model = reference()
    image = rounded(scenes(model, 1).images)[0]
    before = int(model.logits(image[None]).argmax())
    target = (before + 3) % 8
    found = attack(model, image, target, "ascent", Limits(confidence=0.99))
    assert torch.equal(found.image, rounded(found.image))
    chance = model.probabilities(found.image[None])[0]
    assert float(chance[target]) >= 0.99
    change = (found.image - image).abs()
    assert 0 < float(change.max()) < 0.2
    assert float(change.square().mean().sqrt()) < 0.02  # hardly seen


@pytest.mark.parametrize("name", ["fgsm", "pgd"])
def test_signed_attacks_stay_within_epsilon_and_climb(name: str) -> None:
    model = reference()
    image = rounded(scenes(model, 1).images)[0]
    target = (int(model.logits(image[None]).argmax()) + 3) % 8
    limits = Limits(epsilon=3 / 255, steps=5)
    found = attack(model, image, target, name, limits)
    change = (found.image - image).abs()
    assert float(change.max()) <= 3 / 255 + 1e-6
    assert found.steps == (1 if name == "fgsm" else 5)
    chance = model.probabilities(torch.stack([image, found.image]))[:, target]
    assert chance[1] > chance[0]


def test_unknown_attacks_and_wrong_limits_are_refused(cnn: Classifier) -> None:
    image = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ParameterError, match="no attack"):
        attack(cnn, image, 0, "magic", Limits())
    for wrong in ({"confidence": 1.0}, {"steps": 0}, {"epsilon": 0.0}):
        with pytest.raises(ParameterError):
            Limits(**wrong)


def planted() -> tuple[torch.Tensor, torch.Tensor]:
    """A perturbation in one corner, and a map that points exactly there."""
    difference = torch.zeros(3, 28, 28)
    difference[:, :9, :9] = 0.1 + torch.rand(9, 9, generator=torch.Generator().manual_seed(2)) / 100
    return difference, difference.mean(dim=0)


def test_pointing_is_one_at_the_perturbation_and_negative_elsewhere() -> None:
    difference, there = planted()
    size = difference.abs().mean(dim=0)
    assert pointing(there, size) == pytest.approx(1)
    assert pointing(-there, size) == pytest.approx(1)  # magnitudes count
    assert pointing(there.max() - there, size) == pytest.approx(-1)
    assert hits(there, size) == pytest.approx(10)
    assert hits(there.flip(0, 1), size) == pytest.approx(0)


def test_moves_of_planted_maps() -> None:
    difference, there = planted()
    other = there.flip(0, 1)
    stays, follows = torch.stack([other] * 5), torch.stack([other, other, there, other, other])
    found = moves(
        Maps({"stays": stays, "follows": follows}, {"stays": False, "follows": False}),
        difference,
        "a",
        "ascent",
        works=True,
    ).set_index("method")
    assert found.loc["stays", "change"] == pytest.approx(0)
    assert found.loc["stays", "iou"] == pytest.approx(1)
    assert found.loc["follows", "change"] > 1
    assert found.loc["follows", "iou"] == 0
    assert found.loc["follows", "change_noise"] == pytest.approx(0)
    assert found.loc["follows", "points"] == pytest.approx(1)
    assert found.loc["follows", "points_clean"] < 0
    assert top_overlap(there, there) == 1


def test_images_that_were_not_fooled_do_not_count() -> None:
    difference, there = planted()
    maps = Maps({"m": torch.stack([there] * 5)}, {"m": False})
    missed = moves(maps, difference, "a", "fgsm", works=False)
    table = move_table(missed)
    assert table["images"].tolist() == [0]
    assert table["change"].isna().all()


def test_the_exhibit(tmp_path: Path) -> None:
    model = reference()
    samples = scenes(model, 2)
    one = probe("fool", methods="gradient,edges", attacks="ascent,fgsm", pictures=1)
    exhibit = one.run(model, samples)
    page = sound(exhibit, tmp_path)
    assert "as the model sees it" in page
    assert {"image1", "maps1", "fooling1"} == set(exhibit.images)
    facts = exhibit.numbers["attacks"].frame
    assert facts["fooled"][facts["attack"] == "ascent"].all()
    table = exhibit.numbers["methods"].frame.set_index(["attack", "method"])
    blind = table.loc[("ascent", "edges")]  # it looks at the picture alone
    assert blind["change"] == blind["change_same_class"]
    assert any("whichever class" in sentence for sentence in exhibit.caption)
    assert table.loc[("ascent", "edges"), "change_of_class"] == 0
    assert same(exhibit, one.run(model, samples))


def test_classes_are_found_by_name_and_number() -> None:
    model = reference()
    samples = scenes(model, 1)
    name = model.class_names[3]
    assert class_index(model, samples, name.upper()) == 3
    assert class_index(model, samples, "7") == 7


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--target", "8"), "8 classes, 0 to 7"),
        (("--target", "trangle"), "Did you mean triangle"),
        (("--attacks", "magic"), "no attack 'magic'"),
        (("--attacks", ","), "Name an attack"),
        (("--confidence", "2"), "confidence"),
        (("--limit", "0"), "--limit"),
    ],
)
def test_mistakes_are_one_sentence(words: tuple[str, ...], sentence: str) -> None:
    assert sentence in refused("fool", "planted", *words, "--batch-size", "4")


def test_the_command(tmp_path: Path) -> None:
    words = ("--methods", "gradient", "--attacks", "fgsm", "--limit", "1", "--batch-size", "8")
    result = call("fool", "planted", *words, "--target", "ring", "--out", str(tmp_path))
    assert result.exit_code in (0, 2), result.output  # 2 where the image is a ring already
    assert "The page is" in result.output or "already takes" in result.stderr
