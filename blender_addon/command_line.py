"""``blender -b shot.blend --command latentman generate ...`` and ``python -m latentman.blender_addon ...``.

Exit codes: 0 everything that was requested exists, 1 making it failed, 2 the input is wrong, which is found before anything is
rendered, 130 after Ctrl-C and 143 after SIGTERM. With ``--json`` the last line says which of them it is.
"""

from __future__ import annotations

import argparse
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import bpy
import msgspec

from ..shared import console, logs, messages, motion_request, shot
from ..shared.arguments import add_setting, add_settings, read_given_settings
from ..shared.endpoint import EndpointError, free_port
from ..shared.interrupts import Interrupted, SignalWatch
from ..shared.load_options import LoadOptions
from ..shared.made_motion import MadeMotion, save_made
from ..shared.model_profile import SIDES as SIDE_NAMES
from ..shared.model_profile import ModelProfile, resolve_request
from ..shared.motion import MotionError
from ..shared.overview import compute_overview_size, needs_overview
from ..shared.picture_size import find_made_size, find_size_multiple, fit_aspect, make_crop
from ..shared.reference import take_reference
from ..shared.scene_options import SceneOptions
from ..shared.settings import SettingError, list_settings, with_settings
from ..shared.task import TaskState
from . import preferences
from .connection import Connection
from .motion.key_options import KeyOptions
from .motion.keying import Keying
from .passes.engine import switch_on_cycles
from .passes.render import PassRender
from .paths import get_file_folder
from .properties import complete_model, get_frame_aspect, get_scene_settings
from .rigging.instances import explain_instance, explain_instances
from .scene_choice import use_scene
from .scripts import explain_silent_drivers
from .set_up.command import add_setup_command
from .tasks.motion import MotionTask
from .tasks.shot import PassesWriter, ShotTask, pop_first
from .tasks.task import Task
from .timing import frame_rate
from .typed_access import get_view_layer

COMMAND = "latentman"
#: how long a backend may take to start, to stop, and to say that a piece of work has been cancelled
START_SECONDS, STOP_SECONDS, CANCEL_SECONDS = 120.0, 15.0, 10.0
#: permission for the scripts of the file, which ``__main__`` reads before it opens that
ENABLE_SCRIPTS = "--enable-scripts"
SIDES = tuple(declared for declared in list_settings(shot.ShotRequest) if declared.name in SIDE_NAMES)
#: side of passes of which neither is given
PASSES_SIDE = 256
ALPHA = next(declared for declared in list_settings(SceneOptions) if declared.name == "character_only")
logger = logs.get_logger(__name__)


def find_character(scene: bpy.types.Scene, name: str | None) -> bpy.types.Object | None:
    """The object with a name, or the panel's character, or the first armature. Raises ``ShotError`` when the name is unknown, and
    for a character that is there only as an instance of its collection."""
    if name:
        if name not in scene.objects:
            raise shot.ShotError("character", f"There is no object '{name}' in the scene.")
        found: bpy.types.Object | None = scene.objects[name]
    else:
        picked: bpy.types.Object | None = get_scene_settings(scene).character if hasattr(scene, "latentman") else None
        found = picked or next((one for one in scene.objects if one.type == "ARMATURE"), None)
    why = explain_instance(found) if found else explain_instances(scene.objects)
    if why:
        raise shot.ShotError("character", why)
    return found


def wait_until(connection: Connection, condition: Callable[[], bool], seconds: float = float("inf")) -> bool:
    """Process events until a condition holds; returns False when the time runs out before that."""
    return connection.wait_until(condition, seconds)


