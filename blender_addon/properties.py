"""What a scene stores: the character, the settings of motion, look and range, and the results."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import bpy
import msgspec
from bpy.props import (
    BoolProperty,
    CollectionProperty,
    EnumProperty,
    IntProperty,
    PointerProperty,
    StringProperty,
)

from ..shared import motion_request, shot, vocabulary
from ..shared.costume_files import is_costume
from ..shared.model_profile import FORMER_SIDE, ModelProfile, resolve_request
from ..shared.motion import MotionError
from ..shared.pasted_paths import complete_model_name
from ..shared.picture_size import Crop, find_made_size, find_size_multiple, fit_aspect, make_crop
from ..shared.scene_options import SceneOptions
from ..shared.schedule import Schedule
from ..shared.settings import list_settings, with_parts, with_settings
from ..shared.skeleton import HUMANML_FPS, SMPL_JOINTS
from . import model_library, technique_properties
from .compat import RELATIVE_PATH
from .declared_properties import DeclaredProperties, declare, make_property, read_value, read_values, shorten_float, write_values
from .farm.shots import write_shots
from .model_profiles import book
from .motion import readers
from .motion.foot_contacts import ContactSettings
from .motion.key_options import KeyOptions
from .motion.keying import Keying
from .prompt_keys import LatentManPromptKey, read_schedule
from .prompt_texts import PROMPTS, add_text_properties, check_prompt_text, read_prompt
from .queue import row_list
from .result_properties import LatentManResult
from .rigging.nla import MotionPlace, find_motion_place
from .rigging.rigs import BONE_DOUBTS, BONE_MAP
from .technique_properties import COMMON, PRESET, PRESET_ITEM, LatentManTechniques
from .timing import frame_rate
from .translation import register_class
from .typed_access import get_scene

if TYPE_CHECKING:
    from bpy.types import bpy_prop_collection_idprop

#: the settings of a shot that the scene decides, so that the panel does not show them
FROM_SCENE = ("fps",)
_DECLARED = {declared.name: declared for declared in list_settings(shot.ShotRequest)}
_PRESET = _DECLARED["preset"]
_MATCHING = next(declared for declared in list_settings(shot.Method) if declared.name == "matching")

_clip_items: list[tuple[str, str, str]] = []


def _list_clips(self: Any, context: bpy.types.Context | None) -> list[tuple[str, str, str]]:
    # Blender keeps no reference to the strings, so the module's list does
    if not _clip_items:
        try:
            file = readers.read(readers.BUNDLED)
            _clip_items.extend(
                (str(n), text, f"{file.lengths[n]} frames at {HUMANML_FPS:g} fps") for n, text in enumerate(file.texts)
            )
        except MotionError:
            _clip_items.append(("0", "no bundled clips", "The extension is incomplete; install it again"))
    return _clip_items


def is_character(self: Any, candidate: bpy.types.Object) -> bool:
    """Whether the character picker offers an object."""
    return candidate.type in ("ARMATURE", "MESH")


def is_source(self: Any, candidate: bpy.types.Object) -> bool:
    """Whether the picker of the motion's source offers an object."""
    return candidate.type == "ARMATURE" and candidate != self.character


class LatentManFootContact(bpy.types.PropertyGroup):
    """A range of frames in which a foot stays on the ground. (.blend files store it under the name ``plants``.)"""

    side: EnumProperty(
        name="Foot",
        description="Which foot is on the ground",
        items=(("left", "Left", "The character's own left foot"), ("right", "Right", "The character's own right foot")),
    )
    start: IntProperty(name="First", description="The first frame in which the foot is on the ground")
    end: IntProperty(name="Last", description="The last frame in which the foot is on the ground")


def _save_bone_map(self: Any, context: bpy.types.Context) -> None:
    armature = self.id_data
    armature[BONE_MAP] = json.dumps({slot.name: slot.bone for slot in get_bone_slots(armature) if slot.bone})
    # a bone that the user has chosen is not doubtful
    self.doubt = ""
    _save_doubts(armature)


