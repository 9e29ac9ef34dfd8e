"""What both command lines share: the arguments of a shot, and progress for people or for programs."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import msgspec

from .arguments import add_method_arguments, add_setting, add_settings, read_given_settings, read_method, read_path
from .dress_options import DressOptions
from .files import read_file
from .interrupts import SignalWatch
from .manifest import PassesManifest
from .messages import AnyMessage, Failed, Finished, FrameResult, Progress
from .motion_request import MotionRequest
from .pasted_paths import expand_home
from .prompt_completion import complete_prompt, explain_missing
from .prompt_text import COMMENT, read_prompt_file
from .schedule_arguments import add_given_schedule, add_schedule_arguments
from .settings import list_settings
from .shot import MAX_FRAMES, ShotError, ShotRequest, make_request

#: bytes of a report
MAX_REPORT = 64 << 20
#: how far from 0 a frame's number may be; Blender knows no others
FARTHEST_FRAME = 1_048_574
#: codes of failures that are not the input's fault; all others say that it is wrong
FAILURES = frozenset(
    (
        *("answer", "busy", "disk", "diverged", "failed", "generation", "internal", "malformed", "memory", "passes", "protocol"),
        *("ticket", "network", "damaged", "hub"),
    )
)
#: the exit code of a command whose output nobody reads any more, as shells report it
CLOSED_PIPE = 128 + 13
STOPPED = "It was stopped, as it was asked to; what is finished is kept."
#: ends of the names of files that commands write beside what they read, and files that only look like these
RESULTS, KEPT_FILES = (".json", ".zip", ".md", ".csv", ".html"), ("passes.json", "benchmark.json", "submission.json", "run.json")
#: what a shot's scene or its passes decide
FROM_SCENE = ("width", "height", "fps")


def add_motion_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that become a ``MotionRequest``."""
    for declared in list_settings(MotionRequest):
        add_setting(
            parser,
            declared,
            option="text" if declared.name == "text" else "",
            # its name in Blender until there was one name for both
            aliases=("--motion-model",) if declared.name == "model" else (),
        )


def read_motion_arguments(args: argparse.Namespace) -> MotionRequest:
    """The request that the arguments describe."""
    return MotionRequest(**read_given_settings(args, MotionRequest))


def add_look_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of a shot whose look is made and nothing else."""
    _add_prompt(parser, required=True)
    add_settings(parser, ShotRequest, leave_out=(*FROM_SCENE, "prompt"))
    add_schedule_arguments(parser)
    add_method_arguments(parser)
    parser.add_argument("--out", type=read_path, required=True, metavar="FILE", help="the look's file, shot.look for one")
    add_json_argument(parser)
    parser.set_defaults(look="")


def add_dress_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of a character's costume."""
    _add_prompt(parser, required=True)
    add_settings(parser, ShotRequest, leave_out=(*FROM_SCENE, "prompt"))
    add_settings(parser, DressOptions)
    add_method_arguments(parser)
    parser.add_argument("--out", type=read_path, required=True, metavar="FOLDER", help="folder for the views and the costume")
    add_json_argument(parser)
    parser.set_defaults(look="")


def add_costume_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of a shot whose characters wear a costume."""
    parser.add_argument(
        "--costume",
        type=read_path,
        metavar="FILE",
        help="a costume that the command dress has made: the character looks as it says, whatever the camera and the motion",
    )
    parser.add_argument(
        "--paint",
        type=read_path,
        action="append",
        default=[],
        metavar="IMAGE",
        help="the costume's image, painted on: a PNG file; several times for several images",
    )


def add_shot_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that become a ``ShotRequest``, and those of output."""
    _add_prompt(parser, default="that of the look's file, where --look names one")
    add_settings(parser, ShotRequest, leave_out=(*FROM_SCENE, "prompt"))
    add_schedule_arguments(parser)
    add_method_arguments(parser)
    parser.add_argument(
        "--look",
        default="",
        metavar="FILE|FOLDER|JOB",
        help="a file that the command look has made: it brings all settings, and any of its shot's frames come out as in the whole "
        "shot; or keep the look of an earlier shot: its folder of frames, or its job's name; of a shot with the same settings only "
        "changed frames are made then",
    )
    parser.add_argument("--out", type=read_path, required=True, metavar="FOLDER", help="folder for the frames")
    add_json_argument(parser)


def _add_prompt(parser: argparse.ArgumentParser, *, required: bool = False, default: str = "that of --prompt-file") -> None:
    """``--prompt``, and the file that it may be written in."""
    prompt = next(declared for declared in list_settings(ShotRequest) if declared.name == "prompt")
    group = parser.add_mutually_exclusive_group(required=required)
    add_setting(group, prompt, default=default)
    group.add_argument(
        "--prompt-file",
        dest="prompt",
        default=argparse.SUPPRESS,
        type=_read_prompt_argument,
        metavar="FILE",
        help=f"the prompt in a text file: line breaks become spaces, and lines that begin with {COMMENT} are not said",
    )
    parser.add_argument(
        "--complete-prompt",
        action="store_true",
        help="add words to the prompt for what it leaves open of a person's hair, clothes and shoes and of the place, and say it",
    )


