"""``passes``: a shot's passes, for the backend's ``generate`` and for other programs."""

from __future__ import annotations

import argparse
import math
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import bpy
import msgspec

from ...shared import console, passes_folder, shot
from ...shared.arguments import read_path
from ...shared.command_parser import CommandParser
from ...shared.interrupts import SignalWatch
from ...shared.overview import compute_overview_size, needs_overview
from ...shared.picture_size import fit_aspect
from ..passes.engine import switch_on_cycles
from ..passes.pooled_render import PooledOverview, PooledPassRender, make_pooled_render
from ..passes.render import WAIT_SECONDS, PassRender
from ..passes.render_worker import RenderOptions
from ..passes.visibility import casts_plain_shadow
from ..properties import get_frame_aspect
from ..scene_choice import use_scene
from ..tasks.passes_writer import PassesWriter
from ..tasks.shot import pop_first
from ..timing import frame_rate
from ..typed_access import get_view_layer
from .scene import (
    PROGRAM,
    add_processes_argument,
    add_scene_arguments,
    find_character,
    read_frames,
    read_scene_options,
    read_size,
    warn_of_scripts,
)

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
        whole = read_whole_shot(args.part_of, frames)
        console.check_writable(args.out)
        passes_folder.check_kind(args.out, is_part=bool(whole))
        character = find_character(scene, args.character)
        warn_of_scripts(out)
        own = bpy.context, character, frames, width, height
        scope = options.subjects.upper()
        plain = args.plain_shadow and not args.shadow
        shown: RenderOptions = {
            "scope": scope,
            "range_frames": whole,
            "motion_vectors": args.motion,
            "shadow": casts_plain_shadow(get_view_layer(bpy.context), scope) if plain else args.shadow,
            "plain_ground": plain,
        }
        render: PassRender | PooledPassRender
        if args.processes == 1:
            render = PassRender(*own, keep_scenes=True, **shown)
        else:
            render = make_pooled_render(*own, processes=args.processes, warn=partial(out.warn, code="processes"), **shown)
        request = shot.make_request("passes", frames, fps, width=width, height=height)
        _write_passes(render, request, whole, args.out, out, watch)
        out.emit("done", message=f"{len(frames)} frames in {args.out}", out=str(args.out))
        return 0


def read_whole_shot(text: str | None, frames: tuple[int, ...]) -> tuple[int, ...]:
    """The frames of the shot that ``frames`` are a part of, () where they are no part. Raises ``ShotError``."""
    if text is None:
        return ()
    whole = console.parse_frames(text)
    missing = sorted(set(frames) - set(whole))
    if missing:
        raise shot.ShotError("frames", f"Frame {missing[0]} is not in the shot {text}; let --part-of name all frames of the shot.")
    return whole


def _write_passes(
    render: PassRender | PooledPassRender,
    request: shot.ShotRequest,
    whole: tuple[int, ...],
    folder: Path,
    out: console.Console,
    watch: SignalWatch,
) -> None:
    """Render a shot's passes into a folder, frame by frame; ``whole`` are the frames of the shot that these are a part of. Raises
    ``Interrupted``."""
    count = len(request.frames)
    try:
        shown = -1
        for done in render.measure():
            # while another Blender works, there is often nothing new
            if done != shown:
                out.show_progress("measuring", done, len(whole or request.frames))
            shown = done
            watch.check()
        if whole and not math.isfinite(render.near):
            # which frames are a part does not matter for this
            render.check_seen()
        sizes = [False]
        if needs_overview(msgspec.structs.replace(request, frames=whole) if whole else request):
            sizes.insert(0, True)
        manifest = passes_folder.name_part(request.frames) if whole else passes_folder.MANIFEST
        writer = PassesWriter(folder, request, render, manifest)
        for overview in sizes:
            one = render.make_overview(*compute_overview_size(request.width, request.height)) if overview else render
            try:
                for written, _ in enumerate(_save_all(one, render, writer, folder, count, overview, watch), 1):
                    out.show_progress("rendering overview" if overview else "rendering passes", written, count)
                    watch.check()
            finally:
                if overview:
                    one.close()
        if not whole:
            render.check_seen()
    finally:
        render.close()


def _save_all(
    one: PassRender | PooledPassRender | PooledOverview,
    render: PassRender | PooledPassRender,
    writer: PassesWriter,
    folder: Path,
    count: int,
    overview: bool,
    watch: SignalWatch,
) -> Iterator[int]:
    """Write all frames of one size, in their order; yields each one's index."""
    indices = deque(range(count))
    if isinstance(one, PassRender):
        for frame in one.render_slice(partial(pop_first, indices)):
            writer.add(frame, overview=overview)
            yield frame.index
        return
    written = 0
    while written < count:
        watch.check()
        for index, entry in one.save_slice(partial(pop_first, indices), folder):
            if not overview:
                writer.describe(index, entry)
            written += 1
            yield index
        if written < count and isinstance(render, PooledPassRender):
            render.wait(WAIT_SECONDS)


def add_command(add_parser: Callable[..., CommandParser]) -> None:
    """Register it."""
    passes = add_parser(
        "passes",
        help="render and store the passes only, for the backend's generate and for other programs",
        examples=(
            (f"{PROGRAM} passes --frames 1-24 --size 512x512 --out saved_passes", "passes as OpenEXR"),
            (f"{PROGRAM} passes --frames 9-16 --part-of 1-24 --out saved_passes", "a part of a shot, on one of several machines"),
            (f"{PROGRAM} passes --processes auto --out saved_passes", "by several Blenders at once"),
            (f"{PROGRAM} passes --motion --shadow --subjects scene --out saved_passes", "all that there are, of the whole scene"),
        ),
    )
    add_scene_arguments(passes, f"the scene's aspect within {PASSES_SIDE}x{PASSES_SIDE}")
    passes.add_argument("--out", type=read_path, required=True, metavar="FOLDER", help="folder for the passes")
    passes.add_argument("--motion", action="store_true", help="also motion vectors and world positions")
    passes.add_argument("--shadow", action="store_true", help="also the characters' shadows")
    passes.add_argument(
        "--plain-shadow",
        action="store_true",
        help="the characters' shadows as the extension's own shots have them: on a plane under the feet, where the scene has a "
        "lamp and nothing around the characters is shown",
    )
    passes.add_argument(
        "--part-of",
        metavar="FRAMES",
        help="all frames of the shot that these are a part of: depths are relative to all of them, and parts that are rendered "
        "into one folder, on any machines, are the shot's passes together",
    )
    add_processes_argument(passes)
    console.add_json_argument(passes)
    passes.set_defaults(run=run_passes)