def _save_doubts(armature: bpy.types.Object) -> None:
    doubts = {slot.name: slot.doubt for slot in get_bone_slots(armature) if slot.doubt}
    if doubts:
        armature[BONE_DOUBTS] = json.dumps(doubts)
    elif armature.get(BONE_DOUBTS) is not None:
        del armature[BONE_DOUBTS]


class LatentManBone(bpy.types.PropertyGroup):
    """A joint (the item's name) and the bone that rotates about it; why a guessed bone is doubtful, empty when it is not."""

    bone: StringProperty(
        name="Bone",
        description="The bone that rotates about this joint; empty for none",
        update=_save_bone_map,
        override={"LIBRARY_OVERRIDABLE"},
    )
    doubt: StringProperty(
        name="Doubt", description="Why the guessed bone is doubtful; empty where it is not", override={"LIBRARY_OVERRIDABLE"}
    )


def get_bone_slots(armature: bpy.types.Object) -> bpy_prop_collection_idprop[LatentManBone]:
    """The bone of every joint in the character's list; empty until a bone map is guessed or loaded."""
    owner: Any = armature
    slots: bpy_prop_collection_idprop[LatentManBone] = owner.latentman_bones
    return slots


def set_bone_map(armature: bpy.types.Object, mapping: dict[str, str], doubts: dict[str, str] | None = None) -> None:
    """Show a bone map (joint -> bone) in the character's list, and store it on the armature; ``doubts``: joint -> why its bone is
    doubtful, for a map that was guessed."""
    slots = get_bone_slots(armature)
    slots.clear()
    for joint in SMPL_JOINTS:
        slots.add().name = joint
    for slot in slots:
        slot.bone = mapping.get(slot.name, "")
    for slot in slots:
        slot.doubt = (doubts or {}).get(slot.name, "")
    armature[BONE_MAP] = json.dumps(mapping)
    _save_doubts(armature)


def clear_doubts(armature: bpy.types.Object) -> None:
    """Take every bone of the list as confirmed by the user."""
    for slot in get_bone_slots(armature):
        slot.doubt = ""
    _save_doubts(armature)


@declare(Keying)
class LatentManKeying(DeclaredProperties, bpy.types.PropertyGroup):
    """How motions become keyframes."""

    def to_keying(self) -> Keying:
        """The properties as a struct."""
        return Keying(**read_values(self, Keying))

    def make_contact_settings(self) -> ContactSettings:
        """When a foot counts as being in contact with the ground."""
        return self.to_keying().get_contact_settings()

    def make_key_options(self) -> KeyOptions:
        """The properties as options of the functions that write keyframes."""
        return KeyOptions.from_keying(self.to_keying())


def _complete_motion_text(self: Any, context: bpy.types.Context, text: str) -> list[str]:
    """What the built-in model can be asked for; other models know other words."""
    return vocabulary.complete_text(text) if self.uses_built_in_model else []


@declare(motion_request.MotionRequest, searches={"text": _complete_motion_text})
class LatentManMotion(DeclaredProperties, bpy.types.PropertyGroup):
    """Which motion is generated."""

    @property
    def uses_built_in_model(self) -> bool:
        """Whether the motion comes from the model that is part of the package, whose words are known."""
        return str(self.model).strip() == motion_request.BUILT_IN

    def make_request(self, seconds: float) -> motion_request.MotionRequest:
        """The request for a motion with these settings and the given length in seconds."""
        values = read_values(self, motion_request.MotionRequest)
        return motion_request.MotionRequest(**values | {"seconds": shorten_float(seconds)})


def _get_use_scene_aspect(self: Any) -> bool:
    if self.size_from == "AUTO":
        return not (self.width or self.height)
    return bool(self.size_from == "SCENE")


def _set_use_scene_aspect(self: Any, value: bool) -> None:
    self.size_from = "SCENE" if value else "OWN"


def _make_follow(*names: str) -> Any:
    """A switch that leaves settings to the model. Switched off, they are the user's, and begin as the model has them."""

    def follows(self: Any) -> bool:
        return not any(read_value(self, _DECLARED[name]) for name in names)

    def set_follows(self: Any, value: bool) -> None:
        if value != follows(self):
            new = dict.fromkeys(names) if value else self.find_own_values(names)
            write_values(self, shot.ShotRequest, {name: new[name] or _DECLARED[name].kind() for name in names})

    return BoolProperty(
        name="Model's Own",
        description="Leave it to the model: what suits it, or what its settings file says",
        get=follows,
        set=set_follows,
    )


