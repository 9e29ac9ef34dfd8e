"""How exact the passes are against the reference rasteriser, and what a frame costs."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections import deque
from functools import partial
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from latentman.blender_addon import properties
from latentman.blender_addon.passes import pass_engine
from latentman.blender_addon.passes.capture import run_render
from latentman.blender_addon.passes.render import PassRender
from latentman.blender_addon.reference_shots.rasteriser import rasterise
from latentman.blender_addon.rigging.characters import find_character_meshes
from latentman.blender_addon.typed_access import get_camera, get_mesh, get_scene
from latentman.shared import exr
from latentman.shared.depth import compute_metric_depth

from .demo import build_scene

ROOT = Path(__file__).resolve().parents[1]
BLENDER5 = ROOT / "build" / "venv-blender52" / "bin" / "python"
SIZE = 512
FRAMES = tuple(range(1, 25))
#: how often both ways of reading a frame are tried in turns
ROUNDS = 5
#: the frames that are compared with the other rasteriser
COMPARED = (1, 9, 17, 24)


def _get_camera_mesh(armature: bpy.types.Object, frame: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Camera-space points (V, 3), triangles (T, 3), corner values (T, 3, 5) of UV and rest position, focal length in pixels."""
    scene = get_scene(bpy.context)
    scene.frame_set(frame)
    (body,) = find_character_meshes(armature)
    seen = body.evaluated_get(bpy.context.evaluated_depsgraph_get())
    mesh = get_mesh(seen)
    mesh.calc_loop_triangles()
    points, rest = (np.empty((len(mesh.vertices), 3), np.float32) for _ in range(2))
    triangles, loops = (np.empty((len(mesh.loop_triangles), 3), np.int32) for _ in range(2))
    uv = np.empty((len(mesh.loops), 2), np.float32)
    mesh.vertices.foreach_get("co", points.ravel())
    shape_keys = get_mesh(body).shape_keys
    assert shape_keys is not None, "the mannequin's rest pose is its first shape key"
    shape_keys.key_blocks[0].data.foreach_get("co", rest.ravel())
    mesh.loop_triangles.foreach_get("vertices", triangles.ravel())
    mesh.loop_triangles.foreach_get("loops", loops.ravel())
    mesh.uv_layers[0].data.foreach_get("uv", uv.ravel())
    assert scene.camera is not None, "the demo's scene has a camera"
    to_camera = np.array(scene.camera.matrix_world.inverted() @ seen.matrix_world)
    points = points.astype(np.float64) @ to_camera[:3, :3].T + to_camera[:3, 3]
    camera = get_camera(scene.camera)
    return points, triangles, np.concatenate([uv[loops], rest[triangles]], -1), camera.lens / camera.sensor_width * SIZE


