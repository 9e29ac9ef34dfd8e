"""``generate`` and ``look``: frames of the file's scene, or the look that parts of a shot are made from."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import bpy

from ...shared import console, shot
from ...shared.arguments import add_setting, read_path
from ...shared.command_parser import CommandParser
from ...shared.costume_files import check_files, with_files
from ...shared.interrupts import SignalWatch
from ...shared.look_file import describe_look
from ...shared.model_profile import ModelProfile
from ...shared.picture_size import Crop
from ..connection import Connection
from ..passes.engine import switch_on_cycles
from ..scene_choice import use_scene
from ..tasks.look import LookTask
from ..tasks.shot import ShotTask
from .asking import Asked, complete, read_asked
from .backend import STOP_SECONDS, add_backend_arguments, ask_profile, connect, wait_for_task
from .marked_shots import run_marked
from .scene import (
    ALPHA,
    PROGRAM,
    add_processes_argument,
    add_scene_arguments,
    read_costume_arguments,
    warn_of_scripts,
)
from .shot_tasks import make_shot_task

PROMPT = "a knight in a forest"
OWN_SIZE = "the model's own with the scene's aspect"


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
        task = make_task(*complete(asked, profile, scene), connection)
        wait_for_task(connection, connection.add(task), watch, out)
        return task
    finally:
        connection.stop(STOP_SECONDS)


def run_generate(args: argparse.Namespace, out: console.Console, watch: SignalWatch) -> int:
    """Run the command; returns the exit code. Raises ``ShotError`` and ``Interrupted``."""
    if args.marked:
        return run_marked(args, out, watch)
    with use_scene(args.scene, args.view_layer) as scene, switch_on_cycles(partial(out.warn, code="engine")):
        asked = read_asked(args, scene)
        console.tell_completion(out, args, asked.request)
        costume = read_costume_arguments(args)
        check_files(with_files(asked.request, costume), costume)
        for folder in filter(None, (args.out, args.save_passes)):
            console.check_writable(folder)

        def make_task(request: shot.ShotRequest, crop: Crop | None, connection: Connection) -> ShotTask:
            completed = request, crop
            return make_shot_task(args, out, connection, asked, completed, costume, args.out, keep_passes=args.save_passes)

        task = _run_task(args, out, watch, scene, asked, make_task)
        missing = [frame for frame in task.request.frames if not (args.out / f"{frame:04d}.png").exists()]
        if not task.succeeded or missing:
            return out.fail(
                task.error_code or "generation", task.error or f"{len(missing)} frames are missing; generate the shot again."
            )
        out.emit("done", message=f"{len(task.frames)} frames in {args.out}", out=str(args.out))
        return 0


def run_look(args: argparse.Namespace, out: console.Console, watch: SignalWatch) -> int:
    """Run the command; returns the exit code. Raises ``ShotError`` and ``Interrupted``."""
    with use_scene(args.scene, args.view_layer) as scene, switch_on_cycles(partial(out.warn, code="engine")):
        asked = read_asked(args, scene)
        console.tell_completion(out, args, asked.request)
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
                processes=args.processes,
                on_warning=partial(out.warn, code="processes"),
                on_message=out.show,
            )

        task = _run_task(args, out, watch, scene, asked, make_task)
        if not task.succeeded or task.report is None:
            return out.fail(task.error_code or "generation", task.error or "The look was not made; try again.")
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
            (f'{PROGRAM} generate --marked --prompt "{PROMPT}" --out film', "every shot of a film, each in a folder of its own"),
        ),
    )
    console.add_shot_arguments(generate)
    console.add_costume_arguments(generate)
    add_scene_arguments(generate, OWN_SIZE)
    add_setting(generate, ALPHA, aliases=("--alpha",))
    add_backend_arguments(generate)
    add_processes_argument(generate)
    generate.add_argument(
        "--marked",
        action="store_true",
        help="every marked shot of the scene, each into a folder below --out: one from each marker that binds a camera until the "
        "next, and one for each scene strip of its sequencer; one that fails does not stop the others, and shots.txt there says "
        "what happened",
    )
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
    add_processes_argument(look)
    look.set_defaults(run=run_look)