def _make_own_text(label: str, *names: str) -> Any:
    """What the model decides where settings are left to it, as a text to be shown."""

    def write_text(self: Any) -> str:
        profile = self.find_profile()
        if profile is None:
            return "not known until the backend runs" if not book.connected else "not known yet"
        own = self.find_own_values(names)
        return "x".join(_DECLARED[name].value_text(own[name]) for name in names)

    return StringProperty(name=label, description="The model's own value, which is used", get=write_text)


@declare(shot.ShotRequest, leave_out=FROM_SCENE)
@declare(Schedule)
@declare(SceneOptions, leave_out=("frames",))
@add_text_properties
class LatentManSettings(DeclaredProperties, bpy.types.PropertyGroup):
    """The panel's settings: the declared settings of a shot and of the scene, and what only the panel has."""

    character: PointerProperty(
        name="Character",
        type=bpy.types.Object,
        poll=is_character,
        description="The armature or mesh whose look the image model generates",
    )
    source: PointerProperty(
        name="Source",
        type=bpy.types.Object,
        poll=is_source,
        description="An animated armature whose motion the character takes over",
    )
    show_source_bones: BoolProperty(name="Source's Bones", description="Show which bones of the source are which joints")
    parts: PointerProperty(
        type=model_library.LatentManModelParts, name="Model's Parts", description="How strongly each part of the model works"
    )
    prompt_keys: CollectionProperty(
        type=LatentManPromptKey, name="Prompts by Frame", description="Prompts that hold from a frame on"
    )
    clip: EnumProperty(name="Clip", items=_list_clips, description="A motion that comes with the extension")
    motion: PointerProperty(type=LatentManMotion, name="Motion", description="Which motion is generated")
    keying: PointerProperty(type=LatentManKeying, name="Keyframes", description="How motions become keyframes")
    plants: CollectionProperty(
        type=LatentManFootContact, name="Foot Contacts", description="When each foot of the character is on the ground"
    )
    techniques: PointerProperty(type=LatentManTechniques, name="Techniques", description="Changes to the techniques of the preset")
    matching: make_property(_MATCHING, leading_items=(PRESET_ITEM,))
    keep_background: BoolProperty(
        name="Keep Background",
        default=False,
        description="The same background on every frame; it follows a moving camera when the whole scene is in the picture",
    )
    only_changed: BoolProperty(
        name="Only Changed Frames",
        default=True,
        description="When a shot with the same settings was generated before, keep the frames whose pose, camera and "
        "surroundings have not changed, and generate the others to match them",
    )
    size_from: EnumProperty(
        name="Size From",
        description="What decides the size of the frames",
        items=(
            (
                "AUTO",
                "Automatic",
                "The scene's aspect until a size is chosen, as in files of earlier versions",
            ),
            ("SCENE", "Scene", "The scene's aspect"),
            ("OWN", "Own", "Width and Height as they are"),
        ),
    )
    use_scene_aspect: BoolProperty(
        name="Scene's Aspect",
        description="Frames have the aspect of the scene's resolution, as large as fits into Width and Height, so that the "
        "camera's frame in the viewport shows what is generated",
        get=_get_use_scene_aspect,
        set=_set_use_scene_aspect,
    )
    follow_size: _make_follow("width", "height")
    follow_steps: _make_follow("steps")
    follow_guidance_scale: _make_follow("guidance_scale")
    follow_scheduler: _make_follow("scheduler")
    own_size: _make_own_text("Size", "width", "height")
    own_steps: _make_own_text("Steps", "steps")
    own_guidance_scale: _make_own_text("Guidance", "guidance_scale")
    own_scheduler: _make_own_text("Scheduler", "scheduler")
    use_scene_range: BoolProperty(name="Scene Range", default=True, description="Generate the scene's frame range")
    frame_start: IntProperty(name="Start", default=1, description="First frame to generate")
    frame_end: IntProperty(name="End", default=24, description="Last frame to generate")
    frame_step: IntProperty(name="Step", default=1, min=1, description="Generate every n-th frame")
    output: StringProperty(
        name="Output",
        subtype="DIR_PATH",
        options=RELATIVE_PATH,
        default="//latentman",
        description="Folder for finished frames; an unsaved file keeps them in the user's data folder until it is saved",
    )
    results: CollectionProperty(type=LatentManResult, name="Results", description="The shots that were generated, the oldest first")
    active_result: IntProperty(name="Active Result", description="The result that the buttons below the list are for")

    def find_armature(self) -> bpy.types.Object | None:
        """The character, if it is an armature."""
        character: bpy.types.Object | None = self.character
        return character if character is not None and character.type == "ARMATURE" else None

    def find_source(self) -> bpy.types.Object | None:
        """The armature that the character takes its motion from, if one is chosen that is not the character."""
        source: bpy.types.Object | None = self.source
        return source if source is not None and is_source(self, source) else None

    def find_action(self) -> bpy.types.Action | None:
        """The Action in use on the character."""
        character: bpy.types.Object | None = self.character
        return character.animation_data.action if character is not None and character.animation_data else None

    def find_motion(self) -> MotionPlace | None:
        """Where the character's motion lies: in the Action in use, or in the NLA."""
        return find_motion_place(self.find_armature())

    def find_active_result(self) -> LatentManResult | None:
        """The result that is selected in the list."""
        if 0 <= self.active_result < len(self.results):
            result: LatentManResult = self.results[self.active_result]
            return result
        return None

    def get_frames(self, scene: bpy.types.Scene) -> tuple[int, ...]:
        """The scene frames to generate."""
        if self.use_scene_range:
            return tuple(range(scene.frame_start, scene.frame_end + 1, scene.frame_step))
        return tuple(range(self.frame_start, self.frame_end + 1, self.frame_step))

    def get_frame_step(self, scene: bpy.types.Scene) -> int:
        """Every which frame of the range is one of ``get_frames``."""
        return scene.frame_step if self.use_scene_range else self.frame_step

    def read_scene_options(self) -> SceneOptions:
        """What of the scene is shown; the frames are those of ``get_frames``."""
        return SceneOptions(**read_values(self, SceneOptions, ("frames",)))

    def get_preset(self) -> str:
        """The preset's name; that of the default where the file has a choice that this version does not offer."""
        return str(read_value(self, _PRESET))

    def _compose_method(self) -> shot.Method:
        """The preset's techniques with the panel's changes, without techniques from other packages."""
        method = shot.METHODS[self.get_preset()]
        if self.keep_background:
            method = with_parts(method, {"background": {}})
        if self.matching != PRESET:
            method = with_settings(method, {"matching": read_value(self, _MATCHING)})
        techniques: LatentManTechniques = self.techniques
        return techniques.apply(method)

    def has_technique(self, technique: str) -> bool:
        """Whether the next shot uses a technique; it always uses the common settings."""
        return technique == COMMON or getattr(self._compose_method(), technique) is not None

    def make_method(self) -> shot.Method | None:
        """The method with all of the panel's changes, or None where it is the preset itself.

        Raises ``ShotError`` for techniques of other packages that cannot be parsed.
        """
        method = self._compose_method()
        method = msgspec.structs.replace(method, plugins=method.plugins | self.techniques.read_plugins())
        return None if method == shot.METHODS[self.get_preset()] else method

    def get_model(self) -> str:
        """The model's name, with whole paths."""
        return complete_model(read_value(self, _DECLARED["model"]))

    def find_profile(self) -> ModelProfile | None:
        """How the model likes to be run; None where that is not known yet."""
        return book.find(self.get_model())

    def find_own_values(self, names: Collection[str]) -> dict[str, Any]:
        """What the model decides where these settings are left to it, as far as it is known; of a size, that of the frames."""
        profile = self.find_profile() or ModelProfile()
        scene: Any = self.id_data
        size = self.get_picture_size(scene) or profile.get_size()
        own = {"width": size[0], "height": size[1]}
        return {name: own[name] if name in own else getattr(profile, name) for name in names}

    def get_picture_size(self, scene: bpy.types.Scene) -> tuple[int, int] | None:
        """(width, height) of the frames that are stored; None where it is the model's own, which is not known yet."""
        aspect = get_frame_aspect(scene) if self.use_scene_aspect else None
        if self.width or self.height:
            # earlier versions stored only what was changed
            width, height = self.width or FORMER_SIDE, self.height or FORMER_SIDE
            return (width, height) if aspect is None else fit_aspect(width, height, aspect)
        profile = self.find_profile()
        return None if profile is None else profile.get_size(aspect)

    def shows_frame(self, scene: bpy.types.Scene) -> bool:
        """Whether the camera's frame in the viewport has the aspect of the frames, to the pixel, as far as that is known."""
        size = self.get_picture_size(scene)
        return size is None or size == fit_aspect(*size, get_frame_aspect(scene))

    def make_crop(self, scene: bpy.types.Scene, request: shot.ShotRequest) -> Crop | None:
        """The part of the frames of ``make_request`` that the camera's frame shows; None for all of them."""
        size = self.get_picture_size(scene)
        return None if size is None else make_crop(*size, request.width, request.height)

    def write_shots(self) -> str:
        """The marked shots of the scene, or its range, as one line of text for farms."""
        assert isinstance(self.id_data, bpy.types.Scene)
        return write_shots(self.id_data)

    def read_prompt(self, prompt: str) -> str:
        """What is said as one of the prompts: what stands in its text, or in the panel."""
        return read_prompt(self, prompt)

    def make_request(self, scene: bpy.types.Scene, frames: tuple[int, ...]) -> shot.ShotRequest:
        """The request for a shot with these settings, in the nearest size that holds the frames and that the model can make. What
        follows the model is put in where its profile is known, and left to it otherwise.

        Raises ``ShotError`` like ``make_method``, and for prompts that cannot be told apart or say nothing.
        """
        check_prompt_text(self)
        values = read_values(self, shot.ShotRequest, FROM_SCENE) | {name: read_prompt(self, name) for name in PROMPTS}
        values["model"] = self.get_model()
        size = self.get_picture_size(scene)
        made = find_made_size(*size, find_size_multiple(values["model"])) if size else (0, 0)
        values["width"], values["height"] = made
        request = shot.make_request(frames=frames, fps=frame_rate(scene), method=self.make_method(), **values)
        request = shot.with_schedule(request, read_schedule(scene, self, frames))
        profile = self.find_profile()
        return request if profile is None else resolve_request(request, profile)

    def add_look(self, request: shot.ShotRequest) -> shot.ShotRequest:
        """The request with the look that it reuses, if any.

        That is the character's kept look, or the look of the last shot with the same settings.
        """
        kept = self.find_kept_look()
        name = self.character.name if self.character is not None else None
        return self.choose_look(request, kept, name, only_changed=self.only_changed)

    def find_kept_look(self) -> str:
        """What the character keeps: the job of a look, or the path of a costume's file; "" for nothing."""
        return get_kept_look(self.character)[0] if self.character else ""

    def choose_look(self, request: shot.ShotRequest, kept: str, character: str | None, *, only_changed: bool) -> shot.ShotRequest:
        """As ``add_look``, for a character that keeps the look ``kept``; ``only_changed`` in place of the panel's."""
        if kept and not is_costume(kept):
            return msgspec.structs.replace(request, look=kept)
        if not request.get_method().fusion:
            # it keeps no look: the same shot again is the same job, which is there already
            return request
        digest = compute_settings_digest(request)
        for result in reversed(self.results):
            if only_changed and result.job and result.settings == digest and character and result.character == character:
                return msgspec.structs.replace(request, look=result.job, look_optional=True)
        return request


