"""Every script in examples/ runs, and is short."""

import runpy
import sys
from pathlib import Path

import pytest

from xbench.plugins.catalogues import REGISTRIES

SCRIPTS = sorted((Path(__file__).resolve().parent.parent / "examples").glob("*.py"))


@pytest.fixture(autouse=True)
def _registries_as_they_were():
    for registry in REGISTRIES:
        registry.discover()
    before = [dict(registry._entries) for registry in REGISTRIES]
    yield
    for registry, entries in zip(REGISTRIES, before, strict=True):
        registry._entries.clear()
        registry._entries.update(entries)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_the_example_runs(
    script: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = script.read_text(encoding="utf-8")
    assert text.count("\n") <= 40
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(script), str(tmp_path / "run")])
    runpy.run_path(str(script), run_name="__main__")
    printed = capsys.readouterr().out
    assert len(printed) > 50
    if "[RUN_FOLDER]" in text:
        assert "report.html" in printed
        assert (tmp_path / "run" / "report.html").is_file()


def test_there_are_five_examples() -> None:
    assert len(SCRIPTS) >= 5
