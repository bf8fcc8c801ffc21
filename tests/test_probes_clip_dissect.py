"""CLIP-Dissect: the equations, chance, planted units, and the loading of image-text models."""

import types
from pathlib import Path

import pytest
import torch
from probing import probe, same, sound
from reference import clip_dissect_reference as slow
from test_cli import call, refused
from test_probes_dissect import hand_made
from torch import Tensor, nn

from xbench.errors import ModelError
from xbench.models import encoders
from xbench.models.encoders import Encoder, OpenClip, load_encoder
from xbench.probes._describing import (
    Matching,
    chance_lift,
    describe,
    read_words,
    similarities,
)
from xbench.probes.contract import nothing

CPU = torch.device("cpu")
WORDS = ["red", "green", "blue", "yellow", "magenta", "cyan"]

PLANTED = """
import torch

from xbench.probes._concepts import color_masks

WORDS = ["red", "green", "blue", "yellow", "magenta", "cyan"]


class Colors:
    def encode_images(self, pixels):
        masks = color_masks(pixels)
        return torch.stack([masks[w].float().mean(dim=(1, 2)) for w in WORDS], dim=1) + 1e-3

    def encode_texts(self, texts):
        return torch.stack([torch.eye(len(WORDS))[WORDS.index(text)] for text in texts])


def colors():
    return Colors()


def nobody():
    return object()


def fails():
    raise RuntimeError("no luck")


class Wrong(Colors):
    def encode_texts(self, texts):
        return torch.zeros(len(texts), 6)


class Other(Colors):
    def encode_texts(self, texts):
        return torch.ones(len(texts), 5)
"""


@pytest.fixture
def planted(tmp_path: Path) -> str:
    """A file with a joint image-text model in closed form: shares of colors, and their names."""
    (tmp_path / "encoder.py").write_text(PLANTED)
    (tmp_path / "words.txt").write_text("\n".join([*WORDS, "", "red"]))
    return str(tmp_path / "encoder.py")


