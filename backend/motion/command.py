"""``latentman motion "a person waves" --out motion.npz``."""

from __future__ import annotations

import argparse
import sys

from ...shared.arguments import read_path
from ...shared.console import Console, add_motion_arguments, read_motion_arguments
from ...shared.made_motion import save_made
from ...shared.motion import MotionError
from ...shared.motion_request import frame_count


def motion(args: argparse.Namespace) -> int:
    """Make motions from a sentence; 2 when the input is wrong, 1 when the file cannot be written."""
    from tqdm import tqdm

    from ..models.devices import choose_device
    from .registry import load

    request, out = read_motion_arguments(args), Console(args.json)
    try:
        frame_count(request)
        source = load(request.model, choose_device(), args.statistics, args.text_encoder)
        with tqdm(desc="motion", disable=args.json) as bar:

            def step_done(step: int, of: int) -> None:
                bar.total = of
                bar.update(step - bar.n)
                if args.json:
                    out.show_progress("making motion", step, of)

            made = source.make(request, None, step_done)
    except MotionError as error:
        _refuse(out, args, "motion", str(error))
        return 2
    for warning in made.warnings:
        out.emit("warning", message=warning)
    try:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        save_made(args.out, made, request)
    except OSError as error:
        _refuse(out, args, "disk", f"{args.out} cannot be written: {error}")
        return 1
    out.emit("done", message=f"{made.count} motions of {made.frame_count} frames in {args.out}", out=str(args.out))
    return 0


def _refuse(out: Console, args: argparse.Namespace, code: str, sentence: str) -> None:
    """Say why nothing was made: programs read it where they read all else."""
    if args.json:
        out.emit("failed", code=code, message=sentence)
    else:
        print(sentence, file=sys.stderr)


def list_sources(args: argparse.Namespace) -> int:
    """A line for each motion model that has a name."""
    from .registry import describe_sources

    for line in describe_sources():
        print(line)
    return 0


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Register them."""
    command = commands.add_parser(
        "motion",
        help="a motion from a sentence",
        examples=(
            ('latentman motion "a person waves" --out motion.npz', "by the built-in model"),
            ('latentman motion "a person walks" --seconds 6 --variants 3 --seed 2 --out takes.npz', "three takes"),
        ),
    )
    add_motion_arguments(command)
    command.add_argument("--statistics", type=read_path, help="folder of Mean.npy and Std.npy; the checkpoint's when left out")
    command.add_argument("--text-encoder", help="folder or hub id of CLIP ViT-B/32 or DistilBERT")
    command.add_argument("--out", type=read_path, required=True, help="an .npz that the add-on imports")
    command.add_argument("--json", action="store_true", help="one JSON object a line on standard output")
    command.set_defaults(run=motion, uses_models=True)
    sources = commands.add_parser(
        "motion-sources",
        help="the motion models that have a name",
        examples=(("latentman motion-sources", "what --model of motion knows"),),
    )
    sources.set_defaults(run=list_sources)
