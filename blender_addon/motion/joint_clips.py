"""Joint positions of a file -> clips: which skeleton, unit and axis they are in is found in them, and said. No bpy."""

from __future__ import annotations

from functools import partial

import numpy as np

from ...shared.motion import MotionError
from ...shared.skeleton import JOINT_INDEX, SMPL_JOINTS, SMPL_PARENTS
from ...shared.vectors import normalise
from . import up_axis
from .clips import Clip
from .joint_layouts import LAYOUTS, LEG, JointLayout, fill_missing, find_layout, find_unit, measure_leg, to_smpl
from .layouts import AVERAGE_REST_JOINTS, DecodedMotion
from .representations import Guess
from .retarget import AIMS_AT
from .rotations import make_continuous, matrix_to_quaternion, rotation_between
from .sampling import spread_frames
from .track_decoding import GUESS, IN_CAMERA_SPACE, SAMPLE, ReadOptions, assume_rate, say_guess
from .up_axis import TO_BODY, guess_up_axis

#: metres above the floor at which an average body's foot joints stand, and how far from it a floor is left where it is
FOOT_HEIGHT, FLOOR = 0.03, 0.05
#: metres within which positions and rotations of a file belong together
MAX_STRAY = 0.02


def make_joint_clip(
    name: str,
    values: np.ndarray,
    options: ReadOptions,
    fps: float = 0.0,
    rotations: np.ndarray | None = None,
    usual_fps: float = 0.0,
) -> Clip:
    """The clip of joints (F, J, 3), or (F, J, 4) with confidences, of any known skeleton.

    ``fps`` is 0 where the file names none; ``rotations`` (F, J, 3, 3) are the joints' global rotations away from a T-pose, where
    the file has them. Raises ``MotionError`` for unknown skeletons.
    """
    notes: list[str] = []
    joints = values
    if values.ndim == 3 and values.shape[2] == 4:
        joints, missing = fill_missing(values)
        if missing:
            notes.append(f"{missing} joints that were not seen are filled in")
    if joints.ndim != 3 or joints.shape[2] != 3:
        raise MotionError(f"its joints have the shape {values.shape}, expected (frames, joints, 3).")
    if are_in_a_picture(joints):
        raise MotionError("holds key points in a picture, not a motion in space; import a pose estimator's result for the body.")
    layout, doubtful = find_layout(joints)
    if doubtful or layout is not LAYOUTS[0]:
        notes.append(f"{layout.name}: a doubtful guess" if doubtful else layout.name)
    if layout.completes:
        notes.append(f"made up, since the file has none: {', '.join(layout.completes)}")
    unit, unit_name = find_unit(joints, layout)
    if unit_name:
        notes.append(f"in {unit_name}")
    if options.up_axis != GUESS:
        up = options.up_axis
    else:
        guess = _guess_axis(joints, layout, unit)
        up, doubtful = guess.value, doubtful or guess.is_doubtful
        notes.append(say_guess(up_axis.TITLES[up], guess.is_doubtful, "Up Axis"))
    if up == up_axis.Y_DOWN:
        notes.append(IN_CAMERA_SPACE)
    rate = fps or usual_fps or layout.fps
    if not fps:
        notes.append(assume_rate(rate))
    decode = partial(_decode, joints, layout, unit, up, rate, rotations)
    return Clip(name, len(joints), rate, decode, tuple(notes), doubtful)


def are_in_a_picture(joints: np.ndarray) -> bool:
    """Whether joints (F, J, 3) are pixels and how sure a detector was of them: the third number is between 0 and 1 everywhere."""
    sample = np.asarray(joints[:: max(len(joints) // SAMPLE, 1)], np.float64)
    if not sample.size or not np.isfinite(sample).all():
        return False
    third = sample[..., 2]
    return bool(third.min() >= 0 and third.max() <= 1.2 and np.abs(sample[..., :2]).max() > 40)


def _guess_axis(joints: np.ndarray, layout: JointLayout, unit: float) -> Guess:
    if not len(joints):
        return Guess(up_axis.Y)
    at = spread_frames(len(joints), SAMPLE)
    with np.errstate(all="ignore"):
        return guess_up_axis(to_smpl(np.asarray(joints[at], np.float64) * unit, layout), up_axis.Y)


def _decode(
    joints: np.ndarray, layout: JointLayout, unit: float, up: str, fps: float, rotations: np.ndarray | None
) -> DecodedMotion:
    if layout is LAYOUTS[0] and unit == 1.0 and up == up_axis.Y and rotations is None:
        return DecodedMotion(joints, fps)
    found = to_smpl(np.asarray(joints, np.float64) * unit, layout) @ TO_BODY[up].T
    if up == up_axis.Y_DOWN:
        found = found - found[:1, :1] * [1, 0, 1]
    feet = found[:, [JOINT_INDEX["left_foot"], JOINT_INDEX["right_foot"]], 1].min(1)
    size = measure_leg(joints, layout) * unit / LEG
    floor = float(np.percentile(feet, 2)) - FOOT_HEIGHT * size if len(feet) else 0.0
    if np.isfinite(floor) and abs(floor) > FLOOR * size:
        found[..., 1] -= floor
    quaternions = None
    if rotations is not None:
        quaternions = _find_rotations(np.asarray(joints, np.float64) * unit, rotations, layout, TO_BODY[up])
    return DecodedMotion(found, fps, quaternions, quaternions is not None)


def _find_rotations(joints: np.ndarray, rotations: np.ndarray, layout: JointLayout, to_body: np.ndarray) -> np.ndarray | None:
    """(F, 24, 4) local rotations of SMPL's joints from global ones (F, J, 3, 3) of a skeleton whose rest pose is a T-pose of other
    proportions; None where positions and rotations do not belong together."""
    rotations = np.asarray(rotations, np.float64)
    out = np.empty((len(joints), len(SMPL_JOINTS), 3, 3))
    for joint, name in enumerate(SMPL_JOINTS):
        at = layout.joints.get(name)
        parent = SMPL_PARENTS[joint]
        if not isinstance(at, int):
            out[:, joint] = out[:, parent] if parent >= 0 else np.eye(3)
            continue
        correction = np.eye(3)
        child = layout.joints.get(AIMS_AT.get(name, ""))
        if isinstance(child, int):
            # the child's place in the joint's own axes does not change, and is where it is in the rest pose
            offsets = np.einsum("fji,fj->fi", rotations[:, at], joints[:, child] - joints[:, at])
            rest = offsets.mean(0)
            if not np.isfinite(rest).all() or np.abs(offsets - rest).max() > MAX_STRAY:
                return None
            smpl = AVERAGE_REST_JOINTS[SMPL_JOINTS.index(AIMS_AT[name])] - AVERAGE_REST_JOINTS[joint]
            correction = rotation_between(normalise(smpl)[None], normalise(rest)[None])[0]
        out[:, joint] = to_body @ rotations[:, at] @ correction
    local = np.swapaxes(out[:, np.maximum(SMPL_PARENTS, 0)], -1, -2) @ out
    local[:, 0] = out[:, 0]
    if np.abs(local @ np.swapaxes(local, -1, -2) - np.eye(3)).max(initial=0.0) > 0.1:
        return None
    return make_continuous(matrix_to_quaternion(local), in_place=True)
