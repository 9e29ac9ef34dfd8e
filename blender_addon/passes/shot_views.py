"""Frames of the scene's own shot beside the views of a pose: those that show the character as differently as possible, from where
the shot's camera is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import bpy
import numpy as np

from ...shared.shot import ShotError
from ..properties import get_frame_aspect
from ..typed_access import SceneContext, get_scene
from .camera import View, find_marker_camera, list_cameras
from .geometry import FrameGeometry, Key, Surface, place_triangles, place_vertices
from .render import PassRender
from .ring import MARGIN, Samples, Viewpoint, compute_footprints, draw_samples
from .staging import ShotFrame, Staging

#: frames that are looked at, spread evenly over the shot, and frames that are taken of them, at most
MOST_CANDIDATES, MOST_TAKEN = 24, 4
#: triangles in all of the frames that are looked at, so that the window does not wait for long, and as many frames at least
MOST_TRIANGLES, LEAST_CANDIDATES = 2_400_000, 8
#: a frame shows at least this fraction of the surface that those before it do not
LEAST_GAIN = 0.01
#: the shorter side of the camera's frame, in pixels in which the character is looked for
SIDE = 256
#: rest positions that differ by more than this fraction of a surface's extent are those of another mesh
SAME_PLACE = 1e-4
#: how far away an eye is put that sees as an orthographic camera does, in extents of what it sees, and the smallest tangent
FAR, LEAST_TANGENT = 50.0, 1e-4
#: the largest tangent, where the camera is in the midst of what it sees: what does not fit is not shown
MOST_TANGENT = 2.0


@dataclass(frozen=True, eq=False)
class ShotViews:
    """The frames that were taken, by the scene's frame numbers in ascending order, and the names of surfaces that are left out
    there: ``left_out`` because their mesh is another one than in the pose, ``absent`` because the pose does not show them."""

    frames: dict[int, ShotFrame]
    left_out: tuple[str, ...]
    absent: tuple[str, ...] = ()


def choose_shot_views(
    context: SceneContext,
    character: bpy.types.Object | None,
    frames: Sequence[int],
    pose: Sequence[Surface],
    coarsest: float,
    aspect: float,
) -> ShotViews:
    """Look at the shot of the scene's ``frames`` through its cameras, and take the frames that show most of the surfaces of a
    ``pose``, each what those before it do not. ``coarsest`` is the surface that a pixel sees at most where it is shown
    (``compute_coarsest``), ``aspect`` width over height of the pictures. The scene is as before afterwards.

    Raises ``ShotError`` where the shot has no camera, or does not show the character, and for what can only be played.
    """
    scene = get_scene(context)
    _check_shot(scene, frames)
    posed = _Posed.make(pose)
    wide = get_frame_aspect(scene)
    size = round(SIDE * max(wide, 1.0)), round(SIDE * max(1 / wide, 1.0))
    render = PassRender(context, character, (1,), *size, staging=Staging(frames[0], at_rest=False))
    spread = spread_candidates(len(frames), sum(map(len, posed.triangles)))
    viewpoints: dict[int, Viewpoint] = {}
    shown: dict[int, np.ndarray] = {}
    left_out: dict[str, None] = {}
    for frame, geometry in render.capture_frames(frames[n] for n in spread):
        changed = find_changed(pose, geometry)
        left_out.update(dict.fromkeys(changed.values()))
        found = _look_through(geometry.views[size], geometry, posed, changed, coarsest, aspect)
        if found is not None:
            viewpoints[frame], shown[frame] = found
    taken = choose_frames(shown)
    known = {one.name for one in pose}
    absent = tuple(name for name in left_out if name not in known)
    other = tuple(name for name in left_out if name in known)
    if not taken:
        if other:
            raise ShotError(
                "character",
                f"{_list_names(other)} is not the same mesh in the shot as in the pose, and the shot shows nothing else; dress "
                "without the shot.",
            )
        if viewpoints:
            raise ShotError(
                "camera",
                "The camera shows too little of the character in every frame of the shot; move it farther away, or dress without "
                "the shot.",
            )
        raise ShotError(
            "camera",
            "The camera does not see the character in any frame of the shot; point it at the character, or dress without the shot.",
        )
    chosen = {
        frame: ShotFrame(_leave_out(geometry, find_changed(pose, geometry)), viewpoints[frame])
        for frame, geometry in render.capture_frames(taken)
    }
    return ShotViews(chosen, other, absent)


def spread_candidates(frames: int, triangles: int) -> np.ndarray:
    """The places (N,) of the frames that are looked at, of so many ``frames`` of a character of so many ``triangles``."""
    most = min(max(MOST_TRIANGLES // max(triangles, 1), LEAST_CANDIDATES), MOST_CANDIDATES)
    return np.linspace(0, frames - 1, min(frames, most)).round().astype(int)


def _leave_out(geometry: FrameGeometry, changed: Mapping[Key, str]) -> FrameGeometry:
    """A frame without what the pose does not have: nothing is seen of it, nor behind it. Clouds of points go, too: those of the
    pose would be drawn."""
    surfaces = tuple(replace(one, is_hole=one.is_hole or one.key in changed, is_live=False) for one in geometry.surfaces)
    return replace(geometry, surfaces=surfaces, live=())


def _check_shot(scene: bpy.types.Scene, frames: Sequence[int]) -> None:
    if not frames:
        raise ShotError("frames", "The shot has no frames; set its range, or dress without the shot.")
    if find_marker_camera(scene, frames[0]) is None and scene.camera is None:
        raise ShotError("camera", "The shot has no camera; add one with Add > Camera, or dress without the shot.")
    list_cameras(scene, frames)


def _list_names(names: Sequence[str]) -> str:
    first, *others = names
    return f"{first} (and {len(others)} more)" if others else first


def list_numbers(frames: Sequence[int]) -> str:
    """``3``, ``3 and 14``, or ``3, 14 and 22``."""
    *first, last = map(str, frames)
    return f"{', '.join(first)} and {last}" if first else last


def explain_taken(frames: Sequence[int]) -> str:
    """The sentence about the frames (at least one) of the shot that were taken."""
    if len(frames) == 1:
        return f"Frame {frames[0]} of the shot decides with the views how the character looks."
    return f"Frames {', '.join(map(str, frames))} of the shot decide with the views how the character looks."


def explain_not_shown(names: Sequence[str]) -> str:
    """The sentence about surfaces that the shot's frames do not show; "" where there are none."""
    if not names:
        return ""
    return f"{_list_names(names)} is not the same mesh in the shot as in the pose, and its frames do not show it."