def case(images: int = 12, units: int = 5, words: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    cosines = torch.rand(images, words, generator=generator) * 2 - 1
    return cosines, torch.rand(images, units, generator=generator)


@pytest.mark.parametrize("similarity", ["softwpmi", "wpmi"])
def test_similarities_are_those_of_the_paper(similarity: str) -> None:
    cosines, activations = case(40)
    how = Matching(similarity, top=6, sharpness=3.0, weight=0.6)
    found = similarities(cosines, activations, how)
    wanted = slow.soft_wpmi(
        cosines.tolist(),
        activations.T.tolist(),
        top=6,
        a=3.0,
        weight=0.6,
        soft=similarity == "softwpmi",
    )
    assert torch.allclose(found.double(), torch.tensor(wanted).double(), atol=1e-4)


def test_correlation_is_pearson() -> None:
    cosines, activations = case()
    found = similarities(cosines, activations, Matching("correlation"))
    for unit in range(5):
        for word in range(4):
            wanted = slow.correlation(activations[:, unit].tolist(), cosines[:, word].tolist())
            assert float(found[unit, word]) == pytest.approx(wanted, abs=1e-5)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    cosines, activations = case(30, 7)
    at_once = similarities(cosines, activations, Matching(top=5))
    monkeypatch.setattr("xbench.probes._describing._ROOM", 1)
    assert torch.allclose(at_once, similarities(cosines, activations, Matching(top=5)), atol=1e-6)


def test_chance_is_kept_and_planted_units_are_above_it() -> None:
    """Of units that answer to nothing one in twenty is described at most; planted ones all are."""
    generator = torch.Generator().manual_seed(3)
    cosines = torch.randn(200, 8, generator=generator) * 0.2
    noise = torch.rand(200, 400, generator=generator)
    chance = chance_lift(cosines, Matching(), generator)
    words = [f"word {number}" for number in range(8)]
    found = describe(cosines, noise, words, Matching(), chance)
    assert found["described"].mean() < 0.09
    units = torch.cat([cosines + 0.02 * noise[:, :8], torch.zeros(200, 1), noise[:, :20]], dim=1)
    found = describe(cosines, units, words, Matching(), chance).set_index("unit")
    assert 8 not in found.index  # it never changes
    assert found.loc[:7, "concept"].tolist() == words
    assert found.loc[:7, "described"].all()
    top = units[:, 0].topk(40).indices
    one = cosines[:, 0].double()
    lift = float((one[top].mean() - one.mean()) / one.std(correction=0))
    assert found.loc[0, "lift"] == pytest.approx(lift, abs=1e-5)


def test_how_many_images_count() -> None:
    assert [Matching(top=100).counted(images) for images in (8, 96, 10_000)] == [2, 20, 100]


def test_hand_made_units_get_their_words(planted: str, tmp_path: Path) -> None:
    model = hand_made()
    values = {"clip": f"{planted}:colors", "concepts": str(tmp_path / "words.txt"), "layers": 1}
    one = probe("clip_dissect", weight=0.5, **values)  # of four units 1 ranks none above log 4
    exhibit = one.run(model, nothing())
    units = exhibit.numbers["units"].frame.set_index("unit")
    assert [units.loc[unit, "concept"] for unit in range(3)] == ["red", "green", "blue"]
    assert units.loc[:2, "described"].all()
    sound(exhibit, tmp_path / "out")
    assert {"histograms", "concepts", "units"} == set(exhibit.images)
    assert same(exhibit, one.run(model, nothing()))
    assert exhibit.about["concepts"] == WORDS


def test_the_command_with_two_models(planted: str, tmp_path: Path) -> None:
    words = ("--clip", f"{planted}:colors", "--concepts", str(tmp_path / "words.txt"))
    more = ("--limit", "8", "--layers", "1", "--beside", "reference-shortcut", "--batch-size", "8")
    result = call("dissect", *words, *more, "--out", str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    assert "compared with 6 words on the 2 images" in " ".join(result.output.split())
    table = (tmp_path / "out" / "layers.csv").read_text()
    assert "reference-shortcut" in table


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--concepts", "nowhere.txt"), "no file of concepts 'nowhere.txt'"),
        (("--concepts", "EMPTY"), "has no concepts"),
        (("--concepts", "BYTES"), "UTF-8"),
        (("--clip", "clap"), "no joint image-text model 'clap'"),
        (("--clip", "FILE"), "Say which function"),
        (("--clip", "nowhere.py:colors"), "no file 'nowhere.py'"),
        (("--clip", "FILE:colours"), "Did you mean"),
        (("--clip", "FILE:nobody"), "without encode_images"),
        (("--clip", "FILE:fails"), "no luck"),
        (("--clip", "FILE:Wrong"), "zero or not finite"),
        (("--clip", "FILE:Other"), "one space"),
        (("--clip-weights", "x.pt"), "brings its own weights"),
        (("--images", "nowhere:x"), "--images has no data set"),
        (("--limit", "3"), "at least 8"),
        (("--similarity", "cosine"), "softwpmi, wpmi, correlation"),
    ],
)
def test_mistakes_are_one_sentence(
    planted: str, tmp_path: Path, words: tuple[str, str], sentence: str
) -> None:
    (tmp_path / "empty.txt").write_text("\n\n")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00red")
    option, value = words
    for short, full in (("EMPTY", "empty.txt"), ("BYTES", "bytes.txt"), ("FILE", "encoder.py")):
        value = value.replace(short, str(tmp_path / full))
    given = {
        "--clip": f"{planted}:colors",
        "--concepts": str(tmp_path / "words.txt"),
        "--limit": "8",
        "--layers": "1",
        "--batch-size": "8",
    } | {option: value}
    assert sentence in refused("dissect", *[word for pair in given.items() for word in pair])


