"""What a dissection found, as pictures and sentences."""

from typing import Any

import pandas as pd
import torch

from xbench.classifier import Classifier
from xbench.operations.pixels import upsample
from xbench.probes import plots, sheets
from xbench.probes._concepts import Concepts
from xbench.probes._dissection import most_active
from xbench.probes._edits import COLORS
from xbench.probes.contract import Picture
from xbench.probes.shared import rows_of

KINDS = ("shape", "color", "texture", "material", "part", "object", "scene")
"""From the simple to the composed, the order of the legends."""
_SHOWN, _EXAMPLES, _NAMED = 8, 40, 6
_INKS = {
    "dark": "#22262b",
    "bright": "#f4f4f0",
    "orange": "#e67e22",
    "brown": "#7b4a21",
    "purple": "#6b3fa0",
    "pink": "#f4a6c6",
    "grey": "#8c959f",
    **{name: "#" + "".join(f"{round(255 * v):02x}" for v in rgb) for name, rgb in COLORS.items()},
}


def kinds_of(concepts: Concepts) -> list[str]:
    """The kinds that there are, in the order of the legends."""
    there = set(concepts.kinds.values())
    return [kind for kind in KINDS if kind in there] + sorted(there - set(KINDS))


def layer_pictures(units: pd.DataFrame, table: pd.DataFrame, cut: float) -> dict[str, Picture]:
    """Histograms, kinds and colors by layer, models side by side."""
    kinds = [name for name in table.columns if name in set(units["kind"])]
    models = dict(tuple(table.groupby("model", sort=False)))
    rows = {
        str(name): {
            str(layer): (found["iou"].to_numpy(), cut)
            for layer, found in units[units["model"] == name].groupby("layer", sort=False)
        }
        for name in models
    }
    by_kind = {
        str(name): (part["layer"].tolist(), {kind: part[kind].tolist() for kind in kinds})
        for name, part in models.items()
    }
    images = {
        "histograms": Picture(
            plots.histograms(rows, label="IoU, best concept"),
            "IoU of the units of each layer with their best concept, a row a model, layers from "
            "first to last; the line is the cut.",
        ),
        "kinds": Picture(
            plots.stacked(by_kind, label="detectors"),
            "Detectors of each layer by kind of concept, models side by side.",
        ),
    }
    colors = color_table(units, table)
    if len(colors):
        images["colors"] = Picture(
            plots.stacked(_color_panels(colors, table), label="% of units", colors=_inks(colors)),
            "Which colors rise in which layers: the share of a layer's units that detect each "
            "color.",
        )
    return images


