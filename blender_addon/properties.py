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
from ..shared.skeleton import HUMANML_FPS, SMPL_JOINTS
from .character.rig import BONE_MAP
from .motion.feet import PlantSettings
from .motion.keyframes import KeyOptions
from .motion.readers import BUNDLED, read
from .timing import frame_rate

PRESET_ITEMS = (
    (
        "surface",
        "Surface",
        "All frames share one texture on the character's exact surface, which a few key frames settle: the steadiest, and quick",
    ),
    ("surface_fast", "Surface, Fast", "As Surface with at most four key frames and fewer steps for the others: for trying out"),
    ("surface_quality", "Surface, Every Frame", "As Surface, but every frame helps to settle the texture: slower"),
    ("latentman", "LatentMan", "Cross-frame attention, latent alignment and pixel guidance, as in the paper"),
    ("cross_frame", "Cross-frame", "Shared noise and cross-frame attention only: quicker, less consistent"),
    ("per_frame", "Per frame", "Every frame on its own: flickers, useful for comparison"),
)
SUBJECT_ITEMS = (
    ("CHARACTER", "Character", "The picked character alone; the prompt decides what is around it"),
    ("CHARACTERS", "All Characters", "Every rigged mesh that the scene renders"),
    ("SCENE", "Whole Scene", "Characters, props and surroundings: the image model follows the depth of all of them"),
)
_clip_items: list[tuple[str, str, str]] = []


def _clips(self, context):  # Blender needs the strings kept alive, hence the module's list
    if not _clip_items:
        try:
            file = read(BUNDLED)
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
    """A range of frames in which a foot stands."""

    side: EnumProperty(name="Foot", items=(("left", "Left", ""), ("right", "Right", "")))
    start: IntProperty(name="First", description="The first frame on which the foot stands")
    end: IntProperty(name="Last", description="The last frame on which the foot stands")


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


class LatentManKeying(bpy.types.PropertyGroup):
    """How motions become keyframes."""

    target: EnumProperty(
        name="Write To",
        items=(
            ("ACTION", "New Action", "A new Action takes the place of the one in use, which is kept"),
            ("NLA", "NLA Strip", "A strip on a new track; the Action in use stays in use"),
            (
                "LAYER",
                "Below My Tweaks",
                "The base of a stack: keys that you set afterwards are a layer above it, and stay when another motion is imported",
            ),
        ),
    )
    root: EnumProperty(
        name="Root",
        items=(
            ("BONE", "Pelvis Bone", "The pelvis bone carries the path"),
            ("OBJECT", "Object", "The armature object carries it"),
            ("IN_PLACE", "In Place", "The character stays where it begins"),
        ),
    )
    rotation: EnumProperty(
        name="Rotation",
        items=(("QUATERNION", "Quaternion", "No gimbal lock"), ("EULER", "Euler XYZ", "Curves that are easy to read")),
    )
    foot_lock: EnumProperty(
        name="Foot Lock",
        items=(
            ("off", "Off", "Feet as the motion has them"),
            ("soft", "Soft", "Most of the sliding is taken away"),
            ("hard", "Hard", "Planted feet do not move at all"),
        ),
    )
    tolerance: FloatProperty(
        name="Key Bound",
        default=0.0,
        min=0.0,
        max=100.0,
        precision=1,
        description="Leave out keys as long as hands, feet and head stay within so many millimetres; 0 keys every frame",
    )
    keep_rate: BoolProperty(
        name="Keep File's Frames", description="Key the motion's own frames instead of one each frame of the scene"
    )
    plant_speed: FloatProperty(
        name="Speed",
        default=PlantSettings.speed,
        min=0.01,
        max=5.0,
        description="A foot stands while it is slower than this many metres a second, plus three quarters of the body's own speed",
    )
    plant_height: FloatProperty(
        name="Height",
        default=PlantSettings.height,
        min=0.001,
        max=0.5,
        unit="LENGTH",
        description="A foot stands while its toes are lower than this above where they rest",
    )

    def plant_settings(self) -> PlantSettings:
        """When a foot counts as planted."""
        return PlantSettings(speed=self.plant_speed, height=self.plant_height)

    def options(self) -> KeyOptions:
        """The options that these settings describe."""
        return KeyOptions(
            root=self.root,
            foot_lock=self.foot_lock,
            euler=self.rotation == "EULER",
            target=self.target,
            tolerance=self.tolerance / 1000,
            keep_rate=self.keep_rate,
            plants=self.plant_settings(),
        )


