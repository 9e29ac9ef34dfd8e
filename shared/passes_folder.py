"""Saved passes: ``passes.json`` and one ``.npy`` for each pass, readable by any program.

The manifest holds ``width``, ``height``, ``fps``, ``frames`` (scene frame numbers), ``near`` and ``far`` (metres) of the
depth range. The arrays are those of ``FramePasses``, frames first.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import numpy as np

from .shot import PASS_LAYOUT, FramePasses, ShotError

MANIFEST = "passes.json"


class PassesManifest(msgspec.Struct, frozen=True):
    """What the arrays beside it are."""

    width: int
    height: int
    fps: float
    frames: tuple[int, ...]
    near: float
    far: float


def write_atomically(path: Path, data: bytes) -> None:
    """Write beside, then rename, so that a reader never sees half a file."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    os.replace(part, path)


def save(folder: Path, passes: FramePasses, manifest: PassesManifest) -> None:
    """Write the folder; the manifest comes last, so that its presence means that all is there."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in passes.arrays().items():
        np.save(folder / f"{name}.npy", array)
    write_atomically(folder / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)))


def load(folder: Path) -> tuple[FramePasses, PassesManifest]:
    """Read a folder; ``ShotError`` says what is missing."""
    try:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=PassesManifest)
        arrays = {name: np.load(folder / f"{name}.npy", allow_pickle=False) for name in PASS_LAYOUT}
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        raise ShotError("passes", f"{folder} holds no readable passes ({error}); render them again.") from error
    return FramePasses(**arrays), manifest
