"""How a character is looked at when it is dressed: settings of the panel and of Blender's command line."""

from __future__ import annotations

from typing import Annotated

import msgspec

from .charts import MAX_SIZE, MIN_SIZE
from .settings import Choice, Setting


class DressOptions(msgspec.Struct, frozen=True):
    """The pose that is looked at, and the size of the images that are made of it."""

    pose: Annotated[
        str,
        Setting(
            "Pose",
            "How the character stands while it is looked at from all sides",
            choices=(
                Choice("rest", "Rest Pose", "As its armature rests, usually with open arms: little is hidden"),
                Choice("current", "Current Pose", "As it is at the current frame, where its rest pose hides more"),
            ),
        ),
    ] = "rest"
    atlas: Annotated[
        int,
        Setting("Atlas", "Sides of the image of each surface, to be used as its base colour", ge=MIN_SIZE, le=MAX_SIZE, unit="px"),
    ] = 1024
