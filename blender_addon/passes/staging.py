"""A pose of the character as a shot whose frames are views of it, and where its surfaces lie on their texture maps."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import bpy
import numpy as np

from ...shared.charts import Charts
from ...shared.shot import ShotError
from ..typed_access import SceneContext, get_scene
from .geometry import FrameGeometry, Key, transform
from .reading import BACKGROUND
from .ring import Ring, Viewpoint, plan_ring

#: joints whose surroundings may need a closer look, by what that is called
REGIONS = {
    "head": ("head",),
    "left hand": ("left_hand", "left_wrist"),
    "right hand": ("right_hand", "right_wrist"),
    "left foot": ("left_foot", "left_ankle"),
    "right foot": ("right_foot", "right_ankle"),
}


@dataclass(frozen=True, eq=False)
class Staging:
    """What a shot of one pose shows: the character at a ``frame`` of the scene, or in its rest pose, from a viewpoint for each
    frame number of the shot. ``geometry`` is the pose, where it has been evaluated already."""

    frame: int
    at_rest: bool
    viewpoints: dict[int, Viewpoint] = field(default_factory=dict)
    geometry: FrameGeometry | None = None


@dataclass(frozen=True, eq=False)
class StagedCharacter:
    """A character that has been looked at: its views, the fraction of its surface that they show, and its charts."""

    staging: Staging
    seen: float
    charts: Charts

    @property
    def frames(self) -> tuple[int, ...]:
        """The numbers of the shot's frames."""
        return tuple(self.staging.viewpoints)


def find_own_range(depth: np.ndarray, near: float, far: float) -> tuple[float, float]:
    """The depth range of what a picture (H, W) itself shows; ``near`` and ``far`` where it shows nothing."""
    seen = depth[depth < BACKGROUND / 2]
    return (float(seen.min()), float(seen.max())) if seen.size else (near, far)


def stage_character(
    context: SceneContext,
    character: bpy.types.Object | None,
    *,
    at_rest: bool = True,
    aspect: float = 1.0,
    atlas_size: int = 1024,
    plan: bool = True,
) -> StagedCharacter:
    """Look at a character in its rest pose, or as it is now, and plan views of all of it. ``aspect`` is width over height of the
    pictures, ``atlas_size`` the side in texels of its atlas. Without ``plan`` there are no views, only the charts. The scene
    is as before afterwards.

    Raises ``ShotError`` for what cannot be rendered.
    """
    from .render import PassRender  # which stages frames itself

    frame = get_scene(context).frame_current
    render = PassRender(context, character, (1,), 64, 64, staging=Staging(frame, at_rest))
    geometry = render.capture_pose()
    surfaces = [one for one in geometry.surfaces if not one.is_hole and one.shape.triangles is not None]
    if not surfaces:
        raise ShotError("character", "The character shows no surface that can be dressed; pick one with a mesh.")
    numbers = {one.key: render.get_number(one.key) for one in surfaces}
    charts = make_charts(geometry, numbers, atlas_size)
    if not plan:
        return StagedCharacter(Staging(frame, at_rest, {}, geometry), 0.0, charts)
    triangles, parts = [], []
    for one in surfaces:
        assert one.shape.triangles is not None
        corners, faces = one.shape.triangles
        world = transform(one.matrix, one.shape.points.astype(np.float64))
        triangles.append(world[one.shape.corners[corners]])
        parts.append(one.shape.parts[faces] if one.shape.parts is not None else np.zeros(len(faces), np.float32))
    world_triangles, part = np.concatenate(triangles), np.concatenate(parts)
    # what an armature turns, parts look at in the space of the body's own rest pose
    body = next((one.matrix for one in surfaces if one.character), np.eye(4))
    fronts = [entry.front for entry in render.parts if any(entry.front)]
    front = body[:3, :3] @ np.array(fronts[0]) if fronts else np.array([0.0, -1.0, 0.0])
    front[2] = 0.0
    if np.linalg.norm(front) < 1e-6:
        front = np.array([0.0, -1.0, 0.0])
    regions = {}
    for name, joints in REGIONS.items():
        own = [entry.index for entry in render.parts if entry.joint in joints]
        regions[name] = world_triangles[np.isin(part, own)].reshape(-1, 3)
    if not any(len(some) for some in regions.values()):
        corners = world_triangles.reshape(-1, 3)
        middle = (corners[:, 2].min() + corners[:, 2].max()) / 2
        regions = {"upper half": corners[corners[:, 2] >= middle], "lower half": corners[corners[:, 2] <= middle]}
    ring: Ring = plan_ring(world_triangles, front, regions, aspect)
    viewpoints = dict(enumerate(ring.viewpoints, 1))
    staging = Staging(frame, at_rest, viewpoints, geometry)
    return StagedCharacter(staging, ring.seen, replace(charts, keyframes=ring.keyframes))


def make_charts(geometry: FrameGeometry, numbers: dict[Key, int], size: int) -> Charts:
    """The charts of a pose's surfaces, by their ``numbers``."""
    uvs, rests, owners, names = [], [], [], {}
    for one in geometry.surfaces:
        if one.key not in numbers or one.shape.triangles is None:
            continue
        shape, corners = one.shape, one.shape.triangles[0]
        uv = shape.uvs.get("")
        rest = (shape.points if shape.rest is None else shape.rest) * np.float32(one.metres_per_unit)
        uvs.append(np.zeros((len(corners), 3, 2), np.float32) if uv is None else uv[corners].astype(np.float32))
        rests.append(rest[shape.corners[corners]].astype(np.float32))
        owners.append(np.full(len(corners), numbers[one.key], np.uint16))
        names[numbers[one.key]] = one.name
    return Charts(np.concatenate(uvs), np.concatenate(rests), np.concatenate(owners), names, size)
