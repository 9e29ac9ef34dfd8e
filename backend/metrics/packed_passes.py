"""Passes packed tightly and without loss: what ``packed_shots`` keeps of a shot.

A pass is an xz stream. In it come first a bit for each pixel (F, H, W), in the order of numpy's ``packbits``: whether its value
differs from the fill, which the stream begins with; then the values of these pixels, as whole numbers of the values' own size, each
but the first less the one before it, the bytes of equal place side by side (all lowest bytes first), channel by channel. Surfaces
fill an eighth of a frame or so, and their values' upper bytes change slowly: half of what EXR takes.
"""

from __future__ import annotations

import lzma
import math

import numpy as np

from ...shared.passes import EXTRA_LAYOUT, PASS_LAYOUT

LAYOUT = PASS_LAYOUT | EXTRA_LAYOUT
#: how hard it is tried; higher levels need more memory and gain nothing
LEVEL = 6
#: bytes of memory that unpacking may take
MAX_MEMORY = 128 << 20


def compute_size(name: str, shape: tuple[int, int, int]) -> int:
    """Bytes of a pass of frames (F, H, W)."""
    dtype, trailing = LAYOUT[name]
    return np.dtype(dtype).itemsize * math.prod((*shape, *trailing))


def _view_numbers(array: np.ndarray, channels: int) -> np.ndarray:
    """An array as whole numbers (N, channels) of the values' own size, little-endian: what is equal to the last bit is equal."""
    kind = array.dtype.newbyteorder("<")
    return np.ascontiguousarray(array, kind).view(f"<u{kind.itemsize}").reshape(-1, channels)


def pack_pass(name: str, array: np.ndarray, mask: np.ndarray) -> bytes:
    """A pass (F, H, W, ...) as in ``LAYOUT`` as an xz stream; ``mask`` (F, H, W) says where there are characters."""
    channels = math.prod(LAYOUT[name][1])
    numbers = _view_numbers(array, channels)
    outside = np.flatnonzero(mask.reshape(-1) == 0)
    fill = numbers[outside[0] if len(outside) else 0]
    differs = (numbers != fill).any(axis=1)
    values = numbers[differs]
    steps = values.copy()
    steps[1:] -= values[:-1]
    planes = steps.view(np.uint8).reshape(len(values), channels * numbers.itemsize).T
    content = fill.tobytes() + np.packbits(differs).tobytes() + np.ascontiguousarray(planes).tobytes()
    return lzma.compress(content, format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC32, preset=LEVEL)


def unpack_pass(name: str, data: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    """The inverse of ``pack_pass`` for frames (F, H, W): (F, H, W, ...). Raises ``ValueError`` for a damaged stream and for one
    that holds more than such a pass."""
    dtype, trailing = LAYOUT[name]
    kind, channels, count = np.dtype(dtype).newbyteorder("<"), math.prod(trailing), math.prod(shape)
    item = kind.itemsize * channels
    bits = (count + 7) // 8
    decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_MEMORY)
    try:
        content = decoder.decompress(data, item + bits + count * item)
        if not decoder.eof:
            # the end of the stream may be still to come, but nothing else
            content += decoder.decompress(b"", 1)
    except (lzma.LZMAError, EOFError) as error:
        raise ValueError(f"the pass '{name}' is damaged ({error})") from error
    if not decoder.eof or decoder.unused_data or len(content) < item + bits:
        raise ValueError(f"the pass '{name}' has another size than it should")
    differs = np.unpackbits(np.frombuffer(content, np.uint8, bits, item), count=count).astype(bool)
    filled = int(differs.sum())
    if len(content) != item + bits + filled * item:
        raise ValueError(f"the pass '{name}' has another size than it should")
    number = np.dtype(f"<u{kind.itemsize}")
    planes = np.frombuffer(content, np.uint8, filled * item, item + bits).reshape(item, filled)
    steps = np.ascontiguousarray(planes.T).view(number).reshape(filled, channels)
    out = np.empty((count, channels), number)
    out[:] = np.frombuffer(content, number, channels)
    out[differs] = np.cumsum(steps, axis=0, dtype=number)
    return out.view(kind).astype(np.dtype(dtype), copy=False).reshape(*shape, *trailing)
