"""Turns a plan (where feet stand, where the pelvis goes, how the trunk and arms turn) into HumanML3D joint positions.

Metres, Y up, facing +Z, left = +X, 20 frames per second. Feet on the ground do not move: the legs are solved after everything
else, and the pelvis comes down where a leg would be too short.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

from latentman.blender_addon.reference_shots.motion_metrics import TOE_HEIGHT
from latentman.shared.skeleton import HUMANML_BONE_LENGTHS, HUMANML_FPS, HUMANML_JOINT_COUNT, JOINT_INDEX, SMPL_JOINTS, SMPL_PARENTS
from latentman.shared.vectors import normalise, smootherstep

#: directions of the bones in the rest pose, parent to joint
REST_DIRECTIONS = {
    "left_hip": (0.73, -0.68, 0),
    "spine1": (0, 1, -0.05),
    "spine2": (0, 1, 0.03),
    "spine3": (0, 1, 0.1),
    "neck": (0, 1, -0.06),
    "left_collar": (0.55, 0.83, -0.06),
    "head": (0, 0.95, 0.3),
    "left_shoulder": (0.98, 0.2, 0),
    "left_elbow": (1, 0, -0.02),
    "left_wrist": (1, 0, 0.03),
}
#: height of standing ankles in metres, and how far a leg stretches at most, as a fraction of its length
ANKLE_HEIGHT, MAX_LEG_EXTENSION = 0.075, 0.992


@dataclass(frozen=True)
class FootContact:
    """A foot on the ground from ``start`` to ``end`` seconds, its ankle at (x, z) metres, its toes towards ``yaw`` radians.

    ``step_height`` is how high the foot swung to get here, in metres; None is the plan's own.
    """

    start: float
    end: float
    x: float
    z: float
    yaw: float = 0.0
    step_height: float | None = None


#: times (F,) -> angles about x, y and z in degrees, each (F,) or a number
AngleCurve = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]
#: times (F,) -> weight (F,) and place (F, 3)
FreeFootPath = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class MotionPlan:
    """A motion of ``seconds``, as functions of times (F,) in seconds.

    ``root(t)`` gives the pelvis as (F, 4): x, height, z and yaw. ``contacts`` are the footsteps of the left and the right foot.
    ``joint_angles`` gives Euler angles XYZ in degrees of trunk and arm joints. ``step_height`` is how high feet swing, in metres;
    ``feet_rise(t)`` (F,) how high both feet are lifted beyond that. ``free_feet`` gives, for the left and the right foot, how far
    (0..1) it leaves its footsteps, and where its ankle is then: (F, 3) to the left, above the ground and ahead of the pelvis.
    """

    seconds: float
    root: Callable[[np.ndarray], np.ndarray]
    contacts: tuple[list[FootContact], list[FootContact]]
    joint_angles: dict[str, AngleCurve] = field(default_factory=dict)
    step_height: float = 0.10
    feet_rise: Callable[[np.ndarray], np.ndarray] | None = None
    free_feet: tuple[FreeFootPath | None, FreeFootPath | None] = (None, None)


def _compute_rest_offsets() -> np.ndarray:
    out = np.zeros((HUMANML_JOINT_COUNT, 3))
    for name, direction in REST_DIRECTIONS.items():
        for side, mirror in (("left", 1.0), ("right", -1.0)):
            joint = JOINT_INDEX[name.replace("left", side)]
            out[joint] = normalise(np.array(direction)) * [mirror if "left" in name else 1.0, 1, 1] * HUMANML_BONE_LENGTHS[joint]
    return out


def _compute_foot_path(contacts: list[FootContact], t: np.ndarray, step_height: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ankle positions (F, 3), toe yaw (F,) and how far the heel is raised (F,), 0..1, of one foot at times (F,)."""
    ankle, yaw, up = np.empty((len(t), 3)), np.empty(len(t)), np.zeros(len(t))
    for n, now in enumerate(t):
        before = [p for p in contacts if p.start <= now] or contacts[:1]
        current = before[-1]
        later = [p for p in contacts if p.start > now]
        if now <= current.end or not later:
            ankle[n], yaw[n] = (current.x, ANKLE_HEIGHT, current.z), current.yaw
            continue
        following = later[0]
        fraction = (now - current.end) / (following.start - current.end)
        s = float(smootherstep(np.array(fraction)))
        bow = np.sin(np.pi * fraction)
        height = step_height if following.step_height is None else following.step_height
        ankle[n] = (
            current.x + (following.x - current.x) * s,
            ANKLE_HEIGHT + height * bow,
            current.z + (following.z - current.z) * s,
        )
        yaw[n] = current.yaw + (following.yaw - current.yaw) * s
        up[n] = np.sin(np.pi * fraction) * (1 - fraction)
    return ankle, yaw, up


