"""Arrays from ``.npy`` and ``.npz`` files that others wrote.

numpy's own reader makes its arrays by what the file says, before it looks how much of that there is. Here the header is matched
against the one form that numpy writes, only plain numbers and texts are let in, and the shape is compared with the bytes.
"""

from __future__ import annotations

import io
import math
import re
import zipfile
import zlib

import numpy as np

MAGIC = b"\x93NUMPY"
#: characters of a header; numpy's own are shorter
MAX_HEADER = 10_000
#: an archive may unpack to this many times its size, and to ``FREE`` bytes more
RATIO, FREE = 64, 200 << 20
MAX_DIMENSIONS = 16
_HEADER = re.compile(
    r"\{\s*'descr':\s*'(?P<descr>[^']{1,16})',\s*'fortran_order':\s*(?P<fortran>True|False),"
    r"\s*'shape':\s*\((?P<shape>[\d,\s]{0,400})\),?\s*\}\s*"
)
_PLAIN = re.compile(r"[<>|=]?(?:b1|[iu][1248]|f[248]|c8|c16|[SU]\d{1,9})")


def read_header(data: bytes) -> tuple[str, bool, tuple[int, ...], int]:
    """(type code, column order, shape, where the data begin) of a ``.npy`` file; the type code may be ``O`` or anything else.

    Raises ``ValueError`` for what is not a ``.npy`` file.
    """
    if not data.startswith(MAGIC) or len(data) < 12:
        raise ValueError("it is not a NumPy .npy file")
    major = data[6]
    if major not in (1, 2, 3):
        raise ValueError(f"it is a NumPy file of version {major}, which is unknown")
    width = 2 if major == 1 else 4
    length, start = int.from_bytes(data[8 : 8 + width], "little"), 8 + width
    if length > MAX_HEADER or start + length > len(data):
        raise ValueError("its header is cut off or too long")
    header = _HEADER.fullmatch(data[start : start + length].decode("latin1"))
    if header is None:
        raise ValueError("its header is not one that NumPy writes for plain arrays")
    shape = tuple(int(side) for side in header["shape"].replace(" ", "").split(",") if side)
    if len(shape) > MAX_DIMENSIONS:
        raise ValueError(f"it has {len(shape)} dimensions")
    return header["descr"], header["fortran"] == "True", shape, start + length


def read_npy(data: bytes) -> np.ndarray:
    """The array in a ``.npy`` file, read-only; numbers, truth values or texts.

    Raises ``ValueError`` for damaged files, and for arrays of Python objects or records.
    """
    descr, fortran, shape, start = read_header(data)
    if not _PLAIN.fullmatch(descr):
        raise ValueError(f"it contains an array of the type '{descr}', not of numbers or texts")
    dtype = np.dtype(descr)
    count = math.prod(shape)
    if count * dtype.itemsize > len(data) - start:
        raise ValueError(f"it is cut off: its header promises {list(shape)}, more than there is")
    if not count or not dtype.itemsize:
        if max(shape, default=0) > len(data):
            raise ValueError("it promises an empty array of absurd size")
        return np.zeros(shape, dtype)
    return np.frombuffer(data, dtype, count, start).reshape(shape, order="F" if fortran else "C")


def unpack_npz(data: bytes) -> dict[str, bytes]:
    """The ``.npy`` files in an ``.npz`` archive by their names without the ending.

    Raises ``ValueError`` for damaged archives, and for those that claim to unpack to far more than their size.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            total = sum(entry.file_size for entry in entries)
            if total > FREE + RATIO * len(data):
                raise ValueError(f"it claims to unpack to {total / 1e9:.1f} GB, far more than its size")
            found = {}
            for entry in entries:
                with archive.open(entry) as stream:
                    # no more than was claimed, whatever is in it
                    found[entry.filename.removesuffix(".npy")] = stream.read(entry.file_size)
            return found
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, KeyError) as error:
        raise ValueError(f"it is not a NumPy .npz archive, or is damaged ({error})") from error


def read_npz(data: bytes) -> dict[str, np.ndarray]:
    """Every array of an ``.npz`` archive. Raises ``ValueError`` as ``unpack_npz`` and ``read_npy`` do."""
    return {name: read_npy(content) for name, content in unpack_npz(data).items()}
