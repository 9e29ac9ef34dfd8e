"""Motions that a model made: as HumanML3D's vectors, or as joints and rotations at the model's own rate."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .files import write_atomically
from .motion import MAX_FPS, MAX_METRES, MotionError
from .motion_request import MotionRequest, frame_count
from .skeleton import HUMANML_FPS, HUMANML_JOINT_COUNT, SMPL_JOINTS

#: numbers of a row of HumanML3D's vectors
FEATURES = 263
#: frames for each that was asked for: a model of another package may go on a little
MOST_FRAMES = 4


@dataclass(frozen=True)
class MadeMotion:
    """N motions of F frames, one for each variant, and ``warnings``: sentences for the user.

    Either ``vectors`` (N, F, 263) float32, HumanML3D's in their own units at 20 frames a second, or ``joints``
    (N, F, 22, 3) float32, the first 22 joints of SMPL in metres, Y up, left = +X where somebody faces +Z, the floor at y = 0,
    at ``fps`` frames a second. ``rotations`` (N, F, 24, 4) float32, where the model has them, are the local rotations of
    SMPL's joints away from its T-pose as unit quaternions (w, x, y, z); they come out as they are, twists included.
    """

    vectors: np.ndarray | None = None
    warnings: tuple[str, ...] = ()
    joints: np.ndarray | None = None
    rotations: np.ndarray | None = None
    fps: float = HUMANML_FPS

    @property
    def count(self) -> int:
        """The number of motions N."""
        return len(self._rows)

    @property
    def frame_count(self) -> int:
        """The number of frames F of each."""
        return int(self._rows.shape[1])

    @property
    def _rows(self) -> np.ndarray:
        rows = self.vectors if self.vectors is not None else self.joints
        assert rows is not None
        return rows

    def list_arrays(self) -> dict[str, np.ndarray]:
        """The arrays that there are, by name: those of a message and of a file."""
        arrays = {"vectors": self.vectors, "joints": self.joints, "rotations": self.rotations}
        return {name: array for name, array in arrays.items() if array is not None}


def read_made(
    arrays: Mapping[str, np.ndarray], fps: float, warnings: tuple[str, ...], request: MotionRequest, whose: str
) -> MadeMotion:
    """The motions of an answer to a request; ``MotionError``, which begins with ``whose``, when they are not what was asked for."""
    vectors, joints, rotations = (arrays.get(name) for name in ("vectors", "joints", "rotations"))
    rows = vectors if vectors is not None else joints
    if rows is None or (vectors is None) == (joints is None) or (rotations is not None and joints is None):
        raise _refuse(whose, "no motions")
    each = (FEATURES,) if vectors is not None else (HUMANML_JOINT_COUNT, 3)
    if rows.ndim != 2 + len(each) or rows.dtype != np.float32 or rows.shape[2:] != each:
        raise _refuse(whose, f"an array of {rows.dtype} and the shape {rows.shape}")
    rate = HUMANML_FPS if vectors is not None else fps
    if not 1 <= rate <= MAX_FPS or (vectors is not None and fps != HUMANML_FPS):
        raise _refuse(whose, f"motions at {fps:g} frames a second")
    most = MOST_FRAMES * frame_count(request) * rate / HUMANML_FPS
    if len(rows) != request.variants or not 1 < rows.shape[1] <= most:
        raise _refuse(whose, f"{len(rows)} motions of {rows.shape[1]} frames")
    if not np.isfinite(rows).all() or np.abs(rows).max() > MAX_METRES:
        raise _refuse(whose, "motions with values that are not numbers")
    if rotations is not None:
        if rotations.shape != (*rows.shape[:2], len(SMPL_JOINTS), 4) or rotations.dtype != np.float32:
            raise _refuse(whose, f"rotations of {rotations.dtype} and the shape {rotations.shape}")
        if not np.abs(np.linalg.norm(rotations, axis=-1) - 1).max() < 1e-3:
            raise _refuse(whose, "rotations that are not unit quaternions")
    return MadeMotion(vectors, warnings, joints, rotations, rate)


def _refuse(whose: str, what: str) -> MotionError:
    return MotionError(
        f"{whose} {what}, which does not fit what it was asked for; generate again, and update it if that does not help."
    )


def save_made(path: Path, made: MadeMotion, request: MotionRequest) -> None:
    """Write made motions as the ``.npz`` that the add-on reads: their arrays, ``fps``, ``text``, ``seed``, ``model``."""
    buffer = io.BytesIO()
    np.savez(
        buffer,
        **made.list_arrays(),
        fps=np.float32(made.fps),
        text=np.array(request.text),
        seed=np.int64(request.seed),
        model=np.array(request.model),
    )
    write_atomically(path, buffer.getvalue())
