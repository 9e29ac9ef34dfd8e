"""Whether the bytes of a PNG file are all there, which both sides check without decoding the picture."""

from __future__ import annotations

import struct
import zlib

_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def is_intact_png(data: bytes) -> bool:
    """Whether a file is a whole PNG: its signature, and every chunk down to the last one with its checksum right."""
    at = len(_SIGNATURE)
    if not data.startswith(_SIGNATURE):
        return False
    kind = b""
    while kind != b"IEND":
        if at + 12 > len(data):
            return False
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 8 + length
        if end + 4 > len(data) or zlib.crc32(memoryview(data)[at + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            return False
        at = end + 4
    return True


def has_alpha(data: bytes) -> bool:
    """Whether the pixels of a whole PNG file have a fourth or second channel, that of transparency."""
    # the fourth byte after the size is the kind of colours
    return len(data) > 25 and data[25] in (4, 6)


def encode_rgba(rows: bytes, width: int, height: int) -> bytes:
    """A PNG file of ``height`` rows of ``width`` pixels with 8-bit red, green, blue and alpha, from top to bottom."""
    stride = 4 * width
    lines = b"".join(b"\0" + rows[start : start + stride] for start in range(0, height * stride, stride))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    return _SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines, 3)) + chunk(b"IEND", b"")


def read_png_size(data: bytes) -> tuple[int, int]:
    """(width, height) that a PNG file claims. Raises ``ValueError`` for what is none."""
    if not data.startswith(_SIGNATURE) or len(data) < 24:
        raise ValueError("it is not a PNG file")
    width, height = struct.unpack_from(">II", data, 16)
    return width, height
