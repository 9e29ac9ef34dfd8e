"""``blender -b shot.blend --command latentman generate ...`` and ``python -m latentman.blender_addon ...``.

Exit codes: 0 everything that was requested exists, 1 generating it failed, 2 the input is wrong, 130 interrupted.
"""

from __future__ import annotations

import argparse
import signal
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import bpy
import msgspec

from ..shared import console, messages, motion_request, shot
from ..shared.arguments import add_setting, add_settings, read_given_settings
from ..shared.endpoint import EndpointError, free_port
from ..shared.made_motion import save_made
from ..shared.motion import MotionError
from ..shared.overview import compute_overview_size, needs_overview
from ..shared.picture_size import find_made_size, find_size_multiple, fit_aspect, make_crop
from ..shared.scene_options import SceneOptions
from ..shared.settings import SettingError, list_settings, with_settings
from . import preferences
from .connection import Connection
from .motion.key_options import KeyOptions
from .motion.keying import Keying
from .passes.render import PassRender
from .properties import get_frame_aspect, get_scene_settings
from .tasks.motion import MotionTask
from .tasks.shot import PassesWriter, ShotTask, pop_first
from .tasks.task import Task
from .timing import frame_rate
from .typed_access import get_scene

COMMAND = "latentman"
START_SECONDS, STOP_SECONDS = 120.0, 15.0
SIDES = tuple(declared for declared in list_settings(shot.ShotRequest) if declared.name in ("width", "height"))
ALPHA = next(declared for declared in list_settings(SceneOptions) if declared.name == "character_only")


def find_character(scene: bpy.types.Scene, name: str | None) -> bpy.types.Object | None:
    """The object with a name, or the panel's character, or the first armature. Raises ``ShotError`` when the name is unknown."""
    if name:
        if name not in scene.objects:
            raise shot.ShotError("character", f"There is no object '{name}' in the scene.")
        return scene.objects[name]
    picked: bpy.types.Object | None = get_scene_settings(scene).character if hasattr(scene, "latentman") else None
    armatures = [o for o in scene.objects if o.type == "ARMATURE"]
    return picked or (armatures[0] if armatures else None)


def wait_until(connection: Connection, condition: Callable[[], bool], seconds: float = float("inf")) -> bool:
    """Process events until a condition holds; returns False when the time runs out before that."""
    end = time.monotonic() + seconds
    while not condition():
        connection.process_events()
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def connect(connection: Connection, endpoint: str | None) -> None:
    """Connect to a running backend, or start one on a free port. Raises ``ShotError`` when that fails."""
    if endpoint:
        try:
            connection.connect(endpoint)
        except EndpointError as error:
            raise shot.ShotError("backend", str(error)) from error
    else:
        python = preferences.get_backend_python(bpy.context)
        if not python:
            raise shot.ShotError(
                "backend",
                "No Python for the backend is known; set LATENTMAN_PYTHON, choose one in the preferences, or give --endpoint.",
            )
        try:
            address = "127.0.0.1:" + str(free_port())
            connection.start(python, address, environment=preferences.get_backend_environment(bpy.context))
        except OSError as error:
            raise shot.ShotError(
                "backend", f"The backend cannot be started with {python} ({error}); choose another Python."
            ) from error
    wait_until(connection, lambda: connection.connected or bool(connection.error), START_SECONDS)
    if not connection.connected:
        raise shot.ShotError("backend", connection.error or "The backend did not answer in time.")


def _wait_for_task(connection: Connection, task: Task, interrupted: list[int]) -> None:
    """Process events until the task has ended; an interrupt cancels it."""
    while not task.done:
        connection.process_events()
        if interrupted:
            task.cancel()
        time.sleep(0.002)


def _generate(args: argparse.Namespace) -> int:
    out, connection, scene = console.Console(args.json), Connection(), get_scene(bpy.context)
    interrupted: list[int] = []
    before = signal.signal(signal.SIGINT, lambda *_: interrupted.append(1))
    try:
        options, fps = _read_scene_options(args), frame_rate(scene)
        frames, size = _read_frames(options, scene), _read_size(args, scene)
        request = console.read_request_arguments(args, *size, frames, fps)
        made = find_made_size(*size, find_size_multiple(request.sampling.model))
        request = msgspec.structs.replace(request, width=made[0], height=made[1])
        shot.check_request(request)
        console.check_writable(args.out)
        character = find_character(scene, args.character)
        connect(connection, args.endpoint)
        task = ShotTask(
            bpy.context,
            character,
            request,
            connection.get_client(),
            args.out,
            folder_per_job=False,
            keep_passes=args.save_passes,
            scope=options.subjects.upper(),
            keep_overrides=True,
            alpha=options.character_only,
            crop=make_crop(*size, *made),
            on_message=out.show,
        )
        _wait_for_task(connection, connection.add(task), interrupted)
        if task.error:
            out.emit("failed", code="generation", message=task.error)
        elif task.succeeded:
            out.emit("done", message=f"{len(task.frames)} frames in {args.out}", out=str(args.out))
        missing = [frame for frame in frames if not (args.out / f"{frame:04d}.png").exists()]
        if interrupted:
            return 130
        return 0 if task.succeeded and not missing else 1
    except shot.ShotError as error:
        out.emit("failed", code=error.code, message=str(error))
        return 2
    finally:
        connection.stop(STOP_SECONDS)
        # Blender programs install their handler from C, which Python reports as None
        signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)


