"""How motions become keyframes, as settings of the panel and of the command line."""

from __future__ import annotations

from typing import Annotated

import msgspec

from ...shared.settings import Choice, Setting
from .feet import PlantSettings


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
            "What carries the path of the motion",
            choices=(
                Choice("BONE", "Pelvis Bone", "The pelvis bone carries the path"),
                Choice("OBJECT", "Object", "The armature object carries it"),
                Choice("IN_PLACE", "In Place", "The character stays where it begins"),
            ),
        ),
    ] = "BONE"
    rotation: Annotated[
        str,
        Setting(
            "Rotation",
            "What turns are written as",
            choices=(
                Choice("QUATERNION", "Quaternion", "No gimbal lock"),
                Choice("EULER", "Euler XYZ", "Curves that are easy to read"),
            ),
        ),
    ] = "QUATERNION"
    foot_lock: Annotated[
        str,
        Setting(
            "Foot Lock",
            "Whether standing feet may slide",
            choices=(
                Choice("off", "Off", "Feet as the motion has them"),
                Choice("soft", "Soft", "Most of the sliding is taken away"),
                Choice("hard", "Hard", "Planted feet do not move at all"),
            ),
        ),
    ] = "off"
    tolerance: Annotated[
        float,
        Setting(
            "Key Bound",
            "Leave out keys as long as hands, feet and head stay within so many millimetres; 0 keys every frame",
            ge=0,
            le=100,
            unit="mm",
        ),
    ] = 0.0
    keep_rate: Annotated[
        bool, Setting("Keep File's Frames", "Key the motion's own frames instead of one each frame of the scene")
    ] = False
    plant_speed: Annotated[
        float,
        Setting(
            "Speed",
            "A foot stands while it is slower than this, plus three quarters of the body's own speed",
            ge=0.01,
            le=5,
            unit="m/s",
        ),
    ] = PlantSettings.speed
    plant_height: Annotated[
        float,
        Setting("Height", "A foot stands while its toes are lower than this above where they rest", ge=0.001, le=0.5, unit="m"),
    ] = PlantSettings.height

    def plants(self) -> PlantSettings:
        """When a foot counts as planted."""
        return PlantSettings(speed=self.plant_speed, height=self.plant_height)
