"""Reads one frame's multilayer EXR back as arrays.

The files are the plainest kind that OpenEXR knows (one part, scan lines, no compression), written by our own settings, and
are read here directly: the OpenEXR package brings a second copy of a C++ library that Blender programs have loaded already,
and reading with it crashes some of them.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from .scene_setup import PART_AOV, REST_AOV

MAGIC, UNCOMPRESSED = 20000630, 0
#: version bits of tiled, deep and multi-part files
UNUSUAL = 0x200 | 0x800 | 0x1000
PIXEL_TYPES = {0: np.dtype("<u4"), 1: np.dtype("<f2"), 2: np.dtype("<f4")}


def _text(data: bytes, at: int) -> tuple[str, int]:
    end = data.index(b"\0", at)
    return data[at:end].decode("latin1"), end + 1


def _attributes(data: bytes) -> tuple[dict[str, bytes], int]:
    """The header's attributes as raw bytes, and where the header ends."""
    out, at = {}, 8
    while data[at] != 0:
        name, at = _text(data, at)
        _, at = _text(data, at)
        size, = struct.unpack_from("<i", data, at)
        out[name] = data[at + 4:at + 4 + size]
        at += 4 + size
    return out, at + 1


def read_channels(path: Path) -> dict[str, np.ndarray]:
    """Every channel (H, W) of an uncompressed scan line EXR by its full name, row 0 at the top.

    See "OpenEXR File Layout" of the Academy Software Foundation. Raises ``ValueError`` for any other kind of file.
    """
    data = path.read_bytes()
    try:
        magic, version = struct.unpack_from("<ii", data)
        if magic != MAGIC or version & UNUSUAL:
            raise ValueError("it is no plain single-part file")
        attributes, start = _attributes(data)
        if attributes["compression"][0] != UNCOMPRESSED:
            raise ValueError("it is compressed")
        left, top, right, bottom = struct.unpack("<4i", attributes["dataWindow"])
        width, height = right - left + 1, bottom - top + 1
        channels, at = [], 0
        while attributes["channels"][at] != 0:
            name, at = _text(attributes["channels"], at)
            kind, = struct.unpack_from("<i", attributes["channels"], at)
            channels.append((name, PIXEL_TYPES[kind], (width,)))
            at += 16
        line = np.dtype([("y", "<i4"), ("size", "<i4"), *channels])
        offsets = np.frombuffer(data, "<u8", height, start)
        # lines follow each other without gaps, though their order in the file is free
        lines = np.frombuffer(data, line, height, int(offsets.min()))
        lines = lines[np.argsort(lines["y"])]
        if (lines["y"] != np.arange(top, bottom + 1)).any() or (lines["size"] != line.itemsize - 8).any():
            raise ValueError("its lines are incomplete")
    except (struct.error, KeyError, IndexError, ValueError) as error:
        raise ValueError(f"{path.name} cannot be read as a pass file: {error}") from error
    return {name: lines[name] for name, _, _ in channels}


def read(path: Path) -> dict[str, np.ndarray]:
    """``depth`` (H, W) metres with 1e10 for the background, ``mask`` (H, W) uint8, ``uv`` (H, W, 2), ``rest`` (H, W, 3),
    ``part`` (H, W) uint8; row 0 at the top.

    Raises ``ValueError`` when a pass is missing.
    """
    channels = read_channels(path)

    def find(*endings: str) -> np.ndarray:
        for ending in endings:
            for name, pixels in channels.items():
                if name.endswith("." + ending):
                    return np.asarray(pixels, np.float32)
        raise ValueError(f"{path.name} lacks the pass '{endings[0]}'; it has {', '.join(sorted(channels))}")

    index = find("IndexOB.X", "Object Index.X")
    mask = np.round(index).astype(np.uint8)
    seen = mask > 0
    uv = np.stack([find("UV.U", "UV.X"), find("UV.V", "UV.Y")], -1) * seen[..., None]
    rest = np.stack([find(f"{REST_AOV}.{a}", f"{REST_AOV}.{b}") for a, b in ("RX", "GY", "BZ")], -1) * seen[..., None]
    part = np.where(seen, np.maximum(np.round(find(f"{PART_AOV}.X", f"{PART_AOV}.V")), 1), 0)
    depth = np.where(seen, find("Depth.Z", "Depth.V"), np.float32(1e10))
    return {"depth": depth, "mask": mask, "uv": uv.astype(np.float32), "rest": rest.astype(np.float32),
            "part": part.astype(np.uint8)}
