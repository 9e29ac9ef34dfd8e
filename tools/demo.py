"""``python -m tools.demo``: the whole workflow in one go, in real Blender, with a real backend process.

Text -> motion -> character -> passes -> frames -> sequencer; all of its files go to ``build/demo``.
"""

from __future__ import annotations

import argparse
import html
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

import bpy
import msgspec
import numpy as np
from PIL import Image, ImageDraw

from latentman.backend.pictures import read_png, write_png
from latentman.blender_addon import command_line, properties
from latentman.blender_addon.camera_framing import frame_character
from latentman.blender_addon.character.body_model import MANNEQUIN, load
from latentman.blender_addon.compat import set_video_format
from latentman.blender_addon.connection import Connection
from latentman.blender_addon.motion.key_options import KeyOptions
from latentman.blender_addon.motion.readers import BUNDLED, read
from latentman.blender_addon.passes.quiet import silence_stdout
from latentman.blender_addon.passes.render_set import get_bodies
from latentman.blender_addon.rigging.characters import add_character
from latentman.blender_addon.rigging.keyframes import apply_motion
from latentman.blender_addon.sequencer import add_image_strip
from latentman.blender_addon.tasks.motion import MotionTask
from latentman.blender_addon.tasks.shot import ShotTask
from latentman.blender_addon.typed_access import get_scene
from latentman.shared import passes_folder
from latentman.shared.console import Console
from latentman.shared.endpoint import DEFAULT_HOST, free_port
from latentman.shared.motion_request import MotionRequest
from latentman.shared.passes import FramePasses
from latentman.shared.shot import make_request

ROOT = Path(__file__).resolve().parents[1]


def build_scene(clip: int | None, frames: int, fps: int) -> bpy.types.Object:
    """Make an empty file with the mannequin, in a bundled clip if one is given, a light and a camera; returns the armature."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    context, scene = bpy.context, get_scene(bpy.context)
    scene.render.fps, scene.frame_start, scene.frame_end = fps, 1, frames
    armature = add_character(context, load(MANNEQUIN), "Mannequin")
    if clip is not None:
        apply_motion(armature, read(BUNDLED).get_motion(clip), 1, fps)
    light = bpy.data.lights.new("Sun", "SUN")
    assert isinstance(light, bpy.types.SunLight)
    lamp = bpy.data.objects.new("Sun", light)
    lamp.rotation_euler, light.energy = (0.7, 0.2, 0.4), 3.0
    scene.collection.objects.link(lamp)
    scene.render.resolution_x = scene.render.resolution_y = 256
    frame_character(context, scene, get_bodies(armature))
    properties.get_settings(context).character = armature
    return armature


def make_motion(connection: Connection, armature: bpy.types.Object, text: str, frames: int, fps: int, seed: int) -> str:
    """Generate a motion from text, key it on the armature and frame it; returns an error's sentence, empty if all went well."""
    assert connection.client is not None, "the backend is connected"
    # a model shows what was asked for over a few seconds; the shot shows the first of them
    request = MotionRequest(text, max(frames / fps, 3.0), seed)
    making = connection.add(MotionTask(armature, request, connection.client, 1, fps, KeyOptions(foot_lock="soft")))
    command_line.wait_until(connection, lambda: making.done, 300)
    if making.succeeded:
        frame_character(bpy.context, get_scene(bpy.context), get_bodies(armature))
    return making.error if making.done else "The motion did not come in time."


def _double(image: np.ndarray) -> np.ndarray:
    """An image (H, W, 3) with every pixel twice as large."""
    return image.repeat(2, 0).repeat(2, 1)


def wait_for(connection: Connection, task: ShotTask) -> None:
    """Wait until a task is done."""
    command_line.wait_until(connection, lambda: task.done)


