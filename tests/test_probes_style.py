"""Style transfer: losses fall, the image takes the style's statistics, maps are compared."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from probing import probe, reference, same, scenes, sound
from test_cli import call, refused

from xbench.classifier.layers import stages
from xbench.contracts import Samples
from xbench.errors import DataError
from xbench.probes.contract import pick
from xbench.probes.style import Losses, _sentences, features, gram, transfer


def test_a_gram_matrix_forgets_places_and_keeps_products() -> None:
    maps = torch.randn(1, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    found = gram(maps)
    flat = maps[0].flatten(1)
    assert found[0, 1] == pytest.approx(float((flat[0] * flat[1]).mean()), abs=1e-6)
    assert torch.allclose(found, gram(maps.flip(3).roll(2, dims=2)), atol=1e-6)


def test_the_style_comes_nearer_and_the_content_alone_changes_nothing() -> None:
    model = reference()
    images = scenes(model, 2).images
    content, style = images[:1], images[1:]
    before = model.fingerprint()

    def away(image: torch.Tensor) -> float:
        layers = stages(model.module, model.trace(image))[:-1]
        pairs = zip(features(model, image, layers), features(model, style, layers), strict=True)
        return sum(float((gram(a) - gram(b)).square().mean()) for a, b in pairs)

    told: list[int] = []
    made, losses = transfer(model, (content, style), Losses(0.1, 10, 0), (30, 0.03), told.append)
    assert away(made) < 0.5 * away(content)
    assert losses["style"][-1] < 0.5 * losses["style"][0]
    assert told == list(range(30))
    assert 0 <= float(made.min()) <= float(made.max()) <= 1
    kept, _ = transfer(model, (content, style), Losses(1, 0, 0), (5, 0.03), told.append)
    assert torch.allclose(kept, content, atol=1e-6)
    assert model.fingerprint() == before
    assert all(parameter.grad is None for parameter in model.module.parameters())


def test_the_exhibit(tmp_path: Path) -> None:
    model = reference()
    samples = scenes(model, 3)
    one = probe("style", methods="gradient,edges", steps=6)
    exhibit = one.run(model, samples)
    sound(exhibit, tmp_path)
    assert set(exhibit.images) == {"style", "stylized", "maps", "losses"}
    table = exhibit.numbers["methods"].frame
    assert table["correlation"].between(-1, 1).all()
    assert same(exhibit, one.run(model, samples))


def test_the_same_image_twice_keeps_every_map() -> None:
    model = reference()
    twice = pick(scenes(model, 1), [0, 0])
    table = probe("style", methods="gradient", steps=2, tv=0.0).run(model, twice)
    row = table.numbers["methods"].frame.iloc[0]
    assert row["correlation"] > 0.999
    assert row["correlation_style_image"] == pytest.approx(1)


def test_a_map_that_correlates_with_nothing_does_not_keep_to_the_content() -> None:
    row = {"method": "m", "iou_style_image": 0.07, "correlation_style_image": 0.0}
    told = [
        _sentences(pd.DataFrame([{**row, "iou": iou, "correlation": correlation}]))[0]
        for iou, correlation in ((0.3, 0.6), (0.12, 0.01), (0.08, 0.6))
    ]
    assert [sentence.endswith("it keeps to the content.") for sentence in told] == [
        True,
        False,
        False,
    ]


def test_one_image_is_too_few() -> None:
    model = reference()
    one: Samples = scenes(model, 1)
    with pytest.raises(DataError, match="needs 2 images"):
        probe("style").run(model, one)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("nowhere.jpg", "nothing.jpg"), "nowhere.jpg"),
        (("planted", "nothing.jpg"), "one data set"),
    ],
)
def test_mistakes_are_one_sentence(words: tuple[str, ...], sentence: str) -> None:
    assert sentence in refused("style", *words, "--batch-size", "4")


def test_the_command(tmp_path: Path) -> None:
    from PIL import Image

    pixels = (scenes(reference(), 2).images * 255).byte().permute(0, 2, 3, 1).numpy()
    for name, array in zip("ab", pixels, strict=True):
        Image.fromarray(array).save(tmp_path / f"{name}.png")
    words = ("--methods", "gradient", "--steps", "2", "--batch-size", "4", "--out", str(tmp_path))
    for images in ((str(tmp_path / "a.png"), str(tmp_path / "b.png")), ("planted", "planted")):
        result = call("style", *images, *words)
        assert result.exit_code == 0, result.output