def _read_prompt_argument(text: str) -> str:
    try:
        return read_prompt_file(read_path(text))
    except ShotError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def check_shot_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """What the arguments of a shot must have together; ends as ``parser.error`` does."""
    if args.command == "generate" and "prompt" not in args and not args.look:
        parser.error("the following arguments are required: --prompt or --prompt-file, or --look with a look's file")


def add_json_argument(parser: argparse.ArgumentParser) -> None:
    """``--json``."""
    parser.add_argument(
        "--json", action="store_true", help="one JSON object a line on standard output, as docs/command_line.md has it"
    )


def read_request_arguments(
    args: argparse.Namespace, width: int, height: int, frames: tuple[int, ...], fps: float, manifest: PassesManifest | None = None
) -> ShotRequest:
    """The request that the arguments describe. Raises ``ShotError`` for a folder without a look, and for two prompts at a frame."""
    # an empty prompt is refused with what it is for
    given = {"prompt": "", **read_given_settings(args, ShotRequest, leave_out=FROM_SCENE)}
    if getattr(args, "complete_prompt", False):
        given["prompt"] = complete_prompt(given["prompt"], given.get("background_prompt", "")).prompt
    request = make_request(frames=frames, fps=fps, width=width, height=height, **given)
    request = msgspec.structs.replace(
        request, method=read_method(args, request.preset), manifest=manifest, look=find_job(args.look)
    )
    return add_given_schedule(request, args)


def tell_completion(console: Console, args: argparse.Namespace, request: ShotRequest) -> None:
    """Say what was added to the prompt; or, where frames share no texture and each decides for itself, what it leaves open."""
    text = request.text
    if getattr(args, "complete_prompt", False):
        console.emit("prompt", message=f"The prompt is: {text.prompt}", prompt=text.prompt)
        return
    found = complete_prompt(text.prompt, text.background_prompt)
    if found.missing and request.get_method().fusion is None:
        console.emit(
            "prompt",
            message=f"{explain_missing(found)} Frames may disagree on that; --complete-prompt would say: {found.prompt}",
            suggestion=found.prompt,
        )


