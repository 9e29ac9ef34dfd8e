"""``python -m latentman.blender_addon.reference_shots OUT``: writes the reference shots as folders of saved passes.

``OUT/<shot>/`` holds a shot, ``OUT/shots.json`` maps every shot's name to what was measured of its motion. With ``--text`` the
shots are a bundled motion and the motion files that are given instead. Exit codes: 0 all is there, 2 the input is wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ...shared import passes_folder
from ...shared.files import write_atomically
from ...shared.manifest import PassesManifest
from ...shared.motion import Motion, MotionError
from ...shared.skeleton import HUMANML_FPS
from ..motion.readers import read
from .motion_metrics import compute_motion_metrics
from .shots import SHOTS, SIZE, make_motion_views, read_bundled_motions
from .views import View, list_cameras, put_in_world, render_views


def save_views(folder: Path, views: list[View], size: int = SIZE, *, world: bool = False) -> None:
    """Write the passes of views, (size, size) pixels, as a shot whose frames are numbered from 1; ``world`` adds cameras and
    shadows."""
    found = render_views(views, size)
    if world:
        found = put_in_world(found, views, size)
    frames = tuple(range(1, len(views) + 1))
    cameras = list_cameras(views) if world else ()
    passes_folder.save(folder, found.passes, PassesManifest(size, size, HUMANML_FPS, frames, found.near, found.far, cameras))


def read_motions(text: str, files: list[Path]) -> dict[str, Motion]:
    """The bundled motion of a text as ``performance``, then the first motion of every file under the file's name.

    Raises ``MotionError`` when the text or a file is unknown.
    """
    bundled = read_bundled_motions()
    if text not in bundled:
        raise MotionError(f"There is no bundled motion '{text}'; choose from: {', '.join(bundled)}.")
    return {"performance": bundled[text]} | {path.stem: read(path).get_motion(0) for path in files}


def parse_size(text: str) -> int:
    """The side of frames in pixels. Raises ``argparse.ArgumentTypeError`` for one that models do not make."""
    if not text.isascii() or not text.isdigit() or not 64 <= int(text) <= 4096 or int(text) % 8:
        raise argparse.ArgumentTypeError(f"{text!r} is no size of frames; give a multiple of 8 from 64 to 4096")
    return int(text)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m latentman.blender_addon.reference_shots", description=__doc__)
    parser.add_argument("out", type=Path, help="folder for the shots")
    parser.add_argument("--frames", type=int, default=24, help="frames of every shot")
    parser.add_argument(
        "--size", type=parse_size, default=SIZE, help="width and height of the frames in pixels; default %(default)s"
    )
    parser.add_argument("--shots", nargs="+", choices=tuple(SHOTS), default=tuple(SHOTS), help="which shots; all when left out")
    parser.add_argument("--text", default="", help="the text of a bundled motion, to be shown instead of the shots")
    parser.add_argument("--motion", type=Path, action="append", default=[], help="a motion file to be shown beside it")
    parser.add_argument("--world", action="store_true", help="also the cameras, which move around the body, and its shadow")
    args = parser.parse_args(argv)
    metrics: dict[str, dict[str, float]] = {}
    try:
        if args.text:
            for name, motion in read_motions(args.text, args.motion).items():
                save_views(args.out / name, make_motion_views(motion, args.frames), args.size, world=args.world)
                metrics[name] = compute_motion_metrics(motion)
        else:
            for name in args.shots:
                save_views(args.out / name, SHOTS[name](args.frames), args.size, world=args.world)
                metrics[name] = {}
    except MotionError as error:
        print(error, file=sys.stderr)
        return 2
    write_atomically(args.out / "shots.json", json.dumps(metrics).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
