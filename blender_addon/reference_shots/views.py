"""The posed mannequin in front of a camera, and its passes as the add-on would render them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from ...shared.depth import normalise_depth
from ...shared.manifest import CameraEntry
from ...shared.passes import FramePasses
from ...shared.vectors import normalise
from ..character.body_model import MANNEQUIN, BodyModel, load
from .rasteriser import Raster, rasterise

#: metres that a shadow reaches to each side of its body for each metre of its height, in the world: to the right and away
SHADOW_REACH = (0.9, 0.5)


@cache
def load_mannequin() -> BodyModel:
    """The bundled body, read once."""
    return load(MANNEQUIN)


@dataclass(frozen=True)
class View:
    """One frame of the mannequin: ``points`` (V, 3) are its vertices in metres in camera space, which looks along -Z, and
    ``focal`` is the focal length as a fraction of the picture's side. ``world_to_camera`` (4, 4) is the camera of a world in which
    the body stays where it is and Z is up."""

    points: np.ndarray
    focal: float
    world_to_camera: np.ndarray | None = None

    def rasterise(self, size: int) -> Raster:
        """Rasterise the view at (size, size) pixels."""
        return rasterise(self.points, load_mannequin().faces, self.focal * size, size, size)


@dataclass(frozen=True)
class ViewPasses:
    """The passes of some views, and the range of their depth in metres."""

    passes: FramePasses
    near: float
    far: float


def compute_vertex_normals(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """(V, 3) unit normals of vertices (V, 3): the mean of the triangles (T, 3) around them, weighted by area."""
    a, b, c = (points[triangles[:, n]] for n in range(3))
    faces, out = np.cross(b - a, c - a), np.zeros(points.shape)
    for n in range(3):
        for axis in range(3):
            out[:, axis] += np.bincount(triangles[:, n], faces[:, axis], len(points))
    return normalise(out)


def project(view: View, size: int) -> np.ndarray:
    """(V, 2) where a view's vertices are in a picture of (size, size) pixels: x to the right and y down, in pixels."""
    depth = np.maximum(-view.points[:, 2:], 1e-6)
    return view.points[:, :2] * [1, -1] / depth * (view.focal * size) + size / 2


def render_views(views: Sequence[View], size: int) -> ViewPasses:
    """Render views at (size, size) pixels: depth, mask, UV, rest position, body part, normal and motion vectors, with one depth
    range for all. Normals are in camera space, in which the camera stands still and the body moves; motion vectors lead to the view
    before, and are 0 in the first."""
    body = load_mannequin()
    assert body.uv is not None and body.uv_faces is not None, "the bundled body has texture coordinates"
    corners = np.concatenate([body.uv[body.uv_faces], body.v_template[body.faces]], 2)
    part_of_vertex = (body.weights.argmax(1) + 1).astype(np.uint8)
    layers: dict[str, list[np.ndarray]] = {
        name: [] for name in ("depth", "mask", "uv", "rest_position", "part", "normal", "motion_vectors")
    }
    before = views[0] if views else None
    for view in views:
        raster = view.rasterise(size)
        values = np.zeros((size, size, 5), np.float32)
        values[raster.mask] = raster.interpolate(corners)
        part = np.zeros((size, size), np.uint8)
        part[raster.mask] = part_of_vertex[body.faces[raster.triangle[raster.mask], 0]]
        shift = project(before or view, size) - project(view, size)
        moving = np.concatenate([compute_vertex_normals(view.points, body.faces), shift], 1)
        motion = np.zeros((size, size, 5), np.float32)
        motion[raster.mask] = raster.interpolate(moving[body.faces])
        before = view
        normal = normalise(motion[..., :3]).astype(np.float16)
        found: tuple[np.ndarray, ...] = (
            raster.depth,
            raster.mask.astype(np.uint8),
            values[..., :2],
            values[..., 2:],
            part,
            normal,
            motion[..., 3:],
        )
        for name, layer in zip(layers, found, strict=True):
            layers[name].append(layer)
    stacked = {name: np.stack(layer) for name, layer in layers.items()}
    seen = stacked["depth"][np.isfinite(stacked["depth"])]
    near, far = float(seen.min()), float(seen.max())
    stacked["depth"] = normalise_depth(stacked["depth"], near, far)
    return ViewPasses(FramePasses(**stacked), near, far)


def render_passes(views: Sequence[View], size: int) -> FramePasses:
    """``render_views`` for callers that do not need the depth in metres."""
    return render_views(views, size).passes


def list_cameras(views: Sequence[View]) -> tuple[CameraEntry, ...]:
    """The views' cameras; none where one is not known."""
    found = []
    for view in views:
        if view.world_to_camera is None:
            return ()
        # only the places in the picture count, so the range between the planes may be any
        projection = np.zeros((4, 4))
        projection[0, 0] = projection[1, 1] = 2 * view.focal
        projection[2, 2:], projection[3, 2] = (-1.0002, -0.20002), -1.0
        found.append(CameraEntry(tuple(map(float, view.world_to_camera.ravel())), tuple(map(float, projection.ravel()))))
    return tuple(found)


def _soften(dark: np.ndarray) -> np.ndarray:
    """(H, W) the mean of what is dark (H, W) over three pixels each way: light that comes from a disc, roughly."""
    padded = np.pad(dark.astype(np.float32), 1, "edge")
    height, width = dark.shape
    total = sum(padded[y : y + height, x : x + width] for y in range(3) for x in range(3))
    return np.asarray(total / 9)


def put_in_world(found: ViewPasses, views: Sequence[View], size: int) -> ViewPasses:
    """The views' passes with normals of the world, and with the shadows that a lamp far away throws on the ground below the lowest
    point of all frames. The views must have cameras."""
    turns = [view.world_to_camera[:3, :3] for view in views if view.world_to_camera is not None]
    moves = [view.world_to_camera[:3, 3] for view in views if view.world_to_camera is not None]
    worlds = [(view.points - move) @ turn for view, turn, move in zip(views, turns, moves, strict=True)]
    ground = min(float(points[:, 2].min()) for points in worlds)
    assert found.passes.normal is not None
    normals, shadows = [], []
    for n, (view, turn, move) in enumerate(zip(views, turns, moves, strict=True)):
        flat = worlds[n].copy()
        flat[:, :2] += (flat[:, 2:] - ground) * SHADOW_REACH
        flat[:, 2] = ground
        dark = View(flat @ turn.T + move, view.focal).rasterise(size).mask
        shadows.append(_soften(dark) * (found.passes.mask[n] == 0))
        normals.append(found.passes.normal[n].astype(np.float32) @ turn)
    passes = replace(found.passes, normal=np.stack(normals).astype(np.float16), shadow=np.stack(shadows).astype(np.float16))
    return replace(found, passes=passes)