def write_side_by_side(passes: FramePasses, frames: list[Path], folder: Path) -> list[Path]:
    """Write pictures of depth, UV and result side by side, twice as large; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    out = []
    for n, path in enumerate(frames):
        depth = np.repeat((passes.depth[n] * 255).astype(np.uint8)[..., None], 3, 2)
        uv = np.zeros_like(depth)
        uv[..., :2] = passes.uv[n] * 255
        uv[..., 2] = (passes.mask[n] > 0) * 90
        out.append(folder / path.name)
        write_png(out[-1], _double(np.concatenate([depth, uv, read_png(path)], 1)))
    return out


def write_preset_comparison(made: dict[str, ShotTask], folder: Path) -> list[Path]:
    """Write the same frames of several presets side by side, under their names; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    out = []
    for n in sorted(next(iter(made.values())).frames):
        tiles = []
        for preset, generation in made.items():
            frame = _double(read_png(generation.frames[n]))
            label = Image.new("RGB", (frame.shape[1], 32), "white")
            ImageDraw.Draw(label).text((8, 4), preset, fill="black", font_size=20)
            tiles.append(np.concatenate([np.asarray(label), frame]))
        out.append(folder / generation.frames[n].name)
        write_png(out[-1], np.concatenate(tiles, 1))
    return out


def write_overview(frames: list[Path], path: Path, columns: int = 6) -> None:
    """Write a few frames as one picture, depth above UV above result."""
    chosen = [frames[round(n)] for n in np.linspace(0, len(frames) - 1, min(columns, len(frames)))]
    tiles = [np.concatenate(np.split(read_png(frame), 3, axis=1)) for frame in chosen]
    write_png(path, np.asarray(Image.fromarray(np.concatenate(tiles, 1)).reduce(3)))


def write_video(frames: list[Path], fps: int, path: Path) -> None:
    """Encode pictures as H.264 in MP4 with Blender's own sequencer."""
    scene = bpy.data.scenes.new("Video")
    try:
        with Image.open(frames[0]) as first:
            scene.render.resolution_x, scene.render.resolution_y = first.size
        scene.render.resolution_percentage = 100
        scene.render.fps, scene.frame_start, scene.frame_end = fps, 1, len(frames)
        view, video = scene.view_settings, scene.render.ffmpeg
        assert view is not None and video is not None
        view.view_transform = "Standard"  # type: ignore[assignment]  # it depends on the colour configuration
        add_image_strip(scene, frames, 1, "video")
        set_video_format(scene.render.image_settings)
        video.format, video.codec, video.constant_rate_factor = "MPEG4", "H264", "HIGH"
        scene.render.filepath = str(path)
        with silence_stdout():
            bpy.ops.render.render(animation=True, scene=scene.name)
    finally:
        bpy.data.scenes.remove(scene)


def write_report(folder: Path, report: dict[str, Any]) -> None:
    """Write ``report.json`` and a page that shows it with the pictures."""
    (folder / "report.json").write_text(json.dumps(report, indent=1))

    def table(values: dict[str, Any]) -> str:
        return (
            "<table>"
            + "".join(f"<tr><td>{html.escape(str(k))}</td><td>{html.escape(json.dumps(v))}</td></tr>" for k, v in values.items())
            + "</table>"
        )

    pictures = "".join(f'<img src="side_by_side/{n:04d}.png" alt="frame {n}">' for n in report["settings"]["frames"][::4])
    sections = "".join(
        f"<h2>{name}</h2>{table(report[name])}" for name in ("presets", "consistency", "seconds", "settings", "method", "versions")
    )
    several = len(report["presets"]) > 1
    beside = "<h2>Presets beside each other</h2><video src=beside.mp4 controls loop></video>" if several else ""
    (folder / "report.html").write_text(
        "<!doctype html><meta charset=utf-8><title>LatentMan demo</title><style>body{font:15px sans-serif;max-width:1100px;"
        "margin:2em auto}td{padding:2px 12px;border-bottom:1px solid #ddd}img,video{width:100%;max-width:768px;"
        "display:block;margin:6px 0}</style>"
        "<h1>LatentMan demo</h1><p>Depth, UV and result of the same frames; consistency figures are on "
        f"the 0..255 scale, squared, lower is steadier.</p><video src=demo.mp4 controls loop></video>{pictures}{beside}{sections}"
    )


def main() -> int:
    """Run the command line; returns 0 when every frame was made."""
    properties.register()
    try:
        return _run(_arguments())
    finally:
        # Blender must not meet our classes when it frees its memory at exit
        properties.unregister()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "demo")
    parser.add_argument("--prompt", default="a man in a red shirt and blue jeans, on a beach")
    parser.add_argument("--motion", default="a person walks forward", help="what the character does")
    parser.add_argument("--motion-seed", type=int, default=1)
    parser.add_argument("--clip", type=int, help="number of a bundled clip instead of a motion from words")
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--fps", type=int, default=20)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--preset", default="surface")
    parser.add_argument("--beside", default="cross_frame,latentman", help="presets to show the same shot with; '' for none")
    parser.add_argument("--seed", type=int, default=3)
    return parser.parse_args()


