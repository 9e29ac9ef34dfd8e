"""The small pictures of assets, drawn from what an Action makes of a character; neither scene nor pose of the user's change."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import bpy
import numpy as np

from ..compat import get_slot_fcurves
from ..rigging.characters import find_character_meshes
from ..rigging.rotation_modes import match_rotation_modes
from ..rigging.stand_in import StandIn
from ..typed_access import get_pose
from .figure_drawing import draw_figure, make_bone_triangles


def draw_action(armature: bpy.types.Object, action: bpy.types.Action | None, slot: Any, frame: float) -> np.ndarray:
    """(SIDE, SIDE, 4) RGBA of an armature's meshes, or of its bones where it has none, as an Action poses them at a frame; with
    None for the Action, as they are posed now."""
    with StandIn(armature) as stand, ExitStack() as stack:
        if action is not None:
            match_rotation_modes(stand.armature, get_slot_fcurves(action, slot))
        stand.use(action, slot)
        copies = []
        for mesh in find_character_meshes(armature):
            if mesh == stand.armature or mesh.hide_render:
                continue
            copy = mesh.copy()
            stack.callback(bpy.data.objects.remove, copy)
            stand.dress(copy)
            copies.append(copy)
        posed = stand.evaluate(frame)
        parts = [_read_triangles(posed_mesh) for posed_mesh in stand.find_evaluated(copies)]
        parts = [part for part in parts if len(part[1])] or [_read_bones(posed)]
    offsets = np.cumsum([0, *(len(points) for points, _ in parts[:-1])])
    triangles = [part + offset for (_, part), offset in zip(parts, offsets, strict=True)]
    return draw_figure(np.concatenate([points for points, _ in parts]), np.concatenate(triangles))


def _read_triangles(found: bpy.types.Object) -> tuple[np.ndarray, np.ndarray]:
    """(points (V, 3) in the world, triangles (T, 3)) of an evaluated mesh object."""
    mesh = found.to_mesh()
    try:
        points = np.empty((len(mesh.vertices), 3), np.float32)
        mesh.vertices.foreach_get("co", points.ravel())
        mesh.calc_loop_triangles()
        triangles = np.empty((len(mesh.loop_triangles), 3), np.int32)
        mesh.loop_triangles.foreach_get("vertices", triangles.ravel())
    finally:
        found.to_mesh_clear()
    matrix = np.array(found.matrix_world)
    return points @ matrix[:3, :3].T + matrix[:3, 3], triangles


def _read_bones(posed: bpy.types.Object) -> tuple[np.ndarray, np.ndarray]:
    bones: Any = get_pose(posed).bones
    matrix = np.array(posed.matrix_world)
    ends = [np.array([bone.head for bone in bones]), np.array([bone.tail for bone in bones])]
    heads, tails = (end.reshape(-1, 3) @ matrix[:3, :3].T + matrix[:3, 3] for end in ends)
    return make_bone_triangles(heads, tails)


def set_preview(block: bpy.types.ID, pixels: np.ndarray) -> None:
    """Make pixels (H, W, 4) a data-block's preview, in place of the one that it has."""
    preview: Any = block.preview_ensure()
    preview.image_size = (pixels.shape[1], pixels.shape[0])
    preview.image_pixels_float.foreach_set(np.ascontiguousarray(pixels, np.float32).ravel())
