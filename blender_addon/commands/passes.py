"""``passes``: a shot's passes, for the backend's ``generate`` and for other programs."""

from __future__ import annotations

import argparse
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path

import bpy

from ...shared import console, shot
from ...shared.arguments import read_path
from ...shared.command_parser import CommandParser
from ...shared.interrupts import SignalWatch
from ...shared.overview import compute_overview_size, needs_overview
from ...shared.picture_size import fit_aspect
from ..passes.engine import switch_on_cycles
from ..passes.render import PassRender
from ..properties import get_frame_aspect
from ..scene_choice import use_scene
from ..tasks.shot import PassesWriter, pop_first
from ..timing import frame_rate
from .scene import PROGRAM, add_scene_arguments, find_character, read_frames, read_scene_options, read_size, warn_of_scripts

#: side of passes of which neither is given
PASSES_SIDE = 256


def run_passes(args: argparse.Namespace, out: console.Console, watch: SignalWatch) -> int:
    """Run the command; returns the exit code. Raises ``ShotError`` and ``Interrupted``."""
    with use_scene(args.scene, args.view_layer) as scene, switch_on_cycles(partial(out.warn, code="engine")):
        options, (width, height) = read_scene_options(args), read_size(args, scene)
        if not width:
            # passes are for any model
            width, height = fit_aspect(PASSES_SIDE, PASSES_SIDE, get_frame_aspect(scene))
        frames, fps = read_frames(options, scene), frame_rate(scene)
        console.check_writable(args.out)
        character = find_character(scene, args.character)
        warn_of_scripts(out)
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


def add_command(add_parser: Callable[..., CommandParser]) -> None:
    """Register it."""
    passes = add_parser(
        "passes",
        help="render and store the passes only, for the backend's generate and for other programs",
        examples=(
            (f"{PROGRAM} passes --frames 1-24 --size 512x512 --out saved_passes", "passes as OpenEXR"),
            (f"{PROGRAM} passes --motion --shadow --subjects scene --out saved_passes", "all that there are, of the whole scene"),
        ),
    )
    add_scene_arguments(passes, f"the scene's aspect within {PASSES_SIDE}x{PASSES_SIDE}")
    passes.add_argument("--out", type=read_path, required=True, metavar="FOLDER", help="folder for the passes")
    passes.add_argument("--motion", action="store_true", help="also motion vectors and world positions")
    passes.add_argument("--shadow", action="store_true", help="also the characters' shadows")
    console.add_json_argument(passes)
    passes.set_defaults(run=run_passes)
