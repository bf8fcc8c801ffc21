"""Reports are pure functions of a run folder, safe, self-contained, and right in what they show."""

import base64
import csv
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from report_runs import changed, copied, small_run

from xbench.report import write_all
from xbench.report.charts import heat_chart
from xbench.report.curves import Family, curve_families, mean_band
from xbench.report.findings import Findings, gather
from xbench.report.gallery import EACH, SIDE, chosen_images, colored, image_ease, sprite
from xbench.report.html import GALLERY_METHODS, alike, breakable, json_script, render
from xbench.report.latex import latex, plain
from xbench.report.numbers import curve_numbers, matrix_numbers
from xbench.report.slices import slices
from xbench.report.structured import structured
from xbench.report.svg import spread
from xbench.report.tables import csv_text, markdown
from xbench.running.session import Run
from xbench.statistics.words import enumerated, grouped

FILES = (
    "leaderboard.csv",
    "leaderboard.md",
    "leaderboard.tex",
    "leaderboard.json",
    "report.html",
    "records.parquet",
)
BARE_REPORT = """import sys
from xbench.cli import main
from xbench.registry import Registry
from xbench.statistics import verdicts
def refuse(*arguments):
    raise AssertionError("a report reads the run folder and nothing else")
Registry.discover = verdicts.verdicts = refuse
sys.argv[0] = "xbench"
main()
"""
ATTACK = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return small_run(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def findings(run: Run) -> Findings:
    return gather(run)


@pytest.fixture(scope="module")
def page(findings: Findings) -> str:
    return render(findings)


def test_a_copied_folder_gives_the_same_bytes(run: Run, tmp_path: Path) -> None:
    write_all(run)
    copy = copied(run, tmp_path / "elsewhere" / "other name")
    environment = {**os.environ, "PYTHONHASHSEED": "7", "COLUMNS": "80"}
    subprocess.run(
        [sys.executable, "-c", BARE_REPORT, "report", str(copy.path)],
        check=True,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
    )
    for name in FILES:
        assert (copy.path / name).read_bytes() == (run.path / name).read_bytes(), name


def test_verdicts_and_boards_come_from_the_manifest(run: Run, tmp_path: Path) -> None:
    assert {board["card"]["name"] for board in run.manifest["boards"]} >= {"overall", "audit"}

    def judge(manifest: dict[str, Any]) -> None:
        reason = "It ranks noise above the truth."
        verdict = {"metric": "pointing_game", "standing": "fails", "reason": reason}
        manifest["verdicts"] = [verdict]
        (debugging,) = (b for b in manifest["boards"] if b["card"]["name"] == "debugging")
        debugging["card"]["summary"] = "A board of our own."

    before, after = run, changed(run, tmp_path / "run", judge)
    assert "pointing_game" not in before.leaderboard().ranking.dropped
    assert after.leaderboard().ranking.dropped["pointing_game"].startswith("It ranks noise")
    assert "A board of our own." in render(gather(after))


def test_the_page_fetches_nothing(page: str) -> None:
    assert not re.search(r'(src|href)\s*=\s*"(?!#|data:)', page)
    assert not re.search(r"url\((?!data:image/webp;base64,)", page)
    assert "@import" not in page
    assert "http://" not in page
    assert "https://" not in page


def test_names_that_look_like_code_are_harmless(run: Run, tmp_path: Path) -> None:
    def attack(manifest: dict[str, Any]) -> None:
        names = manifest["dataset"]["class_names"]
        manifest["dataset"]["class_names"] = [f"{ATTACK} {name}" for name in names]
        manifest["dataset"]["name"] = f"</title>{ATTACK}"
        manifest["dataset"]["skipped"] = {f"{ATTACK}.png": "'\"><img src=x onerror=alert(1)>"}
        manifest["methods"][0]["card"]["limitations"] = ATTACK

    page = render(gather(changed(run, tmp_path / "run", attack)))
    assert ATTACK not in page
    assert "<img" not in page
    assert page.count("<script") == page.count("</script>") == 2
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_data_for_the_script_cannot_leave_its_element() -> None:
    content = {"label": "</script><!--", "other": "a & b > c"}
    text = str(json_script(content))
    assert "<" not in text
    assert json.loads(text) == content


def test_all_tables_say_the_same(findings: Findings, run: Run) -> None:
    board = findings.board
    rows = list(csv.DictReader(io.StringIO(csv_text(board))))
    data = json.loads(structured(findings))
    text, tex = markdown(board, run.manifest), latex(board, run.manifest)
    assert [row["method"] for row in rows] == [row.method for row in board.rows]
    assert [row["method"] for row in data["rows"]] == [row.method for row in board.rows]
    for row, line, own in zip(rows, data["rows"], board.rows, strict=True):
        mean = own.cells["pointing_game"].mean
        assert float(row["pointing_game"]) == pytest.approx(mean, rel=1e-9)
        assert line["metrics"]["pointing_game"]["mean"] == pytest.approx(mean, rel=1e-9)
        printed = f"{own.cells['insertion[steps=8]'].mean:.3f}"
        assert printed in text
        assert printed in tex
    assert "NaN" not in structured(findings)


def test_latex_is_escaped_and_balanced(findings: Findings, run: Run) -> None:
    text = latex(findings.board, run.manifest)
    assert plain("a_b & 5 % {#}") == r"a\_b \& 5 \% \{\#\}"
    bare = re.sub(r"\\[{}]", "", text)
    assert bare.count("{") == bare.count("}")
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") >= 3
    for line in text.splitlines():
        if line.endswith(r"\\") and "&" in line:
            assert not re.search(r"(?<!\\)_", line)


def test_bands_are_bootstrap_intervals_of_the_mean() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(size=(400, 3)) * [1.0, 2.0, 0.0] + [0.0, 1.0, 5.0]
    values[:100, 0] = np.nan
    band = mean_band(values)
    assert band.mean == pytest.approx(np.nanmean(values, axis=0))
    half = 1.96 * np.nanstd(values, axis=0) / np.sqrt([300, 400, 400])
    assert band.high - band.mean == pytest.approx(half, rel=0.15, abs=1e-9)
    assert band.mean - band.low == pytest.approx(half, rel=0.15, abs=1e-9)


def test_bands_of_few_or_undefined_images_are_blank() -> None:
    assert np.isnan(mean_band(np.ones((2, 4))).low).all()
    values = np.ones((5, 2))
    values[:, 1] = np.nan
    band = mean_band(values)
    assert np.isfinite(band.low[0])
    assert np.isnan([band.mean[1], band.low[1], band.high[1]]).all()


def test_curves_of_a_run(findings: Findings) -> None:
    families = curve_families(findings.curves, findings.manifest)
    main = {family.metric: family for family in families if family.main}
    deletion = main["deletion[steps=8]"]
    assert deletion.name == "probability"
    assert list(deletion.x) == pytest.approx([i / 8 for i in range(9)])
    assert deletion.x_label == "share of the pixels removed"
    assert main["cascading_randomization"].name == "spearman"
    assert set(deletion.bands) == set(findings.places)
    own = findings.curves
    own = own[(own["metric"] == deletion.metric) & (own["name"] == "probability")]
    points = np.array(own[own["method"] == "gradcam"]["points"].tolist())
    assert deletion.bands["gradcam"].mean == pytest.approx(points.mean(axis=0))


def test_gallery_shows_what_it_says(findings: Findings) -> None:
    ease = image_ease(findings.board.table)
    facts = findings.facts.copy()
    wrong = facts.index[2]
    facts.loc[wrong, "label"] = (facts.loc[wrong, "predicted"] + 1) % 8
    found = chosen_images(findings.board.table, facts, each=2)
    by_reason: dict[str, list[str]] = {}
    for image, reasons in found.items():
        for reason in reasons:
            by_reason.setdefault(reason, []).append(image)
    ordered = sorted(ease.values())
    assert [ease[image] for image in by_reason["methods do best"]] == ordered[:-3:-1]
    assert [ease[image] for image in by_reason["methods do worst"]] == ordered[:2]
    assert by_reason["wrong prediction"] == [wrong]
    assert by_reason["methods disagree most"]


def test_sprites_hold_their_tiles_in_order() -> None:
    tiles = [np.full((20, 20, 3), shade, np.uint8) for shade in (0, 120, 250)]
    tiles.append(np.full((10, 40, 3), 250, np.uint8))
    uri = sprite(tiles)
    head, _, body = uri.partition(",")
    assert head == "data:image/webp;base64"
    strip = np.asarray(Image.open(io.BytesIO(base64.b64decode(body))).convert("L"), dtype=float)
    assert strip.shape == (SIDE, 4 * SIDE)
    centers = [strip[SIDE // 2, place * SIDE + SIDE // 2] for place in range(4)]
    assert centers == pytest.approx([0, 120, 250, 250], abs=8)
    assert strip[4, 3 * SIDE + SIDE // 2] == pytest.approx(128, abs=8)  # letterboxed


def test_the_largest_gallery_leaves_the_page_under_five_megabytes() -> None:
    rng = np.random.default_rng(0)
    noise = [rng.normal(size=(64, 64)).astype(np.float32) for _ in range(GALLERY_METHODS + 1)]
    strip = sprite([colored(values, signed=True) for values in noise])
    images = 4 * EACH + EACH // 2
    assert images * len(strip) < 3_500_000  # noise is what compresses worst


def test_signed_maps_are_white_at_zero() -> None:
    values = np.array([[-1.0, 0.0], [1.0, 0.0]], dtype=np.float32)
    picture = colored(values, signed=True).astype(int)
    assert (picture[0, 1] > 240).all()
    assert picture[0, 0, 2] > picture[0, 0, 1]  # purple against the class
    assert picture[1, 0, 0] > picture[1, 0, 2]  # orange for it
    flat = colored(np.zeros((2, 2), np.float32), signed=True)
    assert (flat == flat[0, 0]).all()


def test_slices_partition_the_images(findings: Findings) -> None:
    methods, found = slices(findings)
    assert methods == list(findings.board.ranking.methods)
    everything = found[0]
    means = [standing.mean_rank.value for standing in findings.board.ranking.standings]
    assert everything.images == 8
    assert list(everything.ranks) == pytest.approx(means)
    for part in found:
        assert sum(part.ranks) == pytest.approx(sum(range(1, len(methods) + 1)))


def test_a_skipped_image_and_few_images_are_told(run: Run, tmp_path: Path) -> None:
    def skip(manifest: dict[str, Any]) -> None:
        manifest["dataset"]["skipped"] = {"broken.png": "not an image"}

    page = render(gather(changed(run, tmp_path / "run", skip)))
    assert "1 image could not be read: broken.png (not an image)." in page
    assert "Only 8 images" in page


def test_a_run_without_maps_still_reports(run: Run, tmp_path: Path) -> None:
    copy = copied(run, tmp_path / "run")
    for path in copy.folder.maps_path.iterdir():
        path.unlink()
    assert "The run folder holds no maps to show." in render(gather(copy))


def test_damaged_maps_are_named_and_not_shown(run: Run, tmp_path: Path) -> None:
    copy = copied(run, tmp_path / "run")
    shards = sorted(copy.folder.maps_path.glob("[!i]*.safetensors"))
    pictured, torn = next(copy.folder.maps_path.glob("images-*.safetensors")), shards[0]
    content = bytearray(torn.read_bytes())
    content[-3] ^= 64  # one bit of one pixel
    torn.write_bytes(content)
    shards[1].write_bytes(shards[2].read_bytes())  # another file's maps
    shards[3].write_bytes(b"no header")
    page = render(gather(copy))
    for path, word in ((torn, "torn"), (shards[1], "foreign"), (shards[3], "torn")):
        assert not path.exists()
        assert path.with_name(f"{path.name}.{word}").is_file()
        assert f"{path.name}.{word}" in page
    assert "Damaged files were set aside" in render(gather(copy)), "also the next time"
    pictured.write_bytes(pictured.read_bytes()[:-1])
    assert f"{pictured.name}.torn" in render(gather(copy))
    assert "Damaged files" not in render(gather(run))


def test_alike_methods_stand_side_by_side() -> None:
    values = np.full((4, 4), 0.1)
    values[0, 2] = values[2, 0] = values[1, 3] = values[3, 1] = 0.9
    np.fill_diagonal(values, np.nan)
    order = alike(values)
    assert abs(order.index(0) - order.index(2)) == 1
    assert abs(order.index(1) - order.index(3)) == 1
    svg = heat_chart(["a", "<b>", "c", "d"], values, title="t")
    assert "<b>" not in svg
    assert svg.count("<rect") == 12


def test_labels_keep_their_distance() -> None:
    placed = spread([50.0] * 6 + [95.0], 12, 0, 100)
    assert sorted(placed) == placed
    assert min(np.diff(placed)) >= 12 - 1e-9
    assert max(placed) <= 100


def test_every_chart_has_its_numbers(page: str, findings: Findings) -> None:
    assert page.count('<details class="numbers">') == page.count("<svg viewBox") >= 6
    family = next(f for f in curve_families(findings.curves, findings.manifest) if f.main)
    table = curve_numbers(family, list(findings.places))
    assert table.head == ("0", "0.125", "0.25", "0.375", "0.5", "0.625", "0.75", "0.875", "1")
    cells = dict(table.rows)["gradcam"]
    assert [float(cell) for cell in cells] == pytest.approx(family.bands["gradcam"].mean, abs=6e-4)
    matrix = matrix_numbers(["a", "b"], np.array([[np.nan, 0.25], [0.25, np.nan]]))
    assert matrix.rows == (("a", ("", "0.25")), ("b", ("0.25", "")))
    long = Family("m", "f", list(range(101)), "step", {"a": mean_band(np.ones((3, 101)))}, 3, True)
    assert curve_numbers(long, ["a"]).head == tuple(map(str, range(0, 101, 10)))


def test_long_names_break_where_they_may_and_stay_safe() -> None:
    assert str(breakable("lrp_flat[a=1,b=2]")) == "lrp_<wbr>flat[<wbr>a=1,<wbr>b=2]"
    assert "<script>" not in breakable(ATTACK)


def test_reasons_are_told_once() -> None:
    reasons = {f"m{i}": "too dear" for i in range(9)} | {"last": "broken"}
    groups = grouped(reasons)
    assert list(groups) == ["too dear", "broken"]
    assert enumerated(groups["too dear"]) == "m0, m1, m2, m3, m4, m5 and 3 more"
    assert [enumerated(["a"]), enumerated(["a", "b"])] == ["a", "a and b"]


def test_every_method_and_picture_is_on_the_page(page: str, findings: Findings) -> None:
    shots = page.count('class="shot"')
    assert shots >= 4
    assert page.count('class="tile"') == shots * (1 + len(findings.places))
    assert page.count("data:image/webp;base64,") == shots
    for place in findings.places.values():
        assert f'id="m-{place}"' in page