def connect(connection: Connection, args: argparse.Namespace, watch: SignalWatch) -> None:
    """Connect to a running backend, or start one on a free port. Raises ``ShotError`` when that fails, and ``Interrupted``."""
    endpoint, given = args.endpoint, read_given_settings(args, LoadOptions)
    if endpoint and given:
        raise shot.ShotError(
            "backend",
            f"--{next(iter(given))} is for a backend that is started here, and --endpoint names one that runs; give one of them.",
        )
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
                "The backend is not set up; run latentman setup, name a Python that has its packages in LATENTMAN_PYTHON, or give "
                "--endpoint.",
            )
        try:
            address = "127.0.0.1:" + str(free_port())
            options = msgspec.structs.replace(preferences.get_load_options(bpy.context), **given)
            environment = preferences.get_backend_environment(bpy.context)
            connection.start(python, address, environment=environment, options=options)
        except OSError as error:
            raise shot.ShotError(
                "backend", f"The backend cannot be started with {python} ({error}); choose another Python."
            ) from error
    wait_until(connection, lambda: connection.connected or bool(connection.error) or watch.requested, START_SECONDS)
    # Ctrl-C in a terminal reaches the backend, too, whose end is no failure then
    watch.check()
    if not connection.connected:
        raise shot.ShotError("backend", connection.error or "The backend did not answer in time.")


def _wait_for_task(connection: Connection, task: Task, watch: SignalWatch) -> None:
    """Process events until the task has ended. Raises ``Interrupted`` when it was asked to stop, and had been cancelled or had
    time for that."""
    end = float("inf")
    while not task.done and time.monotonic() < end:
        connection.process_events()
        if watch.requested and task.state is not TaskState.CANCELLING:
            task.cancel()
            end = time.monotonic() + CANCEL_SECONDS
        time.sleep(0.002)
    if not task.succeeded:
        watch.check()


def _warn_of_scripts(out: console.Console) -> None:
    get_view_layer(bpy.context).update()
    sentence = explain_silent_drivers(
        f"where you trust it, give {ENABLE_SCRIPTS}, or Blender's own --enable-autoexec (-y) before the file"
    )
    if sentence:
        out.warn(sentence, code="scripts")


def _generate(args: argparse.Namespace, out: console.Console, watch: SignalWatch) -> int:
    with use_scene(args.scene, args.view_layer) as scene, switch_on_cycles(partial(out.warn, code="engine")):
        connection = Connection()
        try:
            options, fps = _read_scene_options(args), frame_rate(scene)
            frames, given = _read_frames(options, scene), _read_size(args, scene)
            request = console.read_request_arguments(args, *given, frames, fps)
            model = complete_model(request.sampling.model)
            request, reference = take_reference(with_settings(request, {"model": model}), get_file_folder())
            shot.check_request(request)
            for folder in filter(None, (args.out, args.save_passes)):
                console.check_writable(folder)
            character = find_character(scene, args.character)
            _warn_of_scripts(out)
            connect(connection, args, watch)
            profile = _ask_profile(connection, model, watch)
            size = given if all(given) else profile.get_size(get_frame_aspect(scene))
            made = find_made_size(*size, find_size_multiple(model))
            request = resolve_request(with_settings(request, dict(zip(SIDE_NAMES, made, strict=True))), profile)
            shot.check_request(request)
            task = ShotTask(
                bpy.context,
                character,
                request,
                connection.get_client(),
                args.out,
                folder_per_job=False,
                keep_passes=args.save_passes,
                scope=options.subjects.upper(),
                keep_scenes=True,
                alpha=options.character_only,
                crop=make_crop(*size, *made),
                reference=reference,
                # why it failed is told below
                on_message=out.show,
            )
            _wait_for_task(connection, connection.add(task), watch)
            missing = [frame for frame in frames if not (args.out / f"{frame:04d}.png").exists()]
            if not task.succeeded or missing:
                code = task.error_code or "generation"
                out.emit("failed", code=code, message=task.error or f"{len(missing)} frames are missing; generate the shot again.")
                return console.find_exit_code(code)
            out.emit("done", message=f"{len(task.frames)} frames in {args.out}", out=str(args.out))
            return 0
        finally:
            connection.stop(STOP_SECONDS)


def _read_scene_options(args: argparse.Namespace) -> SceneOptions:
    return SceneOptions(**read_given_settings(args, SceneOptions))


def _ask_profile(connection: Connection, model: str, watch: SignalWatch) -> ModelProfile:
    """How the backend says that a model likes to be run. Raises ``ShotError`` and ``Interrupted``."""
    profile = connection.ask_profile(model, should_stop=lambda: watch.requested)
    watch.check()
    assert profile is not None
    return profile


