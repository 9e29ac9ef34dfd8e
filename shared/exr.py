"""OpenEXR files of the plainest kind: one part, scan lines, without compression or with ZIP.

The files are written by Blender with our own settings, or here, and are read directly: the OpenEXR package brings a second
copy of a C++ library that Blender programs have loaded already, and reading with it crashes some of them. The layout is
"OpenEXR File Layout" of the Academy Software Foundation.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np

from .files import read_file

MAGIC, VERSION = 20000630, 2
#: version bits of tiled, deep and multi-part files
UNUSUAL = 0x200 | 0x800 | 0x1000
#: compression number -> scan lines in a chunk: none, ZIPS and ZIP
CHUNK_LINES = {0: 1, 2: 1, 3: 16}
ZIP = 3
#: no pass has longer sides, nor a file more channels
MAX_SIDE, MAX_CHANNELS = 16_384, 256
#: a file may unpack to this many times its size, and to ``FREE`` bytes more: surfaces that fill little of a frame pack well
RATIO, FREE = 64, 200 << 20
#: bytes that are summed up beside each other
ROW = 1024
PIXEL_TYPES = {0: np.dtype("<u4"), 1: np.dtype("<f2"), 2: np.dtype("<f4")}


def _read_text(data: bytes, at: int) -> tuple[str, int]:
    end = data.index(b"\0", at)
    return data[at:end].decode("latin1"), end + 1


def _read_attributes(data: bytes) -> tuple[dict[str, bytes], int]:
    """The header's attributes as raw bytes, and where the header ends."""
    out, at = {}, 8
    while data[at] != 0:
        name, at = _read_text(data, at)
        _, at = _read_text(data, at)
        (size,) = struct.unpack_from("<i", data, at)
        if size < 0:  # it would be read for ever
            raise ValueError("an attribute has a negative size")
        out[name] = data[at + 4 : at + 4 + size]
        at += 4 + size
    return out, at + 1


