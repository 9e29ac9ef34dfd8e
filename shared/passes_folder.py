"""Saved passes: a folder with ``passes.json`` and one OpenEXR file a frame, ``0001.exr``, readable by any program. A shot that was
rendered in parts has a manifest of each, ``passes_0001-0008.json``.

The manifest (``PassesManifest``) says what the files hold; their channels are ``CHANNELS``, and ``Z`` with the planar camera
depth in metres (1e10 for the background) where the depth range is known. Row 0 is the top of the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from . import exr
from .depth import compute_metric_depth
from .files import read_file, write_atomically
from .manifest import FrameEntry, PassesHeader, PassesManifest, check_manifest, join_manifest, split_manifest
from .overview import shrink_passes
from .passes import EXTRA_LAYOUT, FORMER_PASS_NAMES, PASS_LAYOUT, FramePasses, join_frames
from .shot import ShotError

MANIFEST = "passes.json"
#: bytes of a manifest: key points of many people over a long shot
MAX_MANIFEST = 256 << 20
#: beside the frames: their small copies, where they were rendered
OVERVIEW = "overview"
#: pass -> its channels, in the order of the array's last axis
CHANNELS: dict[str, tuple[str, ...]] = {
    "depth": ("control.depth",),
    "mask": ("id.character",),
    "uv": ("uv.U", "uv.V"),
    "rest_position": ("rest_position.X", "rest_position.Y", "rest_position.Z"),
    "part": ("id.part",),
    "object_index": ("id.object",),
    "normal": ("normal.X", "normal.Y", "normal.Z"),
    "position": ("position.X", "position.Y", "position.Z"),
    "motion_vectors": ("motion_vectors.X", "motion_vectors.Y"),
    "shadow": ("shadow.V",),
}


def name_part(frames: Sequence[int]) -> str:
    """The manifest of a part of a shot."""
    return f"passes_{min(frames):04d}-{max(frames):04d}.json"


def list_parts(folder: Path) -> list[Path]:
    """The manifests of the parts of a shot."""
    return sorted(folder.glob("passes_*.json"))


def check_kind(folder: Path, *, is_part: bool) -> None:
    """Raise ``ShotError`` where a part of a shot would go into a folder of a whole one, or a whole one among parts: afterwards
    nobody could tell which manifest is the right one."""
    if is_part and (folder / MANIFEST).exists():
        raise ShotError("folder", f"{folder} holds the passes of a whole shot; render parts into another folder, or remove it.")
    if not is_part and list_parts(folder):
        raise ShotError("folder", f"{folder} holds passes that were rendered in parts; choose another folder, or remove it.")


def _read_manifest(path: Path) -> PassesManifest:
    manifest = msgspec.json.decode(read_file(path, MAX_MANIFEST), type=PassesManifest)
    check_manifest(manifest)
    return manifest


def _read_parts(paths: Sequence[Path]) -> PassesManifest:
    """The manifest of the shot whose parts have these. Raises ``ValueError`` where they are of different shots."""
    found = [_read_manifest(path) for path in paths]
    first = found[0]
    entries: dict[int, FrameEntry] = {}
    header, _ = split_manifest(first, len(first.frames))
    for path, one in zip(paths, found, strict=True):
        own, its_entries = split_manifest(one, len(one.frames))
        if (own, one.width, one.height, one.fps) != (header, first.width, first.height, first.fps):
            raise ValueError(f"{path.name} is of another size, depth range or frame rate than {paths[0].name}")
        entries |= dict(zip(one.frames, its_entries, strict=True))
    frames = tuple(sorted(entries))
    return join_manifest(first.width, first.height, first.fps, frames, header, [entries[frame] for frame in frames])


def frame_path(folder: Path, frame: int) -> Path:
    """The file of a scene frame."""
    return folder / f"{frame:04d}.exr"


def encode_frame(passes: FramePasses, header: PassesHeader) -> bytes:
    """One frame's passes (1, H, W, ...) as an OpenEXR file."""
    out: dict[str, np.ndarray] = {}
    arrays = passes.arrays()
    for name, array in arrays.items():
        pixels = array[0].astype(np.uint32) if array.dtype.kind == "u" else array[0]
        planes = pixels[..., None] if pixels.ndim == 2 else pixels
        out |= {channel: planes[..., n] for n, channel in enumerate(CHANNELS[name])}
    if header.far > header.near:
        out["Z"] = compute_metric_depth(arrays["depth"][0], header.near, header.far)
    return exr.encode_channels(out)


