"""What a scene remembers: the character, the look, the range, the results."""

from __future__ import annotations

import hashlib
import json

import bpy
import msgspec
from bpy.props import (
    BoolProperty,
    CollectionProperty,
    EnumProperty,
    FloatProperty,
    IntProperty,
    PointerProperty,
    StringProperty,
)

from ..shared import motion_request, shot
from ..shared.motion import MotionError
from ..shared.scene_options import SceneOptions
from ..shared.settings import list_settings, with_parts, with_settings
from ..shared.skeleton import HUMANML_FPS, SMPL_JOINTS
from . import technique_properties
from .compat import RELATIVE_PATH
from .declared_properties import declare, property_of, read, read_all, shortest
from .motion import readers
from .motion.foot_contacts import ContactSettings
from .motion.keying import Keying
from .rigging.keyframes import KeyOptions
from .rigging.rigs import BONE_MAP
from .technique_properties import COMMON, PRESET, PRESET_ITEM, LatentManTechniques
from .timing import frame_rate

#: what the scene decides
FROM_SCENE = ("fps",)
_PRESET = next(declared for declared in list_settings(shot.ShotRequest) if declared.name == "preset")
_MATCHING = next(declared for declared in list_settings(shot.Method) if declared.name == "matching")

_clip_items: list[tuple[str, str, str]] = []


def _clips(self, context):  # Blender needs the strings kept alive, hence the module's list
    if not _clip_items:
        try:
            file = readers.read(readers.BUNDLED)
            _clip_items.extend(
                (str(n), text, f"{file.lengths[n]} frames at {HUMANML_FPS:g} fps") for n, text in enumerate(file.texts)
            )
        except MotionError:
            _clip_items.append(("0", "no bundled clips", "The extension is incomplete; install it again"))
    return _clip_items


def is_character(self, candidate: bpy.types.Object) -> bool:
    """What the character picker offers."""
    return candidate.type in ("ARMATURE", "MESH")


class LatentManResult(bpy.types.PropertyGroup):
    """A generated shot: where its frames are and how they were made."""

    folder: StringProperty(name="Folder", subtype="DIR_PATH")
    job: StringProperty(name="Job")
    settings: StringProperty(name="Settings", description="A digest of all that decides the look")
    character: StringProperty(name="Character")
    prompt: StringProperty(name="Prompt")
    seed: IntProperty(name="Seed")
    start: IntProperty(name="First Frame")
    step: IntProperty(name="Frame Step", default=1)
    count: IntProperty(name="Frames")
    hmse: FloatProperty(name="Flicker", description="Mean squared difference of matched surface points in consecutive frames")


class LatentManPlant(bpy.types.PropertyGroup):
    """A range of frames in which a foot is on the ground; the class keeps its name because .blend files store it."""

    side: EnumProperty(name="Foot", items=(("left", "Left", ""), ("right", "Right", "")))
    start: IntProperty(name="First", description="The first frame on which the foot is on the ground")
    end: IntProperty(name="Last", description="The last frame on which the foot is on the ground")


def _bone_changed(self, context) -> None:
    owner = self.id_data
    owner[BONE_MAP] = json.dumps({slot.name: slot.bone for slot in owner.latentman_bones if slot.bone})


class LatentManBone(bpy.types.PropertyGroup):
    """A joint (the item's name) and the bone that turns there."""

    bone: StringProperty(name="Bone", update=_bone_changed)


def fill_bones(armature: bpy.types.Object, mapping: dict[str, str]) -> None:
    """Show a bone map in the character's list and save it on the armature."""
    armature.latentman_bones.clear()
    for joint in SMPL_JOINTS:
        armature.latentman_bones.add().name = joint
    for slot in armature.latentman_bones:
        slot.bone = mapping.get(slot.name, "")
    armature[BONE_MAP] = json.dumps(mapping)


@declare(Keying)
class LatentManKeying(bpy.types.PropertyGroup):
    """How motions become keyframes."""

    def keying(self) -> Keying:
        """The settings as a value."""
        return Keying(**read_all(self, Keying))

    def contact_settings(self) -> ContactSettings:
        """When a foot counts as in contact with the ground."""
        return self.keying().get_contact_settings()

    def options(self) -> KeyOptions:
        """The options that these settings describe."""
        return KeyOptions.from_keying(self.keying())


@declare(motion_request.MotionRequest)
class LatentManMotion(bpy.types.PropertyGroup):
    """What motion is asked for."""

    def request(self, seconds: float) -> motion_request.MotionRequest:
        """The request that these settings describe, for so many seconds."""
        values = read_all(self, motion_request.MotionRequest)
        return motion_request.MotionRequest(**values | {"seconds": shortest(seconds)})