def _read_scene_options(args: argparse.Namespace) -> SceneOptions:
    return SceneOptions(**read_given_settings(args, SceneOptions))


def _read_size(args: argparse.Namespace, scene: bpy.types.Scene) -> tuple[int, int]:
    """(width, height) of the frames; what is not given follows from the scene's aspect, within the default size."""
    width, height = (getattr(args, side.name, None) for side in SIDES)
    if width and height:
        return width, height
    given = bool(width or height)
    bounds = [side or (shot.MAX_SIDE if given else declared.default) for side, declared in zip((width, height), SIDES, strict=True)]
    return fit_aspect(bounds[0], bounds[1], get_frame_aspect(scene))


def _read_frames(options: SceneOptions, scene: bpy.types.Scene) -> tuple[int, ...]:
    if options.frames:
        return console.parse_frames(options.frames)
    return tuple(range(scene.frame_start, scene.frame_end + 1, scene.frame_step))


def _passes(args: argparse.Namespace) -> int:
    out, scene = console.Console(args.json), get_scene(bpy.context)
    interrupted: list[int] = []
    before = signal.signal(signal.SIGINT, lambda *_: interrupted.append(1))
    try:
        options, (width, height) = _read_scene_options(args), _read_size(args, scene)
        console.check_writable(args.out)
        frames, fps = _read_frames(options, scene), frame_rate(scene)
        render = PassRender(
            bpy.context,
            find_character(scene, args.character),
            frames,
            width,
            height,
            scope=options.subjects.upper(),
            motion_vectors=args.motion,
            keep_overrides=True,
        )
        request = shot.make_request("passes", frames, fps, width=width, height=height)
        if not _write_passes(render, request, args.out, out, interrupted):
            return 130
        out.emit("done", message=f"{len(frames)} frames in {args.out}", out=str(args.out))
        return 0
    except shot.ShotError as error:
        out.emit("failed", code=error.code, message=str(error))
        return 2
    except OSError as error:
        out.emit("failed", code="disk", message=f"The passes could not be written: {error}")
        return 1
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)


def _write_passes(
    render: PassRender, request: shot.ShotRequest, folder: Path, out: console.Console, interrupted: list[int]
) -> bool:
    """Render a shot's passes into a folder, frame by frame; False when it was interrupted."""
    try:
        for done in render.measure():
            out.show_progress("measuring", done, len(request.frames))
            if interrupted:
                return False
        renders = [(render, False)]
        if needs_overview(request):
            renders.insert(0, (render.make_overview(*compute_overview_size(request.width, request.height)), True))
        writer = PassesWriter(folder, request, render)
        for one, overview in renders:
            indices = deque(range(len(request.frames)))
            try:
                for frame in one.render_slice(partial(pop_first, indices)):
                    writer.add(frame, overview=overview)
                    out.show_progress(
                        "rendering overview" if overview else "rendering passes", frame.index + 1, len(request.frames)
                    )
                    if interrupted:
                        return False
            finally:
                one.close()
        render.check_seen()
    finally:
        render.close()
    return True


