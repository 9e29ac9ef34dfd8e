"""A character that is looked at from all sides: views of all of it, and where its surfaces lie on their texture maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import bpy
import numpy as np

from ...shared.charts import MAX_TRIANGLES, Charts
from ...shared.dress_options import number_shot_frame
from ...shared.manifest import PartEntry
from ...shared.shot import ShotError
from ..typed_access import SceneContext, get_scene
from .geometry import FrameGeometry, Key, Surface, place_triangles
from .render import PassRender
from .ring import compute_coarsest, plan_ring
from .shot_views import ShotViews, choose_shot_views
from .staging import Staging

#: joints whose surroundings may need a closer look, by what that is called
REGIONS = {
    "head": ("head",),
    "left hand": ("left_hand", "left_wrist"),
    "right hand": ("right_hand", "right_wrist"),
    "left foot": ("left_foot", "left_ankle"),
    "right foot": ("right_foot", "right_ankle"),
}
#: surfaces that a costume can tell apart, each with an image of its own
MOST_SURFACES = 500


@dataclass(frozen=True, eq=False)
class StagedCharacter:
    """A character that has been looked at: its views, the fraction of its surface that they show, and its charts. ``shot_frames``
    are the scene's frames that are shown behind the views, ``left_out`` the names of surfaces that these do not show, and
    ``absent`` of those that the shot has and the pose has not."""

    staging: Staging
    seen: float
    charts: Charts
    shot_frames: tuple[int, ...] = ()
    left_out: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()

    @property
    def frames(self) -> tuple[int, ...]:
        """The numbers of the shot's frames."""
        return self.staging.frames


def stage_character(
    context: SceneContext,
    character: bpy.types.Object | None,
    *,
    at_rest: bool = True,
    aspect: float = 1.0,
    atlas_size: int = 1024,
    plan: bool = True,
    shot: Sequence[int] = (),
    with_shot: bool = False,
) -> StagedCharacter:
    """Look at a character in its rest pose, or as it is now, and plan views of all of it. ``aspect`` is width over height of the
    pictures, ``atlas_size`` the side in texels of its atlas. Without ``plan`` there are no views, only the charts. ``with_shot``
    adds frames of the scene's ``shot``, of which these are the numbers. The scene is as before afterwards.

    Raises ``ShotError`` for what cannot be rendered, and for a shot that does not show the character.
    """
    frame = get_scene(context).frame_current
    render = PassRender(context, character, (1,), 64, 64, staging=Staging(frame, at_rest))
    geometry = render.capture_pose()
    surfaces = [one for one in geometry.surfaces if not one.is_hole and one.shape.triangles is not None]
    if not surfaces:
        raise ShotError(
            "character",
            f"The character shows no surface at frame {frame} that can be dressed; go to a frame where it is shown, or pick one "
            "with a mesh.",
        )
    if len(surfaces) > MOST_SURFACES:
        raise ShotError(
            "character",
            f"The character shows {len(surfaces)} separate surfaces, and at most {MOST_SURFACES} can be dressed; join them "
            "(Ctrl+J, or Realize Instances in geometry nodes), or hide some from the render.",
        )
    count = sum(len(one.shape.triangles[0]) for one in surfaces if one.shape.triangles is not None)
    if count > MAX_TRIANGLES:
        raise ShotError(
            "character",
            f"The character has {count} triangles, and at most {MAX_TRIANGLES} can be dressed; lower the levels of its subdivision "
            "for the render, or simplify the scene.",
        )
    triangles, part = _list_triangles(surfaces)
    if not float(np.ptp(triangles.reshape(-1, 3), axis=0).max()) > 0:
        raise ShotError(
            "character", f"The character has no size at frame {frame}; go to a frame where it is as large as it should be."
        )
    numbers = {one.key: render.get_number(one.key) for one in surfaces}
    charts = make_charts(geometry, numbers, atlas_size)
    if not plan:
        return StagedCharacter(Staging(frame, at_rest, {}, geometry), 0.0, charts)
    ring = plan_ring(triangles, _find_front(surfaces, render.parts), _find_regions(triangles, part, render.parts), aspect)
    viewpoints = dict(enumerate(ring.viewpoints, 1))
    added = ShotViews({}, ())
    if with_shot:
        added = choose_shot_views(context, character, shot, surfaces, compute_coarsest(ring.viewpoints[0]), aspect)
    numbered = {number_shot_frame(number): one for number, one in added.frames.items()}
    count = len(viewpoints)
    # the views go first: what is behind the character is that of the first one
    charts = replace(charts, keyframes=(*ring.keyframes, *range(count, count + len(numbered))))
    staging = Staging(frame, at_rest, viewpoints, geometry, numbered)
    return StagedCharacter(staging, ring.seen, charts, tuple(added.frames), added.left_out, added.absent)


def _list_triangles(surfaces: Sequence[Surface]) -> tuple[np.ndarray, np.ndarray]:
    """World triangles (T, 3, 3), and the body part of each (T,), 0 where it has none."""
    triangles, parts = [], []
    for one in surfaces:
        assert one.shape.triangles is not None
        corners, faces = one.shape.triangles
        triangles.append(place_triangles(one, corners))
        parts.append(one.shape.parts[faces] if one.shape.parts is not None else np.zeros(len(faces), np.float32))
    return np.concatenate(triangles), np.concatenate(parts)


def _find_front(surfaces: Sequence[Surface], parts: Sequence[PartEntry]) -> np.ndarray:
    """(3,) the horizontal direction that the character looks in; -Y where nothing tells."""
    # what an armature turns, parts look at in the space of the body's own rest pose
    body = next((one.matrix for one in surfaces if one.character), np.eye(4))
    own = next((entry.front for entry in parts if any(entry.front)), None)
    front = body[:3, :3] @ np.array(own) if own is not None else np.array([0.0, -1.0, 0.0])
    front[2] = 0.0
    return front if np.linalg.norm(front) >= 1e-6 else np.array([0.0, -1.0, 0.0])


def _find_regions(triangles: np.ndarray, part: np.ndarray, parts: Sequence[PartEntry]) -> dict[str, np.ndarray]:
    """Points (N, 3) of what may need a closer look, by what it is called: ``REGIONS``, or halves where no part is known."""
    regions = {}
    for name, joints in REGIONS.items():
        own = [entry.index for entry in parts if entry.joint in joints]
        regions[name] = triangles[np.isin(part, own)].reshape(-1, 3)
    if any(len(some) for some in regions.values()):
        return regions
    corners = triangles.reshape(-1, 3)
    middle = (corners[:, 2].min() + corners[:, 2].max()) / 2
    return {"upper half": corners[corners[:, 2] >= middle], "lower half": corners[corners[:, 2] <= middle]}


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
