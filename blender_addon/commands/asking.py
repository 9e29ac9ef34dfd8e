"""What ``generate`` and ``look`` ask for, from their arguments and the scene."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import bpy

from ...shared import console, shot
from ...shared.arguments import read_given_settings
from ...shared.look_file import LookFile
from ...shared.model_profile import ModelProfile, complete_request
from ...shared.part_arguments import find_look_file, read_part_request
from ...shared.picture_size import Crop
from ...shared.reference import take_reference
from ...shared.scene_options import SceneOptions
from ...shared.settings import with_settings
from ..passes.camera import find_camera
from ..paths import get_file_folder
from ..properties import complete_model, get_frame_aspect
from ..timing import frame_rate
from .scene import find_character, read_frames, read_scene_options, read_size


@dataclass(frozen=True)
class Asked:
    """What a command asks for, as far as it is known without a backend. ``size`` is what was given, 0 for what follows from the
    model; ``look`` the look's file whose shot the frames are a part of."""

    request: shot.ShotRequest
    reference: bytes
    character: bpy.types.Object | None
    subjects: str
    size: tuple[int, int]
    crop: Crop | None = None
    look: LookFile | None = None


def read_asked(args: argparse.Namespace, scene: bpy.types.Scene) -> Asked:
    """Raises ``ShotError`` for whatever can be seen to be wrong without a backend."""
    options = read_scene_options(args)
    frames = read_frames(options, scene)
    look_file = find_look_file(args.look)
    if look_file is None:
        return read_whole(args, scene, frames)
    asked = _read_part(args, scene, look_file, frames)
    shot.check_request(asked.request)
    find_camera(scene, frames[0])
    return asked


def read_whole(
    args: argparse.Namespace, scene: bpy.types.Scene, frames: tuple[int, ...], camera: bpy.types.Object | None = None
) -> Asked:
    """What is asked for of these frames of a scene, which are no part of another shot; ``camera`` takes the place of the scene's.
    Raises ``ShotError`` as ``read_asked`` does."""
    size = read_size(args, scene)
    request = console.read_request_arguments(args, *size, frames, frame_rate(scene))
    model = complete_model(request.sampling.model)
    request, reference = take_reference(with_settings(request, {"model": model}), get_file_folder())
    asked = Asked(request, reference, find_character(scene, args.character), read_scene_options(args).subjects, size)
    shot.check_request(request)
    find_camera(scene, frames[0], camera)
    return asked


def _read_part(args: argparse.Namespace, scene: bpy.types.Scene, look_file: LookFile, frames: tuple[int, ...]) -> Asked:
    request, reference = read_part_request(args, look_file, frames, get_file_folder())
    request = with_settings(request, {"model": complete_model(request.sampling.model)})
    own = look_file.description
    crop = own.scene.crop if own.scene is not None else None
    shown = (crop.width, crop.height) if crop is not None else (own.request.width, own.request.height)
    size = read_size(args, scene)
    if any(size) and size != shown:
        raise shot.ShotError(
            "look",
            f"The look was made for frames of {shown[0]}x{shown[1]}, and {size[0]}x{size[1]} are asked for; leave the size to the "
            "look, or make one of this size.",
        )
    given = read_given_settings(args, SceneOptions)
    subjects = own.scene.subjects if own.scene is not None else given.get("subjects", "character")
    if given.get("subjects", subjects) != subjects:
        raise shot.ShotError("look", f"The look was made with --subjects {subjects}; leave that to the look, or make a new one.")
    name = args.character or (own.scene.character if own.scene is not None else None)
    return Asked(request, reference, find_character(scene, name or None), subjects, shown, crop, look_file)


def complete(asked: Asked, profile: ModelProfile, scene: bpy.types.Scene) -> tuple[shot.ShotRequest, Crop | None]:
    """The request with what was left to the model, and the part of its frames that is wanted. Raises ``ShotError``."""
    if asked.look is not None:
        return asked.request, asked.crop
    request, crop = complete_request(asked.request, profile, asked.size, get_frame_aspect(scene))
    shot.check_request(request)
    return request, crop
