"""The shape of the house: layers, catalogues, sizes, cards; read from the source text."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CATALOGUES = ("methods", "metrics", "datasets", "leaderboards")
LAYERS = (  # from the ground up; a module imports its own layer and those below
    {
        "errors",
        "names",
        "streams",
        "cost",
        "optional",
        "allocator",
        "clocks",
        "user_files",
        "watching",
        "files",
    },
    {"contracts"},
    {"registry", "classifier", "operations"},
    {
        "models",
        "records",
        "checked_store",
        "statistics",
        "docs",
        "settings",
        "selection",
        "reading",
    },
    {"running"},
    {"explaining", "report", "probes", "plugins"},
    {
        "audit",
        "exact_table",
        "conformance",
        "honesty",
        "matrix",
        "reusing",
        "comparing",
        "checking",
        "gating",
        "publishing",
        "verifying",
    },
    {"api", "docs_api"},
    {"cli"},
)
SOURCES = sorted(p for p in (ROOT / "xbench").rglob("*.py"))
CATALOGUE_FILES = sorted(p for name in CATALOGUES for p in (ROOT / name).glob("*.py"))


def imports(path: Path) -> set[str]:
    """Dotted names that a file imports at run time, type-checking blocks aside."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: set[str] = set()
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            skipped.update(ast.walk(node))
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def layer(part: str) -> int:
    for number, names in enumerate(LAYERS):
        if part in names:
            return number
    raise AssertionError(f"xbench.{part} stands in no layer; add it to LAYERS")


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_engine_imports_downwards_and_no_catalogue(path: Path) -> None:
    parts = path.relative_to(ROOT / "xbench").with_suffix("").parts
    if parts == ("__init__",):
        return
    own = layer(parts[0])
    for name in imports(path):
        words = name.split(".")
        if words[0] != "xbench" or len(words) < 2 or words[1].startswith("__"):
            continue
        assert words[1] not in CATALOGUES, f"{path} imports the catalogue {words[1]} by name"
        assert layer(words[1]) <= own, f"{path} imports upwards: {name}"


@pytest.mark.parametrize("path", CATALOGUE_FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_catalogues_import_the_engine_and_siblings_only(path: Path) -> None:
    for name in imports(path):
        words = name.split(".")
        assert words[0] not in CATALOGUES
        if words[0] == "xbench":
            assert words[1] not in CATALOGUES, f"{path} imports {name}"
            assert words[1] not in ("cli", "report", "running"), f"{path} imports {name}"


def test_no_import_cycles_inside_the_engine() -> None:
    modules = {
        ".".join(("xbench", *p.relative_to(ROOT / "xbench").with_suffix("").parts)): p
        for p in SOURCES
    }
    edges = {
        module: {
            target
            for name in imports(path)
            for target in (name, name.rpartition(".")[0])
            if target in modules and target != module
        }
        for module, path in modules.items()
    }
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail, module))
        if module in done:
            return
        for target in edges[module]:
            visit(target, (*trail, module))
        done.add(module)

    for module in modules:
        visit(module, ())


@pytest.mark.parametrize(
    "path", [*SOURCES, *CATALOGUE_FILES], ids=lambda p: str(p.relative_to(ROOT))
)
def test_files_stay_small_and_draw_from_streams(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 400, f"{path} has {text.count(chr(10))} lines: make rooms of it"
    if path.name not in ("optional.py", "streams.py"):
        for pattern in (
            r"np\.random\.(?!default_rng|Generator)\w",
            r"torch\.manual_seed",
            r"random\.seed",
        ):
            assert not re.search(pattern, text), f"{path} touches the global random state"


@pytest.mark.parametrize(
    "path", [*SOURCES, *CATALOGUE_FILES], ids=lambda p: str(p.relative_to(ROOT))
)
def test_functions_stay_short(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
            lines = (node.end_lineno or 0) - first.lineno + 1
            assert lines <= 60, f"{path.name}:{node.name} has {lines} lines"


def test_nothing_is_unpickled() -> None:
    for path in [*SOURCES, *CATALOGUE_FILES]:
        text = path.read_text(encoding="utf-8")
        for call in re.findall(r"torch\.load\([^)]*\)", text):
            assert "weights_only=True" in call, f"{path}: {call}"
        assert not re.search(r"pickle\.loads?\(", text), path