def explain_absent(names: Sequence[str]) -> str:
    """The sentence about surfaces that the shot shows and the pose does not; "" where there are none."""
    if not names:
        return ""
    return (
        f"{_list_names(names)} is in the shot, but not in the pose, and so not in the costume; go to a frame where it is shown and "
        "dress again."
    )


def find_changed(pose: Sequence[Surface], geometry: FrameGeometry) -> dict[Key, str]:
    """The names, by their keys, of a frame's surfaces whose points are not those of the ``pose``: another number of them or other
    rest positions, or not there at all. How they are joined to faces does not matter."""
    former = {one.key: one for one in pose}
    return {
        one.key: one.name
        for one in geometry.surfaces
        if not one.is_hole and (one.key not in former or not _is_same(former[one.key], one))
    }


def _is_same(one: Surface, other: Surface) -> bool:
    if one.shape.points.shape != other.shape.points.shape:
        return False
    if (one.shape.rest is None) != (other.shape.rest is None):
        return False
    rests = [(some.shape.points if some.shape.rest is None else some.shape.rest) * some.metres_per_unit for some in (one, other)]
    extent = float(np.ptp(rests[0], axis=0).max()) if len(rests[0]) else 0.0
    return bool(np.abs(rests[0] - rests[1]).max(initial=0.0) <= SAME_PLACE * extent)


@dataclass(frozen=True, eq=False)
class _Posed:
    """The surfaces of a pose, the vertices (T, 3) of each one's triangles, points that are spread over all of them, and the area of
    the triangle of each point."""

    surfaces: Sequence[Surface]
    triangles: Sequence[np.ndarray]
    samples: Samples
    areas: np.ndarray

    @classmethod
    def make(cls, pose: Sequence[Surface]) -> _Posed:
        """Of surfaces, at least one, that have triangles."""
        triangles = [one.shape.corners[one.shape.triangles[0]] for one in pose if one.shape.triangles is not None]
        places = np.concatenate([place_vertices(one, own) for one, own in zip(pose, triangles, strict=True)])
        samples = draw_samples(places)
        return cls(pose, triangles, samples, samples.measure(places))


