"""The movement of a skeleton of any build, as a BVH file or an animated armature has it. No bpy.

It says nothing of a person yet: which bone is which joint, which way is up and what its unit is are found afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SkeletonMotion:
    """A skeleton of B bones over F frames; float64, in the source's own axes and unit.

    ``names`` and ``parents`` (B,), an index or -1, parents before their children; ``positions`` (F, B, 3): the head of each
    bone, about which it rotates; ``rotations`` (F, B, 3, 3): the bones' global rotations, in which whatever hangs on a bone
    has a constant place; ``tips`` (B, 3): the end of each bone in its own axes, nan where the source does not say;
    ``rest_positions`` (B, 3) and ``rest_rotations`` (B, 3, 3): the zero pose, which need not look like a person; ``fps``;
    ``source``: the file or the object it came from.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    positions: np.ndarray
    rotations: np.ndarray
    tips: np.ndarray
    rest_positions: np.ndarray
    rest_rotations: np.ndarray
    fps: float
    source: str

    @property
    def frame_count(self) -> int:
        """The number of frames F."""
        return len(self.positions)
