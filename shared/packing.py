"""Arrays made small for a slow connection, without losing a bit: the first bytes of all values, then the second ones and so on, by
zlib at its quickest level. In rendered passes neighbours are alike in all but their last bytes."""

from __future__ import annotations

import zlib

import numpy as np

LEVEL = 1
#: smaller arrays stay as they are, and so do those that do not get smaller than this fraction
LEAST_BYTES, LEAST_GAIN = 4096, 0.9


def pack(array: np.ndarray) -> bytes | None:
    """A contiguous array's bytes made small; None where that is not worth it."""
    if array.nbytes < LEAST_BYTES:
        return None
    # values that lie beside each other, such as coordinates, are different quantities: each has planes of its own
    beside = array.itemsize * (array.shape[-1] if array.ndim > 3 else 1)
    planes = np.ascontiguousarray(array.reshape(-1).view(np.uint8).reshape(-1, beside).T)
    data = zlib.compress(planes.data, LEVEL)
    return data if len(data) < LEAST_GAIN * array.nbytes else None


def unpack(data: bytes | memoryview, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """The array (read-only) that ``pack`` made small. Never makes more than the array has; raises ``ValueError`` for what is
    damaged, or has more or less in it."""
    kind = np.dtype(dtype)
    size = int(np.prod(shape, dtype=object)) * kind.itemsize
    unpacker = zlib.decompressobj()
    try:
        # one byte more than there may be tells that there are too many
        found = unpacker.decompress(data, size + 1)
    except zlib.error as error:
        raise ValueError("it is damaged") from error
    if len(found) != size or not unpacker.eof or unpacker.unused_data:
        raise ValueError(f"it does not unpack to {size} bytes")
    beside = kind.itemsize * (shape[-1] if len(shape) > 3 else 1)
    values = np.ascontiguousarray(np.frombuffer(found, np.uint8).reshape(beside, -1).T)
    values.flags.writeable = False
    return values.reshape(-1).view(kind).reshape(shape)
