"""Passes drawn by Blender's ``gpu`` module: the quick way to a single frame, where the graphics driver can be trusted.

Values are exact at pixel centres, as Cycles gives them; what it cannot show (instances, hair, cut-outs, modifiers that differ
in the render) is left to Cycles.
"""

from __future__ import annotations

from functools import cache

import bpy
import gpu
import numpy as np
from gpu_extras.batch import batch_for_shader

from ...shared.vectors import normalise
from .camera import View
from .cutouts import cut_outs_of
from .reading import BACKGROUND
from .subjects import Cast
from .surfaces import PART_ATTRIBUTE, REST_ATTRIBUTE, triangle_corners

#: what a driver may be wrong by on a triangle whose values are known
TOLERANCE, PROBE = 1e-3, 64


@cache
def _shader() -> gpu.types.GPUShader:
    between = gpu.types.GPUStageInterfaceInfo("latentman_pass")
    between.smooth("VEC4", "carried")
    info = gpu.types.GPUShaderCreateInfo()
    info.vertex_in(0, "VEC4", "clip")
    info.vertex_in(1, "VEC4", "value")
    info.vertex_out(between)
    info.fragment_out(0, "VEC4", "seen")
    info.vertex_source("void main() { carried = value; gl_Position = clip; }")
    info.fragment_source("void main() { seen = carried; }")
    return gpu.shader.create_from_info(info)


def _draw(clip: np.ndarray, values: list[np.ndarray], width: int, height: int) -> list[np.ndarray]:
    """Corners (N, 4) of triangles in clip space -> a picture (H, W, 4) float32, row 0 at the top, for each of their ``values``
    (N, 4); 0 where there is nothing."""
    target = gpu.types.GPUOffScreen(width, height, format="RGBA32F")
    found = []
    try:
        with target.bind():
            state = gpu.state.depth_test_get(), gpu.state.blend_get(), gpu.state.depth_mask_get()
            buffer = gpu.state.active_framebuffer_get()
            try:
                for value in values:
                    gpu.state.depth_test_set("LESS")
                    gpu.state.depth_mask_set(True)
                    gpu.state.blend_set("NONE")
                    gpu.state.face_culling_set("NONE")
                    buffer.clear(color=(0.0, 0.0, 0.0, 0.0), depth=1.0)
                    batch_for_shader(_shader(), "TRIS", {"clip": clip, "value": value}).draw(_shader())
                    pixels = gpu.types.Buffer("FLOAT", (height, width, 4), np.zeros((height, width, 4), np.float32))
                    buffer.read_color(0, 0, width, height, 4, 0, "FLOAT", data=pixels)
                    found.append(np.array(pixels, np.float32).reshape(height, width, 4)[::-1])
            finally:
                gpu.state.depth_test_set(state[0])
                gpu.state.blend_set(state[1])
                gpu.state.depth_mask_set(state[2])
    finally:
        target.free()
    return found


#: what Blender raises where there is no graphics context, or a driver refuses
ERRORS = (SystemError, RuntimeError, AttributeError, ValueError, TypeError)


@cache
def trusted() -> bool:
    """Whether there is a graphics context, and a triangle seen in perspective comes out as it must."""
    try:
        if bpy.app.background:
            gpu.init()
        place = np.array([[-1.2, -0.9, -2.0], [1.5, -0.4, -4.0], [0.1, 1.3, -3.0]])
        clip = np.concatenate([place[:, :2] * 1.5, -place[:, 2:] - 1.0, -place[:, 2:]], 1)
        (seen,) = _draw(clip.astype(np.float32), [np.concatenate([place, np.ones((3, 1))], 1).astype(np.float32)], PROBE, PROBE)
    except ERRORS:
        return False
    rows, cols = np.mgrid[0:PROBE, 0:PROBE]
    x, y = (2 * (cols + 0.5) / PROBE - 1) / 1.5, (1 - 2 * (rows + 0.5) / PROBE) / 1.5
    # where the ray through a pixel's centre meets the triangle's plane, and on which side of its edges
    normal = np.cross(place[1] - place[0], place[2] - place[0])
    depth = (normal @ place[0]) / (normal[0] * x + normal[1] * y - normal[2])
    meets = np.stack([x * depth, y * depth, -depth], -1)
    sides = [np.cross(place[(n + 1) % 3] - place[n], meets - place[n]) @ normal for n in range(3)]
    inside = np.min(sides, 0) > 0
    drawn = seen[..., 3] > 0.5
    both = inside & drawn
    return bool(both.sum() > PROBE and (inside ^ drawn).sum() <= 2 and np.abs(seen[..., :3] - meets)[both].max() < TOLERANCE)


