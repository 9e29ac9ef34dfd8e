"""Compressed files that others wrote: unpacked piece by piece, and no further than a file of their size deserves."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Protocol

#: bytes that are packed and unpacked at a time
_PIECE = 1 << 20
#: memory that the dictionary of an ``xz`` file may take
_MEMORY = 128 << 20


class _Unpacker(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int = -1, /) -> bytes: ...


class _Inflater:
    """``zlib``'s object with the interface of the others."""

    def __init__(self, bits: int) -> None:
        self._object = zlib.decompressobj(bits)

    @property
    def eof(self) -> bool:
        return self._object.eof

    @property
    def needs_input(self) -> bool:
        return not self._object.unconsumed_tail

    def decompress(self, data: bytes, max_length: int = -1, /) -> bytes:
        return self._object.decompress(data or self._object.unconsumed_tail, max_length)


_KINDS: tuple[tuple[bytes, Callable[[], _Unpacker]], ...] = (
    (b"\x1f\x8b", lambda: _Inflater(31)),
    (b"BZh", bz2.BZ2Decompressor),
    (b"\xfd7zXZ\x00", lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MEMORY)),
    (b"]\x00\x00", lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=_MEMORY)),
    *((bytes([0x78, level]), lambda: _Inflater(15)) for level in (0x01, 0x5E, 0x9C, 0xDA)),
)


def is_compressed(data: bytes) -> bool:
    """Whether the bytes begin as zlib, gzip, bzip2 or xz files do."""
    return any(data.startswith(start) for start, _ in _KINDS)


def decompress(data: bytes, most: int) -> bytes:
    """The bytes of a file for which ``is_compressed`` holds.

    Raises ``ValueError`` for damaged files, and for those that unpack to more than ``most`` bytes.
    """
    make = next((make for start, make in _KINDS if data.startswith(start)), None)
    if make is None:
        raise ValueError("it is not compressed in a known way")
    unpacker, found, at = make(), bytearray(), 0
    try:
        while not unpacker.eof:
            piece = data[at : at + _PIECE] if unpacker.needs_input else b""
            at += len(piece)
            got = unpacker.decompress(piece, _PIECE)
            found += got
            if len(found) > most:
                raise ValueError("it unpacks to far more than its size")
            if not piece and not got and unpacker.needs_input:
                raise ValueError("it is cut off")
    except (OSError, EOFError, zlib.error, lzma.LZMAError, MemoryError) as error:
        raise ValueError("it is damaged") from error
    return bytes(found)