@declare(shot.ShotRequest, leave_out=FROM_SCENE)
@declare(SceneOptions, leave_out=("frames",))
class LatentManSettings(bpy.types.PropertyGroup):
    """The panel's settings: those of a shot and of the scene as they are declared, and what only the panel has."""

    character: PointerProperty(
        name="Character",
        type=bpy.types.Object,
        poll=is_character,
        description="The armature or mesh that is dressed by the image model",
    )
    clip: EnumProperty(name="Clip", items=_clips, description="A motion that comes with the extension")
    motion: PointerProperty(type=LatentManMotion)
    keying: PointerProperty(type=LatentManKeying)
    plants: CollectionProperty(type=LatentManPlant)
    techniques: PointerProperty(type=LatentManTechniques)
    matching: property_of(_MATCHING, before=(PRESET_ITEM,))
    keep_background: BoolProperty(
        name="Keep Background",
        default=False,
        description="The same background on every frame; it follows a moving camera when the whole scene is in the picture",
    )
    only_changed: BoolProperty(
        name="Only Changed Frames",
        default=True,
        description="When the same settings were generated before, keep the frames whose pose, camera and "
        "surroundings are as they were, and make the others to match them",
    )
    use_scene_range: BoolProperty(name="Scene Range", default=True, description="Generate the scene's frame range")
    frame_start: IntProperty(name="Start", default=1, description="First frame to generate")
    frame_end: IntProperty(name="End", default=24, description="Last frame to generate")
    frame_step: IntProperty(name="Step", default=1, min=1, description="Generate every so many frames")
    output: StringProperty(
        name="Output",
        subtype="DIR_PATH",
        options=RELATIVE_PATH,
        default="//latentman",
        description="Folder for finished frames; an unsaved file uses the temporary folder",
    )
    results: CollectionProperty(type=LatentManResult)
    active_result: IntProperty(name="Active Result")

    def frames(self, scene: bpy.types.Scene) -> tuple[int, ...]:
        """The scene frames to generate."""
        if self.use_scene_range:
            return tuple(range(scene.frame_start, scene.frame_end + 1, scene.frame_step))
        return tuple(range(self.frame_start, self.frame_end + 1, self.frame_step))

    def _composed(self) -> shot.Method:
        """The preset's techniques with what is changed here, but for those of other packages."""
        method = shot.METHODS[read(self, _PRESET)]
        if self.keep_background:
            method = with_parts(method, {"background": {}})
        if self.matching != PRESET:
            method = with_settings(method, {"matching": read(self, _MATCHING)})
        return self.techniques.apply(method)

    def uses(self, technique: str) -> bool:
        """Whether a technique works on the next shot; what all frames have in common always does."""
        return technique == COMMON or getattr(self._composed(), technique) is not None

    def method(self) -> shot.Method | None:
        """All that is composed; None where that is the preset itself. Raises ``ShotError`` for techniques that cannot be read."""
        method = self._composed()
        method = msgspec.structs.replace(method, plugins=method.plugins | self.techniques.others())
        return None if method == shot.METHODS[read(self, _PRESET)] else method

    def request(self, scene: bpy.types.Scene, frames: tuple[int, ...]) -> shot.ShotRequest:
        """The request that these settings describe. Raises ``ShotError`` for techniques that cannot be read."""
        values = read_all(self, shot.ShotRequest, FROM_SCENE)
        return shot.make_request(frames=frames, fps=frame_rate(scene), method=self.method(), **values)

    def with_look(self, request: shot.ShotRequest) -> shot.ShotRequest:
        """The request with the look that it is to keep: the character's own, or that of the last shot with these settings."""
        kept = self.character.latentman_look if self.character else ""
        if kept:
            return msgspec.structs.replace(request, look=kept)
        digest = settings_digest(request)
        for result in reversed(self.results):
            if (
                self.only_changed
                and result.job
                and result.settings == digest
                and self.character is not None
                and result.character == self.character.name
            ):
                return msgspec.structs.replace(request, look=result.job, look_optional=True)
        return request


def settings_digest(request: shot.ShotRequest) -> str:
    """Equal for requests that can share a look."""
    return hashlib.blake2b(msgspec.json.encode(request.settings()), digest_size=12).hexdigest()


def of(context: bpy.types.Context) -> LatentManSettings:
    """The scene's settings."""
    return context.scene.latentman


CLASSES = (
    *technique_properties.CLASSES,
    LatentManResult,
    LatentManPlant,
    LatentManBone,
    LatentManMotion,
    LatentManKeying,
    LatentManSettings,
)


def register() -> None:
    """Add the classes and the scene's property."""
    for cls in CLASSES:
        bpy.utils.register_class(cls)
    bpy.types.Scene.latentman = PointerProperty(type=LatentManSettings)
    bpy.types.Object.latentman_bones = CollectionProperty(type=LatentManBone)
    bpy.types.Object.latentman_look = StringProperty(name="Kept Look", description="The shot whose look this character keeps")
    bpy.types.Object.latentman_look_prompt = StringProperty(name="Kept Look's Prompt")


def unregister() -> None:
    """Take them away again."""
    del bpy.types.Object.latentman_look_prompt
    del bpy.types.Object.latentman_look
    del bpy.types.Object.latentman_bones
    del bpy.types.Scene.latentman
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