def color_table(units: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Detectors of each single color by layer, one record a model, layer and color."""
    found = units[units["detector"] & (units["kind"] == "color")]
    colors = sorted(set(found["concept"]))
    counts = found.groupby(["model", "layer", "concept"]).size()
    rows = []
    for row in rows_of(table):
        for color in colors:
            number = int(counts.get((row["model"], row["layer"], color), 0))
            rows.append(
                {
                    "model": row["model"],
                    "layer": row["layer"],
                    "color": color,
                    "units": number,
                    "share": number / row["units"],
                }
            )
    return pd.DataFrame(rows)


def _color_panels(
    colors: pd.DataFrame, table: pd.DataFrame
) -> dict[str, tuple[list[str], dict[str, list[float]]]]:
    panels = {}
    for name, part in colors.groupby("model", sort=False):
        layers = table[table["model"] == name]["layer"].tolist()
        parts = {
            str(color): (100 * one["share"]).tolist()
            for color, one in part.groupby("color", sort=False)
        }
        panels[str(name)] = (layers, parts)
    return panels


def _inks(colors: pd.DataFrame) -> dict[str, str]:
    """The colors as they are, where they have a known name; Broden writes red-c for red."""
    names = {str(name): str(name).removesuffix("-c") for name in colors["color"]}
    return {name: _INKS[plain] for name, plain in names.items() if plain in _INKS}


def unit_pictures(
    model: Classifier, concepts: Concepts, units: pd.DataFrame, share: float
) -> dict[str, Picture]:
    """The concepts, and the clearest units on the images on which they are active most."""
    names = list(concepts.masks)
    said = "The concepts, each on one of the images."
    if len(names) > _EXAMPLES:
        clear = list(dict.fromkeys(units.sort_values("iou", ascending=False)["concept"]))
        names = clear[:_EXAMPLES]
        said = f"{len(names)} of {len(concepts.masks)} concepts, each on one of the images."
    images = {"concepts": Picture(sheets.columns_of(_examples(concepts, names), 8), said)}
    shown = units[(units["model"] == model.name) & units["detector"]]
    if len(shown):
        images["units"] = Picture(
            _unit_sheet(model, concepts, shown, share),
            f"The clearest unit of each concept in {model.name}: the images on which it is "
            "active most, where it answers, and whether the concept is in the image.",
        )
    return images


def _examples(concepts: Concepts, names: list[str]) -> dict[str, sheets.Tile]:
    tiles = {}
    for name in names:
        mask = concepts.masks[name]
        row = int(mask.flatten(1).sum(dim=1).argmax())
        picture = sheets.masks(concepts.images[row], [(mask[row].float(), (0, 158, 115))])
        tiles[f"{name} ({concepts.kinds[name]})"] = sheets.Tile(picture)
    return tiles


def _unit_sheet(model: Classifier, concepts: Concepts, units: pd.DataFrame, share: float) -> bytes:
    """A row a concept: its clearest unit on the four images on which it is active most."""
    best = units.sort_values("iou", ascending=False).drop_duplicates("concept").head(_SHOWN)
    lines, heads = [], []
    for row in rows_of(best):
        layer = model.layer(str(row["layer"]), concepts.images[:1])
        every = model.activations(concepts.images.to(model.device), layer)
        features = every[:, int(row["unit"])]
        top = most_active(features, share, 4)
        size = (int(concepts.images.shape[2]), int(concepts.images.shape[3]))
        maps = upsample(features[top], size).cpu()
        masks = concepts.masks[str(row["concept"])]
        line = []
        for place, image in enumerate(top):
            picture = sheets.overlay(concepts.images[image], maps[place], signed=False)
            line.append(sheets.Tile(sheets.photo(concepts.images[image])))
            here = bool(masks[image].any())
            line.append(sheets.Tile(picture, "here" if here else "not here"))
        lines.append(line)
        heads.append(f"{row['concept']} unit {row['unit']} of {row['layer']} IoU {row['iou']:.2f}")
    return sheets.sheet(lines, names=heads, side=110)


def sentences(units: pd.DataFrame, table: pd.DataFrame) -> list[str]:
    """What was found, a few sentences a model."""
    said = []
    colors = color_table(units, table)
    for name, part in table.groupby("model", sort=False):
        rows: list[dict[str, Any]] = rows_of(part)
        best = max(rows, key=lambda row: row["share"])
        total = sum(row["detectors"] for row in rows)
        said.append(
            f"{name}: {total} of {sum(row['units'] for row in rows)} units in the last "
            f"{len(rows)} layers detect a concept, most in {best['layer']} ({best['share']:.0%})."
        )
        for kind in sorted(set(units["kind"]), key=_rank):
            if kind in part and int(part[kind].sum()):
                shares = [row[kind] / row["units"] for row in rows]
                said.append(
                    f"{name}: detectors of a {kind}, from the first to the last of these layers: "
                    f"{', '.join(f'{share:.0%}' for share in shares)} of the units "
                    f"({trend(shares)})."
                )
        if len(colors):
            said.extend(_color_sentence(str(name), colors[colors["model"] == name]))
        found = units[(units["model"] == name) & units["detector"]]
        if len(found):
            first = rows_of(found.sort_values("iou", ascending=False).head(1))[0]
            said.append(
                f"{name}: the clearest unit is {first['unit']} of {first['layer']}: "
                f"{first['concept']}, IoU {first['iou']:.2f} (chance {first['chance']:.2f})."
            )
    return said


def _rank(kind: str) -> tuple[int, str]:
    return (KINDS.index(kind) if kind in KINDS else len(KINDS), kind)


def _color_sentence(model: str, colors: pd.DataFrame) -> list[str]:
    """In which layer each color has most detectors, the most frequent colors first."""
    told = []
    for color, part in colors.groupby("color", sort=False):
        rows = rows_of(part)
        best = max(rows, key=lambda row: row["share"])
        if best["units"]:
            way = trend([row["share"] for row in rows])
            words = f"{color} in {best['layer']} ({best['units']} units; {way})"
            told.append((sum(row["units"] for row in rows), words))
    told.sort(key=lambda one: -one[0])
    if not told:
        return []
    return [f"{model}, colors where they have most detectors: {'; '.join(_first(told))}."]


def _first(told: list[tuple[int, str]]) -> list[str]:
    more = len(told) - _NAMED
    return [words for _, words in told[:_NAMED]] + ([f"{more} more in the table"] * (more > 0))


def trend(shares: list[float]) -> str:
    """How shares go from layer to layer, in words.

    >>> trend([0.1, 0.2, 0.4]), trend([0.4, 0.2, 0.1]), trend([0.1, 0.4, 0.2]), trend([0.1, 0.1])
    ('they rise to the end', 'they fall', 'most in the layer 2 of 3', 'no trend')
    """
    order = torch.tensor(shares)
    if len(shares) < 2 or bool((order == order[0]).all()):
        return "no trend"
    peak = int(order.argmax())
    if peak == len(shares) - 1:
        return "they rise to the end"
    return "they fall" if peak == 0 else f"most in the layer {peak + 1} of {len(shares)}"
