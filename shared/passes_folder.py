"""Saved passes: a folder with ``passes.json`` and one OpenEXR file a frame, ``0001.exr``, readable by any program.

The manifest (``PassesManifest``) says what the files hold; their channels are ``CHANNELS``, and ``Z`` with the planar camera
depth in metres (1e10 for the background) where the depth range is known. Row 0 is the top of the picture.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import numpy as np

from . import exr
from .depth import metres
from .manifest import CameraEntry, PartEntry, PassesManifest, PersonEntry, SurfaceEntry
from .shot import EXTRA_LAYOUT, PASS_LAYOUT, FramePasses, ShotError

__all__ = [
    "CameraEntry",
    "PartEntry",
    "PassesManifest",
    "PersonEntry",
    "SurfaceEntry",
    "frame_path",
    "load",
    "save",
    "write_atomically",
]
MANIFEST = "passes.json"
#: pass -> its channels, in the order of the array's last axis
CHANNELS: dict[str, tuple[str, ...]] = {
    "depth": ("control.depth",),
    "mask": ("id.character",),
    "uv": ("uv.U", "uv.V"),
    "rest": ("rest.X", "rest.Y", "rest.Z"),
    "part": ("id.part",),
    "object_index": ("id.object",),
    "normal": ("normal.X", "normal.Y", "normal.Z"),
    "position": ("position.X", "position.Y", "position.Z"),
    "motion": ("motion.X", "motion.Y"),
}


def write_atomically(path: Path, data: bytes) -> None:
    """Write beside, then rename, so that a reader never sees half a file."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    os.replace(part, path)


def frame_path(folder: Path, frame: int) -> Path:
    """The file of a scene frame."""
    return folder / f"{frame:04d}.exr"


def _frame_channels(arrays: dict[str, np.ndarray], index: int, manifest: PassesManifest) -> dict[str, np.ndarray]:
    out: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        pixels = array[index].astype(np.uint32) if array.dtype.kind == "u" else array[index]
        planes = pixels[..., None] if pixels.ndim == 2 else pixels
        out |= {channel: planes[..., n] for n, channel in enumerate(CHANNELS[name])}
    if manifest.far > manifest.near:
        out["Z"] = metres(arrays["depth"][index], manifest.near, manifest.far)
    return out


def save(folder: Path, passes: FramePasses, manifest: PassesManifest) -> None:
    """Write the folder; the manifest comes last, so that its presence means that all is there."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = passes.arrays()
    for n, frame in enumerate(manifest.frames):
        write_atomically(frame_path(folder, frame), exr.encode_channels(_frame_channels(arrays, n, manifest)))
    write_atomically(folder / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)))


def load(folder: Path) -> tuple[FramePasses, PassesManifest]:
    """Read a folder; ``ShotError`` says what is missing."""
    try:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=PassesManifest)
        if not manifest.frames:
            raise ValueError("it lists no frames")
        layout = PASS_LAYOUT | EXTRA_LAYOUT
        found: dict[str, list[np.ndarray]] = {}
        for frame in manifest.frames:
            channels = exr.read_channels(frame_path(folder, frame))
            for name, (dtype, trailing) in layout.items():
                if name in EXTRA_LAYOUT and CHANNELS[name][0] not in channels:
                    continue
                pixels = np.stack([channels[channel] for channel in CHANNELS[name]], -1)
                found.setdefault(name, []).append(pixels.astype(dtype) if trailing else pixels[..., 0].astype(dtype))
        arrays = {name: np.stack(frames) for name, frames in found.items() if len(frames) == len(manifest.frames)}
        return FramePasses(**arrays), manifest
    except (OSError, ValueError, KeyError, TypeError, msgspec.MsgspecError) as error:
        raise ShotError("passes", f"{folder} holds no readable passes ({error}); render them again.") from error