def _read_size(args: argparse.Namespace, scene: bpy.types.Scene) -> tuple[int, int]:
    """(width, height) of the frames; a side that is not given follows from the other and the scene's aspect. Without either, both
    are 0: the model's own."""
    width, height = (getattr(args, name, 0) for name in SIDE_NAMES)
    if bool(width) == bool(height):
        return width, height
    return fit_aspect(width or shot.MAX_SIDE, height or shot.MAX_SIDE, get_frame_aspect(scene))


def _read_frames(options: SceneOptions, scene: bpy.types.Scene) -> tuple[int, ...]:
    if options.frames:
        return console.parse_frames(options.frames)
    frames = range(scene.frame_start, scene.frame_end + 1, scene.frame_step)
    console.check_frame_count(len(frames))
    return tuple(frames)


def _passes(args: argparse.Namespace, out: console.Console, watch: SignalWatch) -> int:
    with use_scene(args.scene, args.view_layer) as scene, switch_on_cycles(partial(out.warn, code="engine")):
        options, (width, height) = _read_scene_options(args), _read_size(args, scene)
        if not width:
            # passes are for any model
            width, height = fit_aspect(PASSES_SIDE, PASSES_SIDE, get_frame_aspect(scene))
        frames, fps = _read_frames(options, scene), frame_rate(scene)
        console.check_writable(args.out)
        character = find_character(scene, args.character)
        _warn_of_scripts(out)
        render = PassRender(
            bpy.context,
            character,
            frames,
            width,
            height,
            scope=options.subjects.upper(),
            motion_vectors=args.motion,
            shadow=args.shadow,
            keep_scenes=True,
        )
        request = shot.make_request("passes", frames, fps, width=width, height=height)
        _write_passes(render, request, args.out, out, watch)
        out.emit("done", message=f"{len(frames)} frames in {args.out}", out=str(args.out))
        return 0


def _write_passes(render: PassRender, request: shot.ShotRequest, folder: Path, out: console.Console, watch: SignalWatch) -> None:
    """Render a shot's passes into a folder, frame by frame. Raises ``Interrupted``."""
    try:
        shown = -1
        for done in render.measure():
            # while a second Blender plays the scene, there is often nothing new
            if done != shown:
                out.show_progress("measuring", done, len(request.frames))
            shown = done
            watch.check()
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
                    watch.check()
            finally:
                one.close()
        render.check_seen()
    finally:
        render.close()


def _motion(args: argparse.Namespace, out: console.Console, watch: SignalWatch) -> int:
    with use_scene(args.scene, args.view_layer) as scene:
        request, connection = console.read_motion_arguments(args), Connection()
        try:
            motion_request.frame_count(request)
            armature = find_character(scene, args.character) if args.save else None
            if args.save and (armature is None or armature.type != "ARMATURE"):
                raise shot.ShotError(
                    "character", "There is no armature in the scene to key; open a file with one, or use only --out."
                )
            for path in (args.out, args.save):
                if path:
                    console.check_writable(path.parent)
            if args.save:
                _warn_of_scripts(out)
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
            _wait_for_task(connection, connection.add(task), watch)
            if not task.succeeded or task.made is None:
                code = task.error_code or "motion"
                out.emit("failed", code=code, message=task.error)
                return console.find_exit_code(code)
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


def _add_scene_arguments(parser: argparse.ArgumentParser, own_size: str) -> None:
    """What a shot needs to know of the scene; ``own_size`` says in words what its size is by default."""
    add_settings(parser, SceneOptions, leave_out=(ALPHA.name,))
    for side in SIDES:
        add_setting(parser, side, default=f"{own_size}, or as the other side and the scene's aspect say")
    parser.add_argument("--size", action=_SizeAction, default=argparse.SUPPRESS, metavar="WxH", help="width and height at once")
    _add_file_arguments(parser)


