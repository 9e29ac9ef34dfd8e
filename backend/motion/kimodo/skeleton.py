"""The skeletons of Kimodo's motions, SOMA's of 77 or 30 joints and SMPL-X's of 22, and SMPL's: rotations from one to the other.

All rotations are away from a T-pose that faces +Z, Y up. The T-poses differ a little, and a rotation is corrected by the smallest
one that brings its bone where it has to point.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from ....shared.skeleton import HUMANML_JOINT_COUNT, JOINT_INDEX, SMPL_JOINTS, SMPL_PARENTS, SMPL_REST_JOINTS
from ....shared.vectors import normalise

SIDES = ("Left", "Right")
_TRUNK = ("Spine1", "Spine2", "Chest", "Neck1", "Neck2", "Head")
_ARM, _LEG = ("Shoulder", "Arm", "ForeArm", "Hand"), ("Leg", "Shin", "Foot", "ToeBase")
_FINGERS = tuple(f"Hand{finger}{n}" for finger in ("Index", "Middle", "Ring", "Pinky") for n in (1, 2, 3, 4, "End"))
_THUMB = tuple(f"HandThumb{n}" for n in (1, 2, 3, "End"))
#: SOMA's joints in the order of its files
SOMA_77: tuple[str, ...] = (
    "Hips",
    *_TRUNK,
    "HeadEnd",
    "Jaw",
    "LeftEye",
    "RightEye",
    *(side + part for side in SIDES for part in (*_ARM, *_THUMB, *_FINGERS)),
    *(side + part for side in SIDES for part in (*_LEG, "ToeEnd")),
)
#: the same without fingers, as the models have it inside and older files have it
SOMA_30: tuple[str, ...] = (
    "Hips",
    *_TRUNK,
    "Jaw",
    "LeftEye",
    "RightEye",
    *(side + part for side in SIDES for part in (*_ARM, "HandThumbEnd", "HandMiddleEnd")),
    *(side + part for side in SIDES for part in _LEG),
)
#: joints of a file -> their names
SKELETONS: dict[int, tuple[str, ...]] = {77: SOMA_77, 30: SOMA_30, 22: SMPL_JOINTS[:HUMANML_JOINT_COUNT]}
#: the Unitree robot, which is no person
ROBOT_JOINTS = 34
#: SMPL's joint -> SOMA's
SOMA_OF: dict[str, str] = {
    "pelvis": "Hips",
    "spine1": "Spine1",
    "spine2": "Spine2",
    "spine3": "Chest",
    "neck": "Neck1",
    "head": "Head",
} | {
    f"{side.lower()}_{joint}": side + name
    for side in SIDES
    for joint, name in {
        "collar": "Shoulder",
        "shoulder": "Arm",
        "elbow": "ForeArm",
        "wrist": "Hand",
        "hip": "Leg",
        "knee": "Shin",
        "ankle": "Foot",
        "foot": "ToeBase",
    }.items()
}
#: SMPL's joints whose bone must point exactly where it points in the other skeleton, and the joint at its end
AIMS: dict[str, str] = {"neck": "head"} | {
    f"{side}_{joint}": f"{side}_{end}"
    for side in ("left", "right")
    for joint, end in {
        "collar": "shoulder",
        "shoulder": "elbow",
        "elbow": "wrist",
        "hip": "knee",
        "knee": "ankle",
        "ankle": "foot",
    }.items()
}
#: where SOMA's bones point in its T-pose, measured on its motions; the left side's, the right one's are mirrored
_SOMA_DIRECTIONS = {
    "neck": (0.0, 0.954, 0.299),
    "collar": (0.938, 0.0, -0.346),
    "shoulder": (1.0, 0.0, 0.0),
    "elbow": (1.0, 0.0, 0.0),
    "hip": (0.0, -1.0, -0.019),
    "knee": (0.0, -0.997, -0.083),
    "ankle": (0.0, -0.357, 0.934),
}


@dataclass(frozen=True)
class Build:
    """A skeleton as its constraints have it: joints, the length of thigh and shin, and how high the hips of somebody who stands
    are, in metres."""

    names: tuple[str, ...]
    leg: float
    hips: float


#: measured on the motions of the models, which all have one body
SOMA, SMPLX = Build(SOMA_77, 0.855, 1.004), Build(SKELETONS[22], 0.861, 1.03)


def find_parent(name: str) -> str:
    """SOMA's joint above one of its joints; empty for the hips."""
    if name == "Hips":
        return ""
    if name in _TRUNK:
        return ("Hips", *_TRUNK)[_TRUNK.index(name)]
    if name in ("HeadEnd", "Jaw", "LeftEye", "RightEye"):
        return "Head"
    side = "Left" if name.startswith("Left") else "Right"
    part = name.removeprefix(side)
    if part in _ARM:
        return "Chest" if part == "Shoulder" else side + _ARM[_ARM.index(part) - 1]
    if part in (*_LEG, "ToeEnd"):
        return "Hips" if part == "Leg" else side + (*_LEG, "ToeEnd")[(*_LEG, "ToeEnd").index(part) - 1]
    chain = _THUMB if part in _THUMB else _FINGERS
    first = part[-1] == "1"
    return side + ("Hand" if first else chain[chain.index(part) - 1])


