"""The pages of docs/: built without a warning, every block run, every public name described.

A python block that starts with `# file: NAME` is written to NAME; other python blocks of a page
run one after the other in one namespace; console blocks run line by line, in one folder a page.
`<!-- slow -->` before a block leaves it to the slow tests. Blocks in bash are not run: they
install, or need make; nor are fragments, which are in py.
"""

import inspect
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

import xbench
from xbench.cli import app
from xbench.docs_api import api_page
from xbench.plugins.catalogues import REGISTRIES

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))
BLOCK = re.compile(r"^(<!-- slow -->\n)?```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One block of code of a page."""

    language: str
    text: str
    slow: bool


def blocks(page: Path) -> list[Block]:
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [Block(language, text, bool(slow)) for slow, language, text in found]


def run_page(page: Path, *, slow: bool) -> int:
    """Run the blocks of a page in the current folder; how many were run."""
    space: dict[str, object] = {"__name__": "page"}
    done = 0
    for block in blocks(page):
        if block.language == "python" and block.text.startswith("# file: "):
            name = block.text.split("\n", 1)[0].removeprefix("# file: ")
            Path(name).write_text(block.text, encoding="utf-8")
        elif block.slow != slow or block.language not in ("python", "console"):
            continue
        elif block.language == "python":
            exec(compile(block.text, str(page), "exec"), space)
        else:
            for line in block.text.splitlines():
                assert line.startswith("$ xbench "), f"{page.name}: {line}"
                words = shlex.split(line.removeprefix("$ xbench "))
                result = CliRunner().invoke(app, words)
                assert result.exit_code == 0, (line, result.output, result.exception)
        done += 1
    return done


@pytest.fixture(autouse=True)
def _registries_as_they_were():
    for registry in REGISTRIES:
        registry.discover()
    before = [dict(registry._entries) for registry in REGISTRIES]
    yield
    for registry, entries in zip(REGISTRIES, before, strict=True):
        registry._entries.clear()
        registry._entries.update(entries)


def with_code(*, slow: bool) -> list[Path]:
    return [
        page
        for page in PAGES
        if any(b.language in ("python", "console") and b.slow == slow for b in blocks(page))
    ]


@pytest.mark.parametrize("page", with_code(slow=False), ids=lambda page: page.stem)
def test_every_block_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_page(page, slow=False) > 0


@pytest.mark.slow
@pytest.mark.parametrize("page", with_code(slow=True), ids=lambda page: page.stem)
def test_every_slow_block_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_page(page, slow=True) > 0


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    found = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert "WARNING" not in found.stderr
    assert (tmp_path / "site" / "index.html").is_file()


def test_the_page_of_names_is_up_to_date() -> None:
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert text == api_page(), "run `xbench docs`"


@pytest.mark.parametrize("name", sorted(set(xbench.__all__) - {"__version__"}))
def test_every_public_name_is_described(name: str) -> None:
    found = getattr(xbench, name)
    doc = inspect.getdoc(found) or ""
    assert len(doc) > 40
    if inspect.isfunction(found):
        parameters = inspect.signature(found).parameters
        assert all(p.annotation is not p.empty for p in parameters.values()), (
            "every parameter is typed"
        )
        for parameter in parameters:
            assert re.search(rf"\b{parameter}\b", doc), f"{name} does not describe {parameter}"
        assert "Raises:" in doc
        assert "Returns:" in doc or name == "method"
