"""Fewer keys: as many as it takes for hands, feet and head to stay within a bound of where every frame's key had them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...shared.skeleton import JOINT_INDEX, SMPL_PARENTS
from ...shared.vectors import normalise
from .channels import Channels, unposed
from .rotations import forward

if TYPE_CHECKING:
    from ..character.rig import Rig

ENDS = ("left_wrist", "right_wrist", "left_ankle", "right_ankle", "left_foot", "right_foot", "head")
#: rotations that bring the bound closer: how many tolerances are tried at most
ROUNDS = 7


def tangents(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Slope per frame of a sampled curve (F,) or (F, D) at some of its frames."""
    return np.gradient(values, axis=0)[rows] if len(values) > 1 else np.zeros_like(values)[rows]


def interpolated(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(F, D) the cubic through the keys at ``rows``, with the curve's own slopes: what Blender shows between them."""
    frames = np.arange(len(values))
    segment = np.clip(np.searchsorted(rows, frames, side="right") - 1, 0, max(len(rows) - 2, 0))
    if len(rows) < 2:
        return np.repeat(values[rows], len(values), 0)
    slope = tangents(values, rows)
    span = np.diff(rows)[segment][:, None]
    s = (frames - rows[segment])[:, None] / span
    p0, p1, m0, m1 = values[rows[segment]], values[rows[segment + 1]], slope[segment] * span, slope[segment + 1] * span
    return p0 * (1 + 2 * s) * (1 - s) ** 2 + m0 * s * (1 - s) ** 2 + p1 * s * s * (3 - 2 * s) + m1 * s * s * (s - 1)


def thinned(values: np.ndarray, bound: float, quaternions: bool) -> np.ndarray:
    """Frames to key so that the curve stays within ``bound``: radians for quaternions, else units of the values."""
    rows = np.unique([0, len(values) - 1])
    while True:
        made = interpolated(values, rows)
        if quaternions:
            error = 2 * np.arccos(np.clip(np.abs((normalise(made) * values).sum(1)), 0, 1))
        else:
            error = np.linalg.norm(made - values, axis=1)
        error[rows] = 0
        segment = np.searchsorted(rows, np.arange(len(values)), side="right") - 1
        worst = np.zeros(len(rows))
        np.maximum.at(worst, segment, error)
        over = np.flatnonzero(worst > bound)
        if not len(over):
            return rows
        new = [int(np.where(segment == s, error, -1).argmax()) for s in over]
        rows = np.unique([*rows, *new])


def end_positions(rig: Rig, curves: Channels) -> np.ndarray:
    """(F, ends, 3) hands, feet and head in body space."""
    motion = unposed(rig, curves)
    joints = forward(motion.local, rig.joints, motion.pelvis, SMPL_PARENTS)
    return joints[:, [JOINT_INDEX[name] for name in ENDS]]


def thinned_channels(curves: Channels, rows: dict[str, np.ndarray]) -> Channels:
    """The curves as they play with only those keys."""
    return Channels(
        {bone: normalise(interpolated(values, rows[bone])) for bone, values in curves.rotations.items()},
        curves.root_bone,
        interpolated(curves.location, rows["location"]),
        curves.path,
        curves.carried,
    )


def reduced(rig: Rig, curves: Channels, tolerance: float) -> dict[str, np.ndarray]:
    """Frames to key for each bone and for ``location``, such that no end leaves ``tolerance`` metres.

    Each bone gets the angle that moves its farthest end by a share of the tolerance; the share is then settled by
    measuring what the whole chain of bones does.
    """
    if curves.frame_count < 3:
        every = np.arange(curves.frame_count)
        return {name: every for name in (*curves.rotations, "location")}
    joint_of = {rig.bones[bone]: joint for joint, bone in rig.joint_bones.items()}
    reach = {}
    for bone in curves.rotations:
        joint = JOINT_INDEX[joint_of[bone]] if bone in joint_of else 0
        below = [n for n in range(len(SMPL_PARENTS)) if _descends(n, joint)]
        reach[bone] = max(0.1, float(np.linalg.norm(rig.joints[below] - rig.joints[joint], axis=1).max()))
    truth = end_positions(rig, curves)
    best: dict[str, np.ndarray] | None = None
    share, low, high = 0.5, 0.0, 4.0
    for _ in range(ROUNDS):
        rows = {bone: thinned(values, share * tolerance / reach[bone], True) for bone, values in curves.rotations.items()}
        rows["location"] = thinned(curves.location * rig.scale, share * tolerance, False)
        error = np.linalg.norm(end_positions(rig, thinned_channels(curves, rows)) - truth, axis=-1).max()
        if error <= tolerance:
            best, low = rows, share
        else:
            high = share
        share = (low + high) / 2 if best else share / 2
    every = np.arange(curves.frame_count)
    return best or {name: every for name in (*curves.rotations, "location")}


def _descends(joint: int, ancestor: int) -> bool:
    while joint >= 0 and joint != ancestor:
        joint = SMPL_PARENTS[joint]
    return joint == ancestor