def _run(args: argparse.Namespace) -> int:
    started = time.perf_counter()
    seconds: dict[str, float] = {}
    args.out.mkdir(parents=True, exist_ok=True)
    console, connection = Console(False), Connection()
    armature = build_scene(args.clip, args.frames, args.fps)
    scene = get_scene(bpy.context)
    # its properties are declared from the settings of a shot
    panel: Any = properties.get_settings(bpy.context)
    panel.prompt = args.prompt
    seconds["scene"] = time.perf_counter() - started
    mark = time.perf_counter()
    os.environ.setdefault("LATENTMAN_DATA", str(args.out / "jobs"))
    connection.start(sys.executable, f"{DEFAULT_HOST}:{free_port()}")
    command_line.wait_until(connection, lambda: connection.connected or bool(connection.error), 180)
    if connection.client is None or not connection.connected:
        print(connection.error or "The backend did not answer in time.")
        return 1
    seconds["backend start"] = time.perf_counter() - mark
    mark = time.perf_counter()
    try:
        if args.clip is None:
            error = make_motion(connection, armature, args.motion, args.frames, args.fps, args.motion_seed)
            if error:
                print(error)
                return 1
            seconds["motion"] = time.perf_counter() - mark
        request = make_request(
            args.prompt,
            width=256,
            height=256,
            frames=tuple(range(1, args.frames + 1)),
            fps=float(args.fps),
            seed=args.seed,
            preset=args.preset,
            steps=args.steps,
        )
        made: dict[str, ShotTask] = {}
        for preset in (args.preset, *(name for name in args.beside.split(",") if name)):
            own = preset == args.preset
            console.emit("preset", message=f"{preset}:")
            generation = ShotTask(
                bpy.context,
                armature,
                msgspec.structs.replace(request, preset=preset),
                connection.client,
                args.out / ("frames" if own else f"frames_{preset}"),
                folder_per_job=False,
                keep_passes=args.out / "passes" if own else None,
                on_message=console.show,
            )
            connection.add(generation)
            wait_for(connection, generation)
            if not generation.succeeded:
                print(generation.error or "The generation did not finish.")
                return 1
            made[preset] = generation
    finally:
        connection.stop()
    generation = made[args.preset]
    mark = time.perf_counter()
    frames = [generation.frames[n] for n in sorted(generation.frames)]
    passes, _ = passes_folder.load(args.out / "passes")
    together = write_side_by_side(passes, frames, args.out / "side_by_side")
    write_overview(together, args.out / "overview.png")
    write_video(together, args.fps, args.out / "demo.mp4")
    if len(made) > 1:
        write_video(write_preset_comparison(made, args.out / "beside"), args.fps, args.out / "beside.mp4")
    seconds["video"] = time.perf_counter() - mark
    add_image_strip(scene, frames, scene.frame_start, args.prompt)
    scene.frame_set(1)
    bpy.ops.wm.save_as_mainfile(filepath=str(args.out / "demo.blend"), relative_remap=True)
    report = dict(generation.report or {})
    report["seconds"] = {
        **{k: round(v, 3) for k, v in (seconds | generation.seconds).items()},
        **{f"backend: {k}": v for k, v in report["seconds"].items()},
        "total": round(time.perf_counter() - started, 3),
    }
    report["versions"] = report["versions"] | {"blender": bpy.app.version_string, "system": platform.platform()}
    report["presets"] = {
        name: {
            "hmse": one.report["consistency"]["hmse"],
            "background_mse": one.report["consistency"]["background_mse"],
            "seconds": round(one.seconds["backend"], 1),
        }
        for name, one in made.items()
        if one.report
    }
    write_report(args.out, report)
    console.emit(
        "done",
        message=f"{args.out}: demo.blend, demo.mp4, frames/, report.html; "
        f"hmse {report['consistency']['hmse']}, {report['seconds']['total']:.0f} s in all",
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
