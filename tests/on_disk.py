"""Small data sets that tests write themselves."""

from pathlib import Path

import numpy as np
from PIL import Image

from xbench.contracts import Geometry

AS_IS = Geometry()
ALL = {"limit": None, "seed": 0}


def save(path: Path, seed: int = 0, size: tuple[int, int] = (20, 16)) -> Path:
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(path)
    return path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def save_mask(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values.astype(np.uint8))
    if path.suffix == ".png" and "Segmentation" in str(path):
        image.putpalette(bytes(range(256)) * 3)
    image.save(path)
    return path


def box_xml(*objects: tuple[str, int, int, int, int], difficult: int = 0) -> str:
    inner = "".join(
        f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{a}</xmin>"
        f"<ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>"
        for name, a, b, c, d in objects
    )
    return f"<annotation><size><width>20</width><height>16</height></size>{inner}</annotation>"