def sum_up(differences: np.ndarray) -> np.ndarray:
    """The running sums (N,) uint8 of (N,) uint8, modulo 256. In rows of bytes, of which each round sums up twice as many: quicker
    than numpy's own, which goes from byte to byte."""
    count = len(differences)
    sums = np.zeros((-(-count // ROW), ROW), np.uint8)
    sums.reshape(-1)[:count] = differences
    other, span = np.empty_like(sums), 1
    while span < ROW:
        other[:, :span] = sums[:, :span]
        np.add(sums[:, span:], sums[:, :-span], out=other[:, span:])
        sums, other, span = other, sums, 2 * span
    sums[1:] += np.cumsum(sums[:-1, -1], dtype=np.uint8)[:, None]
    return sums.reshape(-1)[:count]


def _unpack(packed: bytes, size: int) -> np.ndarray:
    """(size,) uint8: EXR's ZIP undone: inflate, sum up the differences of bytes, interleave the two halves."""
    if len(packed) == size:  # stored as it is where packing would not have made it smaller
        return np.frombuffer(packed, np.uint8)
    inflater = zlib.decompressobj()
    inflated = inflater.decompress(packed, size)
    if len(inflated) != size or inflater.decompress(inflater.unconsumed_tail, 1):
        raise ValueError("its lines have another size than they should")
    coded = np.frombuffer(inflated, np.uint8).copy()
    coded[1:] -= 128
    ordered = sum_up(coded)
    out = np.empty(size, np.uint8)
    half = (size + 1) // 2
    out[::2], out[1::2] = ordered[:half], ordered[half:]
    return out


def _pack(raw: bytes) -> bytes:
    data = np.frombuffer(raw, np.uint8)
    ordered = np.concatenate([data[::2], data[1::2]])
    coded = ordered.copy()
    coded[1:] = ordered[1:] - ordered[:-1] + np.uint8(128)
    # the lightest level: these files are for use, and smooth surfaces pack well anyway
    packed = zlib.compress(coded.tobytes(), 1)
    return packed if len(packed) < len(raw) else raw


def _read_pixels(data: bytes, start: int, channels: list[tuple], top: int, height: int, compression: int) -> dict[str, np.ndarray]:
    if compression == 0:
        line = np.dtype([("y", "<i4"), ("size", "<i4"), *channels])
        offsets = np.frombuffer(data, "<u8", height, start)
        # lines follow each other without gaps, though their order in the file is free
        lines = np.frombuffer(data, line, height, int(offsets.min()))
        lines = lines[np.argsort(lines["y"])]
        if (lines["y"] != np.arange(top, top + height)).any() or (lines["size"] != line.itemsize - 8).any():
            raise ValueError("its lines are incomplete")
        return {name: lines[name] for name, *_ in channels}
    line = np.dtype(channels)
    per_chunk = CHUNK_LINES[compression]
    offsets = np.frombuffer(data, "<u8", -(-height // per_chunk), start)
    if height * line.itemsize > FREE + RATIO * len(data):
        raise ValueError("it claims to unpack to far more than its size")
    out = np.empty((height, line.itemsize), np.uint8)
    seen = set()
    for offset in offsets.tolist():
        y, size = struct.unpack_from("<ii", data, offset)
        first = y - top
        count = min(per_chunk, height - first)
        packed = data[offset + 8 : offset + 8 + size]
        if first < 0 or first % per_chunk or count <= 0 or len(packed) != size or first in seen:
            raise ValueError("its lines are incomplete")
        seen.add(first)
        out[first : first + count] = _unpack(packed, count * line.itemsize).reshape(count, -1)
    lines = out.view(line)[:, 0]
    return {name: lines[name] for name, *_ in channels}


def read_channels(path: Path) -> dict[str, np.ndarray]:
    """Every channel (H, W) of a scan line EXR by its full name, row 0 at the top; float32, float16 or uint32.

    Raises ``ValueError`` for files that are tiled, deep, of several parts, compressed in other ways than ZIP, or that claim to be
    larger than their size allows, and ``OSError``.
    """
    data = read_file(path)
    try:
        magic, version = struct.unpack_from("<ii", data)
        if magic != MAGIC or version & UNUSUAL:
            raise ValueError("it is not a plain single-part file")
        attributes, start = _read_attributes(data)
        compression = attributes["compression"][0]
        if compression not in CHUNK_LINES:
            raise ValueError("it is compressed in another way than ZIP")
        left, top, right, bottom = struct.unpack("<4i", attributes["dataWindow"])
        width, height = right - left + 1, bottom - top + 1
        if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
            raise ValueError(f"it claims a size of {width}x{height} pixels")
        channels: list[tuple] = []
        at = 0
        while attributes["channels"][at] != 0:
            name, at = _read_text(attributes["channels"], at)
            (kind,) = struct.unpack_from("<i", attributes["channels"], at)
            channels.append((name, PIXEL_TYPES[kind], (width,)))
            if len(channels) > MAX_CHANNELS:
                raise ValueError("it has too many channels")
            at += 16
        return _read_pixels(data, start, channels, top, height, compression)
    except (struct.error, KeyError, IndexError, ValueError, OverflowError, TypeError, MemoryError, zlib.error) as error:
        raise ValueError(f"{path.name} cannot be read as a pass file: {error}") from error


def encode_channels(channels: dict[str, np.ndarray]) -> bytes:
    """A ZIP-compressed EXR file of channels (H, W), all of one size; float32, float16 or uint32, row 0 at the top."""
    kinds = {dtype: number for number, dtype in PIXEL_TYPES.items()}
    names = sorted(channels)
    height, width = channels[names[0]].shape
    listed = (
        b"".join(name.encode("latin1") + b"\0" + struct.pack("<iB3xii", kinds[channels[name].dtype], 0, 1, 1) for name in names)
        + b"\0"
    )
    window = struct.pack("<4i", 0, 0, width - 1, height - 1)
    attributes = (
        ("channels", "chlist", listed),
        ("compression", "compression", bytes([ZIP])),
        ("dataWindow", "box2i", window),
        ("displayWindow", "box2i", window),
        ("lineOrder", "lineOrder", b"\0"),
        ("pixelAspectRatio", "float", struct.pack("<f", 1.0)),
        ("screenWindowCenter", "v2f", struct.pack("<2f", 0.0, 0.0)),
        ("screenWindowWidth", "float", struct.pack("<f", 1.0)),
    )
    header = (
        struct.pack("<ii", MAGIC, VERSION)
        + b"".join(
            name.encode() + b"\0" + kind.encode() + b"\0" + struct.pack("<i", len(value)) + value
            for name, kind, value in attributes
        )
        + b"\0"
    )
    line = np.dtype([(name, channels[name].dtype, (width,)) for name in names])
    chunks = []
    for y in range(0, height, CHUNK_LINES[ZIP]):
        # a few lines at a time: the whole picture once more would double the memory
        lines = np.empty(min(CHUNK_LINES[ZIP], height - y), line)
        for name in names:
            lines[name] = channels[name][y : y + len(lines)]
        packed = _pack(lines.tobytes())
        chunks.append(struct.pack("<ii", y, len(packed)) + packed)
    sizes = np.array([len(chunk) for chunk in chunks], np.uint64)
    first = len(header) + 8 * len(chunks)
    offsets = (first + np.cumsum(sizes) - sizes).astype("<u8")
    return header + offsets.tobytes() + b"".join(chunks)
