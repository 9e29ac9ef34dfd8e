"""``latentman generate`` and ``latentman look``: frames, or the look that frames are made from, of a folder of saved passes."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from ..shared import passes_folder
from ..shared.arguments import add_settings, has_method_arguments, read_given_settings, read_path
from ..shared.console import (
    Console,
    add_look_arguments,
    add_shot_arguments,
    check_writable,
    check_writable_file,
    find_exit_code,
    parse_frames,
    read_request_arguments,
    report_interrupt,
    tell_completion,
)
from ..shared.files import write_atomically
from ..shared.folders import jobs_folder
from ..shared.interrupts import SignalWatch
from ..shared.load_options import LoadOptions
from ..shared.look_file import LookFile, describe_look, name_part_report, write_frames
from ..shared.manifest import PassesManifest
from ..shared.part_arguments import find_look_file, read_part_request
from ..shared.reference import take_reference
from ..shared.shot import ShotError, ShotRequest, check_request

if TYPE_CHECKING:
    from .video.source import PassesSource

FRAMES_HELP = "only these of the passes' frames, like 1-24, 1-24:2 or 3,5,9; all when left out"
PROMPT = "a knight in a forest"


def read_load_options(args: argparse.Namespace) -> LoadOptions:
    """How models are run, as the arguments say."""
    return LoadOptions(**read_given_settings(args, LoadOptions))


class WrongInputError(Exception):
    """What was given cannot be used, which was found before anything was made of it; ``code`` as of a ``ShotError``."""

    def __init__(self, error: ShotError) -> None:
        super().__init__(str(error))
        self.code = error.code


@contextmanager
def _reading_input() -> Iterator[None]:
    """Within the block nothing is made yet: what is wrong there is the input, whatever its code."""
    try:
        yield
    except ShotError as error:
        raise WrongInputError(error) from error


def _run_watched(work: Callable[[argparse.Namespace, Console, SignalWatch], int], args: argparse.Namespace) -> int:
    """Run a command's work; whatever ends it is an event, and the exit code says what."""
    from .failures import explain_failure
    from .video.run_context import Interrupted

    console = Console(args.json)
    with SignalWatch() as watch:
        try:
            return work(args, console, watch)
        except Interrupted:
            return report_interrupt(console, watch)
        except WrongInputError as error:
            console.emit("failed", code=error.code, message=str(error))
            return 2
        except Exception as error:
            if isinstance(error, ModuleNotFoundError):
                raise
            code, sentence = explain_failure(error)
            console.emit("failed", code=code, message=sentence)
            return find_exit_code(code)


def _select_passes(args: argparse.Namespace) -> tuple[PassesSource, PassesManifest, tuple[int, ...]]:
    """The passes of the frames that are wanted, what describes the whole folder, and the frames' numbers. Raises
    ``ShotError``."""
    from .video.part import SelectedPasses
    from .video.source import SavedPasses

    folder = passes_folder.PassesFolder(args.passes)
    source, manifest = SavedPasses(folder), folder.manifest
    there = manifest.frames
    frames = there if args.frames is None else parse_frames(args.frames)
    places = {frame: n for n, frame in enumerate(there)}
    for frame in frames:
        if frame not in places:
            raise ShotError("frames", f"{args.passes} has no passes of frame {frame}; it has {write_frames(there)}.")
        if not passes_folder.frame_path(args.passes, frame).is_file():
            raise ShotError("passes", f"The passes of frame {frame} are missing in {args.passes}; render them again.")
    if args.frames is None:
        return source, manifest, frames
    return SelectedPasses(source, [places[frame] for frame in frames]), manifest, frames


def _read_request(args: argparse.Namespace, manifest: PassesManifest, frames: tuple[int, ...]) -> tuple[ShotRequest, bytes]:
    """The request that the arguments describe, and the file of its reference picture. Raises ``ShotError``."""
    from .models.profiles import complete_request

    request, reference = take_reference(read_request_arguments(args, manifest.width, manifest.height, frames, manifest.fps))
    return complete_request(_choose_method(args, request)), reference


def _choose_method(args: argparse.Namespace, request: ShotRequest) -> ShotRequest:
    """A request with the method of another package, where one is asked for. Raises ``ShotError``."""
    from .method_plugins import find_method

    if not args.method:
        return request
    if "preset" in vars(args) or has_method_arguments(args):
        raise ShotError("method", "--method brings its techniques; leave --preset, --plugin and the techniques' settings out.")
    return msgspec.structs.replace(request, method=find_method(args.method))


def _check_depth_range(manifest: PassesManifest, look_file: LookFile) -> None:
    """Raise ``ShotError`` where the passes' depths are relative to another range than those that the look was made of."""
    header = look_file.description.header
    for found, wanted in ((manifest.near, header.near), (manifest.far, header.far)):
        if abs(found - wanted) > 1e-5 * max(abs(wanted), 1e-3):
            raise ShotError(
                "look",
                "The passes have another depth range than those that the look was made of; take the same folder of passes for all "
                "parts of a shot, or let Blender's generate render them with --look.",
            )


