"""How far an evaluated pose is from what was wanted. No bpy."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from ...shared.skeleton import JOINT_INDEX
from ...shared.vectors import normalise
from ..character.rig import Rig
from .retarget import AIMS_AT

#: degrees of a limb's direction, degrees about the limb, and fractions of the leg's length that a pose may be off
LARGEST_ANGLE, LARGEST_TWIST, LARGEST_SHIFT = 1.0, 8.0, 0.01
#: what more iterations can make better: radians, and fractions of the leg's length
FINE_ANGLE, FINE_SHIFT = 1e-3, 2e-4


@dataclass(frozen=True)
class Target:
    """What the evaluated pose has to be in F frames, in the object's space at the reference frame (4, 4).

    ``rotations``: bone index -> (F, 3, 3); ``heads``: bone index -> (F, 3), for bones that must be in a place of their own.
    """

    frames: np.ndarray
    reference: np.ndarray
    rotations: dict[int, np.ndarray]
    heads: dict[int, np.ndarray]

    def select(self, rows: np.ndarray) -> Target:
        """The same for some of the frames."""
        return Target(
            self.frames[rows],
            self.reference,
            {bone: values[rows] for bone, values in self.rotations.items()},
            {bone: values[rows] for bone, values in self.heads.items()},
        )


@dataclass(frozen=True)
class PoseErrors:
    """How far an evaluated pose is off: ``angles`` bone index -> degrees of its direction, ``twists`` degrees altogether,
    ``shift`` in fractions of the leg's length; each the largest of all frames."""

    angles: dict[int, float]
    twists: dict[int, float]
    shift: float

    @property
    def wrong(self) -> dict[int, float]:
        """Bone index -> degrees, for those that are off by more than is allowed."""
        out = {bone: angle for bone, angle in self.angles.items() if angle > LARGEST_ANGLE}
        return out | {bone: angle for bone, angle in self.twists.items() if angle > LARGEST_TWIST and bone not in out}

    @property
    def fits(self) -> bool:
        """Whether the pose is as wanted."""
        return not self.wrong and self.shift <= LARGEST_SHIFT

    @property
    def coarse(self) -> bool:
        """Whether something that the closed form does not know turns or moves bones, if only a little."""
        return max(self.twists.values(), default=0.0) > np.degrees(5 * FINE_ANGLE) or self.shift > 5 * FINE_SHIFT

    @property
    def worst(self) -> float:
        """The largest error in degrees."""
        return max(self.wrong.values(), default=0.0)


def compare_poses(
    rig: Rig,
    rotations: np.ndarray,
    heads: np.ndarray,
    target: Target,
    free_twists: Collection[int],
    moved_children: dict[int, int],
) -> PoseErrors:
    """The errors of evaluated poses: rotations (F, B, 3, 3) and heads (F, B, 3) in the target's space.

    ``free_twists``: the bones whose rotation about themselves is left to a solver; ``moved_children``: bone -> the bone at the end
    of its limb, where constraints may move it.
    """
    directions, angles, twists = _get_directions(rig), {}, {}
    for bone, wanted in target.rotations.items():
        along = rig.rest[bone].T @ directions[bone]
        found, should = rotations[:, bone] @ along, wanted @ along
        angles[bone] = _measure_directions(found, should)
        # a limb on our own IK bends as its pole says, which leaves its twist to the solver
        twists[bone] = (
            0.0 if bone in free_twists else float(np.degrees(measure_angle(np.swapaxes(rotations[:, bone], -1, -2) @ wanted).max()))
        )
        child = moved_children.get(bone)
        if child is not None:
            # a constraint may move the next joint although it leaves the bones turned as they should be
            ahead = rig.rest[bone].T @ (rig.heads[child] - rig.heads[bone])
            found, should = heads[:, child] - heads[:, bone], wanted @ ahead
            angles[bone] = max(angles[bone], _measure_directions(found, should))
    apart = [np.linalg.norm(heads[:, bone] - wanted, axis=-1).max() for bone, wanted in target.heads.items()]
    return PoseErrors(angles, twists, float(max(apart, default=0.0)) / get_leg_length(rig))


def _measure_directions(found: np.ndarray, wanted: np.ndarray) -> float:
    """The largest angle between directions (F, 3) in degrees."""
    angles = np.arctan2(np.linalg.norm(np.cross(found, wanted), axis=-1), (found * wanted).sum(-1))
    return float(np.degrees(angles.max()))


def _get_directions(rig: Rig) -> dict[int, np.ndarray]:
    """Bone index -> (3,) where the limb of each bone that is keyed points in the rest pose, in armature space."""
    out = {}
    for bone, joint in (rig.followers | {bone: joint for joint, bone in rig.joint_bones.items()}).items():
        child = AIMS_AT.get(joint)
        along = rig.joints[JOINT_INDEX[child]] - rig.joints[JOINT_INDEX[joint]] if child else np.zeros(3)
        out[bone] = normalise(along @ rig.to_body) if np.linalg.norm(along) > 1e-6 else rig.rest[bone][:, 1]
    return out


def get_leg_length(rig: Rig) -> float:
    """Thigh and shin in armature units."""
    a, b, c = (rig.joints[JOINT_INDEX[f"left_{name}"]] for name in ("hip", "knee", "ankle"))
    return float(np.linalg.norm(a - b) + np.linalg.norm(b - c)) / rig.scale


def measure_angle(rotations: np.ndarray) -> np.ndarray:
    """(...) radians of rotations (..., 3, 3), exact for small ones."""
    skew = np.stack(
        [
            rotations[..., 2, 1] - rotations[..., 1, 2],
            rotations[..., 0, 2] - rotations[..., 2, 0],
            rotations[..., 1, 0] - rotations[..., 0, 1],
        ],
        -1,
    )
    return np.asarray(np.arctan2(np.linalg.norm(skew, axis=-1) / 2, (np.trace(rotations, axis1=-2, axis2=-1) - 1) / 2))
