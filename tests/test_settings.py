"""Parameters beside a map: every method gives plain values, JSON and pickle hold the same."""

import json
import pickle

import pytest

from xbench.registry import METHODS
from xbench.settings import describe, write_settings


def test_every_method_gives_its_parameters_as_plain_values():
    for chosen in METHODS.select("all"):
        content = describe(chosen)
        assert json.loads(json.dumps(content)) == content
        assert content["parameters"] == chosen.entry.parameters


@pytest.mark.parametrize("pickled", [False, True])
def test_files_hold_what_made_the_map(tmp_path, pickled):
    chosen = METHODS.create("lime[n_samples=7,segmentation=grid]")
    written = write_settings(tmp_path / "map.png", chosen, pickled=pickled)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(p.name for p in written)
    content = json.loads((tmp_path / "map.json").read_text())
    assert content["method"] == "lime[n_samples=7,segmentation=grid]"
    assert content["parameters"]["n_samples"] == 7
    assert content["parameters"]["kernel_width"] == 0.25
    assert METHODS.create(content["identity"]).value == chosen.value
    assert (tmp_path / "map.pkl").exists() == pickled
    if pickled:
        assert pickle.loads((tmp_path / "map.pkl").read_bytes()) == content