def _measure_preview() -> dict[str, float]:
    """Compare the graphics driver with Cycles, if there is an environment with Blender 5."""
    if not BLENDER5.exists():
        return {}
    done = subprocess.run([BLENDER5, "-m", "tools.bench_preview"], cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def _render_through_a_file(stage: bpy.types.Scene, scene: bpy.types.Scene, frame: int) -> dict[str, np.ndarray]:
    """What ``pass_engine.render`` returns, by way of a multilayer OpenEXR file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pass.exr"
        render: Any = scene.render
        if render.engine != "CYCLES":
            render.engine = "CYCLES"
            settings: Any = render.image_settings
            if hasattr(settings, "media_type"):
                settings.media_type = "MULTI_LAYER_IMAGE"
            settings.file_format, settings.color_depth, settings.exr_codec = "OPEN_EXR_MULTILAYER", "32", "NONE"
        scene.render.filepath = str(path)
        run_render(stage, scene, frame, write_still=True)
        return exr.read_channels(path)


def _pop(indices: deque[int]) -> int | None:
    return indices.popleft() if indices else None


def _measure_file_round_trip(armature: bpy.types.Object) -> dict[str, float]:
    """Milliseconds that rendering a frame takes with and without a file between Cycles and the passes, in turns, and their ratio;
    the passes are the same, bit by bit."""
    ways = {"direct": pass_engine.render, "through_a_file": _render_through_a_file}
    took: dict[str, list[float]] = {name: [] for name in ways}
    found: dict[str, dict[str, np.ndarray]] = {}
    try:
        for _ in range(ROUNDS):
            for name, render in ways.items():
                pass_engine.render = render
                job = PassRender(bpy.context, armature, FRAMES, SIZE, SIZE, keep_scenes=True)
                list(job.measure())
                indices = deque(range(len(FRAMES)))
                started = time.perf_counter()
                for frame in job.render_slice(partial(_pop, indices)):
                    found.setdefault(name, {}).update(frame.passes.arrays())
                took[name].append((time.perf_counter() - started) / len(FRAMES) * 1000)
                job.close()
    finally:
        pass_engine.render = ways["direct"]
    direct, filed = (float(np.median(values)) for values in took.values())
    differing = sum(int((one != found["through_a_file"][name]).sum()) for name, one in found["direct"].items())
    return {
        "ms_per_frame_direct_512": direct,
        "ms_per_frame_through_a_file_512": filed,
        "direct_to_file_ratio": direct / filed,
        "values_that_differ_from_the_file": differing,
    }


def measure_passes() -> dict[str, float]:
    """Measure ``mask_disagreement`` as a fraction of all pixels, ``uv_error_p99``, ``rest_error_p99_m``, ``depth_error_p99_m``,
    and milliseconds per frame, the median."""
    properties.register()
    try:
        armature = build_scene(0, len(FRAMES), 20)
        # Cycles loads on first use
        list(PassRender(bpy.context, armature, FRAMES[:2], SIZE, SIZE, keep_scenes=True).render_all())
        took: dict[str, list[float]] = {}
        for name, keep_scenes in (("ms_per_frame_512", True), ("ms_per_frame_in_window_512", False)):
            for _ in range(3):
                job = PassRender(bpy.context, armature, FRAMES, SIZE, SIZE, keep_scenes=keep_scenes)
                started = time.perf_counter()
                list(job.render_all())
                passes = job.result()
                took.setdefault(name, []).append((time.perf_counter() - started) / len(FRAMES) * 1000)
        round_trip = _measure_file_round_trip(armature)
        mask = 0
        uv, rest, depth = (list[np.ndarray]() for _ in range(3))
        for frame in COMPARED:
            n = FRAMES.index(frame)
            points, triangles, corners, focal = _get_camera_mesh(armature, frame)
            started = time.perf_counter()
            raster = rasterise(points, triangles, focal, SIZE, SIZE)
            values = np.zeros((SIZE, SIZE, 5), np.float32)
            values[raster.mask] = raster.interpolate(corners)
            took.setdefault("ms_per_frame_rasterizer_512", []).append((time.perf_counter() - started) * 1000)
            seen = passes.mask[n] > 0
            mask += int((raster.mask != seen).sum())
            both = raster.mask & seen
            uv.append(np.abs(values[..., :2] - passes.uv[n])[both])
            rest.append(np.abs(values[..., 2:] - passes.rest_position[n])[both])
            depth.append(np.abs(compute_metric_depth(passes.depth[n], job.near, job.far) - raster.depth)[both])
        figures = {"mask_disagreement": mask / (len(COMPARED) * SIZE * SIZE)}
        figures |= {
            f"{name}_p99{unit}": float(np.percentile(np.concatenate(found).ravel(), 99))
            for name, unit, found in (("uv_error", "", uv), ("rest_error", "_m", rest), ("depth_error", "_m", depth))
        }
        return figures | {name: float(np.median(values)) for name, values in took.items()} | round_trip | _measure_preview()
    finally:
        properties.unregister()
