"""How a character's object stands in the scene: what turns it turns the motion with it."""

from __future__ import annotations

import bpy
import numpy as np

from ...shared.vectors import normalise
from ..character.rig import Rig
from .stand_in import StandIn

#: degrees from upright, and from the heading that a motion has by itself, that nobody sees
LEAST_TILT, LEAST_TURN = 1.0, 1.0
#: degrees of tilt up to which a heading means something
UPRIGHT = 60.0


def describe_stance(stand: StandIn, rig: Rig, frame: float) -> tuple[list[str], list[str]]:
    """(sentences about an object that faces another way than the motion, warnings about one that is tilted) at a frame."""
    linear = np.array(stand.evaluate(frame).matrix_world, float)[:3, :3]
    left, up, _ = normalise(rig.to_body @ linear.T)
    tilt = float(np.degrees(np.arctan2(np.hypot(up[0], up[1]), up[2])))
    # a motion faces -Y of the scene, with +X on its left
    turn = float(np.degrees(np.arctan2(left[1], left[0])))
    name, parents = stand.original.name, _list_parents(stand.original)
    owner = f"{name} or its parent {' or '.join(parents)}" if parents else name
    warnings, notes = [], []
    if tilt > LEAST_TILT:
        warnings.append(
            f"{name} is tilted by {tilt:.0f} degrees in the scene, and the motion with it; if it should stand upright, clear the "
            f"rotation of {owner} (Alt R)."
        )
    if abs(turn) > LEAST_TURN and tilt < UPRIGHT:
        notes.append(f"{name} is turned by {turn:.0f} degrees about the vertical, and the motion with it.")
    return notes, warnings


def _list_parents(armature: bpy.types.Object) -> list[str]:
    """Names of the objects above an object that are turned themselves; of all where none is."""
    above, parent = [], armature.parent
    while parent is not None:
        above.append(parent)
        parent = parent.parent
    turned = [one.name for one in above if np.degrees(one.matrix_basis.to_quaternion().angle) > LEAST_TILT]
    return turned or [one.name for one in above]
