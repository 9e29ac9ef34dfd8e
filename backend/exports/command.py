"""``latentman export``, ``composite`` and ``densepose``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path

import numpy as np

from ...shared import passes_folder
from ...shared.compositing import composite_over, cut_out
from ...shared.console import check_writable
from ...shared.shot import ShotError
from .maps import MAPS


def _answered(work: Callable[[argparse.Namespace], None]) -> Callable[[argparse.Namespace], int]:
    """A command's exit code: 0, or 2 with one sentence when the input is wrong."""

    @wraps(work)
    def run(args: argparse.Namespace) -> int:
        try:
            work(args)
        except ShotError as error:
            print(error, file=sys.stderr)
            return 2
        return 0

    return run


@_answered
def export(args: argparse.Namespace) -> None:
    """Write a folder's passes as pictures."""
    from PIL import Image

    passes, manifest = passes_folder.load(args.passes)
    unknown = [name for name in args.maps.split(",") if name not in MAPS]
    if unknown:
        raise ShotError("maps", f"There is no map '{unknown[0]}'; choose from {', '.join(MAPS)}.")
    for name in args.maps.split(","):
        folder = args.out / name
        check_writable(folder)
        for frame, picture in zip(manifest.frames, MAPS[name](passes, manifest), strict=True):
            Image.fromarray(picture).save(folder / f"{frame:04d}.png")
        print(f"{len(manifest.frames)} pictures in {folder}")


def _pictures(folder: Path, frames: tuple[int, ...]) -> np.ndarray:
    from PIL import Image

    try:
        return np.stack([np.asarray(Image.open(folder / f"{frame:04d}.png").convert("RGB")) for frame in frames])
    except (OSError, ValueError) as error:
        raise ShotError("frames", f"{folder} does not hold one picture for each frame, named like 0001.png ({error}).") from error


@_answered
def composite(args: argparse.Namespace) -> None:
    """Finished frames with the character cut out, or laid over other pictures."""
    from PIL import Image

    passes, manifest = passes_folder.load(args.passes)
    frames = _pictures(args.frames, manifest.frames)
    below = _pictures(args.over, manifest.frames) if args.over else None
    for name, pictures in (("frames", frames), ("pictures below", below)):
        if pictures is not None and pictures.shape[:3] != passes.mask.shape:
            raise ShotError(
                "size",
                f"The {name} are {pictures.shape[2]}x{pictures.shape[1]}, the passes "
                f"{manifest.width}x{manifest.height}; they must be of one shot and size.",
            )
    check_writable(args.out)
    for n, frame in enumerate(manifest.frames):
        made = cut_out(frames[n], passes.mask[n]) if below is None else composite_over(frames[n], passes.mask[n], below[n])
        Image.fromarray(made).save(args.out / f"{frame:04d}.png")
    print(f"{len(manifest.frames)} pictures in {args.out}")


@_answered
def densepose(args: argparse.Namespace) -> None:
    """Passes whose parts and coordinates come from DensePose, run on RGB renders of the same frames."""
    from ..video.correspondence.densepose import make_predictor, replace_parts_by_iuv

    passes, manifest = passes_folder.load(args.passes)
    renders = _pictures(args.renders, manifest.frames)
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
    """Register them."""
    command = commands.add_parser("export", help="saved passes as pictures for other tools")
    command.add_argument("passes", type=Path)
    command.add_argument("--maps", default=",".join(MAPS), help="any of " + ", ".join(MAPS) + ", separated by commas")
    command.add_argument("--out", type=Path, required=True)
    command.set_defaults(run=export)
    command = commands.add_parser("composite", help="cut the character out of finished frames, or lay it over other pictures")
    command.add_argument("passes", type=Path)
    command.add_argument("frames", type=Path)
    command.add_argument("--over", type=Path, help="folder of pictures to lie below, such as Blender's own render")
    command.add_argument("--out", type=Path, required=True)
    command.set_defaults(run=composite)
    command = commands.add_parser("densepose", help="passes with parts and coordinates by DensePose from RGB renders")
    command.add_argument("passes", type=Path)
    command.add_argument("renders", type=Path, help="folder with 0001.png and so on, of the passes' size")
    command.add_argument("--weights", type=Path, help="DensePose checkpoint, model_final_*.pkl")
    command.add_argument("--config", type=Path, help="its configuration file; DensePose's own R_50_FPN when left out")
    command.add_argument("--iuv", action="store_true", help="the pictures are IUV images already")
    command.add_argument("--out", type=Path, required=True)
    command.set_defaults(run=densepose)
