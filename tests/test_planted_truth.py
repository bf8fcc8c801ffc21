"""On planted scenes the truth as a map beats noise, and noise beats all but the truth."""

from pathlib import Path

import pandas as pd
import pytest

import xbench

LOCALIZATION = (
    "pointing_game,energy_pointing_game,mass_accuracy,rank_accuracy,attribution_localization,"
    "mask_iou,mask_auc,top_k_intersection"
)
ORDER = ["oracle", "random", "oracle_inverse"]


@pytest.fixture(scope="module")
def means(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Mean over 64 images of every metric (rows) for the three controls (columns)."""
    run = xbench.run(
        "reference",
        "planted",
        methods=",".join(ORDER),
        metrics=f"deletion,insertion,{LOCALIZATION}",
        limit=64,
        batch_size=32,
        out=tmp_path_factory.mktemp("run") / "planted",
    )
    fine = run.records[run.records["status"] == "ok"]
    return fine.pivot_table(index="metric", columns="method", values="value")


@pytest.mark.parametrize("metric", LOCALIZATION.split(","))
def test_localization_puts_the_truth_first(means: pd.DataFrame, metric: str) -> None:
    values = means.loc[metric, ORDER]
    assert values["oracle"] > values["random"] > values["oracle_inverse"], values


def test_deletion_and_insertion_put_the_truth_first_in_the_mean(means: pd.DataFrame) -> None:
    deletion, insertion = means.loc["deletion", ORDER], means.loc["insertion", ORDER]
    assert deletion["oracle"] < deletion["random"] < deletion["oracle_inverse"], deletion
    assert insertion["oracle"] > insertion["random"] > insertion["oracle_inverse"], insertion


def test_completeness_residuals_are_recorded(tmp_path: Path) -> None:
    run = xbench.run(
        "reference",
        "planted",
        methods="integrated_gradients[n_steps=8],integrated_gradients[n_steps=64],gradient",
        metrics="sparseness",
        limit=8,
        batch_size=32,
        out=tmp_path / "run",
    )
    residual = run.records[run.records["metric"] == "explain/residual"]
    medians = residual.groupby("method")["value"].median()
    assert "gradient" not in medians
    assert medians["integrated_gradients[n_steps=64]"] < medians["integrated_gradients[n_steps=8]"]
