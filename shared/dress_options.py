"""How a character is looked at when it is dressed: settings of the panel and of Blender's command line, and the numbers of the
frames that are made of it."""

from __future__ import annotations

from typing import Annotated

import msgspec

from .charts import MAX_SIZE, MIN_SIZE
from .settings import Choice, Setting

#: what is added to the numbers of the shot's own frames in a dressing, so that they lie behind its views: no scene has as many
#: frames, before 0 or after it
_SHOT, _MOST = 10_000_000, 1_048_574


def number_shot_frame(frame: int) -> int:
    """The number in a dressing of a scene's frame that the shot shows."""
    return _SHOT + frame


def find_shot_frame(number: int) -> int | None:
    """The scene's frame that a frame of a dressing shows as the shot does; None for a view, and for a frame of any other shot."""
    return number - _SHOT if abs(number - _SHOT) <= _MOST else None


class DressOptions(msgspec.Struct, frozen=True):
    """The pose that is looked at, whether the shot is, too, and the size of the images that are made of it."""

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
    with_shot: Annotated[
        bool,
        Setting(
            "With the Shot",
            "Up to four frames of the shot, as its camera sees the character there, decide with the views how it looks",
        ),
    ] = False
    atlas: Annotated[
        int,
        Setting("Atlas", "Sides of the image of each surface, to be used as its base colour", ge=MIN_SIZE, le=MAX_SIZE, unit="px"),
    ] = 1024
