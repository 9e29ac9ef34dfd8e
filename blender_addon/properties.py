"""What a scene remembers: the character, the look, the range, the results."""

from __future__ import annotations

import bpy
from bpy.props import (
    BoolProperty,
    CollectionProperty,
    EnumProperty,
    FloatProperty,
    IntProperty,
    PointerProperty,
    StringProperty,
)

from .motion.readers import BUNDLED, read
from .shared_link import HUMANML_FPS, MotionError, shot

PRESET_ITEMS = (
    ("latentman", "LatentMan", "Cross-frame attention, latent alignment and pixel guidance, as in the paper"),
    ("cross_frame", "Cross-frame", "Shared noise and cross-frame attention only: quicker, less consistent"),
    ("per_frame", "Per frame", "Every frame on its own: flickers, useful for comparison"),
)
_clip_items: list[tuple[str, str, str]] = []


def _clips(self, context):  # Blender needs the strings kept alive, hence the module's list
    if not _clip_items:
        try:
            file = read(BUNDLED)
            _clip_items.extend((str(n), text, f"{file.lengths[n]} frames at {HUMANML_FPS:g} fps")
                               for n, text in enumerate(file.texts))
        except MotionError:
            _clip_items.append(("0", "no bundled clips", "The extension is incomplete; install it again"))
    return _clip_items


def is_character(self, candidate: bpy.types.Object) -> bool:
    """What the character picker offers."""
    return candidate.type in ("ARMATURE", "MESH")


class LatentManResult(bpy.types.PropertyGroup):
    """A generated shot: where its frames are and how they were made."""

    folder: StringProperty(name="Folder", subtype="DIR_PATH")
    prompt: StringProperty(name="Prompt")
    seed: IntProperty(name="Seed")
    start: IntProperty(name="First Frame")
    step: IntProperty(name="Frame Step", default=1)
    count: IntProperty(name="Frames")
    hmse: FloatProperty(name="Flicker",
                        description="Mean squared difference of matched surface points in consecutive frames")


class LatentManSettings(bpy.types.PropertyGroup):
    """The panel's settings, in the order of the work."""

    character: PointerProperty(name="Character", type=bpy.types.Object, poll=is_character,
                               description="The armature or mesh that is dressed by the image model")
    clip: EnumProperty(name="Clip", items=_clips, description="A motion that comes with the extension")
    prompt: StringProperty(name="Prompt", default="a man in a red shirt and blue jeans, on a beach",
                           description="What the character and the place look like")
    negative_prompt: StringProperty(name="Negative", description="What should not be seen")
    seed: IntProperty(name="Seed", default=1, min=0, description="The same seed and settings give the same frames")
    model: StringProperty(name="Model", default="starter",
                          description="starter, sd15, sdxl, a diffusers folder, or BASE|CONTROLNET")
    preset: EnumProperty(name="Preset", items=PRESET_ITEMS, description="How frames are kept consistent")
    steps: IntProperty(name="Steps", default=20, min=1, max=shot.MAX_STEPS, description="Denoising steps")
    guidance_scale: FloatProperty(name="Guidance", default=4.0, min=0.0, max=30.0,
                                  description="How strongly the prompt is followed; 1 or less switches guidance off and "
                                              "halves the time")
    control_scale: FloatProperty(name="Control", default=1.0, min=0.0, max=2.0,
                                 description="How strongly the depth decides where the body is")
    width: IntProperty(name="Width", default=256, min=8, max=shot.MAX_SIDE, subtype="PIXEL", description="Frame width")
    height: IntProperty(name="Height", default=256, min=8, max=shot.MAX_SIDE, subtype="PIXEL", description="Frame height")
    use_scene_range: BoolProperty(name="Scene Range", default=True, description="Generate the scene's frame range")
    frame_start: IntProperty(name="Start", default=1, description="First frame to generate")
    frame_end: IntProperty(name="End", default=24, description="Last frame to generate")
    output: StringProperty(name="Output", subtype="DIR_PATH", default="//latentman",
                           description="Folder for finished frames; an unsaved file uses the temporary folder")
    results: CollectionProperty(type=LatentManResult)
    active_result: IntProperty(name="Active Result")

    def frames(self, scene: bpy.types.Scene) -> tuple[int, ...]:
        """The scene frames to generate."""
        if self.use_scene_range:
            return tuple(range(scene.frame_start, scene.frame_end + 1, scene.frame_step))
        return tuple(range(self.frame_start, self.frame_end + 1))

    def request(self, scene: bpy.types.Scene, frames: tuple[int, ...]) -> shot.ShotRequest:
        """The request that these settings describe."""
        return shot.ShotRequest(
            prompt=self.prompt, negative_prompt=self.negative_prompt, width=self.width, height=self.height, frames=frames,
            fps=scene.render.fps / scene.render.fps_base, seed=self.seed, model=self.model.strip() or "starter",
            preset=self.preset, steps=self.steps, guidance_scale=self.guidance_scale, control_scale=self.control_scale)


def of(context: bpy.types.Context) -> LatentManSettings:
    """The scene's settings."""
    return context.scene.latentman


CLASSES = (LatentManResult, LatentManSettings)


def register() -> None:
    """Add the classes and the scene's property."""
    for cls in CLASSES:
        bpy.utils.register_class(cls)
    bpy.types.Scene.latentman = PointerProperty(type=LatentManSettings)


def unregister() -> None:
    """Take them away again."""
    del bpy.types.Scene.latentman
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
