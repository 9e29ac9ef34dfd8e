"""How motions become keyframes, as settings of the panel and of the command line."""

from __future__ import annotations

from typing import Annotated

import msgspec

from ...shared.settings import Choice, Setting
from .foot_contacts import ContactSettings


class Keying(msgspec.Struct, frozen=True):
    """How motions become keyframes."""

    target: Annotated[
        str,
        Setting(
            "Write To",
            "Where a motion goes",
            choices=(
                Choice("ACTION", "New Action", "A new Action takes the place of the one in use, which is kept"),
                Choice("NLA", "NLA Strip", "A strip on a new track; the Action in use stays in use"),
                Choice(
                    "LAYER",
                    "Below My Tweaks",
                    "The base of a stack: keys that you set afterwards are a layer above it, and stay when another motion is "
                    "imported",
                ),
            ),
        ),
    ] = "ACTION"
    root: Annotated[
        str,
        Setting(
            "Root",
            "What moves the character over the ground",
            choices=(
                Choice("BONE", "Pelvis Bone", "The pelvis bone moves"),
                Choice("OBJECT", "Object", "The armature object moves"),
                Choice("IN_PLACE", "In Place", "The character stays where it begins"),
            ),
        ),
    ] = "BONE"
    rotation: Annotated[
        str,
        Setting(
            "Rotation",
            "How rotations are written",
            choices=(
                Choice("QUATERNION", "Quaternion", "No gimbal lock"),
                Choice("EULER", "Euler", "Curves that are easy to read, in each bone's own order, or XYZ"),
                Choice("KEEP", "As the Bones Have It", "Each bone in its own rotation mode"),
            ),
        ),
    ] = "QUATERNION"
    foot_lock: Annotated[
        str,
        Setting(
            "Foot Lock",
            "Whether feet may slide while they are on the ground",
            choices=(
                Choice("off", "Off", "Feet as the motion has them"),
                Choice("soft", "Soft", "Most of the sliding is removed"),
                Choice("hard", "Hard", "Feet on the ground do not move at all"),
            ),
        ),
    ] = "off"
    tolerance: Annotated[
        float,
        Setting(
            "Key Bound",
            "Leave out keys as long as hands, feet and head stay within this distance of the motion; 0 keys every frame",
            ge=0,
            le=100,
            unit="mm",
        ),
    ] = 0.0
    keep_rate: Annotated[bool, Setting("Keep File's Frames", "Key the motion's own frames, not every frame of the scene")] = False
    # .blend files store these two under their names
    plant_speed: Annotated[
        float,
        Setting(
            "Speed",
            "A foot is in contact with the ground while it is slower than this plus three quarters of the body's own speed",
            ge=0.01,
            le=5,
            unit="m/s",
        ),
    ] = ContactSettings.speed
    plant_height: Annotated[
        float,
        Setting(
            "Height",
            "A foot is in contact with the ground while its toes are less than this above their rest height",
            ge=0.001,
            le=0.5,
            unit="m",
        ),
    ] = ContactSettings.height
    mute_overruling: Annotated[
        bool,
        Setting(
            "Mute Overruling Constraints",
            "Mute constraints that keep the body from following its keys, where keying what they follow does not help; a motion is "
            "refused there otherwise",
        ),
    ] = False
    flat_soles: Annotated[
        bool,
        Setting(
            "Flat Soles",
            "Soles that are flat in the motion are flat on the character; otherwise the line from ankle to toes points exactly as "
            "in the motion, which tilts the soles where that line is steeper on one body than on the other",
        ),
    ] = False

    def get_contact_settings(self) -> ContactSettings:
        """When a foot counts as in contact with the ground."""
        return ContactSettings(speed=self.plant_speed, height=self.plant_height)
