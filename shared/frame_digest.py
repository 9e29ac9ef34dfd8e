"""A text that stands for a frame's passes: the same for the same ones, on both sides."""

from __future__ import annotations

import hashlib

import msgspec
import numpy as np

from .manifest import FrameEntry
from .passes import FramePasses


def digest_frame(passes: FramePasses, entry: FrameEntry) -> str:
    """Another text for other passes (1, H, W, ...) or another entry."""
    # as it is after it was sent: whole numbers where fractions are meant are written differently
    entry = msgspec.msgpack.decode(msgspec.msgpack.encode(entry), type=FrameEntry)
    digest = hashlib.blake2b(msgspec.json.encode(entry), digest_size=16)
    for name, array in passes.arrays().items():
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