def complete_model(name: str) -> str:
    """A model's name with whole paths for those that begin with ``//``, where the file is saved."""
    return complete_model_name(name, Path(bpy.data.filepath).parent) if bpy.data.filepath else name


def get_frame_aspect(scene: bpy.types.Scene) -> float:
    """Width over height of the camera's frame."""
    render = scene.render
    return (render.resolution_x * render.pixel_aspect_x) / (render.resolution_y * render.pixel_aspect_y)


def compute_settings_digest(request: shot.ShotRequest) -> str:
    """A digest that is equal for requests which can share a look."""
    return hashlib.blake2b(msgspec.json.encode(request.settings()), digest_size=12).hexdigest()


def get_scene_settings(scene: bpy.types.Scene) -> LatentManSettings:
    """A scene's settings."""
    owner: Any = scene
    settings: LatentManSettings = owner.latentman
    return settings


def get_settings(context: bpy.types.Context) -> LatentManSettings:
    """The settings of the context's scene."""
    return get_scene_settings(get_scene(context))


def get_kept_look(character: bpy.types.Object) -> tuple[str, str]:
    """The job whose look a character keeps, or the path of the costume that it wears, and the prompt of either; both are empty when
    it keeps none. A path that comes from a library, and begins with ``//`` there, is a whole one here."""
    owner: Any = character
    look: str = owner.latentman_look
    library = find_look_library(character)
    if library is not None and is_costume(look) and look.startswith("//"):
        look = os.path.normpath(bpy.path.abspath(look, library=library))
    return look, owner.latentman_look_prompt


