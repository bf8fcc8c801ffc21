"""The sentence on a planted shortcut, on simulated runs and on the shipped shortcut classifier."""

import numpy as np
import pandas as pd
import pytest
import simulated
from simulated import Planted

from xbench.contracts import Board
from xbench.registry import LEADERBOARDS
from xbench.report.findings import gather
from xbench.report.html import render
from xbench.running.session import Settings, run_grid
from xbench.statistics.exposure import exposure
from xbench.statistics.leaderboard import build_leaderboard

METHODS = {
    "sound": Planted(1.5),
    "other": Planted(1.0),
    "blind": Planted(2.0, cascade=0.93),
}


def told(shares: dict[str, float], label: str = "watermark_mass") -> str:
    records, manifest = simulated.simulate(METHODS, images=60)
    card = {
        "name": label.partition("[")[0],
        "property": "localization",
        "direction": "none",
        "gate": "",
        "needs": [],
        "range": [0, 1],
    }
    manifest["metrics"].append({"label": label, "parameters": {}, "card": card})
    part = records[records["metric"] == "insertion"].assign(metric=label)
    part["value"] = part["method"].map(shares).astype(float)
    part.loc[part["image_id"] == "image-0000", "value"] = np.nan  # no watermark in that image
    part.loc[part["value"].isna(), "status"] = "undefined"
    board: Board = LEADERBOARDS.create("overall").value
    return exposure(build_leaderboard(pd.concat([records, part]), manifest, board))


def test_methods_that_expose_the_shortcut_are_named() -> None:
    text = told({"sound": 0.81, "other": 0.2, "blind": 0.9, "random": 0.95})
    assert "sound (0.81) puts more than half" in text
    assert "1 of 3 methods" in text
    assert "blind" not in text
    assert "random" not in text
    both = told({"sound": 0.61, "other": 0.72}, "region_mass[region=watermark]")
    assert "other (0.72), sound (0.61) put more than half" in both


def test_none_is_said_too() -> None:
    text = told({"sound": 0.11, "other": 0.2, "blind": 0.05})
    assert text.startswith("No method that passes the gates puts more than half")
    assert "(the most: other, 0.20)" in text
    cheat = told({"sound": 0.11, "other": 0.2, "blind": 0.9})
    assert "blind does (0.90), but failed a gate" in cheat


def test_nothing_is_said_without_the_metric_or_a_value() -> None:
    records, manifest = simulated.simulate(METHODS, images=40)
    assert exposure(build_leaderboard(records, manifest)) == ""
    assert told({}) == ""


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The pages of the shortcut classifier and of the clean one on marked scenes."""
    found = {}
    for model in ("reference-shortcut", "reference"):
        settings = Settings(
            model=model,
            dataset="planted-conflict",
            methods="gradcam,input_x_gradient,occlusion,random",
            metrics="watermark_mass,deletion[steps=8],insertion[steps=8]",
            limit=8,
            device="cpu",
            batch_size=64,
            out=tmp_path_factory.mktemp("exposure") / model,
            command=["xbench", "run"],
        )
        found[model] = render(gather(run_grid(settings)))
    return found


@pytest.mark.slow
def test_the_shipped_shortcut_is_exposed_and_the_clean_model_is_not(texts: dict[str, str]) -> None:
    assert "The maps expose a shortcut" in texts["reference-shortcut"]
    assert "puts more than half of its positive mass on the watermark" in texts["reference"]
    assert "The maps expose a shortcut" not in texts["reference"]
