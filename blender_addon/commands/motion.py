"""``motion``: a motion from words, as a file or keyed in a copy of the .blend file."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import bpy

from ...shared import console, messages, motion_request, shot
from ...shared.arguments import add_settings, read_given_settings, read_path
from ...shared.command_parser import CommandParser
from ...shared.interrupts import SignalWatch
from ...shared.made_motion import MadeMotion, save_made
from ...shared.settings import with_settings
from ..connection import Connection
from ..motion.key_options import KeyOptions
from ..motion.keying import Keying
from ..properties import get_scene_settings
from ..scene_choice import use_scene
from ..tasks.motion import MotionTask
from ..timing import frame_rate
from .backend import STOP_SECONDS, add_backend_arguments, connect, wait_for_task
from .scene import PROGRAM, add_file_arguments, find_character, warn_of_scripts


def run_motion(args: argparse.Namespace, out: console.Console, watch: SignalWatch) -> int:
    """Run the command; returns the exit code. Raises ``ShotError``, ``MotionError``, ``OSError`` and ``Interrupted``."""
    with use_scene(args.scene, args.view_layer) as scene:
        request, connection = console.read_motion_arguments(args), Connection()
        try:
            motion_request.frame_count(request)
            armature = find_character(scene, args.character) if args.save else None
            if args.save and (armature is None or armature.type != "ARMATURE"):
                raise shot.ShotError(
                    "character", "There is no armature in the scene to key; open a file with one, or use only --out."
                )
            for path in filter(None, (args.out, args.save)):
                console.check_writable_file(path)
            if args.save:
                warn_of_scripts(out)
            connect(connection, args, watch)
            keying = with_settings(get_scene_settings(scene).keying.to_keying(), read_given_settings(args, Keying))
            task = MotionTask(
                armature,
                request,
                connection.get_client(),
                scene.frame_start,
                frame_rate(scene),
                KeyOptions.from_keying(keying),
                on_message=lambda message: out.show(message) if isinstance(message, messages.Progress) else None,
            )
            wait_for_task(connection, connection.add(task), watch, out)
            if not task.succeeded or task.made is None:
                return out.fail(task.error_code or "motion", task.error)
            for warning in task.warnings:
                out.emit("warning", message=warning)
            _store_motion(args, task.made, request)
            count, frames = task.made.count, task.made.frame_count
            where = " and ".join(str(path) for path in (args.out, args.save) if path)
            out.emit("done", message=f"{count} motion{'s' if count > 1 else ''} of {frames} frames in {where}", out=where)
            return 0
        finally:
            connection.stop(STOP_SECONDS)


def _store_motion(args: argparse.Namespace, made: MadeMotion, request: motion_request.MotionRequest) -> None:
    """Write what was asked for. Raises ``OSError``."""
    if args.out:
        save_made(args.out, made, request)
    if args.save:
        try:
            bpy.ops.wm.save_as_mainfile(filepath=str(args.save), copy=True, check_existing=False)
        except RuntimeError as error:
            raise OSError(f"{args.save} cannot be written ({' '.join(str(error).split())})") from error


def add_command(add_parser: Callable[..., CommandParser]) -> None:
    """Register it."""
    motion = add_parser(
        "motion",
        help="a motion from a sentence: as a file, or keyed in a copy of this .blend",
        examples=(
            (f'{PROGRAM} motion "a person waves" --save keyed.blend', "keyed on the file's character, in a copy"),
            (f'{PROGRAM} motion "a person walks" --seconds 4 --variants 3 --out takes.npz', "three takes as a file"),
        ),
    )
    console.add_motion_arguments(motion)
    add_settings(motion, Keying, default="the file's own")
    motion.add_argument(
        "--out",
        type=read_path,
        metavar="FILE",
        help="an .npz file with the motion's HumanML3D vectors, to be imported later",
    )
    motion.add_argument("--save", type=read_path, metavar="BLEND", help="a copy of this file with the motions keyed on the rig")
    add_file_arguments(motion)
    add_backend_arguments(motion)
    console.add_json_argument(motion)
    motion.set_defaults(run=run_motion)
