"""The one typed motion that every reader returns and retargeting takes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .skeleton import HUMANML_JOINT_COUNT, SMPL_JOINTS
from .vectors import normalise

MAX_FRAMES, MAX_FPS, MAX_METRES = 100_000, 1000.0, 1e5


class MotionError(ValueError):
    """A motion cannot be used; the message is one sentence for the user."""


@dataclass(frozen=True)
class Motion:
    """A body's movement over time.

    ``joints`` (F, J, 3) float64 metres, Y up, facing +Z at the start, left = +X, the first J joints of SMPL; ``fps``
    frames per second; ``source`` the file it came from; ``text`` the prompt, empty when unknown. ``rotations`` (F, 24, 4)
    float64 are the local rotations of the SMPL joints as unit quaternions (w, x, y, z), for sources that have them, else
    None. ``follows_joints`` says that they came from another skeleton: on every body limbs point as ``joints`` do, and
    rotations give the twist. ``from_joints`` validates; the constructor does not.
    """

    joints: np.ndarray
    fps: float
    source: str
    text: str = ""
    rotations: np.ndarray | None = None
    follows_joints: bool = False

    @classmethod
    def from_joints(
        cls, joints: np.ndarray, fps: float, source: str, text: str = "", rotations: np.ndarray | None = None
    ) -> Motion:
        """A validated motion of joints (F, 22, 3) and rotations (F, 24, 4) or None, converted to float64.

        Raises ``MotionError`` for other shapes, values that are not finite or not plausible, and rates out of range.
        """
        if joints.ndim != 3 or joints.shape[2] != 3:
            raise MotionError(f"{source} has the shape {joints.shape}, expected (frames, {HUMANML_JOINT_COUNT}, 3).")
        if joints.shape[1] != HUMANML_JOINT_COUNT:
            raise MotionError(f"{source} has {joints.shape[1]} joints, expected the {HUMANML_JOINT_COUNT} of HumanML3D.")
        if not 0 < len(joints) <= MAX_FRAMES:
            count = "no frames" if len(joints) == 0 else f"{len(joints)} frames, more than the limit of {MAX_FRAMES}"
            raise MotionError(f"{source} has {count}; generate or export it again.")
        if rotations is not None and rotations.shape != (len(joints), len(SMPL_JOINTS), 4):
            raise MotionError(
                f"{source} has rotations of the shape {rotations.shape}, which do not fit its joints; export it again."
            )
        for array in (joints, rotations):
            if array is not None and not np.isfinite(array).all():
                frame = int(np.flatnonzero(~np.isfinite(array).all((1, 2)))[0])
                raise MotionError(f"{source} contains joints that are not numbers (first in frame {frame}); export it again.")
        if np.abs(joints).max() > MAX_METRES:
            raise MotionError(
                f"{source} has joints {np.abs(joints).max():.3g} m away, farther than a person moves; export it in metres."
            )
        if not 0 < fps <= MAX_FPS:
            raise MotionError(f"{source} has a frame rate of {fps:g}; enter the right one, between 1 and {MAX_FPS:g}.")
        return cls(
            np.asarray(joints, np.float64),
            float(fps),
            source,
            text,
            None if rotations is None else np.asarray(rotations, np.float64),
        )

    @property
    def frame_count(self) -> int:
        """The number of frames F."""
        return len(self.joints)

    @property
    def seconds(self) -> float:
        """The time from the first frame to the last."""
        return (self.frame_count - 1) / self.fps

    def crop(self, start: int, end: int) -> Motion:
        """Frames ``start`` up to, not including, ``end``."""
        rotations = None if self.rotations is None else self.rotations[start:end]
        return replace(self, joints=self.joints[start:end], rotations=rotations)

    def resample(self, fps: float) -> Motion:
        """The same motion at another rate, each frame at its own time: positions linearly, rotations by slerp.

        A last frame that lies between two new ones is on the nearer of them: held where that is later, dropped where it is earlier.
        Raises ``MotionError`` for a rate out of range or one that needs too many frames.
        """
        if not 0 < fps <= MAX_FPS:
            raise MotionError(f"A frame rate of {fps:g} cannot be used; choose one between 1 and {MAX_FPS:g}.")
        count = max(1, round(self.seconds * fps) + 1)
        if count > MAX_FRAMES:
            raise MotionError(
                f"{self.source} would have {count} frames at {fps:g} fps; the limit is {MAX_FRAMES}, so choose a lower rate."
            )
        at = np.minimum(np.arange(count) * self.fps / fps, self.frame_count - 1)
        low = np.minimum(at.astype(int), max(self.frame_count - 2, 0))
        high = np.minimum(low + 1, self.frame_count - 1)
        t = (at - low)[:, None, None]
        rotations = None if self.rotations is None else slerp(self.rotations[low], self.rotations[high], t)
        return replace(self, joints=self.joints[low] * (1 - t) + self.joints[high] * t, fps=float(fps), rotations=rotations)


def slerp(start: np.ndarray, end: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Unit quaternions (..., 4) from ``start`` at ``t`` (..., 1) = 0 to ``end`` at 1, along the shorter arc."""
    cosine = (start * end).sum(-1, keepdims=True)
    end, cosine = np.where(cosine < 0, -end, end), np.abs(cosine).clip(0, 1)
    angle = np.arccos(cosine)
    # nearly equal rotations: the chord is as good as the arc
    near = angle < 1e-4
    sine = np.where(near, 1.0, np.sin(angle))
    a = np.where(near, 1 - t, np.sin((1 - t) * angle) / sine)
    b = np.where(near, t, np.sin(t * angle) / sine)
    return normalise(a * start + b * end)
