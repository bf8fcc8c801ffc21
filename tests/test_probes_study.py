"""Studies and galleries: one file, one report; every shipped study is sound."""

import re
from pathlib import Path

import pytest
from probing import probe, reference, scenes, sound
from test_cli import call, refused

from xbench.probes.contract import PROBES
from xbench.probes.page import Part, render
from xbench.probes.study import read_study, run_study, study_images

STUDIES = sorted((Path(__file__).resolve().parent.parent / "examples" / "studies").glob("*.toml"))

SMALL = """
title = "A small study"
question = ["First?", "Second <b>?"]
limit = 2

[[part]]
probe = "agree"
title = "Agreement"
why = "Because."
with = { methods = "gradient,edges", pictures = 1 }

[[part]]
probe = "gallery"
limit = 1
with = { methods = "gradient", top = 1 }
"""


def written(folder: Path, text: str) -> str:
    path = folder / "study.toml"
    path.write_text(text)
    return str(path)


def test_a_study_is_one_report(tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = call("study", written(tmp_path, SMALL), "--batch-size", "8", "--out", str(out))
    assert result.exit_code == 0, result.output
    page = (out / "index.html").read_text()
    for heading in ("Question", "1. Agreement", "2. Gallery of 1 image", "Answer", "Limits"):
        assert f">{heading}</h2>" in page
    assert "Second &lt;b&gt;?" in page
    assert page.index("Question</h2>") < page.index("1. Agreement") < page.index("Answer</h2>")
    assert (out / "1_agree_matrix.png").is_file()
    assert (out / "2_gallery_maps.csv").is_file()
    for link in re.findall(r'href="([^"#][^"]*)"', page):
        assert link.startswith("data:") or (out / link).is_file()


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_shipped_study_is_understood(path: Path) -> None:
    study = read_study(path)
    assert len(study.steps) >= 3
    assert study.question
    assert len(STUDIES) == 3


def test_the_seed_and_images_of_a_study_are_kept(tmp_path: Path) -> None:
    study = read_study(Path(written(tmp_path, SMALL)))
    model = reference()
    samples = study_images(study, model)
    told: list[str] = []
    first = run_study(study, model, samples, tell=lambda done, total, what: told.append(what))
    again = run_study(study, model, samples)
    assert render("t", first, "c") == render("t", again, "c")
    assert told[0] == "Agreement"
    assert all(isinstance(part, Part) for part in first)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("title = ", "not valid TOML"),
        ("title = 'x'", "no [[part]]"),
        ("titel = 'x'", "has no 'titel'"),
        ("question = 3\n[[part]]\nprobe = 'agree'", "question is a text"),
        ("[[part]]\ntitle = 'x'", "names no probe"),
        ("[[part]]\nprobe = 'agre'", "Did you mean agree"),
        ("[[part]]\nprobe = 'agree'\nwith = { method = 'x' }", "no parameter 'method'"),
        ("[[part]]\nprobe = 'agree'\nwith = { q = 'much' }", "takes float"),
        ("[[part]]\nprobe = 'agree'\nwith = { q = 3 }", "share of the pixels"),
        ("limit = 0\n[[part]]\nprobe = 'agree'", "limit is a whole number"),
        ("[[part]]\nprobe = 'visualize'", "Say what to visualize"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    assert sentence in refused("study", written(tmp_path, text))


def test_a_missing_study_is_one_sentence() -> None:
    assert "nowhere.toml" in refused("study", "nowhere.toml")


def test_all_probes_are_listed() -> None:
    result = call("probes")
    assert result.exit_code == 0
    assert not PROBES.broken
    names = [entry.name for entry in PROBES]
    assert names == [
        "agree",
        "choose",
        "clip_dissect",
        "counterfactual",
        "dissect",
        "fool",
        "gallery",
        "style",
        "sweep",
        "visualize",
    ]
    assert all(name in result.output for name in names)


def test_galleries_in_every_format(tmp_path: Path) -> None:
    words = ("--methods", "gradient,gradcam", "--top", "2", "--batch-size", "8", "--raw")
    more = ("--format", "png,pdf,html", "--scale", "shared", "--reading", "sign=absolute,cap=99")
    result = call("explain", "planted", *words, *more, "--out", str(tmp_path))
    assert result.exit_code == 0, result.output
    kinds = sorted(path.suffix for path in tmp_path.iterdir())
    assert kinds.count(".pdf") == 1
    assert kinds.count(".png") == 1 + 4 + 1  # page, maps alone, picture of the HTML page
    assert next(tmp_path.glob("*.pdf")).read_bytes().startswith(b"%PDF")
    page = (tmp_path / "index.html").read_text()
    assert "maps are read cap=99.0,sign=absolute, one color scale a method" in page


def test_a_gallery_says_what_cannot_run(tmp_path: Path) -> None:
    model = reference()
    one = probe("gallery", methods="gradient,attention_rollout", top=2)
    exhibit = one.run(model, scenes(model, 1))
    sound(exhibit, tmp_path)
    assert any("attention_rollout" in sentence for sentence in exhibit.caption)
    assert len(exhibit.numbers["maps"].frame) == 2


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--scale", "common"), "scale is own or shared"),
        (("--format", "gif"), "--format takes"),
        (("--top", "0"), "--top"),
    ],
)
def test_wrong_looks_are_one_sentence(words: tuple[str, ...], sentence: str) -> None:
    assert sentence in refused("explain", "planted", *words, "--batch-size", "4")
