"""A class called `<script>alert(1)</script>` and a file called `=cmd()`, in every output."""

import csv
import io
import json
import re
from typing import Any

import numpy as np
import pytest
from PIL import Image
from report_runs import changed

from xbench.report.writing import write_all
from xbench.running.session import Run, Settings, run_grid

SCRIPT, FORMULA = "<script>alert(1)</script>", "=cmd()"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run on files with such names, whose manifest says such names wherever it can."""
    folder = tmp_path_factory.mktemp("hostile")
    photos = folder / FORMULA
    photos.mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (3, 70, 80, 3), dtype=np.uint8)
    for name, pixels in zip((FORMULA, "@SUM(1)", "<b onload=x>"), noise, strict=True):
        Image.fromarray(pixels).save(photos / f"{name}.png")
    (photos / "=broken().png").write_bytes(b"no image")
    run = run_grid(
        Settings(
            dataset=f"images:{photos}",
            methods="gradient,gradcam,random",
            metrics="deletion[steps=4],sparseness,iou",
            batch_size=8,
            device="cpu",
            out=folder / "run",
            command=["xbench", "run", "--out", SCRIPT],
        )
    )

    def attack(manifest: dict[str, Any]) -> None:
        manifest["dataset"]["class_names"] = [SCRIPT, FORMULA, r"\input{x}"] * 3
        manifest["dataset"]["name"] = f"{FORMULA} {SCRIPT}"
        manifest["model"]["name"] = FORMULA + SCRIPT
        manifest["model"]["notes"] = [SCRIPT]

    again = changed(run, folder / "attacked", attack)
    write_all(again)
    return again


def test_the_page_has_no_script_of_theirs(hostile: Run) -> None:
    page = (hostile.path / "report.html").read_text()
    assert SCRIPT not in page
    assert "<b onload" not in page
    assert page.count("<script") == page.count("</script>") == 2


def test_markdown_has_no_tags(hostile: Run) -> None:
    text = (hostile.path / "leaderboard.md").read_text()
    assert "<script" not in text
    assert "&lt;script" in text


def test_no_cell_of_a_table_is_a_formula(hostile: Run) -> None:
    rows = list(csv.reader(io.StringIO((hostile.path / "leaderboard.csv").read_text())))
    assert len(rows) == 4
    for cell in (cell for row in rows for cell in row):
        number = re.fullmatch(r"-?[\d.]+(e[+-]?\d+)?|-?inf", cell)
        assert number or not cell.startswith(("=", "+", "-", "@", "\t", "\r")), cell


def test_latex_runs_no_command_of_theirs(hostile: Run) -> None:
    text = (hostile.path / "leaderboard.tex").read_text()
    assert r"\input" not in text
    assert "<script" not in re.sub(r"(?m)^%.*$", "", text)
    assert r"\textless{}script\textgreater{}" in text


def test_data_files_say_the_names_as_they_are(hostile: Run) -> None:
    data = json.loads((hostile.path / "leaderboard.json").read_text())
    assert data["model"]["name"] == FORMULA + SCRIPT
    assert f"{FORMULA}.png" in set(hostile.records["image_id"])
    assert all(path.resolve().is_relative_to(hostile.path) for path in hostile.path.rglob("*"))
