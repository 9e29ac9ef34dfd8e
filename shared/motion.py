"""The one typed motion that every reader gives and the retargeter takes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .skeleton import HUMANML_JOINT_COUNT, SMPL_JOINTS
from .vectors import normalise

MAX_FRAMES, MAX_FPS, MAX_METRES = 100_000, 1000.0, 1e5


class MotionError(ValueError):
    """A motion is unusable; the message is one sentence for the user."""


@dataclass(frozen=True)
class Motion:
    """A body's movement over time.

    ``joints`` (F, J, 3) float64 metres, Y up, facing +Z at the start, left = +X, the first J joints of SMPL; ``fps``
    frames a second; ``source`` the file it came from; ``text`` the prompt, empty when unknown. ``rotations`` (F, 24, 4)
    are the local rotations of the SMPL joints as quaternions (w, x, y, z), for sources that know them, else None.
    """

    joints: np.ndarray
    fps: float
    source: str
    text: str = ""
    rotations: np.ndarray | None = None

    @property
    def frame_count(self) -> int:
        """The number of frames F."""
        return len(self.joints)

    @property
    def seconds(self) -> float:
        """The time from the first frame to the last."""
        return (self.frame_count - 1) / self.fps

    def cropped(self, start: int, end: int) -> Motion:
        """Frames ``start`` up to, not including, ``end``."""
        turns = None if self.rotations is None else self.rotations[start:end]
        return replace(self, joints=self.joints[start:end], rotations=turns)

    def resampled(self, fps: float) -> Motion:
        """The same motion at another rate, the last frame kept: positions linearly, rotations by slerp."""
        if not 0 < fps <= MAX_FPS:
            raise MotionError(f"A frame rate of {fps:g} makes no sense; give one between 1 and {MAX_FPS:g}.")
        count = max(1, round(self.seconds * fps) + 1)
        if count > MAX_FRAMES:
            raise MotionError(f"{self.source} would have {count} frames at {fps:g} fps; at most {MAX_FRAMES} are handled.")
        at = np.linspace(0, self.frame_count - 1, count)
        low = np.minimum(at.astype(int), max(self.frame_count - 2, 0))
        high = np.minimum(low + 1, self.frame_count - 1)
        part = (at - low)[:, None, None]
        turns = None if self.rotations is None else slerp(self.rotations[low], self.rotations[high], part)
        return replace(self, joints=self.joints[low] * (1 - part) + self.joints[high] * part, fps=float(fps), rotations=turns)


def slerp(start: np.ndarray, end: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Unit quaternions (..., 4) a ``part`` (..., 1) of the shorter way from ``start`` to ``end``."""
    cosine = (start * end).sum(-1, keepdims=True)
    end, cosine = np.where(cosine < 0, -end, end), np.abs(cosine).clip(0, 1)
    angle = np.arccos(cosine)
    # nearly equal rotations: the chord is as good as the arc
    near = angle < 1e-4
    sine = np.where(near, 1.0, np.sin(angle))
    a = np.where(near, 1 - part, np.sin((1 - part) * angle) / sine)
    b = np.where(near, part, np.sin(part * angle) / sine)
    return normalise(a * start + b * end)


def checked(joints: np.ndarray, fps: float, source: str, text: str = "", rotations: np.ndarray | None = None) -> Motion:
    """A ``Motion`` of finite (F, 22, 3) joints; ``MotionError`` says what is wrong with anything else."""
    if joints.ndim != 3 or joints.shape[2] != 3:
        raise MotionError(f"{source} has the shape {joints.shape}, expected (frames, {HUMANML_JOINT_COUNT}, 3).")
    if joints.shape[1] != HUMANML_JOINT_COUNT:
        raise MotionError(f"{source} has {joints.shape[1]} joints, expected the {HUMANML_JOINT_COUNT} of HumanML3D.")
    if not 0 < len(joints) <= MAX_FRAMES:
        what = "no frames" if len(joints) == 0 else f"{len(joints)} frames, more than the {MAX_FRAMES} that are handled"
        raise MotionError(f"{source} has {what}; generate or export it again.")
    if rotations is not None and rotations.shape != (len(joints), len(SMPL_JOINTS), 4):
        raise MotionError(f"{source} has rotations of the shape {rotations.shape}, which do not fit its joints.")
    for array in (joints, rotations):
        if array is not None and not np.isfinite(array).all():
            frame = int(np.flatnonzero(~np.isfinite(array).all((1, 2)))[0])
            raise MotionError(f"{source} contains joints that are not numbers (first in frame {frame}); it cannot be used.")
    if np.abs(joints).max() > MAX_METRES:
        raise MotionError(f"{source} has joints {np.abs(joints).max():.3g} m away, which is not the motion of a person.")
    if not 0 < fps <= MAX_FPS:
        raise MotionError(f"{source} gives a frame rate of {fps:g}; enter the right one, between 1 and {MAX_FPS:g}.")
    return Motion(
        np.asarray(joints, np.float64), float(fps), source, text, None if rotations is None else np.asarray(rotations, np.float64)
    )
