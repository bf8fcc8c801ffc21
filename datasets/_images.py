"""Bytes to RGB images to the classifier's input: decoding, refusals, geometry."""

import io

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from xbench.contracts import Geometry
from xbench.errors import DataError

SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
)
MAX_PIXELS = 89_478_485
"""Images with more pixels (a quarter of a gigabyte as 8-bit RGB) are refused by their header."""

_ORIENTATION = 0x0112
_TRANSPOSED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_RESAMPLING = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "nearest": Image.Resampling.NEAREST,
}


def open_image(data: bytes) -> Image.Image:
    """The image of these bytes, header read, pixels not yet decoded.

    Raises:
        DataError: no image, or one too large; the message is a reason without the file's name.
    """
    try:
        image = Image.open(io.BytesIO(data))
    except UnidentifiedImageError as error:
        raise DataError("no image in a known format" if data else "an empty file") from error
    except Exception as error:
        raise DataError(reason_of(error)) from error
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise DataError(f"{width} x {height} pixels are more than the {MAX_PIXELS} allowed")
    if image.mode == "F":
        raise DataError("floating-point pixels have no known range; save it with 8 or 16 bits")
    return image


def check_image(data: bytes) -> tuple[int, int]:
    """Decode all of an image as cheaply as possible; return its upright width and height.

    JPEG is decoded at an eighth of its size, which still reads every byte and so finds truncation.

    Raises:
        DataError: the bytes cannot be decoded; the message is a reason without the file's name.
    """
    image = open_image(data)
    width, height = image.size
    upright = (height, width) if orientation(image) >= 5 else (width, height)
    try:
        image.draft(image.mode, (max(1, width // 8), max(1, height // 8)))
        image.load()
    except Exception as error:
        raise DataError(reason_of(error)) from error
    return upright


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) to 8; 1 where the tag is absent or unreadable."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def decode(data: bytes) -> Image.Image:
    """The upright 8-bit RGB image of these bytes; transparent pixels are laid on white.

    Raises:
        DataError: see `check_image`.
    """
    image = open_image(data)
    turn = orientation(image)
    try:
        return upright(_to_rgb(image), turn)
    except Exception as error:
        raise DataError(reason_of(error)) from error


def upright(image: Image.Image, turn: int) -> Image.Image:
    """The image turned as an EXIF orientation asks for."""
    return image.transpose(_TRANSPOSED[turn]) if turn in _TRANSPOSED else image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        wide = np.asarray(image).astype(np.float64)
        if wide.size and (wide.min() < 0 or wide.max() > 65535):
            raise DataError("32-bit pixels have no known range; save it with 8 or 16 bits")
        narrow = np.round(wide / 257).astype(np.uint8)
        return Image.fromarray(narrow).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layer = image.convert("RGBA")
        paper = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(paper, layer).convert("RGB")
    return image.convert("RGB")


def fit(image: Image.Image, geometry: Geometry, *, mask: bool = False) -> Image.Image:
    """Resize the short side, crop the center (zeros around where the image is smaller).

    The arithmetic is that of torchvision's classification transform on PIL images.

    Args:
        image: an upright image, or its mask.
        geometry: what the classifier wants.
        mask: whether values are labels, that must not be mixed.

    Raises:
        DataError: so elongated that the resized image would be too large.
    """
    size = _resized(image.size, geometry)
    if size != image.size:
        method = Image.Resampling.NEAREST if mask else _RESAMPLING[geometry.interpolation]
        image = image.resize(size, method)
    if geometry.crop is not None:
        image = _center_crop(image, *geometry.crop)
    return image


def fitted_size(size: tuple[int, int], geometry: Geometry) -> tuple[int, int]:
    """Width and height that `fit` gives an image of this width and height; it raises alike."""
    size = _resized(size, geometry)
    return size if geometry.crop is None else (geometry.crop[1], geometry.crop[0])


def _resized(size: tuple[int, int], geometry: Geometry) -> tuple[int, int]:
    if geometry.resize is None:
        return size
    long = int(geometry.resize * max(size) / min(size))
    if long * geometry.resize > MAX_PIXELS:
        raise DataError(f"{size[0]} x {size[1]} pixels are too elongated to be resized")
    return (geometry.resize, long) if size[0] <= size[1] else (long, geometry.resize)


def _center_crop(image: Image.Image, height: int, width: int) -> Image.Image:
    pad_x, pad_y = max(0, width - image.width), max(0, height - image.height)
    if pad_x or pad_y:
        left, top = pad_x // 2, pad_y // 2
        canvas = Image.new(image.mode, (image.width + pad_x, image.height + pad_y))
        canvas.paste(image, (left, top))
        image = canvas
    top = round((image.height - height) / 2.0)
    left = round((image.width - width) / 2.0)
    return image.crop((left, top, left + width, top + height))


def to_pixels(image: Image.Image, channels: int) -> Tensor:
    """An RGB image as float32 (C, H, W) in [0, 1]; one channel is the luma of ITU-R 601."""
    array = np.asarray(image if channels == 3 else image.convert("L"), dtype=np.float32)
    planes = array[None] if channels == 1 else array.transpose(2, 0, 1)
    # in numpy: an image is too small for several threads of torch to pay
    return torch.from_numpy(np.ascontiguousarray(planes) / np.float32(255))


def reason_of(error: Exception) -> str:
    """The first line of a decoder's complaint, in words."""
    text = (str(error).splitlines() or [""])[0]
    if "truncated" in text.lower() or "broken data stream" in text:
        return f"truncated or corrupt ({text})"
    return text or type(error).__name__
