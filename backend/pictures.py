"""PNG files: the only place of the backend and of the tools that writes or reads them."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from ..shared.files import read_file, write_atomically

#: pixels and bytes of a picture: 8K
MAX_PIXELS, MAX_BYTES = 7680 * 4320, 256 << 20


def encode_png(image: np.ndarray, *, colours: int = 0) -> bytes:
    """(H, W), (H, W, 3) or (H, W, 4) uint8 as the bytes of a PNG file.

    With ``colours`` the file has a palette of at most that many and is compressed as far as it goes, for pictures in the docs.
    """
    buffer = io.BytesIO()
    picture = Image.fromarray(image)
    if colours:
        picture.quantize(colours).save(buffer, "PNG", optimize=True)
    else:
        picture.save(buffer, "PNG")
    return buffer.getvalue()


def write_png(path: Path, image: np.ndarray, *, colours: int = 0) -> None:
    """Write ``encode_png`` of an image to a file: the whole file or none of it. Raises ``OSError``."""
    write_atomically(path, encode_png(image, colours=colours))


def read_png(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 of a picture, without its alpha. Raises ``OSError`` or ``ValueError`` when it cannot be read."""
    return decode_png(read_file(path, MAX_BYTES))


def decode_png(data: bytes) -> np.ndarray:
    """(H, W, 3) uint8 of the bytes of a PNG file, without its alpha. Raises ``OSError`` or ``ValueError`` when it is damaged or
    has more pixels than a picture for a film."""
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise ValueError(f"it has {picture.width}x{picture.height} pixels, more than a frame can have")
            return convert_to_rgb(picture)
    except (Image.DecompressionBombError, SyntaxError, struct.error, zlib.error, EOFError, OverflowError, IndexError) as error:
        raise ValueError(f"the picture is damaged ({error})") from error


def decode_rgba(data: bytes) -> np.ndarray:
    """(H, W, 4) uint8 of the bytes of a PNG file, opaque where it has no alpha. Raises as ``decode_png``."""
    colour = decode_png(data)
    with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
        has_alpha = "A" in picture.getbands() or "transparency" in picture.info
        alpha = np.asarray(picture.convert("RGBA"))[..., 3] if has_alpha else np.full(colour.shape[:2], 255, np.uint8)
    return np.dstack([colour, alpha])


def convert_to_rgb(picture: Image.Image) -> np.ndarray:
    """(H, W, 3) uint8 of a picture, without its alpha; 16 bits are rounded to 8. Raises ``OSError`` when it is damaged."""
    if picture.mode.startswith("I"):
        # Pillow would clip what is above 255, so that nearly all of it is white
        grey = np.clip(np.round(np.asarray(picture, np.float64) / 257), 0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    return np.asarray(picture.convert("RGB"))


def get_frame_path(folder: Path, frame: int) -> Path:
    """The file of a frame in a folder of frames, such as ``0001.png``."""
    return folder / f"{frame:04d}.png"


def write_frames(folder: Path, frames: Iterable[int], images: Iterable[np.ndarray]) -> None:
    """Write images (H, W, 3 or 4) uint8 as the files of frames; the folder is made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    for frame, image in zip(frames, images, strict=True):
        write_png(get_frame_path(folder, frame), image)


def read_frames(folder: Path, frames: Iterable[int]) -> np.ndarray:
    """(F, H, W, 3) uint8 of the files of frames.

    Raises ``OSError`` when one is missing and ``ValueError`` when they differ in size.
    """
    return np.stack([read_png(get_frame_path(folder, frame)) for frame in frames])
