"""The pages of docs/ and README: every block run, every command parsed, every name described.

A python block that starts with `# file: NAME` is written to NAME; other python blocks of a page
run one after the other in one namespace; console blocks run line by line, in one folder a page.
`<!-- slow -->` before a block leaves it to the slow tests. `<!-- not run: REASON -->` is the only
way for a block not to run; its commands, and those inside the text, must be commands all the same:
their names and options are parsed, their make targets and files looked up.
"""

import inspect
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

import xbench
from xbench.cli import app
from xbench.docs_api import api_page
from xbench.plugins.catalogues import REGISTRIES

ROOT = Path(__file__).resolve().parent.parent
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]
BLOCK = re.compile(
    r"^(?:<!-- (slow|not run: [^\n]*?) -->\n)?```([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL
)
INDENTED = re.compile(r"^    ((?:xbench|make) .*)$", re.MULTILINE)
INLINE = re.compile(r"`(xbench [^`]+)`")
MAKE_TARGETS = set(re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@dataclass(frozen=True)
class Block:
    """One block of code of a page."""

    language: str
    text: str
    note: str

    @property
    def slow(self) -> bool:
        return self.note == "slow"

    @property
    def left_out(self) -> bool:
        return self.note.startswith("not run: ")


def blocks(page: Path) -> list[Block]:
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [Block(language, text, note) for note, language, text in found]


def command_lines(page: Path) -> list[str]:
    """Commands of a page that nothing runs: of blocks left out, of indented lines, of the text."""
    text = page.read_text(encoding="utf-8")
    lines = [
        line.removeprefix("$ ").removeprefix("exec ")
        for block in blocks(page)
        if block.left_out
        for line in block.text.replace("\\\n", " ").splitlines()
    ]
    prose = BLOCK.sub("", text)
    lines += INDENTED.findall(prose) + INLINE.findall(prose.replace("\n", " "))
    return [part.strip() for line in lines for part in re.split(r"&&| \| ", line)]


def complaint(line: str) -> str | None:
    """What is wrong with a command, without running it; None if nothing is."""
    words = [word for word in shlex.split(line, comments=True) if word != "..."]
    if words[:1] == ["make"]:
        return None if set(words[1:]) <= MAKE_TARGETS else f"the Makefile has no {words[1:]}"
    for flag, file in pairwise(words):
        if flag == "-c" and not (ROOT / file).is_file():
            return f"there is no file {file}"
    if words[:1] != ["xbench"] or len(words) == 1:
        return None
    group = get_command(app)
    command = group if words[1].startswith("-") else group.commands.get(words[1])
    if command is None:
        return f"there is no command {words[1]}"
    given = words[1:] if command is group else words[2:]
    try:
        left = command.make_parser(command.context_class(command)).parse_args(args=given)[1]
    except Exception as error:  # the parser's own kind, which has moved between versions
        return str(getattr(error, "message", error))
    return f"too much: {left}" if left else None


def run_page(page: Path, *, slow: bool) -> int:
    """Run the blocks of a page in the current folder; how many were run."""
    space: dict[str, object] = {"__name__": "page"}
    done = 0
    for block in blocks(page):
        if block.language == "python" and block.text.startswith("# file: "):
            name = block.text.split("\n", 1)[0].removeprefix("# file: ")
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_text(block.text, encoding="utf-8")
        elif block.left_out or block.slow != slow or block.language not in ("python", "console"):
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
        if any(
            b.language in ("python", "console") and b.slow == slow and not b.left_out
            for b in blocks(page)
        )
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_runs_or_says_why_not(page: Path) -> None:
    for block in blocks(page):
        if block.left_out:
            assert len(block.note.split()) >= 5, "a reason takes some words"
        else:
            shown = block.language == "text" and page.stem == "api"  # signatures
            assert shown or block.language in ("python", "console"), block


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_of_a_page_is_one(page: Path) -> None:
    wrong = {line: said for line in command_lines(page) if (said := complaint(line)) is not None}
    named = {line for line in wrong if complaint(f"{line} VALUE") is None}  # `xbench plan --budget`
    assert not wrong.keys() - named, wrong


@pytest.mark.parametrize(
    "line",
    [
        "xbench compere mine.py:mine",
        "xbench run --metric deletion",
        "xbench report a b",
        "make nothing",
        "pip install -c absent.txt -e .",
    ],
)
def test_a_command_that_is_none_is_noticed(line: str) -> None:
    assert complaint(line) is not None
    assert complaint("xbench compare mine.py:mine --limit 4  # and so on") is None


@pytest.mark.parametrize("page", with_code(slow=False), ids=lambda page: page.stem)
def test_every_block_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_page(page, slow=False) > 0


@pytest.mark.slow
@pytest.mark.parametrize("page", with_code(slow=True), ids=lambda page: page.stem)
def test_every_slow_block_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("examples").symlink_to(ROOT / "examples")
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
