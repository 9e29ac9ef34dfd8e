"""``latentman motion "a person waves" --out motion.npz``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ...shared.console import add_motion_arguments, read_motion_arguments
from ...shared.motion import MotionError
from ...shared.motion_request import frame_count, save_made


def motion(args: argparse.Namespace) -> int:
    """Make motions from a sentence; 2 when the input is wrong, 1 when the file cannot be written."""
    from tqdm import tqdm

    from ..models.loading import choose_device
    from .registry import load

    request = read_motion_arguments(args)
    try:
        frame_count(request)
        source = load(request.model, choose_device(), args.statistics, args.text_encoder)
        with tqdm(desc="motion") as bar:

            def step_done(step: int, of: int) -> None:
                bar.total = of
                bar.update(step - bar.n)

            made = source.make(request, None, step_done)
    except MotionError as error:
        print(error, file=sys.stderr)
        return 2
    for warning in made.warnings:
        print(warning)
    try:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        save_made(args.out, made.vectors, request)
    except OSError as error:
        print(f"{args.out} cannot be written: {error}", file=sys.stderr)
        return 1
    print(f"{len(made.vectors)} motions of {made.vectors.shape[1]} frames in {args.out}")
    return 0


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Register it."""
    command = commands.add_parser("motion", help="a motion from a sentence", allow_abbrev=False)
    add_motion_arguments(command)
    command.add_argument("--statistics", type=Path, help="folder of Mean.npy and Std.npy; the checkpoint's when left out")
    command.add_argument("--text-encoder", help="folder or hub id of CLIP ViT-B/32 or DistilBERT")
    command.add_argument("--out", type=Path, required=True, help="an .npz that the add-on imports")
    command.set_defaults(run=motion, uses_models=True)
