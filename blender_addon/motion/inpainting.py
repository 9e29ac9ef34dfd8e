"""Motion inpainting: what the animator keeps while a model makes the rest, and putting it back exactly. No bpy."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ...shared import motion_request
from ...shared.cycles import turn_quaternions
from ...shared.motion import Motion, MotionError, slerp
from ...shared.skeleton import HUMANML_FPS, HUMANML_JOINT_COUNT, SMPL_JOINTS, SMPL_PARENTS
from ...shared.vectors import smoothstep
from .layouts import AVERAGE_REST_JOINTS
from .retarget import RigMotion
from .rotations import forward_kinematics, make_continuous

_LEG_NAMES = ("pelvis", "hip", "knee", "ankle", "foot")
LEGS = tuple(n for n, joint in enumerate(SMPL_JOINTS) if any(name in joint for name in _LEG_NAMES))
#: seconds in which a motion passes from what is made into what is kept
EASE = 0.4


@dataclass(frozen=True)
class KeepSelection:
    """What of a motion is kept.

    ``mode``: ``FRAMES`` keeps whole poses where ``frames`` (F,) bool is true, ``LEGS`` the legs and the path throughout,
    ``PATH`` only where the pelvis goes.
    """

    mode: str
    frames: np.ndarray


def _find_model_frames(count: int, fps: float) -> np.ndarray:
    """(N,) float scene frames, counted from 0, at which the model's frames over ``count`` scene frames lie."""
    frames = round((count - 1) / fps * HUMANML_FPS) + 1
    return np.linspace(0, count - 1, max(frames, 2))


