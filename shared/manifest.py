"""What describes a shot's passes: cameras, surfaces, parts and skeletons."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

#: pixels; no picture has longer sides
MAX_SIDE = 16_384


class CameraEntry(msgspec.Struct, frozen=True):
    """A frame's camera: 4x4 matrices by rows. A pixel is ((ndc_x + 1) / 2 * width, (1 - ndc_y) / 2 * height)."""

    world_to_camera: tuple[float, ...]
    projection: tuple[float, ...]


class SurfaceEntry(msgspec.Struct, frozen=True):
    """An object or instance: its number in ``id.object``, its name, and its character's number, 0 for a prop."""

    index: int
    name: str
    character: int


class PartEntry(msgspec.Struct, frozen=True):
    """A body part: its number in ``id.part``, the bone that moves it, and the SMPL joint that stands for ("" if none).

    ``origin`` and ``front`` are where the part begins and the way the character faces, in the space of ``rest``.
    """

    index: int
    bone: str
    joint: str = ""
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    front: tuple[float, float, float] = (0.0, 0.0, 0.0)


Keypoints = tuple[tuple[float, float, float], ...]


class PersonEntry(msgspec.Struct, frozen=True):
    """A character's OpenPose key points: for every frame 18 of (x, y) in pixels and metres from the camera plane."""

    character: int
    keypoints: tuple[Keypoints, ...]


class PassesManifest(msgspec.Struct, frozen=True):
    """What the files beside it are. ``near`` and ``far`` are the depth range in metres, both 0 where it is unknown."""

    width: int
    height: int
    fps: float
    frames: tuple[int, ...]
    near: float
    far: float
    cameras: tuple[CameraEntry, ...] = ()
    surfaces: tuple[SurfaceEntry, ...] = ()
    parts: tuple[PartEntry, ...] = ()
    people: tuple[PersonEntry, ...] = ()


class PassesHeader(msgspec.Struct, frozen=True):
    """What is known of a shot's passes before any of them is rendered: the depth range in metres, both 0 where it is unknown,
    and the parts that the characters are divided into."""

    near: float = 0.0
    far: float = 0.0
    parts: tuple[PartEntry, ...] = ()


class FrameEntry(msgspec.Struct, frozen=True):
    """What describes one frame's passes: its camera, the surfaces in it, and (character, key points) of the people."""

    camera: CameraEntry | None = None
    surfaces: tuple[SurfaceEntry, ...] = ()
    people: tuple[tuple[int, Keypoints], ...] = ()


def check_manifest(manifest: PassesManifest) -> None:
    """Raise ``ValueError`` for a manifest whose lists do not belong to its frames, or whose numbers are none."""
    count = len(manifest.frames)
    if not count:
        raise ValueError("it lists no frames")
    if len(set(manifest.frames)) != count:
        raise ValueError("it lists a frame twice")
    if len(manifest.cameras) not in (0, count) or any(len(person.keypoints) != count for person in manifest.people):
        raise ValueError("its cameras or key points are not as many as its frames")
    if any(len(camera.world_to_camera) != 16 or len(camera.projection) != 16 for camera in manifest.cameras):
        raise ValueError("its cameras are not matrices")
    if not (0 < manifest.width <= MAX_SIDE and 0 < manifest.height <= MAX_SIDE):
        raise ValueError(f"it claims a size of {manifest.width}x{manifest.height} pixels")
    if not all(math.isfinite(value) for value in (manifest.fps, manifest.near, manifest.far)):
        raise ValueError("its frame rate or its depth range is no number")


def split_manifest(manifest: PassesManifest | None, count: int) -> tuple[PassesHeader, list[FrameEntry]]:
    """The header and the ``count`` frames' entries of a manifest; empty ones where there is none."""
    if manifest is None:
        return PassesHeader(), [FrameEntry()] * count
    entries = [
        FrameEntry(
            manifest.cameras[n] if manifest.cameras else None,
            manifest.surfaces,
            tuple((person.character, person.keypoints[n]) for person in manifest.people),
        )
        for n in range(count)
    ]
    return PassesHeader(manifest.near, manifest.far, manifest.parts), entries


def join_manifest(
    width: int, height: int, fps: float, frames: tuple[int, ...], header: PassesHeader, entries: Sequence[FrameEntry]
) -> PassesManifest:
    """The inverse of ``split_manifest`` for the entries of ``frames``."""
    surfaces = {surface.index: surface for entry in entries for surface in entry.surfaces}
    people: dict[int, list[Keypoints]] = {}
    for entry in entries:
        for character, keypoints in entry.people:
            people.setdefault(character, []).append(keypoints)
    cameras = tuple(entry.camera for entry in entries if entry.camera is not None)
    return PassesManifest(
        width,
        height,
        fps,
        frames,
        header.near,
        header.far,
        cameras if len(cameras) == len(entries) else (),
        tuple(surfaces[index] for index in sorted(surfaces)),
        header.parts,
        tuple(PersonEntry(character, tuple(found)) for character, found in sorted(people.items()) if len(found) == len(entries)),
    )
