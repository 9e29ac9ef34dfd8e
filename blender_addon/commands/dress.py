"""``dress``: a character's costume, made from all sides at once."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import bpy

from ...shared import console, shot
from ...shared.arguments import read_given_settings
from ...shared.command_parser import CommandParser
from ...shared.dress_options import DressOptions
from ...shared.interrupts import SignalWatch
from ...shared.model_profile import complete_request
from ...shared.reference import take_reference
from ...shared.settings import with_settings
from ..connection import Connection
from ..passes.engine import switch_on_cycles
from ..passes.shot_views import explain_absent, explain_not_shown, list_numbers
from ..passes.staged_character import stage_character
from ..paths import get_file_folder
from ..properties import complete_model
from ..scene_choice import use_scene
from ..tasks.dress import DressTask, make_dress_request
from ..tasks.frames_folder import COSTUME_FILE, LOOK_FOLDER
from ..timing import frame_rate
from .backend import STOP_SECONDS, add_backend_arguments, ask_profile, connect, wait_for_task
from .scene import PROGRAM, add_file_arguments, add_size_arguments, find_character, read_size, warn_of_scripts

PROMPT = "a knight in a forest"
OWN_SIZE = "the model's own, as a square"


def describe_costume(path: Path, task: DressTask) -> str:
    """The sentence about a costume that was made."""
    shown, known = task.shot_frames, task.known
    made_from = f"{len(task.request.frames) - len(shown)} views"
    if shown:
        made_from += f" and of the shot {'frame' if len(shown) == 1 else 'frames'} {list_numbers(shown)}"
    share = "" if known is None else f", which show {known:.1%} of the surface"
    return f"The costume is in {path}, made from {made_from}{share}"


def run_dress(args: argparse.Namespace, out: console.Console, watch: SignalWatch) -> int:
    """Run the command; returns the exit code. Raises ``ShotError`` and ``Interrupted``."""
    with use_scene(args.scene, args.view_layer) as scene, switch_on_cycles(partial(out.warn, code="engine")):
        options = DressOptions(**read_given_settings(args, DressOptions))
        size = read_size(args, scene)
        request = console.read_request_arguments(args, *size, (1,), frame_rate(scene))
        model = complete_model(request.sampling.model)
        request, reference = take_reference(with_settings(request, {"model": model}), get_file_folder())
        shot.check_request(request)
        if request.get_method().keyframes is None:
            raise shot.ShotError("preset", shot.explain_no_keyframes(request))
        character = find_character(scene, args.character)
        console.check_writable(args.out)
        warn_of_scripts(out)
        aspect = size[0] / size[1] if all(size) else 1.0
        staged = stage_character(
            bpy.context,
            character,
            at_rest=options.pose == "rest",
            aspect=aspect,
            atlas_size=options.atlas,
            shot=range(scene.frame_start, scene.frame_end + 1, scene.frame_step),
            with_shot=options.with_shot,
        )
        for note in filter(None, [explain_not_shown(staged.left_out), explain_absent(staged.absent)]):
            out.warn(note, code="left_out")
        connection = Connection()
        try:
            connect(connection, args, watch)
            profile = ask_profile(connection, request.sampling.model, watch)
            request, _ = complete_request(request, profile, size, aspect)
            request, files = make_dress_request(request, staged)
            task = DressTask(
                bpy.context,
                character,
                request,
                connection.get_client(),
                args.out,
                folder_per_job=False,
                keep_scenes=True,
                reference=reference,
                costume=files,
                staging=staged.staging,
                on_message=out.show,
            )
            wait_for_task(connection, connection.add(task), watch, out)
        finally:
            connection.stop(STOP_SECONDS)
        path = args.out / LOOK_FOLDER / COSTUME_FILE
        if not task.succeeded or not path.exists():
            return out.fail(task.error_code or "generation", task.error or "The costume was not made; try again.")
        shown = {"shot_frames": list(task.shot_frames)} if task.shot_frames else {}
        out.emit("done", message=describe_costume(path, task), out=str(args.out), costume=str(path), known=task.known, **shown)
        return 0


def add_command(add_parser: Callable[..., CommandParser]) -> None:
    """Register it."""
    dress = add_parser(
        "dress",
        help="make a character's look from all sides: a costume for every shot, an image of each surface, a turntable",
        examples=(
            (f'{PROGRAM} dress --prompt "{PROMPT}" --out knight', "the character in its rest pose, all around"),
            (
                f'{PROGRAM} generate --prompt "{PROMPT}" --costume knight/{LOOK_FOLDER}/{COSTUME_FILE} --out frames',
                "and any shot in which it wears that, whatever the camera and the motion",
            ),
            (
                f'{PROGRAM} dress --prompt "{PROMPT}" --pose current --atlas 2048 --character Hero --out hero --json',
                "in the pose of the current frame, with a larger image, and progress for programs",
            ),
            (
                f'{PROGRAM} dress --prompt "{PROMPT}" --with-shot --out knight',
                "frames of the file's own shot decide with the views how the character looks",
            ),
        ),
    )
    console.add_dress_arguments(dress)
    add_size_arguments(dress, OWN_SIZE)
    add_file_arguments(dress)
    add_backend_arguments(dress)
    dress.set_defaults(run=run_dress)
