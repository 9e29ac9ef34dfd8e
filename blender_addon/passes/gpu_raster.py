"""Passes rasterised by Blender's ``gpu`` module: the quick way to a single frame, where the graphics driver is exact enough.

Values are exact at pixel centres, like those of Cycles. What it cannot draw (hair and cut-outs) is left to Cycles.
"""

from __future__ import annotations

from functools import cache

import bpy
import gpu
import numpy as np
from gpu_extras.batch import batch_for_shader

from ...shared.vectors import normalise
from .camera import View
from .geometry import FrameGeometry, Key, Surface, transform
from .reading import BACKGROUND

#: the error that a driver may make on a triangle whose values are known, and the side of the picture that tests it
TOLERANCE, PROBE = 1e-3, 64


@cache
def _make_shader() -> gpu.types.GPUShader:
    interface = gpu.types.GPUStageInterfaceInfo("latentman_pass")
    interface.smooth("VEC4", "interpolated")
    info = gpu.types.GPUShaderCreateInfo()
    info.vertex_in(0, "VEC4", "clip")
    info.vertex_in(1, "VEC4", "value")
    info.vertex_out(interface)
    info.fragment_out(0, "VEC4", "colour")
    info.vertex_source("void main() { interpolated = value; gl_Position = clip; }")
    info.fragment_source("void main() { colour = interpolated; }")
    return gpu.shader.create_from_info(info)


def _draw(clip: np.ndarray, values: list[np.ndarray], width: int, height: int) -> list[np.ndarray]:
    """Rasterise triangles whose corners (N, 4) are in clip space: for each of ``values`` (N, 4) a picture (H, W, 4) float32, row 0
    at the top, 0 where there is nothing."""
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
                    batch_for_shader(_make_shader(), "TRIS", {"clip": clip, "value": value}).draw(_make_shader())
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
def is_trusted() -> bool:
    """Whether there is a graphics context that draws a triangle in perspective correctly."""
    try:
        if bpy.app.background:
            gpu.init()
        corners = np.array([[-1.2, -0.9, -2.0], [1.5, -0.4, -4.0], [0.1, 1.3, -3.0]])
        clip = np.concatenate([corners[:, :2] * 1.5, -corners[:, 2:] - 1.0, -corners[:, 2:]], 1)
        (picture,) = _draw(
            clip.astype(np.float32), [np.concatenate([corners, np.ones((3, 1))], 1).astype(np.float32)], PROBE, PROBE
        )
    except ERRORS:
        return False
    rows, cols = np.mgrid[0:PROBE, 0:PROBE]
    x, y = (2 * (cols + 0.5) / PROBE - 1) / 1.5, (1 - 2 * (rows + 0.5) / PROBE) / 1.5
    # where the ray through a pixel's centre meets the triangle's plane, and on which side of its edges
    normal = np.cross(corners[1] - corners[0], corners[2] - corners[0])
    depth = (normal @ corners[0]) / (normal[0] * x + normal[1] * y - normal[2])
    hits = np.stack([x * depth, y * depth, -depth], -1)
    sides = [np.cross(corners[(n + 1) % 3] - corners[n], hits - corners[n]) @ normal for n in range(3)]
    inside = np.min(sides, 0) > 0
    drawn = picture[..., 3] > 0.5
    both = inside & drawn
    return bool(both.sum() > PROBE and (inside ^ drawn).sum() <= 2 and np.abs(picture[..., :3] - hits)[both].max() < TOLERANCE)


def can_draw(geometry: FrameGeometry) -> bool:
    """Whether a frame holds only whole meshes, without hair and cut-outs."""
    return not geometry.live and not geometry.hair and all(one.shape.cuts is None for one in geometry.surfaces)


def _zoom(clip: np.ndarray, box: tuple[int, int, int, int], view: View) -> np.ndarray:
    """Convert clip positions (N, 4) of the whole picture into those of a picture of the rectangle alone."""
    left, top, right, bottom = box
    low = np.array([2 * left / view.width - 1, 1 - 2 * bottom / view.height])
    high = np.array([2 * right / view.width - 1, 1 - 2 * top / view.height])
    out = clip.copy()
    out[:, :2] = (clip[:, :2] - clip[:, 3:] * (low + high) / 2) / ((high - low) / 2)
    return out


def draw(geometry: FrameGeometry, view: View, numbers: dict[Key, int], box: tuple[int, int, int, int]) -> dict[str, np.ndarray]:
    """Draw the passes of a frame within a rectangle (left, top, right, bottom) of pixels, as ``read_passes`` returns them;
    ``numbers`` are the surfaces' pass indices."""
    corners: dict[str, list[np.ndarray]] = {name: [] for name in ("clip", "first", "second", "third")}
    for one in geometry.surfaces:
        for name, values in _compute_corners(one, numbers[one.key], view, box).items():
            corners[name].append(values)
    joined = {name: np.concatenate(parts).astype(np.float32) for name, parts in corners.items()}
    left, top, right, bottom = box
    first, second, third = _draw(joined["clip"], [joined[n] for n in ("first", "second", "third")], right - left, bottom - top)
    index = np.round(third[..., 3]).astype(np.int32)
    seen = index > 0
    return {
        "depth": np.where(seen, first[..., 2], BACKGROUND),
        "index": index,
        "part": np.where(seen, np.maximum(np.round(second[..., 3]), 1), 0).astype(np.uint8),
        "uv": first[..., :2].copy(),
        "rest_position": second[..., :3].copy(),
        "normal": normalise(third[..., :3]).astype(np.float16),
    }


def _compute_corners(surface: Surface, number: int, view: View, box: tuple[int, int, int, int]) -> dict[str, np.ndarray]:
    """The values (N, 4) at the corners of a surface's triangles: ``clip`` position; ``first`` UV, depth and 1; ``second`` rest
    position and part; ``third`` normal and number."""
    shape = surface.shape
    assert shape.triangles is not None
    loops, faces = shape.triangles[0].ravel(), shape.triangles[1]
    vertices, column = shape.corners[loops], np.ones((len(loops), 1))
    uv = shape.uvs.get("", np.zeros((len(shape.corners), 2), np.float32))
    rest = shape.points if shape.rest is None else shape.rest
    parts = np.ones(len(shape.starts)) if shape.parts is None else shape.parts
    world = transform(surface.matrix, shape.points.astype(np.float64))
    clip = np.concatenate([world, np.ones((len(world), 1))], 1) @ (view.projection @ view.world_to_camera).T
    normals = normalise(shape.normals @ np.linalg.inv(surface.matrix[:3, :3]))
    return {
        "clip": _zoom(clip, box, view)[vertices],
        "first": np.concatenate([uv[loops], view.compute_depth(world)[vertices, None], column], 1),
        "second": np.concatenate([rest[vertices], np.repeat(parts[faces], 3)[:, None]], 1),
        "third": np.concatenate([normals[loops], number * column], 1),
    }
