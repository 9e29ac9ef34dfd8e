"""What an edited motion needs to become an Action in the place of the one that it was read from."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..character.rig import Rig
from ..motion.channels import Channels, motion_to_channels
from ..motion.retarget import RigMotion
from .nla import MotionPlace, list_motion_curves
from .retiming import Retime


@dataclass(frozen=True)
class Edit:
    """What an edited Action is made from: the place of the motion, the first frame that was read of it, what happens to the curves
    that are kept, and sentences about what was assumed when the motion was read."""

    place: MotionPlace
    start: int
    retime: Retime
    assumed: tuple[str, ...] = ()


def edit_to_channels(rig: Rig, source: RigMotion, edited: RigMotion, place: MotionPlace, *, in_place: bool = False) -> Channels:
    """The channels of an edited motion, on the object if the original moves it, else on the bones.

    The object keeps the distance that it had from the pelvis where the original begins.
    """
    moves_object = any(curve.data_path == "location" for curve in list_motion_curves(place))
    if not moves_object:
        return motion_to_channels(rig, edited, "IN_PLACE" if in_place else "BONE")
    channels = motion_to_channels(rig, edited, "OBJECT")
    shift = ((edited.pelvis[0] - source.pelvis[0]) * [1.0, 0.0, 1.0]) @ rig.to_body / rig.scale
    travel = channels.object_location
    assert travel is not None
    bone = rig.joint_bones["pelvis"]
    return replace(
        channels,
        object_location=np.zeros_like(travel) if in_place else travel + shift,
        root_location=channels.root_location - (0.0 if in_place else shift @ rig.rest[bone]),
    )
