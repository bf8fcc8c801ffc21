"""Pictures of maps: thumbnails and maps of a run folder as small WebP images."""

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image
from safetensors import safe_open

Array = NDArray[np.float32]
SIDE = 112


def read_thumbnails(maps: Path, limit: int) -> tuple[list[str], NDArray[np.uint8]]:
    """The first thumbnails of a run: image ids and uint8 (N, H, W, 3)."""
    ids: list[str] = []
    pictures: list[NDArray[np.uint8]] = []
    for path in sorted(maps.glob("images-*.safetensors")):
        with safe_open(path, framework="np") as stored:
            ids += str((stored.metadata() or {}).get("ids", "")).split("\n")
            pictures.append(stored.get_tensor("images"))
        if len(ids) >= limit:
            break
    if not pictures:
        return [], np.zeros((0, SIDE, SIDE, 3), np.uint8)
    return ids[:limit], np.concatenate(pictures)[:limit]


def read_maps(maps: Path, methods: Sequence[str], limit: int) -> Mapping[str, Array]:
    """The maps of the first images by method label, float32 (N, H, W)."""
    found: dict[str, dict[int, Array]] = {}
    for path in sorted(maps.glob("*.safetensors")):
        with safe_open(path, framework="np") as stored:
            about = stored.metadata() or {}
            method, chunk = about.get("label", ""), int(about.get("chunk", -1))
            if method in methods and 0 <= chunk <= limit:
                found.setdefault(method, {})[chunk] = stored.get_tensor("maps")
    joined = {}
    for method, parts in found.items():
        in_order = [parts[chunk] for chunk in sorted(parts)]
        if sorted(parts) == list(range(len(parts))):
            joined[method] = np.concatenate(in_order)[:limit]
    return joined


def colored(values: Array, *, signed: bool) -> NDArray[np.uint8]:
    """A map in colors, uint8 (H, W, 3): diverging for signed maps, viridis else.

    Each map has a scale of its own, its 99th percentile, so that one outlier hides nothing.
    """
    if signed and values.min() < 0:
        top = float(np.percentile(np.abs(values), 99)) or 1.0
        shares = np.clip(values / top, -1, 1) / 2 + 0.5
        return _paint("PuOr_r", shares)
    low, top = float(values.min()), float(np.percentile(values, 99))
    return _paint("viridis", np.clip((values - low) / ((top - low) or 1.0), 0, 1))


def _paint(name: str, shares: NDArray[Any]) -> NDArray[np.uint8]:
    rgba: NDArray[np.uint8] = colormaps[name](shares, bytes=True)
    return np.ascontiguousarray(rgba[..., :3])


def data_uri(picture: NDArray[np.uint8], quality: int = 60) -> str:
    """A picture as a WebP data URI, at most `SIDE` pixels wide."""
    image = Image.fromarray(picture)
    image = image.resize(
        (SIDE, max(1, round(SIDE * image.height / image.width))),
        Image.Resampling.NEAREST if image.width < SIDE else Image.Resampling.BILINEAR,
    )
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
