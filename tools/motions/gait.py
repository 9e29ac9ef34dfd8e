"""From a plan (where feet stand, where the pelvis goes, how the trunk and arms turn) to HumanML3D joint positions.

Metres, Y up, facing +Z, left = +X, 20 frames a second. Planted feet do not move: the legs are solved after everything
else, and the pelvis comes down where a leg would be too short.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

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
ANKLE_HEIGHT, TOE_HEIGHT, REACH = 0.075, 0.018, 0.992


@dataclass(frozen=True)
class Plant:
    """A foot on the ground from ``start`` to ``end`` seconds, ankle at (x, z), toes towards ``yaw`` radians.

    ``lift`` is how high the foot swung to get here, the plan's own when None.
    """

    start: float
    end: float
    x: float
    z: float
    yaw: float = 0.0
    lift: float | None = None


Swing = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Plan:
    """A performance of ``seconds``.

    ``root(t)`` gives the pelvis as (x, height, z, yaw); ``plants`` the footsteps of the left and the right foot;
    ``turns`` Euler angles XYZ in degrees of trunk and arm joints over time; ``lift`` how high feet swing. ``swung`` gives, for
    the left and the right foot, how far (0..1) it leaves its footsteps, and where its ankle is then: (F, 3) to the left,
    above the ground and ahead of the pelvis.
    """

    seconds: float
    root: Callable[[np.ndarray], np.ndarray]
    plants: tuple[list[Plant], list[Plant]]
    turns: dict[str, Callable[[np.ndarray], np.ndarray]] = field(default_factory=dict)
    lift: float = 0.10
    airborne: Callable[[np.ndarray], np.ndarray] | None = None
    swung: tuple[Swing | None, Swing | None] = (None, None)


def _rest_offsets() -> np.ndarray:
    out = np.zeros((HUMANML_JOINT_COUNT, 3))
    for name, direction in REST_DIRECTIONS.items():
        for side, mirror in (("left", 1.0), ("right", -1.0)):
            joint = JOINT_INDEX[name.replace("left", side)]
            out[joint] = normalise(np.array(direction)) * [mirror if "left" in name else 1.0, 1, 1] * HUMANML_BONE_LENGTHS[joint]
    return out


def _foot_path(plants: list[Plant], t: np.ndarray, lift: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ankle positions (F, 3), toe yaw (F,) and how far the heel is up (F,), 0..1."""
    ankle, yaw, up = np.empty((len(t), 3)), np.empty(len(t)), np.zeros(len(t))
    for n, now in enumerate(t):
        before = [p for p in plants if p.start <= now] or plants[:1]
        current = before[-1]
        later = [p for p in plants if p.start > now]
        if now <= current.end or not later:
            ankle[n], yaw[n] = (current.x, ANKLE_HEIGHT, current.z), current.yaw
            continue
        following = later[0]
        part = (now - current.end) / (following.start - current.end)
        s = float(smootherstep(np.array(part)))
        bow = np.sin(np.pi * part)
        height = lift if following.lift is None else following.lift
        ankle[n] = (
            current.x + (following.x - current.x) * s,
            ANKLE_HEIGHT + height * bow,
            current.z + (following.z - current.z) * s,
        )
        yaw[n] = current.yaw + (following.yaw - current.yaw) * s
        up[n] = np.sin(np.pi * part) * (1 - part)
    return ankle, yaw, up


def _knee(hip: np.ndarray, ankle: np.ndarray, forward: np.ndarray, thigh: float, shin: float) -> np.ndarray:
    """Knee positions of two-bone legs that bend towards ``forward``; all (F, 3)."""
    axis = ankle - hip
    distance = np.linalg.norm(axis, axis=1)
    axis /= distance[:, None]
    along = (thigh**2 - shin**2 + distance**2) / (2 * distance)
    out = np.sqrt(np.clip(thigh**2 - along**2, 0, None))
    bend = normalise(forward - axis * (forward * axis).sum(1, keepdims=True))
    return hip + axis * along[:, None] + bend * out[:, None]


def perform(plan: Plan) -> np.ndarray:
    """(F, 22, 3) float32 joints of a plan."""
    frames = round(plan.seconds * HUMANML_FPS)
    t = np.arange(frames) / HUMANML_FPS
    root = plan.root(t)
    offsets = _rest_offsets()
    turn = {
        name: Rotation.from_euler("XYZ", np.stack(np.broadcast_arrays(*angles(t)), 1), degrees=True)
        for name, angles in plan.turns.items()
    }
    yaw = Rotation.from_euler("Y", root[:, 3:])
    rotation = {0: yaw * turn["pelvis"] if "pelvis" in turn else yaw}
    joints = np.zeros((frames, HUMANML_JOINT_COUNT, 3))
    paths = [_foot_path(plants, t, plan.lift) for plants in plan.plants]
    rise = plan.airborne(t) if plan.airborne else np.zeros(frames)
    height = root[:, 1].copy()
    reach = [
        REACH * (HUMANML_BONE_LENGTHS[JOINT_INDEX[f"{side}_knee"]] + HUMANML_BONE_LENGTHS[JOINT_INDEX[f"{side}_ankle"]])
        for side in ("left", "right")
    ]
    for side, (ankle, _, _), limit in zip(("left", "right"), paths, reach, strict=True):
        ankle[:, 1] += rise
        swing = plan.swung[0 if side == "left" else 1]
        if swing is not None:
            weight, place = swing(t)
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
                rotation[joint] = rotation[parent] * turn[name] if name in turn else rotation[parent]
    for side, (ankle, toe_yaw, heel_up), limit in zip(("left", "right"), paths, reach, strict=True):
        hip = joints[:, JOINT_INDEX[f"{side}_hip"]]
        away = ankle - hip
        distance = np.linalg.norm(away, axis=1, keepdims=True)
        ankle = hip + away * np.minimum(1.0, limit / REACH * 0.999 / distance)
        facing = np.stack([np.sin(toe_yaw), np.zeros(frames), np.cos(toe_yaw)], 1)
        joints[:, JOINT_INDEX[f"{side}_ankle"]] = ankle
        thigh, shin = (HUMANML_BONE_LENGTHS[JOINT_INDEX[f"{side}_{end}"]] for end in ("knee", "ankle"))
        joints[:, JOINT_INDEX[f"{side}_knee"]] = _knee(hip, ankle, facing, thigh, shin)
        length = HUMANML_BONE_LENGTHS[JOINT_INDEX[f"{side}_foot"]]
        pitch = np.arcsin((ANKLE_HEIGHT - TOE_HEIGHT) / length) + 0.7 * heel_up
        pitch = np.minimum(pitch, np.arcsin(np.clip((ankle[:, 1] - TOE_HEIGHT) / length, 0, 0.95)))
        pitch = np.where(rise > 0.02, pitch + np.minimum(rise * 3, 0.4), pitch)
        joints[:, JOINT_INDEX[f"{side}_foot"]] = ankle + length * (
            facing * np.cos(pitch)[:, None] - np.array([0, 1.0, 0]) * np.sin(pitch)[:, None]
        )
    return joints.astype(np.float32)
