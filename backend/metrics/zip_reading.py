"""Reading archives that strangers made: nothing is unpacked before it is known what there is and how much.

An archive is refused for names that lead elsewhere, links, encrypted entries, two entries of one name, and sizes that are out of
all proportion; what is read is no more than was claimed.
"""

from __future__ import annotations

import re
import stat
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from ...shared.files import open_regular, read_start
from ...shared.npy import DAMAGED_ARCHIVE, FREE, RATIO, shorten

#: bytes of an archive, entries in it, and bytes of the list of them
MAX_ARCHIVE, MAX_ENTRIES, MAX_LIST = 4 << 30, 50_000, 16 << 20
#: what systems put into archives by themselves
_LITTER = re.compile(r"(?:.*/)?(?:__MACOSX/.*|\.DS_Store|Thumbs\.db|desktop\.ini)")
#: a name that means the same on every system: no drives, no devices, no way up
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\- ]{0,99}")
_DEVICES = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.IGNORECASE)
_END, _END_SIZE = b"PK\x05\x06", 22
_LARGE_END, _LARGE_END_SIZE = b"PK\x06\x07", 20


def is_archive(path: Path) -> bool:
    """Whether a path is a file that begins as archives do."""
    try:
        return read_start(path, 4) in (b"PK\x03\x04", _END)
    except OSError:
        return False


def is_safe_name(name: str) -> bool:
    """Whether a relative path with / stays where it is put, on every system."""
    return all(_PART.fullmatch(part) and not part.endswith((".", " ")) and not _DEVICES.fullmatch(part) for part in name.split("/"))


class ZipReader:
    """An archive that is read entry by entry; ``sizes`` are the entries' names and bytes."""

    def __init__(self, path: Path) -> None:
        """Raises ``ValueError`` for what is no archive, is damaged, or is not to be trusted, and ``OSError``."""
        self._file = open_regular(path)
        try:
            size = _check_end(self._file)
            self._archive = zipfile.ZipFile(self._file)
            self._entries = _list_entries(self._archive.infolist(), size)
        except DAMAGED_ARCHIVE as error:
            self._file.close()
            raise ValueError(f"it is no archive, or a damaged one ({shorten(error)})") from error
        except ValueError:
            self._file.close()
            raise
        self.sizes: Mapping[str, int] = {name: entry.file_size for name, entry in self._entries.items()}

    def __enter__(self) -> ZipReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._archive.close()
        self._file.close()

    def read(self, name: str, most: int) -> bytes:
        """The bytes of an entry. Raises ``KeyError`` where there is none of that name, and ``ValueError`` for a damaged one and for
        one of more than ``most`` bytes."""
        entry = self._entries[name]
        if entry.file_size > most:
            raise ValueError(f"{name} has {entry.file_size} bytes, more than the {most} expected")
        try:
            with self._archive.open(entry) as stream:
                found = stream.read(entry.file_size)
                # the end is what has the sum compared
                rest = stream.read(1)
        except DAMAGED_ARCHIVE as error:
            raise ValueError(f"{name} is damaged ({shorten(error)})") from error
        if len(found) != entry.file_size or rest:
            raise ValueError(f"{name} has another size than the archive says")
        return found


def _check_end(file: BinaryIO) -> int:
    """The size of an archive whose list of entries is at its end, and small enough to be read whole. Raises ``ValueError``."""
    size = file.seek(0, 2)
    if size > MAX_ARCHIVE:
        raise ValueError(f"it has {size / 1e9:.1f} GB, more than an archive may have here")
    file.seek(max(0, size - _END_SIZE - _LARGE_END_SIZE))
    tail = file.read()
    if len(tail) < _END_SIZE or not tail[-_END_SIZE:].startswith(_END):
        raise ValueError("it is no archive, or is cut off, or has a comment behind it")
    if tail[:-_END_SIZE].startswith(_LARGE_END):
        raise ValueError("it is an archive of the kind for very large files")
    entries, length = struct.unpack_from("<HI", tail[-_END_SIZE:], 10)
    if entries > MAX_ENTRIES or length > MAX_LIST:
        raise ValueError("it contains too many files")
    return size


def _list_entries(entries: list[zipfile.ZipInfo], size: int) -> dict[str, zipfile.ZipInfo]:
    """The files of an archive of ``size`` bytes by their names. Raises ``ValueError``."""
    if len(entries) > MAX_ENTRIES:
        raise ValueError("it contains too many files")
    found: dict[str, zipfile.ZipInfo] = {}
    names = set[str]()
    for entry in entries:
        name = entry.orig_filename
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if _LITTER.fullmatch(name):
            continue
        if not is_safe_name(name.removesuffix("/")):
            raise ValueError(
                f"it contains a file of the name {name[:80]!r}, which could lead elsewhere or cannot be had on every system; use "
                "letters, digits, -, _ and ."
            )
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise ValueError(f"{name} in it is a link or a device")
        if entry.flag_bits & 0x1:
            raise ValueError(f"{name} in it is encrypted")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{name} in it is compressed in an unusual way")
        if name.casefold() in names:
            raise ValueError(f"it contains {name} twice")
        names.add(name.casefold())
        if not name.endswith("/"):
            found[name] = entry
    total = sum(entry.file_size for entry in found.values())
    if total > FREE + RATIO * size:
        raise ValueError(f"it claims to unpack to {total / 1e9:.1f} GB, far more than its size")
    return found
