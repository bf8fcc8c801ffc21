"""The command line as a user meets it: sentences and exit codes, no tracebacks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from xbench.cli import app, options
from xbench.running import session


def call(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def refused(*words: str) -> str:
    """The sentence of a call that must fail with exit code 2."""
    result = call(*words)
    assert result.exit_code == 2, (result.exit_code, result.output, result.exception)
    assert "Traceback" not in result.output
    sentence = " ".join(result.stderr.split())
    assert sentence.startswith("xbench: ")
    assert sentence.endswith((".", "?"))
    return sentence


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with a good photo and others that are strange."""
    folder = tmp_path / "photos"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (70, 80, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "good.jpg")
    return folder


def strange_photos(folder: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (70, 80, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    whole = (folder / "good.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    image.convert("L").save(folder / "gray.png")
    image.convert("CMYK").save(folder / "cmyk.jpg")
    image.convert("RGBA").save(folder / "rgba.png")
    image.resize((1, 1)).save(folder / "pixel.png")


RUN = ("run", "--methods", "gradient", "--metrics", "sparseness", "--batch-size", "4", "-q")


def test_help_is_fast_because_torch_is_not_loaded() -> None:
    code = (
        "import sys; from xbench.cli import main; assert 'torch' not in sys.modules, 'torch'; "
        "assert 'pandas' not in sys.modules, 'pandas'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_method_is_answered_with_the_nearest() -> None:
    assert "Did you mean gradcam" in refused("run", "--methods", "gradcamm")


def test_an_unknown_metric_is_answered_with_the_nearest() -> None:
    assert "deletion" in refused("run", "--metrics", "deltion")


def test_an_unknown_parameter_is_answered_with_the_known_ones() -> None:
    assert "n_samples" in refused("run", "--methods", "smoothgrad[samples=3]")


def test_a_missing_folder(tmp_path: Path) -> None:
    assert "no folder" in refused(*RUN, "--dataset", f"images:{tmp_path / 'nowhere'}").lower()


def test_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "no images" in refused(*RUN, "--dataset", f"images:{tmp_path / 'empty'}").lower()


def test_an_unknown_dataset() -> None:
    assert "planted" in refused(*RUN, "--dataset", "plantd")


def test_strange_images_go_on_or_are_named(photos: Path, tmp_path: Path) -> None:
    strange_photos(photos)
    out = tmp_path / "run"
    result = call(*RUN, "--dataset", f"images:{photos}", "--out", str(out))
    assert result.exit_code == 0, (result.output, result.exception)
    assert "Left out truncated.jpg" in result.stderr
    manifest = json.loads((out / "manifest.json").read_text())
    assert list(manifest["dataset"]["skipped"]) == ["truncated.jpg"]
    assert manifest["dataset"]["images"] == 5


def test_only_unreadable_images(tmp_path: Path) -> None:
    folder = tmp_path / "bad"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"not an image")
    assert "a.jpg" in refused(*RUN, "--dataset", f"images:{folder}")


def test_weights_of_another_architecture(photos: Path, tmp_path: Path) -> None:
    import torch
    import torchvision

    weights = tmp_path / "resnet.pt"
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), weights)
    sentence = refused(
        *RUN, "--dataset", f"images:{photos}", "--model", "torchvision:squeezenet1_1",
        "--weights", str(weights),
    )  # fmt: skip
    assert "resnet.pt" in sentence


def test_missing_weights() -> None:
    assert "nowhere.pt" in refused(
        *RUN, "--model", "torchvision:resnet18", "--weights", "nowhere.pt"
    )


def test_an_unknown_model() -> None:
    assert "resnet18" in refused(*RUN, "--model", "torchvision:resnet81")


def test_an_output_that_cannot_be_a_folder(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    assert "--out" in refused(*RUN, "--limit", "1", "--out", str(file / "run"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_output_folder(tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    assert "cannot be written" in refused(*RUN, "--limit", "1", "--out", str(folder))


def test_an_output_folder_with_something_else_in_it(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert "not empty" in refused(*RUN, "--limit", "1", "--out", str(tmp_path))
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_cuda_without_a_device() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    assert "cuda" in refused(*RUN, "--device", "cuda").lower()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--batch-size", "0"),
        ("--batch-size", "many"),
        ("--limit", "0"),
        ("--target", "second"),
        ("--layer", "last_conv"),
        ("--device", "tpu"),
        ("--max-calls", "-1"),
    ],
)
def test_values_out_of_range(option: str, value: str) -> None:
    assert option in refused("run", "--methods", "gradient", "-q", option, value) or value == "tpu"


def test_the_limit_of_calls_is_the_same_on_the_command_line_and_in_python() -> None:
    assert options.MAX_CALLS == session.MAX_CALLS
    assert options.MAX_MAP_CALLS == session.MAX_MAP_CALLS


def test_a_layer_that_is_not_there(tmp_path: Path) -> None:
    result = call(
        "run", "--methods", "gradcam", "--metrics", "sparseness", "--limit", "1", "-q",
        "--batch-size", "4", "--layer", "last_conv=nowhere", "--out", str(tmp_path / "run"),
    )  # fmt: skip
    assert "no layer 'nowhere'" in " ".join((result.output + result.stderr).split())


def test_run_writes_the_documented_folder_and_report_reads_it(tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = (
        "run", "--methods", "gradient,gradcam,random", "--metrics", "deletion,sparseness,iou",
        "--limit", "4", "--batch-size", "8", "-q", "--out", str(out),
    )  # fmt: skip
    result = call(*words)
    assert result.exit_code == 0, (result.output, result.exception)
    assert "Leaderboard" in result.stdout
    for name in ("manifest.json", "records.sqlite", "records.parquet", "leaderboard.csv",
                 "leaderboard.md", "report.html"):  # fmt: skip
        assert (out / name).stat().st_size > 100, name
    before = (out / "report.html").read_bytes()
    assert call("report", str(out)).exit_code == 0
    assert (out / "report.html").read_bytes() == before
    assert "--resume" in refused(*words)
    again = call(*words, "--resume")
    assert again.exit_code == 0
    assert "another run" in refused(*words, "--resume", "--seed", "7")


def test_report_of_no_run(tmp_path: Path) -> None:
    assert "no run folder" in refused("report", str(tmp_path))


def test_lists_print_cards() -> None:
    for catalogue, name in (
        ("methods", "gradcam"),
        ("metrics", "deletion"),
        ("datasets", "planted"),
    ):
        entries = json.loads(call(catalogue, "--json").stdout)
        assert name in {entry["name"] for entry in entries}
        assert name in call(catalogue).stdout


def test_plan_counts_without_running() -> None:
    words = ("plan", "--methods", "gradient,random", "--metrics", "deletion", "--limit", "3")
    planned = json.loads(call(*words, "--batch-size", "4", "--json").stdout)
    cells = {(cell["method"], cell["metric"]): cell for cell in planned["cells"]}
    assert cells["gradient", "explain"]["forwards"] == 1
    assert planned["images"] == 3
    assert "gradient" in call(*words, "--batch-size", "4").stdout


def test_doctor_says_what_is_there() -> None:
    found = {line["what"]: line["state"] for line in json.loads(call("doctor", "--json").stdout)}
    assert {"xbench", "python", "torch", "device", "threads", "captum"} <= set(found)


def test_explain_draws_a_picture(tmp_path: Path) -> None:
    words = ("--methods", "gradcam,gradient,attention_rollout", "--out", str(tmp_path))
    result = call("explain", "planted", *words, "--batch-size", "4")
    assert result.exit_code == 0, (result.output, result.exception)
    (picture,) = tmp_path.glob("*.png")
    with Image.open(picture) as image:
        assert image.width > 400
        assert np.asarray(image.convert("L")).std() > 10


def test_explain_of_a_missing_image() -> None:
    assert "nowhere.jpg" in refused("explain", "nowhere.jpg")


def test_a_method_in_one_new_file_is_found_everywhere(tmp_path: Path) -> None:
    (tmp_path / "brand_new.py").write_text(
        '''
from dataclasses import dataclass
from typing import ClassVar

from xbench.contracts import Method, MethodCard
from xbench.registry import METHODS


@METHODS.register
@dataclass(frozen=True)
class BrandNew(Method):
    """The first channel."""

    card: ClassVar[MethodCard] = MethodCard(name="brand_new", family="control", summary="New.")

    def explain(self, model, images, targets, *, streams):
        """See Method.explain."""
        return images[:, 0]
'''
    )
    code = f"""
import xbench.methods
xbench.methods.__path__.append({str(tmp_path)!r})
from typer.testing import CliRunner
from xbench.cli import app
from xbench.registry import METHODS
from xbench.docs import methods_table
assert "brand_new" in CliRunner().invoke(app, ["methods"]).stdout
assert "brand_new" in [one.label for one in METHODS.select("all")]
assert "brand_new" in methods_table()
"""
    subprocess.run([sys.executable, "-c", code], check=True)
