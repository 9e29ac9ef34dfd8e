"""The line of the trunk, where a spine is divided otherwise than the motion's. No bpy.

It ends at the base of the neck. It begins at the pelvis on SMPL's own skeleton, and on others in the middle of the hips: their bone
of the pelvis may lie anywhere.

Parts of a spine that point as the motion's do end elsewhere where they have other lengths, or where there are fewer of them. They
are turned until the neck lies in the wanted direction from the hips: each in proportion to its length, which is the least that they
turn altogether (in the sense of least squares), so that a short chest keeps its orientation. All other joints keep theirs; only
where bending such a spine hardly moves the neck the pelvis turns with it.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from ...shared.skeleton import JOINT_INDEX, SMPL_JOINTS, SMPL_PARENTS
from ...shared.vectors import normalise
from ..character.joints import SPINE_JOINTS
from .rotations import rotation_about_axis, rotation_between

_PELVIS, _NECK = JOINT_INDEX["pelvis"], JOINT_INDEX["neck"]
_HIPS = [JOINT_INDEX["left_hip"], JOINT_INDEX["right_hip"]]
#: metres below which a line has no direction
SHORT = 1e-4
#: the search for how far the spine is bent: radians of a step and their number, halvings of a step, and steps of Newton's method
STEP, STEPS, HALVINGS, REFINEMENTS = 0.1, 24, 12, 4
#: radians that the neck goes round the hips for each by which the spine is bent, below which the pelvis turns in its place
LEAST_GAIN = 0.25


def find_trunk(joints: np.ndarray, *, from_pelvis: bool) -> np.ndarray:
    """(F, 3) to the base of the neck of joints (F, J, 3), from the pelvis or from the middle of the hips."""
    return np.asarray(joints[:, _NECK] - _find_start(joints, from_pelvis))


def _find_start(joints: np.ndarray, from_pelvis: bool) -> np.ndarray:
    return np.asarray(joints[:, _PELVIS] if from_pelvis else joints[:, _HIPS].mean(1))


def point_trunk(
    rotations: np.ndarray,
    rest_joints: np.ndarray,
    wanted: np.ndarray,
    spine: Collection[str] = SPINE_JOINTS,
    tolerance: float = 0.0,
    turn_pelvis: bool = True,
    *,
    from_pelvis: bool,
) -> None:
    """Turn the spine of global rotations (F, 24, 3, 3), in place, until the trunk of rest joints (24, 3) points as ``wanted``
    (F, 3) does.

    ``spine``: the joints of the spine that the skeleton has bones for; the others turn with the one below. A trunk that is nowhere
    off by more than ``tolerance`` in radians stays as it is. ``turn_pelvis`` says whether the pelvis may turn, about the middle of
    the hips, where bending the spine is not enough. ``from_pelvis`` is as for ``find_trunk``.
    """
    parts = _join_parts(rotations, rest_joints, spine)
    vectors = [rest_joints[upper] - rest_joints[part[0]] for part, upper in _pair_with_ends(parts)]
    sizes = np.array([np.linalg.norm(vector) for vector in vectors])
    if sizes.sum() < SHORT or (np.linalg.norm(wanted, axis=-1) < SHORT).any():
        return
    wanted = normalise(wanted)
    below = np.einsum("fij,j->fi", rotations[:, _PELVIS], rest_joints[parts[0][0]] - _find_start(rest_joints[None], from_pelvis)[0])
    lines = np.stack([np.einsum("fij,j->fi", rotations[:, part[0]], vector) for part, vector in zip(parts, vectors, strict=True)])
    if _measure(below + lines.sum(0), wanted).max() <= tolerance:
        return
    trunk = below + lines.sum(0)
    axis = normalise(np.cross(trunk, wanted))
    missing = _measure(trunk, wanted)
    shares = sizes / sizes.max()
    # turned about one axis, everything stays in the plane of the trunk and of where it is to point
    ahead = normalise(trunk)
    aside = np.cross(axis, ahead)
    along, across = (np.stack([(below * side).sum(-1), *(lines * side).sum(-1)]) for side in (ahead, aside))
    bend, done = _find_bend(along, across, shares, missing)
    left = missing - done if turn_pelvis else np.zeros_like(missing)
    lowest = [_PELVIS, *(JOINT_INDEX[name] for name in SPINE_JOINTS[: SPINE_JOINTS.index(SMPL_JOINTS[parts[0][0]])])]
    for part, share in zip([lowest, *parts], [0.0, *shares], strict=True):
        rotations[:, part] = rotation_about_axis(axis, share * bend + left)[:, None] @ rotations[:, part]


def _join_parts(rotations: np.ndarray, rest_joints: np.ndarray, spine: Collection[str]) -> list[list[int]]:
    """The joints that turn together, from below; the first is the one that they turn about.

    A part of several joints is turned, in place, to end in the direction in which they ended; joints below the first bone turn with
    the pelvis.
    """
    parts: list[list[int]] = []
    for name in SPINE_JOINTS:
        joint = JOINT_INDEX[name]
        if name in spine:
            parts.append([joint])
        elif parts:
            parts[-1].append(joint)
        else:
            rotations[:, joint] = rotations[:, SMPL_PARENTS[joint]]
    for part, end in _pair_with_ends(parts):
        own = rest_joints[end] - rest_joints[part[0]]
        if len(part) == 1 or np.linalg.norm(own) < SHORT:
            continue
        uppers = [*part[1:], end]
        ahead = sum(
            np.einsum("fij,j->fi", rotations[:, lower], rest_joints[upper] - rest_joints[lower])
            for lower, upper in zip(part, uppers, strict=True)
        )
        turned = rotations[:, part[0]]
        turned = rotation_between(turned @ normalise(own), normalise(np.asarray(ahead))) @ turned
        rotations[:, part] = turned[:, None]
    return parts


def _pair_with_ends(parts: list[list[int]]) -> list[tuple[list[int], int]]:
    """Each part with the joint at its upper end."""
    return list(zip(parts, [*(part[0] for part in parts[1:]), _NECK], strict=True)) if parts else []


def _find_bend(x: np.ndarray, y: np.ndarray, shares: np.ndarray, missing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(F,) radians by which a spine must be bent for its end to go round by ``missing`` (F,), and how far it then goes.

    ``x``, ``y`` (1 + P, F): in the plane of the movement, of which x points at the end, what lies below the spine, and its parts;
    ``shares`` (P,): how much each part turns for a radian of bending. Less than is missing where more bending hardly moves the end.
    """
    weights = np.array([0.0, *shares])[:, None]

    def bend(angle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How far the end has gone round, and how far it goes for a radian more."""
        c, s = np.cos(weights * angle), np.sin(weights * angle)
        along, across = c * x - s * y, s * x + c * y
        end = along.sum(0), across.sum(0)
        gain = ((weights * along).sum(0) * end[0] + (weights * across).sum(0) * end[1]) / np.maximum(
            end[0] ** 2 + end[1] ** 2, SHORT**2
        )
        return np.arctan2(end[1], end[0]), gain

    def is_past(angle: np.ndarray) -> np.ndarray:
        gone, gain = bend(angle)
        return (gone >= missing) | (gain < LEAST_GAIN)

    low = np.zeros_like(missing)
    past = is_past(low)
    high = low.copy()
    for _ in range(STEPS):
        if past.all():
            break
        low = np.where(past, low, high)
        high = np.where(past, high, high + STEP)
        past |= is_past(high)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        past = is_past(middle)
        low, high = np.where(past, low, middle), np.where(past, middle, high)
    angle = low
    for _ in range(REFINEMENTS):
        gone, gain = bend(angle)
        angle = np.clip(angle + (missing - gone) / np.maximum(gain, LEAST_GAIN), low, high)
    return angle, bend(angle)[0]


def _measure(lines: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """(F,) radians between lines (F, 3) and unit directions (F, 3)."""
    across = np.linalg.norm(np.cross(lines, directions), axis=-1)
    return np.asarray(np.arctan2(across, (lines * directions).sum(-1)))
