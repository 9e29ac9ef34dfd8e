"""A pose of the character as a shot whose frames are views of it, and behind them frames of the scene's own shot."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .geometry import FrameGeometry
from .reading import BACKGROUND
from .ring import Viewpoint


@dataclass(frozen=True, eq=False)
class ShotFrame:
    """A frame of the scene's own shot: how the character is there, and from where its camera sees it."""

    geometry: FrameGeometry
    viewpoint: Viewpoint


@dataclass(frozen=True, eq=False)
class Staging:
    """What a shot of one pose shows: the character at a ``frame`` of the scene, or in its rest pose, from a viewpoint for each
    frame number of the shot. ``geometry`` is the pose, where it has been evaluated already. ``shot`` are frames of the scene's own
    shot by their numbers, which are others (``number_shot_frame``)."""

    frame: int
    at_rest: bool
    viewpoints: dict[int, Viewpoint] = field(default_factory=dict)
    geometry: FrameGeometry | None = None
    shot: dict[int, ShotFrame] = field(default_factory=dict)

    @property
    def frames(self) -> tuple[int, ...]:
        """The numbers of all frames, the views first."""
        return (*self.viewpoints, *self.shot)


def find_own_range(depth: np.ndarray, near: float, far: float) -> tuple[float, float]:
    """The depth range of what a picture (H, W) itself shows; ``near`` and ``far`` where it shows nothing."""
    seen = depth[depth < BACKGROUND / 2]
    return (float(seen.min()), float(seen.max())) if seen.size else (near, far)