def rotate_onto(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(..., 3, 3) the smallest rotations that turn unit vectors ``start`` (..., 3) into ``end`` (..., 3), not opposite to them."""
    quaternions = np.concatenate([np.cross(start, end), 1 + (start * end).sum(-1, keepdims=True)], -1)
    shape = quaternions.shape[:-1]
    return Rotation.from_quat(normalise(quaternions).reshape(-1, 4)).as_matrix().reshape(*shape, 3, 3)


def to_body(positions: np.ndarray, rotations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """SMPL's joints (F, 22, 3) and its local rotations (F, 24, 4) as unit quaternions, from a file's joints (F, J, 3) and their
    global rotations (F, J, 3, 3); both float64."""
    names = SKELETONS[positions.shape[1]]
    own = {joint: names.index(SOMA_OF[joint] if len(names) > HUMANML_JOINT_COUNT else joint) for joint in SMPL_JOINTS[:22]}
    joints = positions[:, list(own.values())].astype(np.float64)
    rest = np.array(SMPL_REST_JOINTS)
    whole = np.empty((len(positions), len(SMPL_JOINTS), 3, 3))
    for joint, name in enumerate(SMPL_JOINTS):
        # the hands have no joint of their own here
        whole[:, joint] = rotations[:, own[name]] if name in own else whole[:, SMPL_PARENTS[joint]]
        if name in AIMS:
            end = JOINT_INDEX[AIMS[name]]
            there = normalise(joints[:, end] - joints[:, joint])
            now = whole[:, joint] @ normalise(rest[end] - rest[joint])
            whole[:, joint] = rotate_onto(now, there) @ whole[:, joint]
    return joints, to_local_quaternions(whole)


def to_local_quaternions(whole: np.ndarray) -> np.ndarray:
    """(F, 24, 4) local rotations (w, x, y, z) of SMPL's joints without jumps of the sign, from global ones (F, 24, 3, 3)."""
    local = whole.copy()
    for joint, parent in enumerate(SMPL_PARENTS):
        if parent >= 0:
            local[:, joint] = np.swapaxes(whole[:, parent], -1, -2) @ whole[:, joint]
    found = Rotation.from_matrix(local.reshape(-1, 3, 3)).as_quat().reshape(*local.shape[:2], 4)[..., [3, 0, 1, 2]]
    flips = np.where((found[1:] * found[:-1]).sum(-1, keepdims=True) < 0, -1.0, 1.0)
    found[1:] *= np.cumprod(flips, 0)
    return np.asarray(found)


def to_global(local: np.ndarray) -> np.ndarray:
    """(F, 24, 3, 3) global rotations of SMPL's joints from local ones (F, 24, 4), unit quaternions (w, x, y, z)."""
    whole = Rotation.from_quat(local[..., [1, 2, 3, 0]].reshape(-1, 4)).as_matrix().reshape(*local.shape[:2], 3, 3)
    for joint, parent in enumerate(SMPL_PARENTS):
        if parent >= 0:
            whole[:, joint] = whole[:, parent] @ whole[:, joint]
    return np.asarray(whole)


def from_body(joints: np.ndarray, rotations: np.ndarray, build: Build) -> np.ndarray:
    """(F, J, 3) local rotations as axis-angle vectors of a build's joints, from SMPL's joints (F, 22, 3) and its local rotations
    (F, 24, 4)."""
    whole = to_global(rotations)
    if build is SMPLX:
        local = rotations[:, :HUMANML_JOINT_COUNT, [1, 2, 3, 0]]
        return Rotation.from_quat(local.reshape(-1, 4)).as_rotvec().reshape(len(rotations), -1, 3)
    turned: dict[str, np.ndarray] = {}
    for name, other in SOMA_OF.items():
        joint = JOINT_INDEX[name]
        turned[other] = whole[:, joint]
        if name in AIMS:
            side, _, part = name.rpartition("_")
            direction = np.array(_SOMA_DIRECTIONS[part]) * ([-1.0, 1, 1] if side == "right" else [1.0, 1, 1])
            there = normalise(joints[:, JOINT_INDEX[AIMS[name]]] - joints[:, joint])
            turned[other] = rotate_onto(whole[:, joint] @ normalise(direction), there) @ whole[:, joint]
    out = np.zeros((len(joints), len(build.names), 3))
    for n, name in enumerate(build.names):
        parent = find_parent(name)
        # what SMPL does not have keeps still against what it hangs on
        turned.setdefault(name, turned[parent] if parent else np.empty(0))
        local = np.swapaxes(turned[parent], -1, -2) @ turned[name] if parent else turned[name]
        out[:, n] = Rotation.from_matrix(local).as_rotvec()
    return out
