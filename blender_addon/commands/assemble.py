"""``assemble``: finished frames become a movie, a file for the sequencer and a report."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from ...shared import console, shot
from ...shared.arguments import read_path
from ...shared.command_parser import CommandParser
from ...shared.interrupts import SignalWatch
from ..assembling import PAGE, SEQUENCE, assemble
from ..scene_choice import use_scene


def run_assemble(args: argparse.Namespace, out: console.Console, watch: SignalWatch) -> int:
    """Run the command; returns the exit code. Raises ``ShotError`` and ``Interrupted``."""
    frames = console.parse_frames(args.frames) if args.frames else ()
    if frames and len(args.folders) > 1:
        raise shot.ShotError("frames", "--frames is for one folder; give one, or leave --frames out.")
    with use_scene(args.scene, None) as scene:
        shots = assemble(scene, args.folders, args.out, frames)
    watch.check()
    count = sum(len(one.images) for one in shots)
    message = f"{count} frames of {len(shots)} {'shot' if len(shots) == 1 else 'shots'}: {args.out / SEQUENCE}, {args.out / PAGE}"
    out.emit("done", message=message, out=str(args.out))
    return 0


def add_command(add_parser: Callable[..., CommandParser]) -> None:
    """Register it."""
    command = add_parser(
        "assemble",
        help="put finished frames together: a movie beside them, a file whose sequencer shows them, and a report",
        examples=(
            (
                "blender -b --command latentman assemble frames --frames 1-240 --out shot",
                "a shot, all of whose frames must be there",
            ),
            (
                "blender -b film.blend --command latentman assemble film/close film/wide --out film",
                "several shots, one after another",
            ),
        ),
    )
    command.add_argument("folders", type=read_path, nargs="+", metavar="FOLDER", help="folders of finished frames, one a shot")
    command.add_argument("--frames", metavar="FRAMES", help="the frames that must be there; by default those that are")
    command.add_argument(
        "--out", type=read_path, required=True, metavar="FOLDER", help="folder for the sequencer's file and the report"
    )
    command.add_argument("--scene", metavar="NAME", help="a scene of the file, whose rate counts where no report says another")
    console.add_json_argument(command)
    command.set_defaults(run=run_assemble)