def find_look_library(character: bpy.types.Object) -> bpy.types.Library | None:
    """The library that says what a character keeps: that of a linked one, or of an override that was given nothing else."""
    if character.library is not None or character.override_library is None:
        return character.library
    owner, reference = cast(Any, character), cast(Any, character.override_library.reference)
    return reference.library if owner.latentman_look and reference.latentman_look == owner.latentman_look else None


def explain_linked(character: bpy.types.Object) -> str:
    """Why the file will not keep what a character is told to keep; "" where it will."""
    if character.library is None:
        return ""
    return (
        f"'{character.name}' is linked from {Path(character.library.filepath).name}, so this file forgets what it wears when it is "
        "closed; make a library override of it, or dress it in its own file."
    )


def set_kept_look(character: bpy.types.Object, job: str, prompt: str) -> None:
    """Make a character keep the look of a job, or a costume's file; empty texts make it keep none."""
    owner: Any = character
    owner.latentman_look, owner.latentman_look_prompt = job, prompt


CLASSES = (
    *technique_properties.CLASSES,
    *model_library.CLASSES,
    *row_list.CLASSES,
    LatentManResult,
    LatentManFootContact,
    LatentManBone,
    LatentManMotion,
    LatentManKeying,
    LatentManPromptKey,
    LatentManSettings,
)