def _motion(args: argparse.Namespace) -> int:
    out, connection, scene = console.Console(args.json), Connection(), get_scene(bpy.context)
    request = console.read_motion_arguments(args)
    interrupted: list[int] = []
    before = signal.signal(signal.SIGINT, lambda *_: interrupted.append(1))
    try:
        motion_request.frame_count(request)
        armature = find_character(scene, args.character) if args.save else None
        if args.save and (armature is None or armature.type != "ARMATURE"):
            raise shot.ShotError("character", "There is no armature in the scene to key; open a file with one, or use only --out.")
        for path in (args.out, args.save):
            if path:
                console.check_writable(path.parent)
        connect(connection, args.endpoint)
        task = MotionTask(
            armature,
            request,
            connection.get_client(),
            scene.frame_start,
            frame_rate(scene),
            KeyOptions.from_keying(with_settings(get_scene_settings(scene).keying.to_keying(), read_given_settings(args, Keying))),
            on_message=lambda message: out.show(message) if isinstance(message, messages.Progress) else None,
        )
        _wait_for_task(connection, connection.add(task), interrupted)
        if task.cancelled:
            return 130
        if not task.succeeded or task.made is None:
            out.emit("failed", code="motion", message=task.error)
            return 1 if not connection.connected else 2
        for warning in task.warnings:
            out.emit("warning", message=warning)
        if args.out:
            save_made(args.out, task.made, request)
        if args.save:
            bpy.ops.wm.save_as_mainfile(filepath=str(args.save), copy=True, check_existing=False)
        count, frames = task.made.count, task.made.frame_count
        where = " and ".join(str(path) for path in (args.out, args.save) if path)
        out.emit("done", message=f"{count} motion{'s' if count > 1 else ''} of {frames} frames in {where}", out=where)
        return 0
    except (shot.ShotError, MotionError) as error:
        out.emit("failed", code=getattr(error, "code", "motion"), message=str(error))
        return 2
    except (OSError, RuntimeError) as error:
        out.emit("failed", code="disk", message=f"The motion could not be written: {error}")
        return 1
    finally:
        connection.stop(STOP_SECONDS)
        signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)


class _SizeAction(argparse.Action):
    """``--size 512x256`` is ``--width 512 --height 256``."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: str | None = None
    ) -> None:
        sides = values.lower().split("x")
        if len(sides) != len(SIDES):
            raise argparse.ArgumentError(self, f"'{values}' is not a size; write it like 256x256")
        try:
            for side, text in zip(SIDES, sides, strict=True):
                setattr(namespace, side.name, side.from_text(text))
        except SettingError as error:
            raise argparse.ArgumentError(self, str(error)) from error


def _add_scene_arguments(parser: argparse.ArgumentParser) -> None:
    add_settings(parser, SceneOptions, leave_out=(ALPHA.name,))
    for side in SIDES:
        add_setting(parser, side)
    parser.add_argument("--size", action=_SizeAction, default=argparse.SUPPRESS, metavar="WxH", help="width and height at once")
    parser.add_argument("--character", help="object name; by default the panel's character or the first armature")


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command's arguments."""
    top = argparse.ArgumentParser(prog=COMMAND, description="LatentMan: consistent frames of an animated character.")
    commands = top.add_subparsers(dest="command", required=True)
    add_parser = partial(commands.add_parser, allow_abbrev=False)
    generate = add_parser("generate", help="render passes, generate frames, store them")
    console.add_shot_arguments(generate)
    _add_scene_arguments(generate)
    add_setting(generate, ALPHA, aliases=("--alpha",))
    generate.add_argument("--endpoint", help="address of a running backend; by default one is started")
    generate.add_argument("--save-passes", type=Path, metavar="DIR", help="also keep the passes for `latentman generate`")
    generate.set_defaults(run=_generate)
    passes = add_parser("passes", help="render and store the passes only, for `latentman generate` and other programs")
    _add_scene_arguments(passes)
    passes.add_argument("--out", type=Path, required=True, help="folder for the passes")
    passes.add_argument("--motion", action="store_true", help="also motion vectors and world positions")
    passes.add_argument("--json", action="store_true", help="one JSON object per line on standard output")
    passes.set_defaults(run=_passes)
    motion = add_parser("motion", help="a motion from a sentence: as a file, or keyed in a copy of this .blend")
    console.add_motion_arguments(motion)
    add_settings(motion, Keying, default="the file's own")
    motion.add_argument("--out", type=Path, help="an .npz file with the motion's HumanML3D vectors, which can be imported later")
    motion.add_argument("--save", type=Path, metavar="BLEND", help="a copy of this file with the motions keyed on the character")
    motion.add_argument("--character", help="object name; by default the panel's character or the first armature")
    motion.add_argument("--endpoint", help="address of a running backend; by default one is started")
    motion.add_argument("--json", action="store_true", help="one JSON object per line on standard output")
    motion.set_defaults(run=_motion)
    return top


def main(argv: list[str]) -> int:
    """Run a command; returns the exit code."""
    try:
        args: Any = make_parser().parse_args(argv)
        if args.command == "motion" and not (args.out or args.save):
            make_parser().error("motion needs --out, --save, or both")
    except SystemExit as stop:
        return int(stop.code or 0)
    return int(args.run(args))


#: Blender's handle of the command
_handle: Any = None


def register() -> None:
    """Make ``blender --command latentman`` work."""
    global _handle
    register_command: Any = bpy.utils.register_cli_command  # the stubs say that it returns None
    _handle = register_command(COMMAND, main)


def unregister() -> None:
    """Remove the command."""
    global _handle
    if _handle is not None:
        bpy.utils.unregister_cli_command(_handle)
        _handle = None
