"""``python -m tools.cuda_check.rendering FOLDER``: renders the shot of the checks in Blender and packs it, for machines without."""

from __future__ import annotations

import sys
from pathlib import Path

import bpy

from latentman.backend.metrics.packed_shots import OWN_LICENCE, OWN_TERMS, NamedPasses, pack_shots
from latentman.blender_addon import properties
from latentman.blender_addon.passes.render import PassRender
from latentman.shared.files import write_atomically
from tools.demo import build_scene

from .scale import FULL
from .shots import FPS, PROMPT, SAVED, SHOT

#: the bundled clip that walks, and its pixels
CLIP, SIDE = 0, FULL.check_side


def render(folder: Path, frames: int = FULL.check_frames) -> Path:
    """Render and pack the shot; its file."""
    properties.register()
    try:
        armature = build_scene(CLIP, frames, int(FPS))
        job = PassRender(bpy.context, armature, tuple(range(1, frames + 1)), SIDE, SIDE)
        list(job.render_all())
        named = NamedPasses(SHOT, job.result(), job.manifest(FPS))
    finally:
        properties.unregister()
    data, _ = pack_shots([named], [PROMPT], [4], OWN_LICENCE, OWN_TERMS)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / SAVED, data)
    return folder / SAVED


if __name__ == "__main__":
    print(render(Path(sys.argv[1])))
