"""A generated shot as a scene stores it: where its frames are, and what it was made with."""

from __future__ import annotations

from typing import Any

import bpy
from bpy.props import BoolProperty, FloatProperty, IntProperty, IntVectorProperty, StringProperty

from ..shared.picture_size import Crop
from .compat import RELATIVE_PATH

#: what tells one shot of a scene from another, whatever it was made with
ShotKey = tuple[str, str, int, int, int]


class LatentManResult(bpy.types.PropertyGroup):
    """A generated shot: where its frames are and with which settings they were generated. What an earlier version of the extension
    did not store is empty or 0."""

    folder: StringProperty(name="Folder", description="Where its frames are", subtype="DIR_PATH", options=RELATIVE_PATH)
    ticket: StringProperty(name="Task", description="The task that made it")
    job: StringProperty(name="Job", description="The shot in the backend's job store")
    settings: StringProperty(name="Settings", description="A digest of what decides the look; empty for an unfinished shot")
    transparent: BoolProperty(name="Character Only", description="The frames are transparent around the characters")
    character: StringProperty(name="Character", description="The object whose look was generated; empty for a whole scene")
    prompt: StringProperty(name="Prompt", description="What it was asked to look like")
    seed: IntProperty(name="Seed", description="The number that its noise was made from")
    start: IntProperty(name="First Frame", description="The scene's frame that its first frame shows")
    step: IntProperty(name="Frame Step", description="Scene frames from one frame to the next", default=1)
    count: IntProperty(name="Frames", description="How many frames there are")
    crop: IntVectorProperty(
        name="Crop",
        size=4,
        description="The part of the generated frames that is stored: left, top, width, height; all 0 for whole ones",
    )
    camera: StringProperty(name="Camera", description="The scene's camera when it was generated")
    hmse: FloatProperty(name="Flicker", description="Mean squared difference of matched surface points in consecutive frames")
    starred: BoolProperty(name="Star", description="Mark this result as one of the good ones")
    created: StringProperty(name="Made", description="When it was made, in UTC: year-month-dayThour:minute:second")
    preset: StringProperty(name="Preset", description="The preset of the method that made it")
    model: StringProperty(name="Model", description="The model that made it, with its parts")
    size: IntVectorProperty(name="Size", size=2, description="Width and height of the stored frames in pixels")
    total: IntProperty(name="Wanted Frames", description="How many frames were to be made")
    made: IntProperty(name="New Frames", description="How many frames were made")
    kept: IntProperty(name="Kept Frames", description="How many frames were taken over from the result before, as nothing changed")
    costume: StringProperty(name="Costume", description="The folder of the costume that the character wore, by its name")
    panel: StringProperty(name="Panel", description="The panel's settings when it was started, for Restore Settings")


def read_crop(result: LatentManResult) -> Crop | None:
    """The part of the generated frames that a result stores; None for whole ones."""
    left, top, width, height = result.crop
    return Crop(left, top, width, height) if width and height else None


def make_shot_key(result: LatentManResult) -> ShotKey:
    """What is equal for versions of the same shot: the character, the camera, and the frames that were to be made."""
    return result.character, result.camera, result.start, result.step, result.total or result.count


def is_partial(result: LatentManResult) -> bool:
    """Whether frames are missing because its making was stopped; what an earlier version stored says so by its empty settings."""
    return result.count < result.total or not (result.total or result.settings)


def get_scene_of(result: LatentManResult) -> bpy.types.Scene:
    """The scene that a result belongs to, whatever it is called now."""
    owner: Any = result.id_data
    scene: bpy.types.Scene = owner
    return scene
