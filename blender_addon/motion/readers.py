"""Motion files: MDM's ``results.npy`` and plain joint arrays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..character.unpickling import UnsafePickleError, load_npy_object
from ..shared_link import HUMANML_FPS, Motion, MotionError, checked

BUNDLED = Path(__file__).resolve().parent / "data" / "results.npy"


@dataclass(frozen=True)
class MotionFile:
    """What a motion file holds: one entry for each clip, its text and its length in frames."""

    path: Path
    texts: tuple[str, ...]
    lengths: tuple[int, ...]
    _joints: tuple[np.ndarray, ...]

    def motion(self, clip: int, fps: float = HUMANML_FPS) -> Motion:
        """A clip as a checked motion; ``MotionError`` for a clip that is not there or not usable."""
        if not 0 <= clip < len(self._joints):
            raise MotionError(f"{self.path.name} has {len(self._joints)} clips, numbered from 0; there is no clip {clip}.")
        return checked(self._joints[clip], fps, self.path.name, self.texts[clip])


def read(path: Path | str) -> MotionFile:
    """Open a ``.npy`` motion; ``MotionError`` is one sentence about anything that is wrong with it."""
    path = Path(path)
    try:
        value = load_npy_object(path.read_bytes())
    except FileNotFoundError:
        raise MotionError(f"There is no motion file at {path}; check the path.") from None
    except UnsafePickleError as error:
        raise MotionError(f"{path.name} was refused: {error}.") from error
    except (OSError, ValueError) as error:
        raise MotionError(f"{path.name} cannot be read: {error}.") from error
    if isinstance(value, dict):
        return _results(path, value)
    joints = np.asarray(value)
    while joints.ndim > 3 and joints.shape[0] == 1:
        joints = joints[0]
    if joints.dtype.kind not in "fiu":
        raise MotionError(f"{path.name} holds no numbers; choose a results.npy of MDM or an array of joints.")
    return MotionFile(path, (path.stem,), (len(joints),), (joints,))


def _results(path: Path, data: dict[str, Any]) -> MotionFile:
    missing = {"motion", "lengths"} - set(data)
    if missing:
        raise MotionError(f"{path.name} lacks '{sorted(missing)[0]}', so it is no results.npy of MDM.")
    motion, lengths = np.asarray(data["motion"]), np.asarray(data["lengths"]).ravel()
    if motion.ndim != 4 or motion.shape[2] != 3 or len(lengths) != len(motion):
        raise MotionError(f"{path.name} holds motion of the shape {motion.shape}, expected (clips, 22, 3, frames).")
    texts = [str(text) for text in data.get("text", [])]
    texts += [f"clip {n}" for n in range(len(texts), len(motion))]
    joints = tuple(row[..., : max(int(n), 0)].transpose(2, 0, 1) for row, n in zip(motion, lengths, strict=True))
    return MotionFile(path, tuple(texts[: len(motion)]), tuple(len(j) for j in joints), joints)
