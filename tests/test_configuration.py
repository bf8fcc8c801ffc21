"""TOML files: the same run as the command line, which wins; errors with their place."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from xbench.cli import app
from xbench.cli.configuration import START


def call(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def refused(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    result = call("run", path)
    assert result.exit_code == 2, result.output
    return " ".join(result.stderr.split())


SMALL = """\
methods = ["gradient", "smoothgrad[n_samples=2]"]
metrics = "sparseness"
limit = 3
seed = 4
batch_size = 4
quiet = true
"""


def test_a_file_is_the_same_as_the_options(tmp_path: Path) -> None:
    path = tmp_path / "bench.toml"
    path.write_text(SMALL)
    result = call("run", path, "--limit", "2", "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert [m["label"] for m in manifest["methods"]] == ["gradient", "smoothgrad[n_samples=2]"]
    assert manifest["seed"] == 4
    assert manifest["dataset"]["images"] == 2  # the command line wins


def test_plan_reads_it_too_and_layers_are_a_table(tmp_path: Path) -> None:
    path = tmp_path / "bench.toml"
    path.write_text(
        'methods = "gradcam"\nmetrics = "deletion"\nlimit = 2\n[layers]\nlast_conv = "nowhere"\n'
    )
    result = call("plan", path)
    assert result.exit_code == 2
    assert "nowhere" in result.stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "limit = 3\nmetods = 'all'\n",
            "line 2: there is no option 'metods'. Did you mean methods?",
        ),
        ("\n\nlimit = 'ten'\n", "line 3: limit takes a whole number, not 'ten'."),
        ("limit = true\n", "line 1: limit takes a whole number"),
        ("quiet = 1\n", "line 1: quiet takes true or false"),
        ("model = 3\n", "line 1: model takes text"),
        ('methods = [\n  "gradient",\n  "gradcm",\n]\n', "line 3: There is no method 'gradcm'."),
        ('metrics = "deltion"\n', "line 1: There is no metric 'deltion'."),
        ("layers = 'layer4'\n", "line 1: layers is a table"),
        ("limit = \n", "is no TOML"),
        ("limit = 0\n", "at least 1"),
    ],
)
def test_errors_say_the_place(text: str, expected: str, tmp_path: Path) -> None:
    sentence = refused(tmp_path / "bench.toml", text)
    assert expected in sentence
    assert "Traceback" not in sentence


def test_a_missing_file_is_a_sentence(tmp_path: Path) -> None:
    result = call("run", tmp_path / "absent.toml")
    assert result.exit_code == 2
    assert "cannot be read" in result.stderr


def test_init_writes_one_that_plans(tmp_path: Path) -> None:
    path = tmp_path / "bench.toml"
    assert call("init", path).exit_code == 0
    assert path.read_text() == START
    again = call("init", path)
    assert again.exit_code == 2
    assert "already" in again.stderr
    result = call("plan", path, "--metrics", "sparseness", "--limit", "1", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["images"] == 1
