"""Run by a second Blender: writes the file of the asset library, with the mannequin and the bundled clips."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import bpy

from ...shared.motion import Motion
from ..character.body_model import MANNEQUIN, load
from ..compat import find_object_slot
from ..motion.readers import BUNDLED, read
from ..rigging.characters import add_character, find_character_meshes
from ..rigging.keyframes import apply_motion
from ..typed_access import get_pose, get_scene
from . import catalogs
from .arrivals import BODY, FILE
from .marking import AssetWords, mark_asset
from .previews import draw_action, set_preview

#: beside the library's file: which version of the extension has made it
STAMP = "latentman.json"
#: what the file says of who made it
AUTHOR, LICENCE = "LatentMan", "CC0-1.0"
#: custom property of an Action in the library: which bundled clip it is
CLIP = "latentman_clip"
#: frames a second at which clips are keyed: what a new file of Blender's has
FPS = 24


def run(folder: Path) -> None:
    """Write the library's file into a folder, and at last a stamp with the version that the folder's request names."""
    version = json.loads((folder / "assets.json").read_text(encoding="utf-8"))["version"]
    scene = get_scene(bpy.context)
    scene.render.fps = FPS
    armature = add_character(bpy.context, load(MANNEQUIN), "Mannequin")
    file = read(BUNDLED)
    for number in range(len(file.clips)):
        add_clip(armature, file.get_motion(number), number)
    rest_and_mark(armature)
    bpy.ops.wm.save_as_mainfile(filepath=str(folder / FILE), compress=True, check_existing=False)
    (folder / STAMP).write_text(json.dumps({"version": version}), encoding="utf-8")


def add_clip(armature: bpy.types.Object, motion: Motion, number: int) -> bpy.types.Action:
    """An Action of a bundled clip, as an asset."""
    action = apply_motion(armature, motion, 1, float(FPS))
    action[CLIP] = number
    words = f"{motion.text or motion.source}: {motion.seconds:.1f} seconds, keyed for the mannequin at {FPS} frames a second"
    mark_asset(action, AssetWords(words, catalogs.CLIPS, ("motion", "clip"), AUTHOR, LICENCE))
    span: Any = action.frame_range
    set_preview(action, draw_action(armature, action, find_object_slot(action), sum(span) // 2))
    return action


def rest_and_mark(armature: bpy.types.Object) -> None:
    """Make the mannequin an asset: without a motion, in its rest pose, on an empty that has armature and body in tow.

    Blender turns what is dropped as the ground lies below it; an armature with Y up would lie on its back then.
    """
    armature.animation_data_clear()
    for bone in get_pose(armature).bones:
        bone.matrix_basis.identity()
    body: Any = find_character_meshes(armature)[0]
    armature.name = "Mannequin Rig"
    root = bpy.data.objects.new("Mannequin", None)
    get_scene(bpy.context).collection.objects.link(root)
    armature.parent = root
    root.empty_display_size = 0.3
    marked: Any = root
    armature[BODY], marked[BODY] = body, armature
    words = "The built-in body: an armature and a skinned mesh with texture coordinates and sliders for its shape"
    mark_asset(root, AssetWords(words, catalogs.MANNEQUIN, ("character", "mannequin", "body"), AUTHOR, LICENCE))
    set_preview(root, draw_action(armature, None, None, 1))
