"""A motion -> rotations of a body's joints away from its rest pose, in closed form for all frames at once.

Where the motion knows its rotations, they are carried over with the difference of the rest poses taken off. From joint
positions:

Pelvis and chest come from several children (Kabsch), other joints from the smallest swing of their bone on the
accumulated pose, so errors do not pile up; knees and elbows tell the twist of the limb above them.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ...shared.motion import Motion
from ...shared.skeleton import JOINT_INDEX, SMPL_JOINTS, SMPL_PARENTS, SMPL_REST_JOINTS
from ...shared.vectors import normalise
from .rotations import about, chain, continuous, kabsch, swing, to_matrices, to_quaternions

#: joints whose rotation is seen through several children
TRIPODS = {"pelvis": ("left_hip", "right_hip", "spine1"), "spine3": ("neck", "left_collar", "right_collar")}
#: bone -> (the joint whose direction shows the bend, hinge axis in the rest pose)
HINGES = {
    "left_hip": ("left_ankle", (1.0, 0, 0)),
    "right_hip": ("right_ankle", (1.0, 0, 0)),
    "left_shoulder": ("left_wrist", (0, -1.0, 0)),
    "right_shoulder": ("right_wrist", (0, 1.0, 0)),
}
SWINGS = {
    "spine1": "spine2",
    "spine2": "spine3",
    "neck": "head",
    "left_collar": "left_shoulder",
    "right_collar": "right_shoulder",
    "left_hip": "left_knee",
    "right_hip": "right_knee",
    "left_knee": "left_ankle",
    "right_knee": "right_ankle",
    "left_ankle": "left_foot",
    "right_ankle": "right_foot",
    "left_shoulder": "left_elbow",
    "right_shoulder": "right_elbow",
    "left_elbow": "left_wrist",
    "right_elbow": "right_wrist",
}
#: a straight limb says nothing about its twist; this much trust keeps the rest twist there
PRIOR = 0.02
SMOOTHING = np.exp(-0.5 * (np.arange(-4, 5) / 1.8) ** 2)


@dataclass(frozen=True)
class RigMotion:
    """``turned`` (F, 24, 3, 3): how far each SMPL joint is turned from the rest pose, in body space; ``pelvis`` (F, 3): its
    positions in metres, Y up."""

    turned: np.ndarray
    pelvis: np.ndarray

    @property
    def local(self) -> np.ndarray:
        """(F, 24, 3, 3) rotations against the parent joint."""
        out = np.swapaxes(self.turned[:, np.maximum(SMPL_PARENTS, 0)], -1, -2) @ self.turned
        out[:, 0] = self.turned[:, 0]
        return out

    @property
    def quaternions(self) -> np.ndarray:
        """(F, 24, 4) local rotations as (w, x, y, z), continuous over time."""
        return continuous(to_quaternions(self.local))


def _twist(direction: np.ndarray, hinge_now: np.ndarray, hinge_seen: np.ndarray) -> np.ndarray:
    """(F,) angles about unit bone directions that bring the posed hinge to the seen one.

    The seen hinge's length is how far it can be trusted; where it vanishes the angle of the neighbouring frames, and in
    the end none, is taken.
    """
    flat_seen = hinge_seen - direction * (hinge_seen * direction).sum(-1, keepdims=True)
    cosine = (hinge_now * flat_seen).sum(-1)
    sine = (np.cross(hinge_now, flat_seen) * direction).sum(-1)
    padded = [np.pad(part, 4, mode="edge") for part in (cosine, sine)]
    around = [np.convolve(part, SMOOTHING / SMOOTHING.sum(), "valid") for part in padded]
    trust = np.clip(np.hypot(cosine, sine) / 0.25, 0, 1)
    return np.arctan2(trust * sine + (1 - trust) * around[1], trust * cosine + (1 - trust) * around[0] + PRIOR)


def retarget(motion: Motion, rest_joints: np.ndarray, exact: bool = True) -> RigMotion:
    """Rotations that pose a skeleton with rest joints (24, 3) like a motion.

    The path of the pelvis is scaled by the ratio of leg lengths, so that feet neither slide nor sink on another body.
    ``exact`` says that the skeleton's rest pose is SMPL's own, so that rotations need no correction.
    """
    scale = leg_length(rest_joints) / float(np.mean([leg_length(pose) for pose in motion.joints[:1]]))
    pelvis = motion.joints[:, 0] * scale
    if motion.rotations is not None:
        turned = chain(to_matrices(motion.rotations), SMPL_PARENTS)
        return RigMotion(turned if exact else turned @ _rest_correction(rest_joints), pelvis)
    return RigMotion(_from_positions(motion.joints, rest_joints), pelvis)


def _rest_correction(rest_joints: np.ndarray) -> np.ndarray:
    """(24, 3, 3) for each joint the turn from this rest pose to SMPL's, from the direction of its bone."""
    smpl, out = np.array(SMPL_REST_JOINTS), np.broadcast_to(np.eye(3), (len(SMPL_JOINTS), 3, 3)).copy()
    for joint, name in enumerate(SMPL_JOINTS):
        if "shoulder" in name or "elbow" in name or "hip" in name or "knee" in name:
            child = JOINT_INDEX[SWINGS[name]]
            here, there = (normalise(rest[child] - rest[joint])[None] for rest in (rest_joints, smpl))
            out[joint] = swing(here, there)[0]
        elif "wrist" in name or "hand" in name:
            out[joint] = out[SMPL_PARENTS[joint]]
    return out