def test_two_words_at_least(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("\ufeffa dog\n\n a cat \na dog\n", encoding="utf-8")
    assert read_words(path) == ["a dog", "a cat"]


# ---- open_clip


class Tower(nn.Module):
    """As small as a network of open_clip can be: mean colors, and a table of words."""

    def __init__(self) -> None:
        super().__init__()
        self.visual = nn.Module()
        self.visual.preprocess_cfg = {"size": 8, "mean": (0.5,) * 3, "std": (0.25,) * 3}
        self.image, self.text = nn.Linear(3, 4, bias=False), nn.Embedding(10, 4)

    def encode_image(self, images: Tensor) -> Tensor:
        assert images.shape[1:] == (3, 8, 8)
        return self.image(images.mean(dim=(2, 3)))

    def encode_text(self, tokens: Tensor) -> Tensor:
        return self.text(tokens).mean(dim=1)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    def tokenizer(texts: list[str]) -> Tensor:
        return torch.tensor([[len(text) % 10] for text in texts])

    fake = types.SimpleNamespace(
        reason=None,
        list_models=lambda: ["Tower"],
        create_model=lambda name, **options: Tower(),
        get_tokenizer=lambda name: tokenizer,
    )
    monkeypatch.setattr(encoders, "_open_clip", fake)


def test_open_clip_gets_the_weights_of_a_file(library: None, tmp_path: Path) -> None:
    state = torch.random.get_rng_state()
    torch.save({"state_dict": Tower().state_dict()}, tmp_path / "tower.pt")
    torch.random.set_rng_state(state)
    found = load_encoder("open_clip:Tower", tmp_path / "tower.pt", CPU)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert isinstance(found.model, OpenClip)
    weights = torch.load(tmp_path / "tower.pt", weights_only=True)["state_dict"]
    assert torch.equal(found.model.network.image.weight, weights["image.weight"])
    white, gray = torch.ones(1, 3, 12, 20), torch.full((1, 1, 12, 20), 1.0)
    lengths = found.images(white).norm(dim=1)
    assert torch.allclose(lengths, torch.ones(1))
    assert torch.allclose(found.images(white), found.images(gray), atol=1e-6)
    assert found.texts(["a", "abc"]).shape == (2, 4)
    assert len(found.digest) == 16


@pytest.mark.parametrize(
    ("spec", "weights", "sentence"),
    [
        ("open_clip:Tower", None, "needs --clip-weights"),
        ("open_clip:Tower", "nowhere.pt", "no weights file"),
        ("open_clip:Towr", "tower.pt", "Did you mean Tower"),
        ("open_clip:Tower", "other.pt", "not of open_clip:Tower"),
        ("open_clip:Tower", "code.pt", "could run code"),
    ],
)
def test_open_clip_refuses(
    library: None, tmp_path: Path, spec: str, weights: str | None, sentence: str
) -> None:
    torch.save(Tower().state_dict(), tmp_path / "tower.pt")
    torch.save({"image.weight": torch.ones(4, 5)}, tmp_path / "other.pt")
    torch.save({"x": nn.Linear(2, 2)}, tmp_path / "code.pt")
    with pytest.raises(ModelError, match=sentence):
        load_encoder(spec, None if weights is None else tmp_path / weights, CPU)


def test_open_clip_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = types.SimpleNamespace(reason="open_clip cannot be imported; install it.")
    monkeypatch.setattr(encoders, "_open_clip", gone)
    with pytest.raises(ModelError, match="needs the open_clip library"):
        load_encoder("open_clip:Tower", None, CPU)


def test_rows_must_fit() -> None:
    class Short:
        def encode_images(self, pixels: Tensor) -> Tensor:
            return torch.ones(1, 3)

        def encode_texts(self, texts: list[str]) -> Tensor:
            return torch.ones(1, 3)

    one = Encoder("short", Short())
    with pytest.raises(ModelError, match="a row an item"):
        one.images(torch.rand(2, 3, 4, 4))
    with pytest.raises(ModelError, match="1 rows for 2 texts"):
        one.texts(["a", "b"])