def _compute_knee(hip: np.ndarray, ankle: np.ndarray, forward: np.ndarray, thigh: float, shin: float) -> np.ndarray:
    """Knee positions of two-bone legs that bend towards ``forward``; all (F, 3)."""
    axis = ankle - hip
    distance = np.linalg.norm(axis, axis=1)
    axis /= distance[:, None]
    along = (thigh**2 - shin**2 + distance**2) / (2 * distance)
    out = np.sqrt(np.clip(thigh**2 - along**2, 0, None))
    bend = normalise(forward - axis * (forward * axis).sum(1, keepdims=True))
    return hip + axis * along[:, None] + bend * out[:, None]


def perform(plan: MotionPlan) -> np.ndarray:
    """Compute the (F, 22, 3) float32 joints of a plan, in metres."""
    frames = round(plan.seconds * HUMANML_FPS)
    t = np.arange(frames) / HUMANML_FPS
    root = plan.root(t)
    offsets = _compute_rest_offsets()
    rotations = {
        name: Rotation.from_euler("XYZ", np.stack(np.broadcast_arrays(*angles(t)), 1), degrees=True)
        for name, angles in plan.joint_angles.items()
    }
    yaw = Rotation.from_euler("Y", root[:, 3:])
    rotation = {0: yaw * rotations["pelvis"] if "pelvis" in rotations else yaw}
    joints = np.zeros((frames, HUMANML_JOINT_COUNT, 3))
    paths = [_compute_foot_path(contacts, t, plan.step_height) for contacts in plan.contacts]
    rise = plan.feet_rise(t) if plan.feet_rise else np.zeros(frames)
    height = root[:, 1].copy()
    reach = [
        MAX_LEG_EXTENSION * (HUMANML_BONE_LENGTHS[JOINT_INDEX[f"{side}_knee"]] + HUMANML_BONE_LENGTHS[JOINT_INDEX[f"{side}_ankle"]])
        for side in ("left", "right")
    ]
    for side, (ankle, _, _), limit in zip(("left", "right"), paths, reach, strict=True):
        ankle[:, 1] += rise
        free_foot = plan.free_feet[0 if side == "left" else 1]
        if free_foot is not None:
            weight, place = free_foot(t)
            ankle += weight[:, None] * (yaw.apply(place) + root[:, [0, 1, 2]] * [1, 0, 1] - ankle)
        hip = rotation[0].apply(offsets[JOINT_INDEX[f"{side}_hip"]])
        flat = np.hypot(root[:, 0] + hip[:, 0] - ankle[:, 0], root[:, 2] + hip[:, 2] - ankle[:, 2])
        height = np.minimum(height, ankle[:, 1] - hip[:, 1] + np.sqrt(np.clip(limit**2 - flat**2, 0.01, None)))
    smooth = gaussian_filter1d(height, 1.5, mode="nearest")
    joints[:, 0] = np.stack([root[:, 0], np.minimum(height, smooth), root[:, 2]], 1)
    for joint in range(1, HUMANML_JOINT_COUNT):
        parent, name = SMPL_PARENTS[joint], SMPL_JOINTS[joint]
        if parent in rotation:
            joints[:, joint] = joints[:, parent] + rotation[parent].apply(offsets[joint])
            if "hip" not in name:
                rotation[joint] = rotation[parent] * rotations[name] if name in rotations else rotation[parent]
    for side, (ankle, toe_yaw, heel_up), limit in zip(("left", "right"), paths, reach, strict=True):
        hip = joints[:, JOINT_INDEX[f"{side}_hip"]]
        away = ankle - hip
        distance = np.linalg.norm(away, axis=1, keepdims=True)
        ankle = hip + away * np.minimum(1.0, limit / MAX_LEG_EXTENSION * 0.999 / distance)
        facing = np.stack([np.sin(toe_yaw), np.zeros(frames), np.cos(toe_yaw)], 1)
        joints[:, JOINT_INDEX[f"{side}_ankle"]] = ankle
        thigh, shin = (HUMANML_BONE_LENGTHS[JOINT_INDEX[f"{side}_{end}"]] for end in ("knee", "ankle"))
        joints[:, JOINT_INDEX[f"{side}_knee"]] = _compute_knee(hip, ankle, facing, thigh, shin)
        length = HUMANML_BONE_LENGTHS[JOINT_INDEX[f"{side}_foot"]]
        pitch = np.arcsin((ANKLE_HEIGHT - TOE_HEIGHT) / length) + 0.7 * heel_up
        pitch = np.minimum(pitch, np.arcsin(np.clip((ankle[:, 1] - TOE_HEIGHT) / length, 0, 0.95)))
        pitch = np.where(rise > 0.02, pitch + np.minimum(rise * 3, 0.4), pitch)
        joints[:, JOINT_INDEX[f"{side}_foot"]] = ankle + length * (
            facing * np.cos(pitch)[:, None] - np.array([0, 1.0, 0]) * np.sin(pitch)[:, None]
        )
    return joints.astype(np.float32)
