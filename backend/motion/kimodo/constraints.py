"""What is kept of a motion, as Kimodo's constraints; and its answer brought back to where the motion was.

Kimodo begins at no particular place, but facing +Z, on a body of its own size. Constraints are moved there, and motions back.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter1d

from ....shared.cycles import rotate_about_vertical, turn_quaternions
from ....shared.motion import MotionError, slerp
from ....shared.motion_request import LOWER, ROOT, UPPER, Kept
from ....shared.skeleton import HUMANML_FPS, JOINT_INDEX, REST_PELVIS_HEIGHT
from .skeleton import Build, from_body

#: frames a second of all its models
FPS = 30.0
#: its models take fewer than 20 frames of whole poses, or of a hand or a foot; of a path they take every frame
MOST_FRAMES = 19
#: seconds over which a path is smoothed: its models have the path of the body, not the sway of the hips
SMOOTHING = 0.25


@dataclass(frozen=True)
class Placement:
    """How a motion is moved to where Kimodo begins: turned by ``-angle`` radians about the vertical through ``origin`` (3,), which
    comes to x = z = 0, ``scale`` times as large, and ``lift`` metres up."""

    angle: float
    origin: np.ndarray
    scale: float
    lift: float

    def go(self, joints: np.ndarray) -> np.ndarray:
        """Joints (..., 3) there."""
        moved = rotate_about_vertical((joints - self.origin)[..., None, :], np.full(joints.shape[:-1], -self.angle))[..., 0, :]
        return np.asarray(moved * self.scale + [0.0, self.lift, 0.0])

    def come_back(self, joints: np.ndarray) -> np.ndarray:
        """Joints (..., 3) from there."""
        moved = (joints - [0.0, self.lift, 0.0]) / self.scale
        return rotate_about_vertical(moved[..., None, :], np.full(joints.shape[:-1], self.angle))[..., 0, :] + self.origin


def compute_heading(joints: np.ndarray) -> np.ndarray:
    """(F,) angle about the vertical that the hips of joints (F, J, 3) face, 0 along +Z, as Kimodo has it."""
    across = joints[:, JOINT_INDEX["right_hip"]] - joints[:, JOINT_INDEX["left_hip"]]
    return np.arctan2(across[:, 2], -across[:, 0])


def place(kept: Kept, build: Build) -> Placement:
    """Where a motion has to go so that its first frame is where Kimodo begins."""
    joints = np.asarray(kept.joints, np.float64)
    legs = [(f"{side}_{a}", f"{side}_{b}") for side in ("left", "right") for a, b in pairwise(("hip", "knee", "ankle"))]
    length = sum(np.linalg.norm(joints[0, JOINT_INDEX[b]] - joints[0, JOINT_INDEX[a]]) for a, b in legs) / 2
    scale = build.leg / max(float(length), 1e-6)
    return Placement(
        float(compute_heading(joints[:1])[0]),
        joints[0, 0] * [1.0, 0.0, 1.0],
        scale,
        build.hips - REST_PELVIS_HEIGHT * scale,
    )


def make_constraints(kept: Kept, frames: int, build: Build, placement: Placement) -> list[dict[str, Any]]:
    """Kimodo's list of constraints for a motion of ``frames``: whole poses as ``fullbody``, legs as both feet and a path, a path as
    ``root2d`` with headings. Raises ``MotionError`` for poses without rotations."""
    at = np.minimum(np.arange(frames) * (HUMANML_FPS / FPS), len(kept.joints) - 1)
    low = np.minimum(at.astype(int), len(kept.joints) - 2)
    t = at - low
    given = np.asarray(kept.joints, np.float64)
    joints = placement.go(given[low] * (1 - t)[:, None, None] + given[low + 1] * t[:, None, None])
    parts = kept.parts[np.round(at).astype(int)]
    found: list[dict[str, Any]] = []
    dense = np.flatnonzero(parts[:, ROOT])
    if len(dense) and not parts[:, UPPER].any():
        path = smooth_path(joints[:, 0, [0, 2]])
        heading = compute_heading(joints)
        found.append(
            {
                "type": "root2d",
                "frame_indices": dense.tolist(),
                "smooth_root_2d": path[dense].tolist(),
                "global_root_heading": np.stack([np.cos(heading), np.sin(heading)], -1)[dense].tolist(),
            }
        )
    wanted = UPPER if parts[:, UPPER].any() else LOWER
    few = choose_frames(parts[:, wanted])
    if not len(few):
        return found
    if kept.rotations is None:
        raise MotionError("Kimodo keeps poses by their rotations, which this motion has not been sent with; keep the path alone.")
    local = np.asarray(kept.rotations, np.float64)
    rotations = slerp(local[low[few]], local[low[few] + 1], t[few][:, None, None])
    rotations[:, 0] = turn_quaternions(rotations[:, 0], np.full(len(few), -placement.angle))
    pose = {
        "frame_indices": few.tolist(),
        "local_joints_rot": from_body(joints[few], rotations, build).tolist(),
        "root_positions": joints[few, 0].tolist(),
    }
    kinds = ("fullbody",) if wanted == UPPER else ("left-foot", "right-foot")
    return [*found, *({"type": kind} | pose for kind in kinds)]


def smooth_path(path: np.ndarray) -> np.ndarray:
    """A path (F, 2) without the sway of the hips; both ends stay where they are."""
    reach = min(round(4 * SMOOTHING * FPS), len(path) - 1)
    # mirrored through the end points, so that it goes on there as it went
    longer = np.pad(path, ((reach, reach), (0, 0)), mode="reflect", reflect_type="odd")
    smooth = gaussian_filter1d(longer, SMOOTHING * FPS, axis=0, mode="nearest")
    return np.asarray(smooth[reach : reach + len(path)])


def choose_frames(kept: np.ndarray) -> np.ndarray:
    """At most ``MOST_FRAMES`` of the frames (F,) that are kept: first and last ones of each stretch before those between."""
    frames = np.flatnonzero(kept)
    if len(frames) <= MOST_FRAMES:
        return frames
    steps = np.diff(frames) > 1
    ends = frames[np.r_[True, steps] | np.r_[steps, True]]
    if len(ends) < MOST_FRAMES:
        between = np.setdiff1d(frames, ends)
        spread = np.linspace(0, len(between) - 1, MOST_FRAMES - len(ends) + 2)[1:-1].round().astype(int)
        return np.union1d(ends, between[spread])
    return ends[np.unique(np.linspace(0, len(ends) - 1, MOST_FRAMES).round().astype(int))]
