"""What the animator keeps of a motion while a model makes the rest: read as joints, and put back exactly. Pure numpy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...shared import motion_request
from ...shared.motion import MotionError, slerp
from ...shared.skeleton import HUMANML_FPS, HUMANML_JOINT_COUNT, SMPL_JOINTS, SMPL_PARENTS
from ...shared.vectors import smoothstep
from .editing import from_local
from .layouts import REST
from .retarget import RigMotion
from .rotations import continuous, forward

MODES = ("FRAMES", "LEGS", "PATH")
LEGS = tuple(n for n, name in enumerate(SMPL_JOINTS) if any(part in name for part in ("pelvis", "hip", "knee", "ankle", "foot")))
#: seconds in which what is made passes into what is kept
EASE = 0.4


@dataclass(frozen=True)
class Keep:
    """``mode`` FRAMES keeps whole poses on ``frames`` (F,) bool, LEGS the legs and the path throughout, PATH only where the
    pelvis goes."""

    mode: str
    frames: np.ndarray


def _sampled_at(count: int, fps: float) -> np.ndarray:
    """Scene frames (F20,), as fractions, of the model's frames over ``count`` scene frames."""
    frames = round((count - 1) / fps * HUMANML_FPS) + 1
    return np.linspace(0, count - 1, max(frames, 2))


def between(joints: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Joints (F, J, 3) at fractional frames (N,), linearly."""
    low = np.minimum(at.astype(int), len(joints) - 2)
    part = (at - low)[:, None, None]
    return joints[low] * (1 - part) + joints[low + 1] * part


def kept_of(motion: RigMotion, rest: np.ndarray, fps: float, keep: Keep) -> motion_request.Kept:
    """A motion on an average body at the model's rate, and which of its parts are kept; ``MotionError`` when nothing would be
    new, or nothing kept."""
    if keep.mode == "FRAMES" and not keep.frames.any():
        raise MotionError("No keyframe is selected; select those to keep, in the dope sheet or the timeline.")
    if keep.mode == "FRAMES" and keep.frames.all():
        raise MotionError("Every frame is to be kept; deselect the keyframes that shall be made anew.")
    leg = rest[0, 1] - rest[[10, 11], 1].min()
    scale = (REST[0, 1] - REST[[10, 11], 1].min()) / max(float(leg), 1e-6)
    at = _sampled_at(len(motion.pelvis), fps)
    joints = forward(motion.local, REST, motion.pelvis * scale, SMPL_PARENTS)[:, :HUMANML_JOINT_COUNT]
    sampled = between(joints, at)
    parts = np.zeros((len(at), 3), bool)
    if keep.mode == "FRAMES":
        reach = 0.5 * max(fps / HUMANML_FPS, 1.0)
        chosen = np.flatnonzero(keep.frames)
        parts[:] = (np.abs(at[:, None] - chosen[None]).min(1) <= reach)[:, None]
    else:
        parts[:, motion_request.ROOT] = True
        parts[:, motion_request.LOWER] = keep.mode == "LEGS"
    return motion_request.Kept(sampled.astype(np.float32), parts)


def _facing(joints: np.ndarray) -> np.ndarray:
    across = joints[:, 1] - joints[:, 2] + joints[:, 16] - joints[:, 17]
    return np.arctan2(-across[:, 2], across[:, 0])


def _turned(joints: np.ndarray, angle: np.ndarray, about: np.ndarray) -> np.ndarray:
    """(F, J, 3) turned by angles (F,) about the vertical through (F, 3)."""
    c, s = np.cos(angle)[:, None], np.sin(angle)[:, None]
    x, y, z = np.moveaxis(joints - about[:, None] * [1, 0, 1], -1, 0)
    return np.stack([c * x + s * z, y, -s * x + c * z], -1) + about[:, None] * [1, 0, 1]


def anchored(made: np.ndarray, kept: motion_request.Kept) -> np.ndarray:
    """Made joints (F, 22, 3) turned and shifted so that they meet the kept frames where those are.

    A model's frames say how the body moves on, not where it is; what has drifted at a kept frame is spread over the frames
    before it.
    """
    anchors = np.flatnonzero(kept.parts[:, motion_request.ROOT])
    true = np.asarray(kept.joints, float)
    first = anchors[0]
    still = np.repeat(made[first : first + 1, 0], len(made), 0)
    made = _turned(made, np.full(len(made), _facing(true[first : first + 1])[0] - _facing(made[first : first + 1])[0]), still)
    made = made + (true[first, 0] - made[first, 0]) * [1, 0, 1]
    off = np.unwrap((_facing(true) - _facing(made))[anchors])
    frames = np.arange(len(made))
    made = _turned(made, np.interp(frames, anchors, off), made[:, 0])
    drift = (true[:, 0] - made[:, 0])[anchors]
    lift = np.median((true[..., 1].min(1) - made[..., 1].min(1))[anchors])
    shift = np.stack([np.interp(frames, anchors, drift[:, axis]) for axis in (0, 2)], 1)
    return made + np.stack([shift[:, 0], np.full(len(made), lift), shift[:, 1]], 1)[:, None]


def merged(old: RigMotion, new: RigMotion, fps: float, keep: Keep) -> RigMotion:
    """The new motion with what is kept taken from the old one, exactly; both have the same frames."""
    count = len(old.pelvis)
    weight = np.zeros((count, len(SMPL_JOINTS)))
    path = np.ones(count)
    if keep.mode == "FRAMES":
        away = np.abs(np.arange(count)[:, None] - np.flatnonzero(keep.frames)[None]).min(1) / (EASE * fps)
        path = smoothstep(1 - away)
        weight[:] = path[:, None]
    elif keep.mode == "LEGS":
        weight[:, LEGS] = 1.0
    turned = continuous(slerp(new.quaternions, old.quaternions, weight[..., None]))
    pelvis = new.pelvis + path[:, None] * (old.pelvis - new.pelvis)
    if keep.mode == "PATH":
        pelvis[:, 1] = new.pelvis[:, 1]
    return from_local(turned, pelvis)
