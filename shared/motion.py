"""The one typed motion that every reader gives and the retargeter takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .skeleton import HUMANML_JOINT_COUNT


class MotionError(ValueError):
    """A motion is unusable; the message is one sentence for the user."""


@dataclass(frozen=True)
class Motion:
    """Joint positions over time.

    ``joints`` (F, J, 3) float64 metres, Y up, facing +Z at the start, left = +X, the first J joints of SMPL; ``fps``
    frames a second; ``source`` the file it came from; ``text`` the prompt, empty when unknown.
    """

    joints: np.ndarray
    fps: float
    source: str
    text: str = ""

    @property
    def frame_count(self) -> int:
        """The number of frames F."""
        return len(self.joints)

    def cropped(self, start: int, end: int) -> Motion:
        """Frames ``start`` up to, not including, ``end``."""
        return Motion(self.joints[start:end], self.fps, self.source, self.text)

    def resampled(self, fps: float) -> Motion:
        """The same motion at another rate, positions interpolated linearly; the last frame is kept."""
        if fps <= 0:
            raise MotionError(f"A frame rate of {fps:g} makes no sense; give a positive number.")
        count = max(1, round((self.frame_count - 1) * fps / self.fps) + 1)
        at = np.linspace(0, self.frame_count - 1, count)
        low = np.minimum(at.astype(int), max(self.frame_count - 2, 0))
        part = (at - low)[:, None, None]
        high = np.minimum(low + 1, self.frame_count - 1)
        return Motion(self.joints[low] * (1 - part) + self.joints[high] * part, fps, self.source, self.text)


def checked(joints: np.ndarray, fps: float, source: str, text: str = "") -> Motion:
    """A ``Motion`` of finite (F, 22, 3) joints; ``MotionError`` says what is wrong with anything else."""
    if joints.ndim != 3 or joints.shape[2] != 3:
        raise MotionError(f"{source} has the shape {joints.shape}, expected (frames, {HUMANML_JOINT_COUNT}, 3).")
    if joints.shape[1] != HUMANML_JOINT_COUNT:
        raise MotionError(f"{source} has {joints.shape[1]} joints, expected the {HUMANML_JOINT_COUNT} of HumanML3D.")
    if len(joints) == 0:
        raise MotionError(f"{source} has no frames; generate or export it again.")
    if not np.isfinite(joints).all():
        frame = int(np.flatnonzero(~np.isfinite(joints).all((1, 2)))[0])
        raise MotionError(f"{source} contains joints that are not numbers (first in frame {frame}); it cannot be used.")
    if not fps > 0:
        raise MotionError(f"{source} gives a frame rate of {fps:g}; enter the right one.")
    return Motion(np.asarray(joints, np.float64), float(fps), source, text)
