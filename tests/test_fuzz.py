"""A few hundred hostile files, and all that ever failed; `make fuzz` does ten thousand."""

from pathlib import Path

import fuzz
import pytest


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> fuzz.Targets:
    return fuzz.Targets(tmp_path_factory.mktemp("targets"))


def test_three_hundred_hostile_files() -> None:
    found = fuzz.fuzz(300, seed=77)
    assert found["failures"] == []
    read = sum(n for words, n in found["counts"].items() if words.endswith(": read"))
    refused = sum(n for words, n in found["counts"].items() if words.endswith(": refused"))
    assert read > 20, "nothing is read any more"
    assert refused > 20, "nothing is refused any more"


@pytest.mark.parametrize("path", fuzz.corpus(), ids=lambda path: path.name)
def test_what_once_failed(targets: fuzz.Targets, path: Path) -> None:
    assert targets.read(path.name.partition("-")[0], path.read_bytes()) in ("read", "refused")


def test_good_files_are_read(targets: fuzz.Targets) -> None:
    for kind, seeds in targets.seeds.items():
        for content in seeds:
            assert targets.read(kind, content) == "read", kind