def find_job(look: str) -> str:
    """The job that made the look: ``look`` itself, or what the report in a folder of frames says. Raises ``ShotError``."""
    try:
        folder = expand_home(look)
        if not look or not folder.is_dir():
            return look
        return str(json.loads(read_file(folder / "report.json", MAX_REPORT))["job"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ShotError(
            "look",
            f"{look} has no report of a finished shot; give the folder that a shot was generated into.",
        ) from error


def parse_frames(text: str) -> tuple[int, ...]:
    """``1-24``, ``1-24:2``, ``3,5,9`` or mixtures -> frame numbers; ``ShotError`` for anything else, and for more than
    ``MAX_FRAMES`` frames, which are counted before there are any."""
    spans: list[range] = []
    try:
        for piece in text.split(","):
            span, colon, step = piece.strip().partition(":")
            # a leading minus belongs to the number
            first, dash, last = span[1:].partition("-")
            start = int(span[:1] + first)
            end = int(last) if dash else start
            if colon and int(step) < 1:
                raise ValueError
            spans.append(range(start, end + 1, int(step or 1)))
    except ValueError:
        raise ShotError("frames", f"'{_shorten(text)}' is not a frame range; write it like 1-24, 1-24:2 or 3,5,9.") from None
    if not any(spans):
        raise ShotError("frames", f"The frame range '{_shorten(text)}' is empty.")
    for one in filter(None, spans):
        check_frames(one)
    # a range's own length may be too long for ``len``
    check_frame_count(sum((span[-1] - span[0]) // span.step + 1 for span in spans if span))
    return tuple(frame for span in spans for frame in span)


def _shorten(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."


def check_frames(frames: range) -> None:
    """``ShotError`` for frames, at least one, that no timeline has."""
    for frame in (frames[0], frames[-1]):
        if abs(frame) > FARTHEST_FRAME:
            raise ShotError("frames", f"There is no frame {frame}; choose frames from {-FARTHEST_FRAME} to {FARTHEST_FRAME}.")


def check_frame_count(count: int) -> None:
    """``ShotError`` for more frames than a shot may have."""
    if count > MAX_FRAMES:
        raise ShotError("frames", f"The shot has {count} frames; it needs 1 to {MAX_FRAMES}. Render it in parts.")


def check_writable(folder: Path) -> None:
    """Make the folder; ``ShotError`` when nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        reason = error.strerror or str(error)
        raise ShotError("disk", f"The folder {folder} cannot be written ({reason}); choose another one.") from error


def check_writable_file(path: Path) -> None:
    """Make the folder of a file; ``ShotError`` when the file cannot be written there."""
    if path.is_dir():
        raise ShotError("disk", f"{path} is a folder; name a file.")
    if path.exists() and not path.is_file():
        raise ShotError("disk", f"{path} is a device or a pipe; name a file.")
    check_writable(path.parent)


def check_spared(path: Path, read: Iterable[Path]) -> None:
    """``ShotError`` for a file that is to be written in place of what is read: one of the files ``read``, or a file in one of the
    folders ``read`` that is no earlier result."""
    if not path.exists():
        return
    place = path.resolve()
    for one in read:
        source = one.resolve()
        inside = source.is_dir() and source in place.parents
        is_result = place.suffix.lower() in RESULTS and place.name not in KEPT_FILES
        if place == source or (inside and not is_result):
            raise ShotError("disk", f"{path} belongs to what is read from {one}, and would be lost; name another file.")


def find_exit_code(code: str) -> int:
    """The exit code for the code of a failure: 1 for what went wrong at work, 2 for input that is wrong."""
    return 1 if code in FAILURES else 2


def make_printable(text: str) -> str:
    """A text of somebody else's for a terminal: in place of letters that would move the cursor, change colours or turn the reading
    direction, their numbers."""
    return "".join(letter if letter.isprintable() or letter == "\n" else ascii(letter)[1:-1] for letter in text)


def prepare_output() -> None:
    """Let the standard output take all letters, also where it has an encoding without them: their numbers stand for them."""
    with suppress(AttributeError, ValueError, OSError):
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a stand-in may lack it


def finish_output() -> int:
    """Write what waits to be written to the standard output; returns the exit code for what came of it: 0, or 128 + 13 where nobody
    reads it any more, as ``| head`` does. Raises ``OSError`` where it cannot be written."""
    try:
        # there is none in a program without a terminal
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        # what is left would be tried again when the interpreter ends
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    return 0


class Console:
    """Progress on one line for people, or one JSON object a line for programs.

    An output that is closed or full ends nothing: what is made is worth more than what is said about it.
    """

    def __init__(self, as_json: bool, stream: TextIO | None = None) -> None:
        self._json, self._stream = as_json, stream or sys.stdout
        self._open_line = False

    def _write(self, text: str, stream: TextIO | None = None) -> None:
        stream = stream or self._stream
        with suppress(OSError, ValueError):
            try:
                stream.write(text)
            except UnicodeEncodeError:
                encoding = stream.encoding or "ascii"
                stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
            stream.flush()

    def emit(self, event: str, **values: Any) -> None:
        """An event with values; people see its ``message``."""
        if self._json:
            self._write(json.dumps({"event": event, **values}) + "\n")
        elif "message" in values:
            self._close_line()
            self._write(f"{make_printable(str(values['message']))}\n")

    @property
    def is_json(self) -> bool:
        """Whether programs read what is said."""
        return self._json

    def write_text(self, text: str) -> None:
        """A text of several lines, which only people are told."""
        if not self._json:
            self._close_line()
            self._write(make_printable(text))

    def warn(self, message: str, **values: Any) -> None:
        """Something that people should know of; they read it on the standard error."""
        if self._json:
            self.emit("warning", message=message, **values)
        else:
            self._close_line()
            self._write(f"{make_printable(message)}\n", sys.stderr)

    def fail(self, code: str, message: str) -> int:
        """Say why a command has failed; returns its exit code."""
        self.emit("failed", code=code, message=message)
        return find_exit_code(code)

    def _close_line(self) -> None:
        if self._open_line:
            self._write("\n")
            self._open_line = False

    def show_progress(self, stage: str, step: int, steps: int) -> None:
        """Progress within a stage."""
        if self._json:
            self.emit("progress", stage=stage, step=step, steps=steps)
            return
        filled = round(24 * step / max(steps, 1))
        self._write(f"\r{stage:<20} [{'#' * filled}{'.' * (24 - filled)}] {step}/{steps}  ")
        self._open_line = True
        if step == steps:
            self._close_line()

    def show(self, message: AnyMessage) -> None:
        """A message of the backend."""
        if isinstance(message, Progress):
            self.show_progress(message.stage, message.step, message.steps)
        elif isinstance(message, FrameResult):
            self.report_frame(message.frame, message.index)
        elif isinstance(message, Failed):
            self.emit("failed", code=message.code, message=message.message)
        elif isinstance(message, Finished):
            self.report_finished(message.report)

    def report_frame(self, frame: int, index: int) -> None:
        """A frame is there; programs are told of each."""
        if self._json:
            self.emit("frame", frame=frame, index=index)

    def report_finished(self, report: dict[str, Any]) -> None:
        """A shot is finished."""
        for warning in report.get("warnings", report.get("notices", ())):
            self.emit("warning", message=warning)
        self.emit("finished", report=report)


def report_interrupt(out: Console, watch: SignalWatch) -> int:
    """Say that a command was stopped by a signal; returns its exit code."""
    name = signal.Signals(watch.number).name
    out.emit("interrupted", code="interrupted", signal=name, message=STOPPED)
    return watch.exit_code
