"""What CLIP-Dissect found, as tables, pictures and sentences."""

from collections.abc import Sequence

import pandas as pd

from xbench.contracts import Samples
from xbench.probes import plots, sheets
from xbench.probes._dissected import trend
from xbench.probes.contract import Picture
from xbench.probes.shared import rows_of

_UNITS, _IMAGES, _WORDS = 8, 5, 12


def image_names(probed: Samples, tops: Sequence[Sequence[int]]) -> list[str]:
    """The first images of every unit, by name."""
    return ["; ".join(str(probed.ids[row]) for row in rows[:_IMAGES]) for rows in tops]


def layer_table(units: pd.DataFrame) -> pd.DataFrame:
    """Units, described units and different words of every layer, with the layer's chance."""
    rows = []
    for (model, layer), part in units.groupby(["model", "layer"], sort=False):
        found = part[part["described"]]
        rows.append(
            {
                "model": model,
                "layer": layer,
                "units": len(part),
                "described": len(found),
                "share": len(found) / len(part),
                "words": found["concept"].nunique(),
                "mean_lift": float(part["lift"].mean()),
                "chance": float(part["chance"].iloc[0]),
            }
        )
    return pd.DataFrame(rows)


def word_counts(units: pd.DataFrame) -> pd.DataFrame:
    """How many units of each layer each word describes."""
    found = units[units["described"]]
    grouped = found.groupby(["model", "layer", "concept"], sort=False)
    counts = grouped.agg(units=("unit", "size"), best=("lift", "max")).reset_index()
    return counts.sort_values(["model", "units"], ascending=[True, False], ignore_index=True)


def pictures(
    units: pd.DataFrame, table: pd.DataFrame, counts: pd.DataFrame, probed: Samples
) -> dict[str, Picture]:
    """Histograms and words by layer, models side by side; the clearest units of each model.

    Args:
        units: see `describe`, with model and layer.
        table: see `layer_table`.
        counts: see `word_counts`.
        probed: the probing images.
    """
    models = list(dict.fromkeys(units["model"]))
    rows = {
        name: {
            str(layer): (part["lift"].to_numpy(), float(part["chance"].iloc[0]))
            for layer, part in units[units["model"] == name].groupby("layer", sort=False)
        }
        for name in models
    }
    images = {
        "histograms": Picture(
            plots.histograms(rows, label="lift of the best word"),
            "Lift of each unit's best word by layer, a row a model: by how many deviations "
            "it fits the unit's top images better than all; right of the line is better than "
            "chance.",
        )
    }
    if len(counts):
        frequent = counts.groupby("concept")["units"].sum().sort_values(ascending=False)
        words = [str(word) for word in frequent.index[:_WORDS]]
        panels = {name: (words, _by_layer(counts, table, name, words)) for name in models}
        images["concepts"] = Picture(
            plots.stacked(panels, label="units"),
            "Units that each of the most frequent words describes, by layer, models side by side.",
        )
    for place, name in enumerate(models):
        found = units[(units["model"] == name) & units["described"]]
        if len(found):
            images["units" if place == 0 else f"units_{place + 1}"] = Picture(
                _unit_sheet(found, probed),
                f"{name}: the clearest unit of each word, and the images on which it is active "
                "most, from the first on.",
            )
    return images


def _by_layer(
    counts: pd.DataFrame, table: pd.DataFrame, model: str, words: list[str]
) -> dict[str, list[float]]:
    found = {
        (row["layer"], row["concept"]): float(row["units"])
        for row in rows_of(counts[counts["model"] == model])
    }
    layers = [str(layer) for layer in table[table["model"] == model]["layer"]]
    return {layer: [found.get((layer, word), 0.0) for word in words] for layer in layers}


def _clearest(units: pd.DataFrame) -> pd.DataFrame:
    return units.sort_values("lift", ascending=False).drop_duplicates("concept")


def _unit_sheet(units: pd.DataFrame, probed: Samples) -> bytes:
    lines, heads = [], []
    for row in rows_of(_clearest(units).head(_UNITS)):
        shown = row["top"][:_IMAGES]
        lines.append([sheets.Tile(sheets.photo(probed.images[image])) for image in shown])
        heads.append(f"{row['concept']}: unit {row['unit']} of {row['layer']}")
    return sheets.sheet(lines, names=heads, side=110)


def sentences(units: pd.DataFrame, table: pd.DataFrame, words: int, top: int) -> list[str]:
    """What was found, a few sentences a model.

    Args:
        units, table: as in `pictures`.
        words: how many there were.
        top: images that counted for each unit.
    """
    said = [
        f"Each unit is compared with {words} words on the {top} images on which it is active most."
    ]
    for name, part in table.groupby("model", sort=False):
        rows = rows_of(part)
        total, described = sum(r["units"] for r in rows), sum(r["described"] for r in rows)
        best = max(rows, key=lambda row: row["share"])
        shares = [row["share"] for row in rows]
        said.append(
            f"{name}: a word describes {described} of {total} units in the last {len(rows)} layers "
            f"better than chance (by chance up to {total / 20:.0f} would"
            f"{', so it tells nothing' if described <= total / 20 else ''}), most in "
            f"{best['layer']} ({best['share']:.0%}; from layer to layer {trend(shares)})."
        )
        found = units[(units["model"] == name) & units["described"]]
        clear = ", ".join(
            f"{row['concept']} (unit {row['unit']} of {row['layer']})"
            for row in rows_of(_clearest(found).head(3))
        )
        if clear:
            said.append(f"{name}: the clearest units are {clear}.")
    return said