def sample_joints(joints: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """(N, J, 3) joints (F, J, 3) at fractional frames (N,), interpolated linearly."""
    low = np.minimum(frames.astype(int), len(joints) - 2)
    t = (frames - low)[:, None, None]
    return joints[low] * (1 - t) + joints[low + 1] * t


def sample_rotations(quaternions: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """(N, J, 4) unit quaternions (F, J, 4) at fractional frames (N,), by slerp."""
    low = np.minimum(frames.astype(int), len(quaternions) - 2)
    return slerp(quaternions[low], quaternions[low + 1], (frames - low)[:, None, None])


def select_kept(motion: RigMotion, rest: np.ndarray, fps: float, keep: KeepSelection) -> motion_request.Kept:
    """A motion on an average body at the model's rate, with the parts of it that are kept; rest joints (24, 3) of its rig.

    Raises ``MotionError`` when everything is kept or nothing is.
    """
    if keep.mode == "FRAMES" and not keep.frames.any():
        raise MotionError("No keyframe is selected; select those to keep, in the dope sheet or the timeline.")
    if keep.mode == "FRAMES" and keep.frames.all():
        raise MotionError("Every frame would be kept; deselect the keyframes that should be made anew.")
    leg = rest[0, 1] - rest[[10, 11], 1].min()
    average_leg = AVERAGE_REST_JOINTS[0, 1] - AVERAGE_REST_JOINTS[[10, 11], 1].min()
    pelvis = motion.pelvis * (average_leg / max(float(leg), 1e-6))
    joints = forward_kinematics(motion.local_rotations, AVERAGE_REST_JOINTS, pelvis, SMPL_PARENTS)
    frames = _find_model_frames(len(motion.pelvis), fps)
    sampled = sample_joints(joints[:, :HUMANML_JOINT_COUNT], frames)
    parts = np.zeros((len(frames), 3), bool)
    if keep.mode == "FRAMES":
        reach = 0.5 * max(fps / HUMANML_FPS, 1.0)
        kept = np.flatnonzero(keep.frames)
        parts[:] = (np.abs(frames[:, None] - kept[None]).min(1) <= reach)[:, None]
    else:
        parts[:, motion_request.ROOT] = True
        parts[:, motion_request.LOWER] = keep.mode == "LEGS"
    return motion_request.Kept(sampled.astype(np.float32), parts, sample_rotations(motion.quaternions, frames).astype(np.float32))


def _compute_headings(joints: np.ndarray) -> np.ndarray:
    """(F,) the direction that hips and shoulders of joints (F, J, 3) face, as an angle about the vertical."""
    across = joints[:, 1] - joints[:, 2] + joints[:, 16] - joints[:, 17]
    return np.arctan2(-across[:, 2], across[:, 0])


def _rotate_about_vertical(joints: np.ndarray, angles: np.ndarray, pivots: np.ndarray) -> np.ndarray:
    """(F, J, 3) joints rotated by angles (F,) about the vertical through pivots (F, 3)."""
    c, s = np.cos(angles)[:, None], np.sin(angles)[:, None]
    x, y, z = np.moveaxis(joints - pivots[:, None] * [1, 0, 1], -1, 0)
    return np.stack([c * x + s * z, y, -s * x + c * z], -1) + pivots[:, None] * [1, 0, 1]


def _resample_kept(kept: motion_request.Kept, count: int) -> motion_request.Kept:
    """What is kept at the ``count`` frames that a model made over the same time."""
    frames = np.linspace(0, len(kept.joints) - 1, count)
    joints = sample_joints(np.asarray(kept.joints, float), frames)
    return motion_request.Kept(joints, kept.parts[np.round(frames).astype(int)])


def align_to_kept(made: Motion, kept: motion_request.Kept) -> Motion:
    """A motion that a model made, at its own rate, rotated and shifted so that it meets the kept frames where those are.

    A model's frames say how the body moves on, not where it is; the drift at a kept frame is spread over the frames before
    it.
    """
    if made.frame_count != len(kept.joints):
        kept = _resample_kept(kept, made.frame_count)
    joints = np.asarray(made.joints, float)
    anchors = np.flatnonzero(kept.parts[:, motion_request.ROOT])
    wanted = np.asarray(kept.joints, float)
    first = anchors[0]
    pivot = np.repeat(joints[first : first + 1, 0], len(joints), 0)
    angle = _compute_headings(wanted[first : first + 1])[0] - _compute_headings(joints[first : first + 1])[0]
    joints = _rotate_about_vertical(joints, np.full(len(joints), angle), pivot)
    joints = joints + (wanted[first, 0] - joints[first, 0]) * [1, 0, 1]
    angles = np.unwrap((_compute_headings(wanted) - _compute_headings(joints))[anchors])
    frames = np.arange(len(joints))
    turned = np.interp(frames, anchors, angles)
    joints = _rotate_about_vertical(joints, turned, joints[:, 0])
    drift = (wanted[:, 0] - joints[:, 0])[anchors]
    lift = np.median((wanted[..., 1].min(1) - joints[..., 1].min(1))[anchors])
    shift = np.stack([np.interp(frames, anchors, drift[:, axis]) for axis in (0, 2)], 1)
    joints = joints + np.stack([shift[:, 0], np.full(len(joints), lift), shift[:, 1]], 1)[:, None]
    rotations = made.rotations
    if rotations is not None:
        rotations = rotations.copy()
        rotations[:, 0] = turn_quaternions(rotations[:, 0], turned + angle)
    return replace(made, joints=joints, rotations=rotations)


def restore_kept(old: RigMotion, new: RigMotion, fps: float, keep: KeepSelection) -> RigMotion:
    """The new motion with what is kept taken exactly from the old one; both have the same number of frames."""
    count = len(old.pelvis)
    rotation_weight = np.zeros((count, len(SMPL_JOINTS)))
    pelvis_weight = np.ones(count)
    if keep.mode == "FRAMES":
        distance = np.abs(np.arange(count)[:, None] - np.flatnonzero(keep.frames)[None]).min(1) / (EASE * fps)
        pelvis_weight = smoothstep(1 - distance)
        rotation_weight[:] = pelvis_weight[:, None]
    elif keep.mode == "LEGS":
        rotation_weight[:, LEGS] = 1.0
    quaternions = make_continuous(slerp(new.quaternions, old.quaternions, rotation_weight[..., None]))
    pelvis = new.pelvis + pelvis_weight[:, None] * (old.pelvis - new.pelvis)
    if keep.mode == "PATH":
        pelvis[:, 1] = new.pelvis[:, 1]
    return RigMotion.from_local(quaternions, pelvis)
