"""``generate`` and ``look``: frames of the file's scene, or the look that parts of a shot are made from."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import bpy

from ...shared import console, shot
from ...shared.arguments import add_setting, read_given_settings, read_path
from ...shared.command_parser import CommandParser
from ...shared.interrupts import SignalWatch
from ...shared.look_file import LookFile, describe_look
from ...shared.model_profile import ModelProfile, complete_request
from ...shared.part_arguments import find_look_file, read_part_request
from ...shared.picture_size import Crop
from ...shared.reference import take_reference
from ...shared.scene_options import SceneOptions
from ...shared.settings import with_settings
from ..connection import Connection
from ..passes.camera import find_camera
from ..passes.engine import switch_on_cycles
from ..paths import get_file_folder
from ..properties import complete_model, get_frame_aspect
from ..scene_choice import use_scene
from ..tasks.look import LookTask
from ..tasks.shot import ShotTask
from ..timing import frame_rate
from .backend import STOP_SECONDS, add_backend_arguments, ask_profile, connect, wait_for_task
from .scene import (
    ALPHA,
    PROGRAM,
    add_scene_arguments,
    find_character,
    read_frames,
    read_scene_options,
    read_size,
    warn_of_scripts,
)

PROMPT = "a knight in a forest"
OWN_SIZE = "the model's own with the scene's aspect"


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


def _read(args: argparse.Namespace, scene: bpy.types.Scene) -> Asked:
    """Raises ``ShotError`` for whatever can be seen to be wrong without a backend."""
    options = read_scene_options(args)
    frames, size = read_frames(options, scene), read_size(args, scene)
    look_file = find_look_file(args.look)
    if look_file is not None:
        asked = _read_part(args, scene, look_file, frames)
    else:
        request = console.read_request_arguments(args, *size, frames, frame_rate(scene))
        model = complete_model(request.sampling.model)
        request, reference = take_reference(with_settings(request, {"model": model}), get_file_folder())
        asked = Asked(request, reference, find_character(scene, args.character), options.subjects, size)
    shot.check_request(asked.request)
    find_camera(scene, frames[0])
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


def _complete(asked: Asked, profile: ModelProfile, scene: bpy.types.Scene) -> tuple[shot.ShotRequest, Crop | None]:
    """The request with what was left to the model, and the part of its frames that is wanted. Raises ``ShotError``."""
    if asked.look is not None:
        return asked.request, asked.crop
    request, crop = complete_request(asked.request, profile, asked.size, get_frame_aspect(scene))
    shot.check_request(request)
    return request, crop


Made = TypeVar("Made", bound=ShotTask)


def _run_task(
    args: argparse.Namespace,
    out: console.Console,
    watch: SignalWatch,
    scene: bpy.types.Scene,
    asked: Asked,
    make_task: Callable[[shot.ShotRequest, Crop | None, Connection], Made],
) -> Made:
    """The ended task of what is asked for, with a backend that lives as long. Raises ``ShotError`` and ``Interrupted``."""
    warn_of_scripts(out)
    connection = Connection()
    try:
        connect(connection, args, watch)
        # how the model of a part likes to be run was asked when its look was made
        profile = ModelProfile() if asked.look is not None else ask_profile(connection, asked.request.sampling.model, watch)
        task = make_task(*_complete(asked, profile, scene), connection)
        wait_for_task(connection, connection.add(task), watch)
        return task
    finally:
        connection.stop(STOP_SECONDS)


def run_generate(args: argparse.Namespace, out: console.Console, watch: SignalWatch) -> int:
    """Run the command; returns the exit code. Raises ``ShotError`` and ``Interrupted``."""
    with use_scene(args.scene, args.view_layer) as scene, switch_on_cycles(partial(out.warn, code="engine")):
        options, asked = read_scene_options(args), _read(args, scene)
        for folder in filter(None, (args.out, args.save_passes)):
            console.check_writable(folder)

        def make_task(request: shot.ShotRequest, crop: Crop | None, connection: Connection) -> ShotTask:
            return ShotTask(
                bpy.context,
                asked.character,
                request,
                connection.get_client(),
                args.out,
                folder_per_job=False,
                keep_passes=args.save_passes,
                scope=asked.subjects.upper(),
                keep_scenes=True,
                alpha=options.character_only,
                crop=crop,
                reference=asked.reference,
                look=asked.look,
                # why it failed is told below
                on_message=out.show,
            )

        task = _run_task(args, out, watch, scene, asked, make_task)
        missing = [frame for frame in task.request.frames if not (args.out / f"{frame:04d}.png").exists()]
        if not task.succeeded or missing:
            code = task.error_code or "generation"
            out.emit("failed", code=code, message=task.error or f"{len(missing)} frames are missing; generate the shot again.")
            return console.find_exit_code(code)
        out.emit("done", message=f"{len(task.frames)} frames in {args.out}", out=str(args.out))
        return 0


def run_look(args: argparse.Namespace, out: console.Console, watch: SignalWatch) -> int:
    """Run the command; returns the exit code. Raises ``ShotError`` and ``Interrupted``."""
    with use_scene(args.scene, args.view_layer) as scene, switch_on_cycles(partial(out.warn, code="engine")):
        asked = _read(args, scene)
        if asked.request.get_method().keyframes is None:
            raise shot.ShotError("preset", shot.explain_no_keyframes(asked.request))
        console.check_writable_file(args.out)

        def make_task(request: shot.ShotRequest, crop: Crop | None, connection: Connection) -> LookTask:
            return LookTask(
                bpy.context,
                asked.character,
                request,
                connection.get_client(),
                args.out.parent,
                file=args.out,
                subjects=asked.subjects,
                character=asked.character.name if asked.character is not None else "",
                folder_per_job=False,
                scope=asked.subjects.upper(),
                keep_scenes=True,
                crop=crop,
                reference=asked.reference,
                on_message=out.show,
            )

        task = _run_task(args, out, watch, scene, asked, make_task)
        if not task.succeeded or task.report is None:
            code = task.error_code or "generation"
            out.emit("failed", code=code, message=task.error or "The look was not made; try again.")
            return console.find_exit_code(code)
        out.emit("done", message=describe_look(args.out, task.report), out=str(args.out))
        return 0


def add_commands(add_parser: Callable[..., CommandParser]) -> None:
    """Register them."""
    generate = add_parser(
        "generate",
        help="render passes, generate frames, store them",
        examples=(
            (f'{PROGRAM} generate --prompt "{PROMPT}" --frames 1-24 --out frames', "frames of a scene"),
            (f"{PROGRAM} generate --look shot.look --frames 9-16 --out frames", "a part of the shot that a look was made for"),
            (f'{PROGRAM} generate --prompt "{PROMPT}" --look frames --out again', "after a tweak: only what changed"),
            (
                f'python -m latentman.blender_addon shot.blend generate --prompt "{PROMPT}" --alpha --out layer --json',
                "transparent around the character, with progress for programs, where Blender is the bpy package",
            ),
        ),
    )
    console.add_shot_arguments(generate)
    add_scene_arguments(generate, OWN_SIZE)
    add_setting(generate, ALPHA, aliases=("--alpha",))
    add_backend_arguments(generate)
    generate.add_argument(
        "--save-passes", type=read_path, metavar="FOLDER", help="also keep the passes there, for the backend's generate"
    )
    generate.set_defaults(run=run_generate)
    look = add_parser(
        "look",
        help="a shot's look as a file, from which its frames are made in parts: on a farm, in any order, as in the whole shot",
        examples=(
            (f'{PROGRAM} look --prompt "{PROMPT}" --frames 1-240 --out shot.look', "make the look of the whole shot once"),
            (f"{PROGRAM} generate --look shot.look --frames 1-8 --out frames", "and any part of it, on any machine"),
        ),
    )
    console.add_look_arguments(look)
    add_scene_arguments(look, OWN_SIZE)
    add_backend_arguments(look)
    look.set_defaults(run=run_look)