def _add_file_arguments(parser: argparse.ArgumentParser) -> None:
    """What every command needs to know of the file."""
    parser.add_argument("--character", help="object name; by default the panel's character or the first armature")
    parser.add_argument("--scene", metavar="NAME", help="a scene of the file; by default the one that it was saved in")
    parser.add_argument("--view-layer", metavar="NAME", help="a view layer of the scene; by default the one that it was saved with")
    parser.add_argument(
        ENABLE_SCRIPTS,
        action="store_true",
        help="let the file's Python drivers and scripts run: only for files that you trust; with blender --command, give Blender "
        "--enable-autoexec (-y) before the file instead",
    )


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with arguments as JSON, too, where that is asked for."""

    #: whether programs read the output
    as_json = False

    def error(self, message: str) -> NoReturn:
        """Write the usage and the sentence, and exit with 2."""
        if _Parser.as_json:
            console.Console(True).emit("failed", code="arguments", message=message)
        super().error(message)


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command's arguments."""
    top = _Parser(prog=COMMAND, description="LatentMan: consistent frames of an animated character.")
    commands = top.add_subparsers(dest="command", required=True)
    add_parser = partial(commands.add_parser, allow_abbrev=False)
    generate = add_parser("generate", help="render passes, generate frames, store them")
    console.add_shot_arguments(generate)
    _add_scene_arguments(generate, "the model's own with the scene's aspect")
    add_setting(generate, ALPHA, aliases=("--alpha",))
    generate.add_argument("--endpoint", help="address of a running backend; by default one is started")
    add_settings(generate, LoadOptions)
    generate.add_argument("--save-passes", type=Path, metavar="DIR", help="also keep the passes for `latentman generate`")
    generate.set_defaults(run=_generate)
    passes = add_parser("passes", help="render and store the passes only, for `latentman generate` and other programs")
    _add_scene_arguments(passes, f"the scene's aspect within {PASSES_SIDE}x{PASSES_SIDE}")
    passes.add_argument("--out", type=Path, required=True, help="folder for the passes")
    passes.add_argument("--motion", action="store_true", help="also motion vectors and world positions")
    passes.add_argument("--shadow", action="store_true", help="also the characters' shadows")
    passes.add_argument("--json", action="store_true", help="one JSON object per line on standard output")
    passes.set_defaults(run=_passes)
    motion = add_parser("motion", help="a motion from a sentence: as a file, or keyed in a copy of this .blend")
    console.add_motion_arguments(motion)
    add_settings(motion, Keying, default="the file's own")
    motion.add_argument("--out", type=Path, help="an .npz file with the motion's HumanML3D vectors, which can be imported later")
    motion.add_argument("--save", type=Path, metavar="BLEND", help="a copy of this file with the motions keyed on the character")
    _add_file_arguments(motion)
    motion.add_argument("--endpoint", help="address of a running backend; by default one is started")
    add_settings(motion, LoadOptions)
    motion.add_argument("--json", action="store_true", help="one JSON object per line on standard output")
    motion.set_defaults(run=_motion)
    add_setup_command(add_parser)
    return top


def main(argv: Sequence[str]) -> int:
    """Run a command; returns the exit code."""
    try:
        _Parser.as_json = "--json" in argv
        args: Any = make_parser().parse_args(argv)
        if args.command == "motion" and not (args.out or args.save):
            make_parser().error("motion needs --out, --save, or both")
    except SystemExit as stop:
        return int(stop.code or 0)
    out = console.Console(args.json)
    with SignalWatch() as watch:
        code, message = "", ""
        try:
            watch.check()
            return int(args.run(args, out, watch))
        except Interrupted:
            return console.report_interrupt(out, watch)
        except (shot.ShotError, MotionError) as error:
            code, message = getattr(error, "code", "motion"), str(error)
            # a folder that cannot be written was chosen so: that is found before anything is done
            if code == "disk":
                out.emit("failed", code=code, message=message)
                return 2
        except OSError as error:
            code, message = "disk", f"What was made cannot be written: {error}"
        except MemoryError:
            code, message = "memory", "There is not enough memory; use fewer frames or a smaller resolution."
        except Exception as error:
            logger.exception("the command %s failed", args.command)
            code = "internal"
            message = f"It failed unexpectedly ({type(error).__name__}: {error}); more is in {logs.find_own()}"
        out.emit("failed", code=code, message=message)
        return console.find_exit_code(code)


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
