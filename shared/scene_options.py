"""What of a scene is shown, and in which frames: settings of the panel and of Blender's command line that do not belong to a
request, since they change its passes or what is done with its frames."""

from __future__ import annotations

from typing import Annotated

import msgspec

from .settings import Choice, Setting


class SceneOptions(msgspec.Struct, frozen=True):
    """What of the scene is shown, and in which frames."""

    subjects: Annotated[
        str,
        Setting(
            "Show",
            "What the image model sees of the scene",
            choices=(
                Choice("character", "Character", "The picked character alone; the prompt decides what is around it"),
                Choice("characters", "All Characters", "Every rigged mesh that the scene renders"),
                Choice(
                    "scene", "Whole Scene", "Characters, props and surroundings: the image model follows the depth of all of them"
                ),
            ),
        ),
    ] = "character"
    character_only: Annotated[
        bool, Setting("Character Only", "Frames are transparent around the character, to lie over other strips")
    ] = False
    frames: Annotated[str, Setting("Frames", "Like 1-24, 1-24:2 or 3,5,9; the scene's range when left out")] = ""
