"""``latentman export``, ``composite`` and ``densepose``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path

import numpy as np

from ...shared import passes_folder
from ...shared.arguments import read_path
from ...shared.compositing import composite_over, cut_out
from ...shared.console import check_writable
from ...shared.shot import ShotError
from ..maps import MAPS

# Pillow and SciPy are imported by the commands that need them, so that the others work without them


def _return_exit_code(work: Callable[[argparse.Namespace], None]) -> Callable[[argparse.Namespace], int]:
    """Decorate a command: it returns 0, or prints one sentence and returns 2 when the input is wrong."""

    @wraps(work)
    def run(args: argparse.Namespace) -> int:
        try:
            work(args)
        except ShotError as error:
            print(error, file=sys.stderr)
            return 2
        return 0

    return run


@_return_exit_code
def export(args: argparse.Namespace) -> None:
    """Write a folder's passes as pictures."""
    from ..pictures import write_frames

    passes, manifest = passes_folder.load(args.passes)
    unknown = [name for name in args.maps.split(",") if name not in MAPS]
    if unknown:
        raise ShotError("maps", f"There is no map '{unknown[0]}'; choose from {', '.join(MAPS)}.")
    for name in args.maps.split(","):
        folder = args.out / name
        check_writable(folder)
        write_frames(folder, manifest.frames, MAPS[name](passes, manifest))
        print(f"{len(manifest.frames)} pictures in {folder}")


def _read_frames(folder: Path, frames: tuple[int, ...]) -> np.ndarray:
    from ..pictures import read_frames

    try:
        return read_frames(folder, frames)
    except (OSError, ValueError) as error:
        raise ShotError("frames", f"{folder} does not hold one picture for each frame, named like 0001.png ({error}).") from error


@_return_exit_code
def composite(args: argparse.Namespace) -> None:
    """Cut the character out of finished frames, or lay it over other pictures."""
    from ..pictures import write_frames

    passes, manifest = passes_folder.load(args.passes)
    frames = _read_frames(args.frames, manifest.frames)
    below = _read_frames(args.over, manifest.frames) if args.over else None
    for name, pictures in (("frames", frames), ("pictures below", below)):
        if pictures is not None and pictures.shape[:3] != passes.mask.shape:
            raise ShotError(
                "size",
                f"The {name} are {pictures.shape[2]}x{pictures.shape[1]}, the passes "
                f"{manifest.width}x{manifest.height}; they must be of one shot and size.",
            )
    check_writable(args.out)
    made = (
        cut_out(image, passes.mask[n]) if below is None else composite_over(image, passes.mask[n], below[n])
        for n, image in enumerate(frames)
    )
    write_frames(args.out, manifest.frames, made)
    print(f"{len(manifest.frames)} pictures in {args.out}")


@_return_exit_code
def densepose(args: argparse.Namespace) -> None:
    """Replace the passes' parts and coordinates by DensePose's, run on RGB renders of the same frames."""
    from ..video.correspondence.densepose import make_predictor, replace_parts_by_iuv

    passes, manifest = passes_folder.load(args.passes)
    renders = _read_frames(args.renders, manifest.frames)
    if args.iuv:
        images = renders
    else:
        if args.weights is None:
            raise ShotError("densepose", "Give the DensePose checkpoint with --weights, or IUV pictures with --iuv.")
        predict = make_predictor(args.weights, args.config)
        images = np.stack([predict(picture) for picture in renders])
    check_writable(args.out)
    passes_folder.save(args.out, replace_parts_by_iuv(passes, images), manifest)
    print(f"{len(manifest.frames)} frames in {args.out}")


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add the three commands to the parser of ``latentman``."""
    command = commands.add_parser(
        "export",
        help="saved passes as pictures for other tools",
        examples=(
            (
                "latentman export saved_passes --maps depth,openpose --out maps",
                "two kinds of pictures, each in a folder of its own",
            ),
        ),
    )
    _add_passes(command)
    command.add_argument("--maps", default=",".join(MAPS), help="any of " + ", ".join(MAPS) + ", separated by commas")
    command.add_argument("--out", type=read_path, required=True, metavar="FOLDER", help="folder for the pictures")
    command.set_defaults(run=export)
    command = commands.add_parser(
        "composite",
        help="cut the character out of finished frames, or lay it over other pictures",
        examples=(
            ("latentman composite saved_passes frames --out layer", "the character alone, transparent around it"),
            ("latentman composite saved_passes frames --over renders --out shot", "the character over Blender's own render"),
        ),
    )
    _add_passes(command)
    command.add_argument("frames", type=read_path, metavar="FRAMES", help="folder of the finished frames")
    command.add_argument("--over", type=read_path, help="folder of pictures to lie below, such as Blender's own render")
    command.add_argument("--out", type=read_path, required=True, metavar="FOLDER", help="folder for the pictures")
    command.set_defaults(run=composite)
    command = commands.add_parser(
        "densepose",
        help="passes with parts and coordinates by DensePose from RGB renders",
        examples=(
            ("latentman densepose saved_passes renders --weights model_final.pkl --out other_passes", "DensePose run here"),
            ("latentman densepose saved_passes pictures --iuv --out other_passes", "from IUV pictures that are there"),
        ),
    )
    _add_passes(command)
    command.add_argument("renders", type=read_path, help="folder with 0001.png and so on, of the passes' size")
    command.add_argument("--weights", type=read_path, help="DensePose checkpoint, model_final_*.pkl")
    command.add_argument("--config", type=read_path, help="its configuration file; DensePose's own R_50_FPN when left out")
    command.add_argument("--iuv", action="store_true", help="the pictures are IUV images already")
    command.add_argument("--out", type=read_path, required=True, metavar="FOLDER", help="folder for the new passes")
    command.set_defaults(run=densepose)


def _add_passes(command: argparse.ArgumentParser) -> None:
    command.add_argument("passes", type=read_path, metavar="PASSES", help="folder of saved passes")