def _generate(args: argparse.Namespace, console: Console, watch: SignalWatch) -> int:
    """Raises ``Interrupted``, and whatever ``explain_failure`` puts into words."""
    from .jobs.runner import ModelCache, RunCallbacks, run
    from .jobs.store import JobStore
    from .tasks.shot import check_part, check_shot
    from .video.run_context import Interrupted

    with _reading_input():
        look_file = find_look_file(args.look)
        source, manifest, frames = _select_passes(args)
        if look_file is not None and args.method:
            raise ShotError("method", "The look's file brings its method; leave --method out.")
        if look_file is not None:
            request, reference = read_part_request(args, look_file, frames)
            _check_size(manifest, request)
            _check_depth_range(manifest, look_file)
        else:
            request, reference = _read_request(args, manifest, frames)
            tell_completion(console, args, request)
        check_request(request)
        check_writable(args.out)
        models = ModelCache(read_load_options(args))
        check_shot(request, reference)
        if look_file is not None:
            check_part(request, look_file)

    def check() -> None:
        if watch.requested:
            raise Interrupted

    def copy_frame(index: int) -> None:
        frame = request.frames[index]
        write_atomically(args.out / f"{frame:04d}.png", job.read_png(index))
        console.report_frame(frame, index)

    check()
    look = b"" if look_file is None else look_file.data
    job = JobStore(args.jobs or jobs_folder(), models.numbers).open(request, source, check, reference, look)
    report = run(job, models, RunCallbacks(console.show_progress, copy_frame, lambda: watch.requested))
    missing = [frame for frame in request.frames if not (args.out / f"{frame:04d}.png").exists()]
    if missing:
        raise ShotError("generation", f"{len(missing)} frames are missing in {args.out}; generate them again.")
    write_atomically(
        args.out / ("report.json" if look_file is None else name_part_report(request.frames)), json.dumps(report, indent=1).encode()
    )
    console.report_finished(report)
    console.emit("done", message=f"{len(request.frames)} frames in {args.out}", out=str(args.out))
    return 0


def _check_size(manifest: PassesManifest, request: ShotRequest) -> None:
    if (manifest.width, manifest.height) != (request.width, request.height):
        raise ShotError(
            "look",
            f"The look was made for frames of {request.width}x{request.height}, and the passes have "
            f"{manifest.width}x{manifest.height}; take the passes that it was made of.",
        )


def _look(args: argparse.Namespace, console: Console, watch: SignalWatch) -> int:
    """Raises as ``_generate``."""
    from .jobs.look_making import check_look_request, make_look
    from .jobs.runner import ModelCache, RunCallbacks
    from .jobs.store import JobStore
    from .tasks.shot import check_shot
    from .video.run_context import Interrupted

    with _reading_input():
        source, manifest, frames = _select_passes(args)
        request, reference = _read_request(args, manifest, frames)
        tell_completion(console, args, request)
        check_request(request)
        check_look_request(request)
        check_writable_file(args.out)
        models = ModelCache(read_load_options(args))
        check_shot(request, reference)

    def check() -> None:
        if watch.requested:
            raise Interrupted

    check()
    job = JobStore(args.jobs or jobs_folder(), models.numbers).open(request, source, check, reference)
    data, report = make_look(job, models, RunCallbacks(console.show_progress, should_stop=lambda: watch.requested))
    write_atomically(args.out, data)
    console.report_finished(report)
    console.emit("done", message=describe_look(args.out, report), out=str(args.out))
    return 0


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Register them."""
    command = commands.add_parser(
        "generate",
        help="frames from a folder of saved passes",
        examples=(
            (f'latentman generate saved_passes --prompt "{PROMPT}" --out frames', "a whole shot"),
            (
                "latentman generate saved_passes --look shot.look --frames 1-8 --out frames",
                "a part of the shot of a look",
            ),
            (
                f'latentman generate saved_passes --prompt "{PROMPT}" --steps 10 --preset surface_fast --out test --json',
                "a quick try, with its progress for programs",
            ),
        ),
    )
    _add_passes_arguments(command)
    add_shot_arguments(command)
    _add_running_arguments(command)
    command.set_defaults(run=partial(_run_watched, _generate), uses_models=True)
    command = commands.add_parser(
        "look",
        help="a shot's look as a file, from which its frames are made in parts: on a farm, in any order, as in the whole shot",
        examples=(
            (f'latentman look saved_passes --prompt "{PROMPT}" --out shot.look', "make the look once"),
            ("latentman generate saved_passes --look shot.look --frames 9-16 --out frames", "and any part of the shot from it"),
        ),
    )
    _add_passes_arguments(command)
    add_look_arguments(command)
    _add_running_arguments(command)
    command.set_defaults(run=partial(_run_watched, _look), uses_models=True)


def _add_passes_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("passes", type=read_path, metavar="PASSES", help="folder of passes that Blender's passes has saved")
    command.add_argument("--frames", metavar="FRAMES", help=FRAMES_HELP)


def _add_running_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--jobs", type=read_path, metavar="FOLDER", help="folder of the job store; default: jobs in the data folder"
    )
    command.add_argument(
        "--method",
        default="",
        metavar="NAME",
        help="a method of another package, or a preset, in place of --preset and all techniques",
    )
    add_settings(command, LoadOptions)