def read_frame(path: Path) -> FramePasses:
    """One frame's passes (1, H, W, ...). Raises ``OSError``, ``ValueError`` or ``KeyError`` for a file of another kind."""
    channels = {_current_name(channel): values for channel, values in exr.read_channels(path).items()}
    found: dict[str, np.ndarray] = {}
    for name, (dtype, trailing) in (PASS_LAYOUT | EXTRA_LAYOUT).items():
        if name in EXTRA_LAYOUT and CHANNELS[name][0] not in channels:
            continue
        planes = [channels[channel] for channel in CHANNELS[name]]
        array = np.empty((1, *planes[0].shape, *trailing), dtype)
        for n, plane in enumerate(planes):
            array[(0, ..., n) if trailing else 0] = plane
        found[name] = array
    return FramePasses(**found)


def _current_name(channel: str) -> str:
    layer, dot, axis = channel.partition(".")
    return FORMER_PASS_NAMES.get(layer, layer) + dot + axis


def save_frame(folder: Path, frame: int, passes: FramePasses, header: PassesHeader, *, overview: bool = False) -> None:
    """Write the passes (1, H, W, ...) of a scene frame, or its small copy."""
    folder = folder / OVERVIEW if overview else folder
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(frame_path(folder, frame), encode_frame(passes, header))


def save_manifest(folder: Path, manifest: PassesManifest, name: str = MANIFEST) -> None:
    """Write the manifest; it comes last, so that its presence means that all is there."""
    write_atomically(folder / name, msgspec.json.format(msgspec.json.encode(manifest)))


def save(folder: Path | str, passes: FramePasses, manifest: PassesManifest) -> None:
    """Write a whole shot."""
    folder = Path(folder)
    header, _ = split_manifest(manifest, len(manifest.frames))
    for n, frame in enumerate(manifest.frames):
        save_frame(folder, frame, passes.select([n]), header)
    save_manifest(folder, manifest)


class PassesFolder:
    """Saved passes, of which a frame is read when it is asked for."""

    def __init__(self, folder: Path | str) -> None:
        """Reads the manifest; ``ShotError`` when it is missing or damaged."""
        self.folder = folder = Path(folder)
        try:
            parts = [] if (folder / MANIFEST).exists() else list_parts(folder)
            self.manifest = _read_parts(parts) if parts else _read_manifest(folder / MANIFEST)
        except (OSError, ValueError, RecursionError, msgspec.MsgspecError) as error:
            raise _unreadable(folder, error) from error

    def frame(self, index: int) -> FramePasses:
        """The passes (1, H, W, ...) of the frame at an index of the manifest; ``ShotError`` when they cannot be read."""
        try:
            found = read_frame(frame_path(self.folder, self.manifest.frames[index]))
            if found.depth.shape[1:] != (self.manifest.height, self.manifest.width):
                raise ValueError(f"a frame has another size than {self.manifest.width}x{self.manifest.height}")
            return found
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _unreadable(self.folder, error) from error

    def overview(self, index: int) -> FramePasses:
        """The small copy (1, h, w, ...) of a frame: the one that was rendered with the passes, else a shrunken one."""
        path = frame_path(self.folder / OVERVIEW, self.manifest.frames[index])
        if not path.exists():
            return shrink_passes(self.frame(index))
        try:
            return read_frame(path)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _unreadable(self.folder, error) from error


def _unreadable(folder: Path, error: Exception) -> ShotError:
    if not folder.exists():
        return ShotError("passes", f"There is no {folder}; give a folder of saved passes.")
    if isinstance(error, FileNotFoundError) and Path(error.filename or "").name == MANIFEST:
        return ShotError("passes", f"{folder} holds no readable passes (there is no {MANIFEST}); give a folder of saved passes.")
    reason = str(error)
    if isinstance(error, OSError) and error.strerror:
        reason = ": ".join([Path(error.filename).name, error.strerror] if error.filename else [error.strerror])
    return ShotError("passes", f"{folder} holds no readable passes ({reason}); render them again.")


def load(folder: Path | str) -> tuple[FramePasses, PassesManifest]:
    """Read a whole shot into memory; ``ShotError`` says what is missing."""
    found = PassesFolder(folder)
    clip = join_frames([found.frame(n) for n in range(len(found.manifest.frames))])
    return clip, found.manifest
