"""``python -m tools.bench_preview``, in Blender 5 or later: compares passes drawn by the graphics driver with those of Cycles.

The preview uses the driver; without a window only Blender 5 and later can draw at all. Prints JSON.
"""

from __future__ import annotations

import json
import time

import bpy
import numpy as np

from latentman.blender_addon import properties
from latentman.blender_addon.camera_framing import frame_character
from latentman.blender_addon.character.body_model import MANNEQUIN, load
from latentman.blender_addon.motion.readers import BUNDLED, read
from latentman.blender_addon.passes import gpu_raster
from latentman.blender_addon.passes.render import PassRender
from latentman.blender_addon.passes.render_set import get_bodies
from latentman.blender_addon.rigging.characters import add_character
from latentman.blender_addon.rigging.keyframes import apply_motion
from latentman.blender_addon.typed_access import get_scene

SIZE, FRAMES, ROUNDS = 512, tuple(range(1, 13)), 3


def measure_preview() -> dict[str, float]:
    """``ms_per_frame_gpu_512`` and ``ms_per_frame_cycles_512``, medians, and the largest difference between them."""
    if not gpu_raster.is_trusted():
        return {}
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = get_scene(bpy.context)
    scene.render.fps, scene.frame_end = 20, len(FRAMES)
    armature = add_character(bpy.context, load(MANNEQUIN), "Mannequin")
    apply_motion(armature, read(BUNDLED).get_motion(0), 1, 20.0)
    frame_character(bpy.context, scene, get_bodies(armature))
    took: dict[bool, list[float]] = {False: [], True: []}
    results = {}
    for _ in range(ROUNDS):
        for quick in took:
            job = PassRender(bpy.context, armature, FRAMES, SIZE, SIZE, keep_scenes=True, quick=quick)
            started = time.perf_counter()
            list(job.render_all())
            results[quick] = job.result()
            took[quick].append((time.perf_counter() - started) / len(FRAMES) * 1000)
    gpu, cycles = results[True], results[False]
    both = (gpu.mask > 0) & (cycles.mask > 0)
    return {
        "ms_per_frame_gpu_512": float(np.median(took[True])),
        "ms_per_frame_cycles_512": float(np.median(took[False])),
        "gpu_mask_disagreement": float((gpu.mask != cycles.mask).mean()),
        "gpu_rest_error_p99_m": float(np.percentile(np.abs(gpu.rest_position - cycles.rest_position)[both], 99)),
    }


if __name__ == "__main__":
    properties.register()
    try:
        print("\n" + json.dumps(measure_preview()))
    finally:
        properties.unregister()
