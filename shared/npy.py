"""Arrays from ``.npy`` and ``.npz`` files that others wrote.

numpy's own reader makes its arrays by what the file says, before it looks how much of that there is. Here the header is matched
against the one form that numpy writes, only plain numbers and texts are let in, and the shape is compared with the bytes.
"""

from __future__ import annotations

import io
import math
import re
import struct
import zipfile
import zlib

import numpy as np

MAGIC = b"\x93NUMPY"
#: characters of a header; numpy's own are shorter
MAX_HEADER = 10_000
#: an archive may unpack to this many times its size, and to ``FREE`` bytes more
RATIO, FREE = 64, 200 << 20
MAX_DIMENSIONS, MAX_ARRAYS = 16, 4096
_HEADER = re.compile(
    r"\{\s*'descr':\s*'(?P<descr>[^']{1,16})',\s*'fortran_order':\s*(?P<fortran>True|False),"
    r"\s*'shape':\s*\((?P<shape>[\d,\sL]{0,400})\),?\s*\}\s*"
)
#: what every entry of an archive's list begins with; bytes that are unpacked at a time
_LISTED, _PIECE = b"PK\x01\x02", 1 << 20
_PLAIN = re.compile(r"[<>|=]?(?:b1|[iu][1248]|f[248]|c8|c16|[SU]\d{1,9})")
#: what ``zipfile`` and what it uses raise for a damaged archive, apart from ``ValueError``
DAMAGED_ARCHIVE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    NotImplementedError,
    RuntimeError,
    KeyError,
    IndexError,
    OverflowError,
    UnicodeError,
)


def shorten(error: Exception) -> str:
    """What an error says about a file, without long pieces of it."""
    return " ".join(str(getattr(error, "strerror", None) or error).split())[:120]


def read_header(data: bytes | bytearray) -> tuple[str, bool, tuple[int, ...], int]:
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
    # Python 2 wrote large sides as 5L
    shape = tuple(int(side) for side in re.sub(r"[\sL]", "", header["shape"]).split(",") if side)
    if len(shape) > MAX_DIMENSIONS:
        raise ValueError(f"it has {len(shape)} dimensions")
    return header["descr"], header["fortran"] == "True", shape, start + length


def read_npy(data: bytes | bytearray) -> np.ndarray:
    """The array in a ``.npy`` file, read-only; numbers, truth values or texts.

    Raises ``ValueError`` for damaged files, and for arrays of Python objects or records.
    """
    descr, fortran, shape, start = read_header(data)
    if not _PLAIN.fullmatch(descr):
        raise ValueError(f"it contains an array of the type '{descr}', not of numbers or texts")
    dtype = _make_dtype(descr)
    count = math.prod(shape)
    if count * dtype.itemsize > len(data) - start:
        raise ValueError(f"it is cut off: its header promises {list(shape)}, more than there is")
    if not count:
        if max(shape, default=0) > len(data):
            raise ValueError("it promises an empty array of absurd size")
        return np.zeros(shape, dtype)
    return check_values(np.frombuffer(memoryview(data).toreadonly(), dtype, count, start)).reshape(
        shape, order="F" if fortran else "C"
    )


def _make_dtype(descr: str) -> np.dtype:
    try:
        dtype = np.dtype(descr)
    except TypeError as error:
        raise ValueError(f"it contains an array of the unknown type '{descr}'") from error
    if not dtype.itemsize:
        raise ValueError("it contains texts without letters")
    return dtype


def check_values(array: np.ndarray) -> np.ndarray:
    """A flat array whose bytes others chose, with values that its type can have: truth values become 0 or 1, since numpy counts
    what is in them, and texts consist of characters that exist. Raises ``ValueError`` for other texts."""
    if array.dtype.kind == "b":
        return array.view(np.uint8) != 0
    if array.dtype.kind == "U" and array.view(np.dtype("u4").newbyteorder(array.dtype.byteorder)).max(initial=0) > 0x10FFFF:
        raise ValueError("it contains texts of characters that do not exist")
    return array


def unpack_npz(data: bytes, ratio: float = RATIO, free: int = FREE) -> dict[str, bytes | bytearray]:
    """The ``.npy`` files in an ``.npz`` archive by their names without the ending.

    Raises ``ValueError`` for damaged archives, and for those that claim to unpack to more than ``ratio`` times their size and
    ``free`` bytes.
    """
    # the list of what is in it is read whole before anything can be asked of it
    if data.count(_LISTED) > 2 * MAX_ARRAYS:
        raise ValueError("it contains too many arrays")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            total = sum(entry.file_size for entry in entries)
            if total > free + ratio * len(data):
                raise ValueError(f"it claims to unpack to {total / 1e9:.1f} GB, far more than its size")
            # other kinds of compression cannot be stopped half-way
            if any(entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for entry in entries):
                raise ValueError("it is compressed in a way that NumPy does not use")
            return {entry.filename.removesuffix(".npy"): _unpack(archive, entry) for entry in entries}
    except DAMAGED_ARCHIVE as error:
        raise ValueError(f"it is not a NumPy .npz archive, or is damaged ({shorten(error)})") from error


def _unpack(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes | bytearray:
    found = bytearray()
    with archive.open(entry) as stream:
        # no more than was claimed, whatever is in it
        while len(found) < entry.file_size and (piece := stream.read(min(_PIECE, entry.file_size - len(found)))):
            found += piece
    return found


def read_npz(data: bytes) -> dict[str, np.ndarray]:
    """Every array of an ``.npz`` archive. Raises ``ValueError`` as ``unpack_npz`` and ``read_npy`` do."""
    return {name: read_npy(content) for name, content in unpack_npz(data).items()}


def read_plain_npz(data: bytes, ratio: float = RATIO, free: int = FREE) -> dict[str, np.ndarray]:
    """The arrays of numbers and texts of an ``.npz`` archive; those of Python objects, of which published archives contain a few
    that nobody needs, are left out. Raises ``ValueError`` as ``unpack_npz`` and ``read_npy`` do."""
    unpacked = unpack_npz(data, ratio, free)
    return {name: read_npy(content) for name, content in unpacked.items() if read_header(content)[0] not in ("|O", "O")}