def can_show(cast: Cast) -> bool:
    """Whether the cast is nothing but meshes of their own, without holes."""
    if cast.whole_scene or cut_outs_of(s.object for s in cast.subjects)[0]:
        return False
    return all(
        s.object.type == "MESH" and not len(s.object.particle_systems) and s.object.instance_type == "NONE" for s in cast.subjects
    )


def _zoomed(clip: np.ndarray, box: tuple[int, int, int, int], view: View) -> np.ndarray:
    """Clip positions (N, 4) of the whole picture as they are in a picture of the rectangle alone."""
    left, top, right, bottom = box
    low = np.array([2 * left / view.width - 1, 1 - 2 * bottom / view.height])
    high = np.array([2 * right / view.width - 1, 1 - 2 * top / view.height])
    out = clip.copy()
    out[:, :2] = (clip[:, :2] - clip[:, 3:] * (low + high) / 2) / ((high - low) / 2)
    return out


def draw(graph: bpy.types.Depsgraph, cast: Cast, view: View, box: tuple[int, int, int, int]) -> dict[str, np.ndarray]:
    """The passes of the current frame within a rectangle (left, top, right, bottom) of pixels, as ``reading.read`` gives them,
    without instances; the cast's meshes carry the lent attributes."""
    corners: dict[str, list[np.ndarray]] = {name: [] for name in ("clip", "first", "second", "third")}
    for subject in cast.subjects:
        for name, values in _corners(subject.object.evaluated_get(graph), subject.index, view, box).items():
            corners[name].append(values)
    whole = {name: np.concatenate(parts).astype(np.float32) for name, parts in corners.items()}
    left, top, right, bottom = box
    first, second, third = _draw(whole["clip"], [whole[n] for n in ("first", "second", "third")], right - left, bottom - top)
    index = np.round(third[..., 3]).astype(np.int32)
    seen = index > 0
    return {
        "depth": np.where(seen, first[..., 2], BACKGROUND),
        "index": index,
        "instance": np.zeros(index.shape, np.float32),
        "part": np.where(seen, np.maximum(np.round(second[..., 3]), 1), 0).astype(np.uint8),
        "uv": first[..., :2].copy(),
        "rest_position": second[..., :3].copy(),
        "normal": normalise(third[..., :3]).astype(np.float16),
    }


def _corners(
    body: bpy.types.Object,
    index: int,
    view: View,
    box: tuple[int, int, int, int],
) -> dict[str, np.ndarray]:
    """What the corners of a mesh's triangles carry: ``clip`` positions; UV and depth; rest and part; normal and index."""
    mesh = body.data
    vertices, loops = triangle_corners(mesh)
    count = len(mesh.loop_triangles)
    points, rest = np.empty((len(mesh.vertices), 3), np.float32), np.zeros((len(mesh.vertices), 3), np.float32)
    mesh.vertices.foreach_get("co", points.ravel())
    if REST_ATTRIBUTE in mesh.attributes:
        mesh.attributes[REST_ATTRIBUTE].data.foreach_get("vector", rest.ravel())
    uv, normals = np.zeros((len(mesh.loops), 2), np.float32), np.empty((len(mesh.loops), 3), np.float32)
    layer = next((layer for layer in mesh.uv_layers if layer.active_render), None)
    if layer:
        layer.data.foreach_get("uv", uv.ravel())
    mesh.corner_normals.foreach_get("vector", normals.ravel())
    part = np.ones(len(mesh.polygons), np.float32)
    if PART_ATTRIBUTE in mesh.attributes:
        mesh.attributes[PART_ATTRIBUTE].data.foreach_get("value", part)
    faces = np.empty(count, np.int32)
    mesh.loop_triangles.foreach_get("polygon_index", faces)
    to_world = np.array(body.matrix_world)
    world = points.astype(np.float64) @ to_world[:3, :3].T + to_world[:3, 3]
    clip = np.concatenate([world, np.ones((len(world), 1))], 1) @ (view.projection @ view.world_to_camera).T
    turned = normalise(normals @ np.linalg.inv(to_world[:3, :3]))
    column = np.ones((count * 3, 1))
    return {
        "clip": _zoomed(clip, box, view)[vertices],
        "first": np.concatenate([uv[loops], view.depth(world)[vertices, None], column], 1),
        "second": np.concatenate([rest[vertices], np.repeat(part[faces], 3)[:, None]], 1),
        "third": np.concatenate([turned[loops], index * column], 1),
    }