def _look_through(
    view: View, geometry: FrameGeometry, posed: _Posed, changed: Mapping[Key, str], coarsest: float, aspect: float
) -> tuple[Viewpoint, np.ndarray] | None:
    """From where a frame's camera sees the pose's surfaces, and which of the samples (N,) bool it shows well; None where it sees
    nothing of them."""
    here = {one.key: one for one in geometry.surfaces if not one.is_hole and one.key not in changed}
    places = np.concatenate(
        [
            place_vertices(here[one.key], own) if one.key in here else np.full((len(own), 3, 3), np.nan)
            for one, own in zip(posed.surfaces, posed.triangles, strict=True)
        ]
    )
    points, normals = posed.samples.place(places)
    known = np.isfinite(points).all(1)
    points, normals = np.where(known[:, None], points, 0.0), np.where(known[:, None], normals, 0.0)
    pixels = view.project(points)
    depth, (near, far) = view.compute_depth(points), find_clip(view)
    inside = known & (depth > near) & (depth < far) & ((pixels >= 0) & (pixels <= [view.width, view.height])).all(1)
    if not inside.any():
        return None
    viewpoint = find_viewpoint(view, points[inside], aspect)
    hiding = [place_triangles(one, one.shape.triangles[0]) for one in geometry.surfaces if one.shape.triangles is not None]
    footprints = compute_footprints(viewpoint, np.concatenate(hiding), points, normals, aspect)
    # who has grown since the pose shows as much of their surface in a pixel
    grown = np.where(known, posed.samples.measure(places), 0.0) / posed.areas
    return viewpoint, inside & (footprints <= coarsest * grown)


def find_clip(view: View) -> tuple[float, float]:
    """The planar distances between which a camera sees, in Blender's units; inf where single precision knows no end."""
    p = view.projection
    if p[3, 2]:
        return float(p[2, 3] / (p[2, 2] - 1)), float(p[2, 3] / (p[2, 2] + 1)) if p[2, 2] + 1 else np.inf
    return float((p[2, 3] + 1) / p[2, 2]), float((p[2, 3] - 1) / p[2, 2])


def find_viewpoint(view: View, points: np.ndarray, aspect: float) -> Viewpoint:
    """The view from a camera's own place in which world points (N, 3), all of them seen by it, just fit, as far as a picture can
    hold them. The camera turns towards them and closes in: what hides what stays as it is, and what is too near for it is not seen
    here either. ``aspect`` is width over height of the picture."""
    matrix = view.world_to_camera
    local = points @ matrix[:3, :3].T + matrix[:3, 3]
    reach = np.array([max(aspect, 1.0), max(1 / aspect, 1.0)]) * (1 - 2 * MARGIN)
    moved = np.eye(4)
    if view.projection[3, 2]:
        for _ in range(8):  # the middle of a turned picture is another one
            middle = _find_middle(local @ moved[:3, :3].T)
            back = moved[:3, :3].T @ np.array([-middle[0], -middle[1], 1.0])
            back /= np.linalg.norm(back)
            right = np.cross([0.0, 1.0, 0.0], back)
            right /= np.linalg.norm(right)
            moved[:3, :3] = [right, np.cross(back, right), back]
    else:
        low, high = local.min(0), local.max(0)
        extent = max(float((high - low).max()), 1e-6)
        moved[:3, 3] = -np.array([*((low + high)[:2] / 2), high[2] + FAR * extent])
    seen = local @ moved[:3, :3].T + moved[:3, 3]
    away = np.maximum(-seen[:, 2:], 1e-9)
    tangent = float((np.abs(seen[:, :2] / away) / reach).max())
    # of what is nearer than the camera sees some is farther along the turned axis, but none of what it sees is lost
    near = min(find_clip(view)[0] - float(moved[2, 3]), float(away.min()))
    return Viewpoint("shot", moved @ matrix, min(max(tangent, LEAST_TANGENT), MOST_TANGENT), float(np.median(away)), max(near, 0.0))


def _find_middle(local: np.ndarray) -> np.ndarray:
    """(2,) the middle of what points (N, 3) cover in a picture, at the distance 1. It is that of their angles: through a wide lens
    the middle of their places is far from where both sides are equally far away, and turns beyond it."""
    angles = np.arctan2(local[:, :2], -local[:, 2:])
    return np.asarray(np.tan((angles.min(0) + angles.max(0)) / 2))


def choose_frames(shown: Mapping[int, np.ndarray]) -> list[int]:
    """Of frames by what each shows, (N,) bool, those that show most between them, in ascending order; none where no frame shows
    anything to speak of."""
    taken: list[int] = []
    covered: np.ndarray | None = None
    while len(taken) < min(MOST_TAKEN, len(shown)):
        gains = {frame: float(found.mean() if covered is None else (found & ~covered).mean()) for frame, found in shown.items()}
        best = max(gains, key=lambda frame: gains[frame])
        if gains[best] < LEAST_GAIN:
            break
        taken.append(best)
        covered = shown[best] if covered is None else covered | shown[best]
    return sorted(taken)