class LatentManMotion(bpy.types.PropertyGroup):
    """What motion is asked for."""

    text: StringProperty(
        name="Text",
        default="a person walks forward, then waves with the right hand",
        description="What the person does; | between sentences that follow each other",
    )
    seconds: FloatProperty(
        name="Duration",
        default=4.0,
        min=0.5,
        max=motion_request.MAX_SECONDS,
        precision=1,
        unit="TIME_ABSOLUTE",
        description="Seconds; more than 9.8 are made in passages that go over into each other",
    )
    seed: IntProperty(name="Seed", default=1, min=0, description="The same seed and settings give the same motions")
    variants: IntProperty(name="Variants", default=1, min=1, max=16, description="Takes to choose from, each an Action")
    guidance_scale: FloatProperty(
        name="Guidance", default=0.0, min=0.0, max=20.0, description="How strongly the sentence is followed; 0 is the model's own"
    )
    model: StringProperty(
        name="Model",
        default="starter",
        description="starter, the folder of an MDM checkpoint, or a name that a package of the backend's adds",
    )

    def request(self, seconds: float) -> motion_request.MotionRequest:
        """The request that these settings describe."""
        return motion_request.MotionRequest(
            self.text,
            round(seconds, 3),
            self.seed,
            self.variants,
            round(self.guidance_scale, 4),
            model=self.model.strip() or "starter",
        )


class LatentManSettings(bpy.types.PropertyGroup):
    """The panel's settings, in the order of the work."""

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
    prompt: StringProperty(
        name="Prompt",
        default="a man in a red shirt and blue jeans, on a beach",
        description="What the character and the place look like",
    )
    negative_prompt: StringProperty(name="Negative", description="What should not be seen")
    seed: IntProperty(name="Seed", default=1, min=0, description="The same seed and settings give the same frames")
    model: StringProperty(
        name="Model", default="starter", description="starter, sd15, sdxl, a diffusers folder, or BASE|CONTROLNET"
    )
    preset: EnumProperty(name="Preset", items=PRESET_ITEMS, description="How frames are kept consistent")
    steps: IntProperty(name="Steps", default=20, min=1, max=shot.MAX_STEPS, description="Denoising steps")
    guidance_scale: FloatProperty(
        name="Guidance",
        default=0.0,
        min=0.0,
        max=30.0,
        description="How strongly the prompt is followed; 0 is the model's own, 1 switches guidance off and halves the time",
    )
    control_scale: FloatProperty(
        name="Control", default=1.0, min=0.0, max=2.0, description="How strongly the depth decides where the body is"
    )
    background_prompt: StringProperty(
        name="Background",
        description="What is around the character, when the prompt shall be the character's alone; needs a third more time",
    )
    keep_background: BoolProperty(
        name="Keep Background",
        default=False,
        description="The same background on every frame; it follows a moving camera when the whole scene is in the picture",
    )
    character_only: BoolProperty(
        name="Character Only", default=False, description="Frames are transparent around the character, to lie over other strips"
    )
    matching: EnumProperty(
        name="Matching",
        items=(
            ("PRESET", "Preset's Own", ""),
            ("surface", "Surface", "Exact, from the surface's rest positions"),
            ("hungarian", "Hungarian", "The paper's, within each body part"),
        ),
        description="How corresponding pixels are found",
    )
    scheduler: EnumProperty(
        name="Scheduler",
        items=tuple(
            (name.upper() or "MODEL", label, text)
            for name, label, text in (
                ("", "Model's Own", "DDIM, or what a few-step model was made with"),
                ("ddim", "DDIM", "The paper's"),
                ("dpm++", "DPM++ 2M", "Good pictures in fewer steps"),
                ("euler", "Euler", ""),
                ("lcm", "LCM", "For models distilled to few steps"),
                ("tcd", "TCD", "For models distilled to few steps"),
            )
        ),
    )
    width: IntProperty(name="Width", default=256, min=8, max=shot.MAX_SIDE, subtype="PIXEL", description="Frame width")
    height: IntProperty(name="Height", default=256, min=8, max=shot.MAX_SIDE, subtype="PIXEL", description="Frame height")
    subjects: EnumProperty(name="Show", items=SUBJECT_ITEMS, description="What the image model sees of the scene")
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

    def request(self, scene: bpy.types.Scene, frames: tuple[int, ...]) -> shot.ShotRequest:
        """The request that these settings describe."""
        method = own = shot.METHODS[self.preset]
        if self.keep_background:
            method = msgspec.structs.replace(method, background=shot.Background())
        if self.matching != "PRESET":
            method = msgspec.structs.replace(method, matching=self.matching)
        return shot.make_request(
            self.prompt,
            frames,
            frame_rate(scene),
            negative_prompt=self.negative_prompt,
            background_prompt=self.background_prompt.strip(),
            width=self.width,
            height=self.height,
            seed=self.seed,
            model=self.model.strip() or "starter",
            preset=self.preset,
            method=None if method == own else method,
            steps=self.steps,
            guidance_scale=self.guidance_scale,
            control_scale=self.control_scale,
            scheduler="" if self.scheduler == "MODEL" else self.scheduler.lower(),
        )

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


CLASSES = (LatentManResult, LatentManPlant, LatentManBone, LatentManMotion, LatentManKeying, LatentManSettings)


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