def register() -> None:
    """Register the classes, and add their properties to scenes and objects."""
    for cls in CLASSES:
        register_class(cls)
    # the stubs know neither the names nor that a property is a value
    scene_type: Any = bpy.types.Scene
    object_type: Any = bpy.types.Object
    make_pointer: Any = PointerProperty
    make_collection: Any = CollectionProperty
    make_string: Any = StringProperty
    scene_type.latentman = make_pointer(
        type=LatentManSettings, name="LatentMan", description="The settings of the panel, and the results"
    )
    object_type.latentman_bones = make_collection(
        type=LatentManBone,
        name="Bone Map",
        description="The bone of each joint, where the map was guessed, loaded or changed",
        override={"LIBRARY_OVERRIDABLE", "USE_INSERTION"},
    )
    # an override keeps what is set on it, and only that, in the file that it is in
    overridable = {"LIBRARY_OVERRIDABLE"}
    object_type.latentman_look = make_string(
        name="Kept Look", description="The shot whose look this character keeps", override=overridable
    )
    object_type.latentman_look_prompt = make_string(
        name="Kept Look's Prompt", description="What the kept look was asked to look like", override=overridable
    )
    model_library.add_properties()
    row_list.add_properties()
    make_bool: Any = BoolProperty
    object_type.latentman_is_prop = make_bool(
        name="Only a Prop",
        description="This object moves with a character's bones without being part of the character",
        override=overridable,
    )


def unregister() -> None:
    """Remove the properties from scenes and objects, and unregister the classes."""
    scene_type: Any = bpy.types.Scene
    object_type: Any = bpy.types.Object
    row_list.remove_properties()
    model_library.remove_properties()
    del object_type.latentman_is_prop
    del object_type.latentman_look_prompt
    del object_type.latentman_look
    del object_type.latentman_bones
    del scene_type.latentman
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
