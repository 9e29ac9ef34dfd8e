"""The rate of a USD file: Blender's importer puts time codes at frames and does not say how many make a second. No bpy.

Text files name it in their head; binary ones ("crates") in a table of fields, whose tokens and numbers are compressed with LZ4
and with USD's coding of integers; a .usdz is an archive whose first file is the scene.
"""

from __future__ import annotations

import io
import re
import struct
import zipfile

import numpy as np

from ...shared.npy import DAMAGED_ARCHIVE

#: USD's own rate for files that name none
DEFAULT_RATE = 24.0
_NAMES = ("timeCodesPerSecond", "framesPerSecond")
#: the first version of crates whose tables are compressed
_OLDEST = (0, 4)
#: bytes of a text file's head; bytes that a section of a crate may unpack to, and its entries
_MAX_HEAD, _MAX_SECTION, _MAX_ENTRIES = 1 << 16, 1 << 26, 1 << 22
#: crate's numbers for the types of values that a rate can have
_TYPE_FLOAT, _TYPE_DOUBLE = 8, 9


def read_usd_rate(content: bytes) -> float | None:
    """Time codes per second of a USD file; None for a crate older than 2017, which is laid out otherwise.

    Raises ``ValueError``, ``IndexError``, ``KeyError`` or ``struct.error`` for a damaged one.
    """
    if content.startswith(b"PK"):
        content = _read_first_file(content)
    if content.startswith(b"PXR-USDC") and tuple(content[8:10]) < _OLDEST:
        return None
    found = _read_crate(content) if content.startswith(b"PXR-USDC") else _read_text(content)
    return next((found[name] for name in _NAMES if found.get(name, 0.0) > 0), DEFAULT_RATE)


def _read_first_file(content: bytes) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            first = archive.infolist()[0]
            if first.compress_type != zipfile.ZIP_STORED:
                raise ValueError("a .usdz is not compressed")
            return archive.read(first)
    except DAMAGED_ARCHIVE as error:
        raise ValueError("the archive is damaged") from error


def _read_text(content: bytes) -> dict[str, float]:
    head = re.split(rb"\n\s*(?:def|over|class)\s", content[:_MAX_HEAD])[0].decode("utf-8", "replace")
    head = re.sub(r'"""[\s\S]*?"""|"[^"\n]*"|#[^\n]*', "", head)
    return {name: float(found[1]) for name in _NAMES if (found := re.search(rf"\b{name}\s*=\s*([-+.\deE]+)", head))}


def _read_crate(content: bytes) -> dict[str, float]:
    """The rates in a crate's table of fields, each of which is there once however many use it."""
    start = struct.unpack_from("<q", content, 16)[0]
    count = struct.unpack_from("<Q", content, start)[0]
    if count > 64:
        raise ValueError("a crate has few sections")
    sections = {}
    for n in range(count):
        name, offset, size = struct.unpack_from("<16sqq", content, start + 8 + 32 * n)
        sections[name.rstrip(b"\0")] = content[offset : offset + size]
    tokens = _read_tokens(sections[b"TOKENS"])
    fields = sections[b"FIELDS"]
    total, packed = struct.unpack_from("<QQ", fields)
    names = _unpack_integers(fields[16 : 16 + packed], total)
    at = 16 + packed
    values = np.frombuffer(_unpack_lz4(fields[at + 8 : at + 8 + struct.unpack_from("<Q", fields, at)[0]]), "<u8")
    out = {}
    for name in _NAMES:
        if name.encode() in tokens:
            for row in np.flatnonzero(names == tokens.index(name.encode())):
                out[name] = _read_number(content, int(values[row]))
    return out


def _read_number(content: bytes, value: int) -> float:
    """A number from its representation: the type in a byte, whether it stands in the representation itself, or where it is."""
    kind, inlined, payload = value >> 48 & 0xFF, value >> 62 & 1, value & (1 << 48) - 1
    if inlined and kind in (_TYPE_FLOAT, _TYPE_DOUBLE):
        # a double that a float holds exactly is kept as a float
        return float(struct.unpack("<f", struct.pack("<I", payload & 0xFFFFFFFF))[0])
    if kind == _TYPE_DOUBLE:
        return float(struct.unpack_from("<d", content, payload)[0])
    raise ValueError("a rate is no number")


def _read_tokens(section: bytes) -> list[bytes]:
    count, size, packed = struct.unpack_from("<QQQ", section)
    text = _unpack_lz4(section[24 : 24 + packed])
    tokens = text[:size].split(b"\0")[:count]
    if len(tokens) != count:
        raise ValueError("tokens are missing")
    return tokens


def _unpack_integers(packed: bytes, count: int) -> np.ndarray:
    """(count,) int64: differences, each the most common one or one of 1, 2 or 4 bytes, as two bits say."""
    if count > _MAX_ENTRIES:
        raise ValueError("too many fields")
    data = _unpack_lz4(packed)
    common = struct.unpack_from("<i", data)[0]
    packed_codes = np.frombuffer(data, np.uint8, (count + 3) // 4, 4)
    codes = (packed_codes[:, None] >> np.array([0, 2, 4, 6], np.uint8) & 3).ravel()[:count]
    sizes = np.array([0, 1, 2, 4])[codes]
    starts = 4 + (count + 3) // 4 + np.cumsum(sizes) - sizes
    if count and starts[-1] + sizes[-1] > len(data):
        raise ValueError("integers are missing")
    differences = [
        int.from_bytes(data[a : a + n], "little", signed=True) if n else common for a, n in zip(starts, sizes, strict=True)
    ]
    return np.cumsum(np.array(differences, np.int64))


def _unpack_lz4(packed: bytes) -> bytes:
    """What USD has compressed: the number of LZ4 blocks, 0 for a single one without its size, then the blocks."""
    if packed[0] == 0:
        return _unpack_block(packed[1:])
    out, at = b"", 1
    for _ in range(packed[0]):
        size = struct.unpack_from("<i", packed, at)[0]
        out += _unpack_block(packed[at + 4 : at + 4 + size])
        at += 4 + size
    return out


def _unpack_block(block: bytes) -> bytes:
    """An LZ4 block: literals, then a copy of what came before, again and again."""
    out, at = bytearray(), 0

    def read_length(length: int) -> int:
        nonlocal at
        if length == 15:
            while True:
                more = block[at]
                at += 1
                length += more
                if more < 255:
                    break
        return length

    while at < len(block):
        token = block[at]
        at += 1
        literals = read_length(token >> 4)
        out += block[at : at + literals]
        at += literals
        if at >= len(block):
            break
        offset = struct.unpack_from("<H", block, at)[0]
        at += 2
        length = read_length(token & 15) + 4
        if not 0 < offset <= len(out) or len(out) + length > _MAX_SECTION:
            raise ValueError("a copy from before the beginning")
        start = len(out) - offset
        # a copy may reach into what it writes
        while length > 0:
            part = out[start : start + min(length, len(out) - start)]
            out += part
            length -= len(part)
    return bytes(out)