def _from_positions(joints: np.ndarray, rest_joints: np.ndarray) -> np.ndarray:
    """(F, 24, 3, 3) turns from the rest pose that bring joints (24, 3) to joints (F, 22, 3)."""
    frames = len(joints)
    turned = np.broadcast_to(np.eye(3), (len(SMPL_JOINTS), frames, 3, 3)).copy()
    rest = np.zeros((len(SMPL_JOINTS), 3))
    for joint, parent in enumerate(SMPL_PARENTS):
        if parent >= 0:
            rest[joint] = normalise(rest_joints[joint] - rest_joints[parent])

    def seen(child: str) -> np.ndarray:
        return normalise(joints[:, JOINT_INDEX[child]] - joints[:, SMPL_PARENTS[JOINT_INDEX[child]]])

    for joint, name in enumerate(SMPL_JOINTS):
        parent = SMPL_PARENTS[joint]
        above = turned[parent] if parent >= 0 else turned[joint]
        if name in TRIPODS:
            kids = TRIPODS[name]
            turned[joint] = kabsch(rest[[JOINT_INDEX[k] for k in kids]], np.stack([seen(k) for k in kids], 1))
        elif name in SWINGS:
            child = SWINGS[name]
            direction = seen(child)
            turned[joint] = swing(above @ rest[JOINT_INDEX[child]], direction) @ above
            if name in HINGES:
                below, axis = HINGES[name]
                hinge = np.cross(direction, seen(below))
                if "hip" in name:
                    # toes point where knees bend, which helps where the leg is straight
                    toes = seen(name.replace("hip", "foot"))
                    hinge = hinge + 0.1 * np.cross(toes, direction)
                # the hinge of the T-pose, taken along to where this rest pose holds the limb
                t_pose = np.array([np.sign(rest[JOINT_INDEX[child], 0]), 0, 0] if "shoulder" in name else [0, -1.0, 0])
                axis_here = swing(t_pose[None], rest[JOINT_INDEX[child]][None])[0] @ np.array(axis)
                angle = _twist(direction, turned[joint] @ axis_here, hinge)
                turned[joint] = about(direction, angle) @ turned[joint]
        else:
            turned[joint] = above
    return np.moveaxis(turned, 0, 1)


def leg_length(joints: np.ndarray) -> float:
    """Mean length of thigh and shin of joints (J, 3)."""
    total = 0.0
    for side in ("left", "right"):
        chain = [JOINT_INDEX[f"{side}_{part}"] for part in ("hip", "knee", "ankle")]
        total += sum(float(np.linalg.norm(joints[a] - joints[b])) for a, b in pairwise(chain))
    return total / 2
