"""What describes a shot's passes: cameras, surfaces, parts and skeletons."""

from __future__ import annotations

import msgspec


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


class PersonEntry(msgspec.Struct, frozen=True):
    """A character's OpenPose key points: for every frame 18 of (x, y) in pixels and metres from the camera plane."""

    character: int
    keypoints: tuple[tuple[tuple[float, float, float], ...], ...]


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
