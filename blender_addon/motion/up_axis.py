"""Which way is up in a file's own axes, found in the joints of the person in it. No bpy.

Feet are below the head, the lowest point of somebody who stands on the ground keeps its height, and the floor is usually at zero.
"""

from __future__ import annotations

import numpy as np

from ...shared.skeleton import JOINT_INDEX
from .representations import Guess

#: names of the axes, as the dialog, scripts and descriptions know them; the last is that of a camera, whose Y points down
Y, Z, Y_DOWN = "Y", "Z", "Y_DOWN"
TITLES = {Y: "Y up", Z: "Z up", Y_DOWN: "Y down, as a camera sees it"}
#: axis -> the rotation to Y up; from Z up a person who looks along +Y looks along +Z afterwards
TO_BODY: dict[str, np.ndarray] = {
    Y: np.eye(3),
    Z: np.array([[-1.0, 0, 0], [0, 0, 1.0], [0, 1.0, 0]]),
    Y_DOWN: np.diag([1.0, -1.0, -1.0]),
}
#: what a guess must have more than the next to be believed
MARGIN = 0.5
#: metres: how far the floor may be from zero, and how much the lowest point of a walk varies
FLOOR, STEADY = 0.15, 0.12
#: metres from the soles to the head joint of somebody who stands
HEIGHT = 1.5
_FEET = [JOINT_INDEX[name] for name in ("left_foot", "right_foot", "left_ankle", "right_ankle")]


def guess_up_axis(joints: np.ndarray, usual: str, axes: tuple[str, ...] = (Y, Z, Y_DOWN), *, has_path: bool = True) -> Guess:
    """The axis of ``axes`` that is up for joints (F, 22, 3), metres, in their file's axes; where they do not tell, it is
    ``usual``, and doubtful. ``has_path``: the positions are the file's, not only the pose."""
    if not len(joints) or not np.isfinite(joints).all():
        return Guess(usual)
    scores = {axis: _score(joints @ TO_BODY[axis][1], has_path) for axis in axes}
    best = max(axes, key=lambda axis: scores[axis])
    rest = max((scores[axis] for axis in axes if axis != best), default=-1.0)
    if scores[best] - rest < MARGIN:
        return Guess(usual, True)
    return Guess(best)


def _score(heights: np.ndarray, has_path: bool) -> float:
    """How well heights (F, 22) are those of a person who stands on a floor."""
    head, hips = heights[:, JOINT_INDEX["head"]], heights[:, 0]
    feet = heights[:, _FEET].mean(1)
    upright = (
        float(np.mean(np.clip((head - feet) / (0.9 * HEIGHT), -1, 1)) + np.mean(np.clip((head - hips) / (0.4 * HEIGHT), -1, 1))) / 2
    )
    if not has_path:
        return upright
    lowest = heights.min(1)
    steady = float(np.exp(-np.std(lowest) / STEADY))
    floor = 1.0 if abs(np.percentile(lowest, 5)) < FLOOR else 0.0
    return upright + 0.3 * steady + 0.4 * floor
