"""Reference pictures as people have them, as plain colours: grey, with transparency, for print, in 16 bits, turned by a camera."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..shared.shot import ShotError

#: what is read; other readers of the library run other programs, or are seldom looked after
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")
#: pixels of a picture, and along its shorter side
MAX_PIXELS, LEAST_SIDE = 64_000_000, 16
#: longer side over shorter side up to which a picture is as good as square
NEARLY_SQUARE = 1.1
_DAMAGED = (
    *(OSError, ValueError, SyntaxError, EOFError, OverflowError, IndexError, TypeError, KeyError, AttributeError, MemoryError),
    *(struct.error, zlib.error, Image.DecompressionBombError, Image.DecompressionBombWarning),
)


def decode_reference(data: bytes) -> np.ndarray:
    """(H, W, 3) uint8 of the bytes of a picture's file, upright, on white where it is transparent. Raises ``ShotError``."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            _check_size(*picture.size)
            return convert_picture(ImageOps.exif_transpose(picture))
    except UnidentifiedImageError as error:
        raise ShotError(
            "reference", f"The reference picture is no picture that can be read; save it as {', '.join(FORMATS[:4])} or BMP."
        ) from error
    except _DAMAGED as error:
        raise ShotError("reference", f"The reference picture is damaged ({_shorten(error)}); choose another one.") from error


def read_reference(picture: Any) -> np.ndarray:
    """(H, W, 3) uint8 of a PIL image, or of an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of whole numbers up to 255 or of
    fractions up to 1. Raises ``ShotError``."""
    if isinstance(picture, Image.Image):
        _check_size(*picture.size)
        return convert_picture(ImageOps.exif_transpose(picture))
    array = np.asarray(picture)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ShotError("reference", "The reference is no picture; give a PIL image, or an array of height, width and 3 colours.")
    _check_size(array.shape[1], array.shape[0])
    if array.dtype.kind == "f":
        if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
            raise ShotError("reference", "The reference's colours are no fractions; give numbers from 0 to 1.")
        array = (array * 255).round().astype(np.uint8)
    if array.dtype != np.uint8:
        raise ShotError("reference", f"The reference's colours are {array.dtype}; give uint8, or fractions as float32.")
    return convert_picture(Image.fromarray(array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array))


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ShotError(
            "reference",
            f"The reference picture has {width}x{height} pixels; make it smaller, since 1024 along a side are plenty.",
        )
    if min(width, height) < LEAST_SIDE:
        raise ShotError(
            "reference", f"The reference picture has {width}x{height} pixels, too few to show a character; choose a larger one."
        )


def convert_picture(picture: Image.Image) -> np.ndarray:
    """(H, W, 3) uint8 of an image of any mode, on white where it is transparent."""
    if picture.mode.startswith(("I", "F")):
        # the library would cut everything above 255
        values = np.nan_to_num(np.asarray(picture).astype(np.float64))
        most = 65535.0 if picture.mode.startswith("I") else max(float(values.max()), 1.0)
        grey = (values.clip(0, most) / most * 255).round().astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if picture.has_transparency_data:
        own = picture.convert("RGBA")
        white = Image.new("RGBA", own.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(white, own)
    return np.asarray(picture.convert("RGB"))


def is_cut(picture: np.ndarray) -> bool:
    """Whether an encoder that looks at the square in the middle misses a part of a picture (H, W, 3) worth naming."""
    sides = picture.shape[:2]
    return max(sides) > NEARLY_SQUARE * min(sides)


def _shorten(error: BaseException) -> str:
    return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
