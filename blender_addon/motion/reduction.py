"""Key reduction: as few keys as keep hands, feet and head within a bound of where a key on every frame had them. No bpy."""

from __future__ import annotations

import numpy as np

from ...shared.skeleton import JOINT_INDEX, SMPL_PARENTS
from ..character.rig import Rig
from .channels import Channels, channels_to_motion
from .rotations import decode_rotations, encode_rotations, forward_kinematics

END_EFFECTORS = ("left_wrist", "right_wrist", "left_ankle", "right_ankle", "left_foot", "right_foot", "head")
#: how many fractions of the tolerance are tried in the search for the largest one that keeps to it
SEARCH_STEPS = 7
#: the key in the result of ``reduce_keys`` for the root bone's location; every other one is a bone
ROOT_LOCATION = "location"


def compute_slopes(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Slopes per frame of a sampled curve (F,) or (F, D) at frames ``rows`` (K,)."""
    return np.gradient(values, axis=0)[rows] if len(values) > 1 else np.zeros_like(values)[rows]


def interpolate_keys(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(F, D) a curve (F, D) as Blender plays it with keys at frames ``rows`` only: cubics with the whole curve's slopes."""
    frames = np.arange(len(values))
    segment = np.clip(np.searchsorted(rows, frames, side="right") - 1, 0, max(len(rows) - 2, 0))
    if len(rows) < 2:
        return np.repeat(values[rows], len(values), 0)
    slope = compute_slopes(values, rows)
    span = np.diff(rows)[segment][:, None]
    t = (frames - rows[segment])[:, None] / span
    p0, p1, m0, m1 = values[rows[segment]], values[rows[segment + 1]], slope[segment] * span, slope[segment + 1] * span
    return p0 * (1 + 2 * t) * (1 - t) ** 2 + m0 * t * (1 - t) ** 2 + p1 * t * t * (3 - 2 * t) + m1 * t * t * (t - 1)


def simplify_curve(values: np.ndarray, bound: float, mode: str | None) -> np.ndarray:
    """(K,) frames to key so that a curve (F, D) stays within ``bound``: radians for channels of a rotation mode, else units of the
    values."""
    rows = np.unique([0, len(values) - 1])
    truth = decode_rotations(values, mode) if mode else values
    while True:
        interpolated = interpolate_keys(values, rows)
        if mode:
            error = 2 * np.arccos(np.clip(np.abs((decode_rotations(interpolated, mode) * truth).sum(1)), 0, 1))
        else:
            error = np.linalg.norm(interpolated - values, axis=1)
        error[rows] = 0
        segment = np.searchsorted(rows, np.arange(len(values)), side="right") - 1
        worst = np.zeros(len(rows))
        np.maximum.at(worst, segment, error)
        over = np.flatnonzero(worst > bound)
        if not len(over):
            return rows
        new = [int(np.where(segment == s, error, -1).argmax()) for s in over]
        rows = np.unique([*rows, *new])


def compute_end_effectors(rig: Rig, channels: Channels) -> np.ndarray:
    """(F, 7, 3) wrists, ankles, toes and head in body space, metres."""
    motion = channels_to_motion(rig, channels)
    joints = forward_kinematics(motion.local_rotations, rig.joints, motion.pelvis, SMPL_PARENTS)
    return joints[:, [JOINT_INDEX[name] for name in END_EFFECTORS]]


def interpolate_channels(channels: Channels, rows: dict[str, np.ndarray], modes: dict[str, str] | None = None) -> Channels:
    """Channels as they play with only the keys of ``reduce_keys``; ``modes``: bone -> rotation mode, quaternions without it."""
    modes = modes or {}

    def play(bone: str, values: np.ndarray) -> np.ndarray:
        mode = modes.get(bone, "QUATERNION")
        return decode_rotations(interpolate_keys(encode_rotations(values, mode), rows[bone]), mode)

    return Channels(
        {bone: play(bone, values) for bone, values in channels.rotations.items()},
        channels.root_bone,
        interpolate_keys(channels.root_location, rows[ROOT_LOCATION]),
        channels.object_location,
        channels.other_locations,
    )


def reduce_keys(rig: Rig, channels: Channels, tolerance: float, modes: dict[str, str] | None = None) -> dict[str, np.ndarray]:
    """Frames to key for each bone and for ``ROOT_LOCATION``, such that no end effector moves by more than ``tolerance`` m.

    ``modes``: bone -> the rotation mode whose channels are keyed; quaternions for bones that it does not name.
    Each bone gets the angle that moves its farthest end by a fraction of the tolerance; the fraction is found by bisection
    on what all bones together do.
    """
    every = np.arange(channels.frame_count)
    all_keys = {name: every for name in (*channels.rotations, ROOT_LOCATION)}
    if channels.frame_count < 3:
        return all_keys
    joint_of = {rig.bones[bone]: joint for joint, bone in rig.joint_bones.items()}
    reach, encoded = {}, {}
    modes = {bone: (modes or {}).get(bone, "QUATERNION") for bone in channels.rotations}
    for bone in channels.rotations:
        encoded[bone] = encode_rotations(channels.rotations[bone], modes[bone])
        joint = JOINT_INDEX[joint_of[bone]] if bone in joint_of else 0
        below = [n for n in range(len(SMPL_PARENTS)) if _is_descendant(n, joint)]
        reach[bone] = max(0.1, float(np.linalg.norm(rig.joints[below] - rig.joints[joint], axis=1).max()))
    truth = compute_end_effectors(rig, channels)
    best: dict[str, np.ndarray] | None = None
    fraction, low, high = 0.5, 0.0, 4.0
    for _ in range(SEARCH_STEPS):
        rows = {bone: simplify_curve(values, fraction * tolerance / reach[bone], modes[bone]) for bone, values in encoded.items()}
        rows[ROOT_LOCATION] = simplify_curve(channels.root_location * rig.scale, fraction * tolerance, None)
        error = np.linalg.norm(compute_end_effectors(rig, interpolate_channels(channels, rows, modes)) - truth, axis=-1).max()
        if error <= tolerance:
            best, low = rows, fraction
        else:
            high = fraction
        fraction = (low + high) / 2 if best else fraction / 2
    return best or all_keys


def _is_descendant(joint: int, ancestor: int) -> bool:
    while joint >= 0 and joint != ancestor:
        joint = SMPL_PARENTS[joint]
    return joint == ancestor
