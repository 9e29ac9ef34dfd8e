"""The sidebar of the 3D viewport, tab "LatentMan": one box for each step of the work, in its order."""

from __future__ import annotations

import textwrap

import bpy
import msgspec

from ..shared.motion_request import MotionRequest
from ..shared.settings import list_settings
from ..shared.shot import ShotRequest
from . import properties
from .connection import connection
from .motion.keying import Keying
from .operators.generate import PREVIEW_IMAGE
from .rigging.characters import find_character_meshes
from .technique_properties import HERE

CHARACTERS_A_LINE = 7.5
#: the order of what is shown; declared settings that are not named here follow behind
LOOK = ("prompt", "negative_prompt", "seed", "model", "preset")
ADVANCED = (
    "steps",
    "guidance_scale",
    "control_scale",
    "scheduler",
    "matching",
    "background_prompt",
    "keep_background",
    "character_only",
    "width",
    "height",
    "output",
)
MOTION = ("text", "seconds", "seed", "variants")
MOTION_MODEL = ("model", "guidance_scale", "steps")
KEYING = ("target", "root", "rotation", "foot_lock", "tolerance", "keep_rate")
FEET = ("plant_speed", "plant_height")


def others(struct: type[msgspec.Struct], *shown: str) -> list[str]:
    """The settings of a struct that have no place of their own in the panel."""
    return [declared.name for declared in list_settings(struct) if declared.name not in shown]


def sentence(layout: bpy.types.UILayout, context: bpy.types.Context, text: str, icon: str = "INFO") -> None:
    """A sentence wrapped to the width of the region."""
    width = max(20, int(context.region.width / context.preferences.system.ui_scale / CHARACTERS_A_LINE) - 6)
    column = layout.column(align=True)
    column.scale_y = 0.8
    for n, line in enumerate(textwrap.wrap(text, width)):
        column.label(text=line, icon=icon if n == 0 else "BLANK1")


class _Box(bpy.types.Panel):
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "LatentMan"


class BackendPanel(_Box):
    """Is the backend there?"""

    bl_idname = "LATENTMAN_PT_backend"
    bl_label = "Backend"

    def draw(self, context):
        """Status and start or stop."""
        row = self.layout.row(align=True)
        running = connection.running
        row.label(text=connection.status, icon="RADIOBUT_ON" if connection.connected else "RADIOBUT_OFF")
        if running:
            row.operator("latentman.stop_backend", icon="CANCEL")
        else:
            row.operator("latentman.start_backend", icon="PLAY")
            row.operator("latentman.connect_backend", text="", icon="LINKED")
        if connection.error:
            sentence(self.layout, context, connection.error, "ERROR")
        row = self.layout.row(align=True)
        row.operator("latentman.copy_diagnostics", icon="COPYDOWN")
        row.operator("latentman.open_log_folder", text="", icon="FILE_FOLDER")


class CharacterPanel(_Box):
    """Who is it?"""

    bl_idname = "LATENTMAN_PT_character"
    bl_label = "1  Character"

    def draw(self, context):
        """Picker and ways to get a character."""
        self.layout.prop(properties.of(context), "character", text="")
        row = self.layout.row(align=True)
        row.operator("latentman.add_mannequin", icon="OUTLINER_OB_ARMATURE")
        row.operator("latentman.load_smpl", icon="FILE_FOLDER")


class RigPanel(_Box):
    """How tall, how broad, and which bone is which?"""

    bl_idname = "LATENTMAN_PT_rig"
    bl_label = "Body and Bones"
    bl_parent_id = "LATENTMAN_PT_character"
    bl_options = {"DEFAULT_CLOSED"}

    @classmethod
    def poll(cls, context):
        """For armatures."""
        character = properties.of(context).character
        return character is not None and character.type == "ARMATURE"

    def draw(self, context):
        """Height, the shape of SMPL-type bodies, and the bone map as a list."""
        armature, layout = properties.of(context).character, self.layout
        row = layout.row(align=True)
        row.operator("latentman.set_height", icon="FULLSCREEN_ENTER")
        row.operator("latentman.fit_skeleton", icon="BONE_DATA")
        body = next((o for o in find_character_meshes(armature) if o.data.shape_keys), None)
        column = layout.column(align=True)
        for key in body.data.shape_keys.key_blocks if body else ():
            if key.name.startswith("Shape"):
                column.prop(key, "value", text=key.name, slider=True)
        row = layout.row(align=True)
        row.operator("latentman.guess_bones", icon="VIEWZOOM")
        row.operator("latentman.load_bones", text="", icon="FILE_FOLDER")
        row.operator("latentman.save_bones", text="", icon="FILE_TICK")
        slots = armature.latentman_bones
        if not slots:
            sentence(layout, context, "Bones are found by themselves; press Guess Bones to see and change them.")
            return
        layout.label(text=f"{sum(bool(slot.bone) for slot in slots)} of {len(slots)} joints mapped")
        column = layout.column(align=True)
        for slot in slots:
            missing = slot.bone and slot.bone not in armature.data.bones
            line = column.split(factor=0.4, align=True)
            line.label(text=slot.name.replace("_", " "), icon="ERROR" if missing else "NONE")
            line.prop_search(slot, "bone", armature.data, "bones", text="")


class MotionPanel(_Box):
    """What does it do?"""

    bl_idname = "LATENTMAN_PT_motion"
    bl_label = "2  Motion"

    def draw(self, context):
        """A sentence, files, and the takes."""
        settings, layout = properties.of(context), self.layout
        layout.prop(settings.motion, "text", text="", icon="GREASEPENCIL")
        row = layout.row(align=True)
        for name, label in (("seconds", ""), ("seed", "Seed"), ("variants", "Takes")):
            row.prop(settings.motion, name, text=label)
        making = connection.motion
        if making and not making.done:
            layout.progress(factor=making.fraction, text=making.stage)
            layout.operator("latentman.cancel", icon="CANCEL")
        else:
            row = layout.row(align=True)
            row.scale_y = 1.2
            row.operator("latentman.make_motion", icon="ARMATURE_DATA")
            row.operator("latentman.import_motion", icon="IMPORT")
        for warning in making.warnings if making else ():
            sentence(layout, context, warning)
        character = settings.character
        if character is None:
            sentence(layout, context, "Pick a character above first.")
            return
        row = layout.row(align=True)
        row.operator("latentman.step_take", text="", icon="TRIA_LEFT").step = -1
        action = character.animation_data.action if character.animation_data else None
        row.label(text=action.name if action else "no motion yet", icon="ACTION")
        row.operator("latentman.step_take", text="", icon="TRIA_RIGHT").step = 1
        layout.operator_menu_enum("latentman.remake_motion", "keep", icon="KEYFRAME_HLT")


class MotionSettingsPanel(_Box):
    """Settings that seldom change, and the clips that come with the extension."""

    bl_idname = "LATENTMAN_PT_motion_settings"
    bl_label = "Model and Clips"
    bl_parent_id = "LATENTMAN_PT_motion"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context):
        """Model, guidance, clips."""
        settings = properties.of(context)
        column = self.layout.column()
        column.use_property_split, column.use_property_decorate = True, False
        for name in (*MOTION_MODEL, *others(MotionRequest, *MOTION, *MOTION_MODEL)):
            column.prop(settings.motion, name)
        row = self.layout.row(align=True)
        row.prop(settings, "clip", text="")
        row.operator("latentman.use_clip", icon="CHECKMARK")


class KeyingPanel(_Box):
    """How motions are written."""

    bl_idname = "LATENTMAN_PT_keying"
    bl_label = "Keyframes"
    bl_parent_id = "LATENTMAN_PT_motion"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context):
        """The keying settings."""
        keying = properties.of(context).keying
        column = self.layout.column()
        column.use_property_split, column.use_property_decorate = True, False
        for name in (*KEYING, *others(Keying, *KEYING, *FEET)):
            column.prop(keying, name)


class EditMotionPanel(_Box):
    """What can be done to the Action in use, and where its feet stand."""

    bl_idname = "LATENTMAN_PT_edit_motion"
    bl_label = "Edit and Feet"
    bl_parent_id = "LATENTMAN_PT_motion"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context):
        """Buttons, each of which makes a new Action; the plants, editable."""
        settings, layout = properties.of(context), self.layout
        grid = layout.grid_flow(columns=2, even_columns=True, align=True)
        for name, icon in (
            ("smooth_motion", "MOD_SMOOTH"),
            ("loop_motion", "FILE_REFRESH"),
            ("trim_motion", "ARROW_LEFTRIGHT"),
            ("join_motions", "TRACKING_FORWARDS"),
            ("reduce_keys", "KEYFRAME"),
            ("add_ik", "CON_KINEMATIC"),
            ("remove_ik", "BONE_DATA"),
        ):
            grid.operator(f"latentman.{name}", icon=icon)
        row = layout.row(align=True)
        for name in FEET:
            row.prop(settings.keying, name)
        layout.operator("latentman.find_plants", icon="VIEWZOOM")
        for n, plant in enumerate(settings.plants):
            row = layout.row(align=True)
            row.prop(plant, "side", text="")
            row.prop(plant, "start")
            row.prop(plant, "end")
            row.operator("latentman.edit_plants", text="", icon="X").change = f"{n}"
        layout.operator("latentman.edit_plants", text="Add at Current Frame", icon="ADD").change = "ADD"
        layout.operator_menu_enum("latentman.lock_feet", "mode", text="Lock Feet", icon="LOCKED")


class LookPanel(_Box):
    """What does it look like?"""

    bl_idname = "LATENTMAN_PT_look"
    bl_label = "3  Look"

    def draw(self, context):
        """Prompt and model."""
        settings = properties.of(context)
        if settings.character is not None and settings.character.latentman_look:
            row = self.layout.row(align=True)
            row.label(text=f"Kept: {settings.character.latentman_look_prompt}", icon="LOCKED")
            row.operator("latentman.new_look", text="", icon="X")
        self.layout.prop(settings, "prompt", text="", icon="GREASEPENCIL")
        self.layout.prop(settings, "negative_prompt", text="", placeholder="what should not be seen", icon="X")
        column = self.layout.column()
        column.use_property_split, column.use_property_decorate = True, False
        for name in LOOK[2:]:
            column.prop(settings, name)


class AdvancedPanel(_Box):
    """Steps and strengths."""

    bl_idname = "LATENTMAN_PT_advanced"
    bl_label = "Advanced"
    bl_parent_id = "LATENTMAN_PT_look"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context):
        """Numbers that seldom change."""
        settings = properties.of(context)
        column = self.layout.column()
        column.use_property_split, column.use_property_decorate = True, False
        for name in (*ADVANCED, *others(ShotRequest, *LOOK, *ADVANCED, *properties.FROM_SCENE)):
            column.prop(settings, name)


class TechniquesPanel(_Box):
    """What the preset is composed of, and what of it is changed."""

    bl_idname = "LATENTMAN_PT_techniques"
    bl_label = "Techniques"
    bl_parent_id = "LATENTMAN_PT_advanced"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context):
        """Every technique: as the preset has it, set here, or off."""
        settings = properties.of(context)
        for technique in settings.techniques.all():
            column = self.layout.column(align=True)
            row = column.split(factor=0.45, align=True)
            row.label(text=technique.label, icon="CHECKMARK" if settings.uses(technique.name) else "BLANK1")
            row.prop(technique.group, "use", text="")
            if technique.group.use == HERE:
                column.use_property_split, column.use_property_decorate = True, False
                for name in technique.settings:
                    column.prop(technique.group, name)
        self.layout.prop(settings.techniques, "plugins")


class GeneratePanel(_Box):
    """Make it."""

    bl_idname = "LATENTMAN_PT_generate"
    bl_label = "4  Generate"

    def draw(self, context):
        """Range, warnings with what mends them, buttons, progress."""
        settings, scene, layout = properties.of(context), context.scene, self.layout
        layout.prop(settings, "subjects")
        row = layout.row()
        row.prop(settings, "use_scene_range")
        row.prop(settings, "only_changed", text="Only Changed")
        if not settings.use_scene_range:
            row = layout.row(align=True)
            row.prop(settings, "frame_start")
            row.prop(settings, "frame_end")
            row.prop(settings, "frame_step")
        frames = settings.frames(scene)
        layout.label(text=f"{len(frames)} frames · {settings.width}x{settings.height}", icon="RENDER_ANIMATION")
        if scene.camera is None:
            sentence(layout, context, "There is no camera in the scene.", "ERROR")
            layout.operator("latentman.add_camera", icon="CAMERA_DATA")
        if not connection.connected:
            sentence(layout, context, "The backend is not running; press Start above.")
        generation = connection.shot
        if generation and not generation.done:
            text = f"{generation.stage} · frames {len(generation.frames)}/{len(generation.request.frames)}"
            layout.progress(factor=generation.fraction, text=text)
            layout.operator("latentman.cancel", icon="CANCEL")
        else:
            row = layout.row(align=True)
            row.scale_y = 1.3
            row.operator("latentman.preview_frame", icon="IMAGE_DATA")
            row.operator("latentman.generate", icon="RENDER_ANIMATION")
        image = bpy.data.images.get(PREVIEW_IMAGE)
        if image and image.preview:
            layout.template_icon(image.preview.icon_id, scale=6.0)


class ResultPanel(_Box):
    """What came back?"""

    bl_idname = "LATENTMAN_PT_result"
    bl_label = "5  Results"

    def draw(self, context):
        """The results and what to do with the active one."""
        settings, layout = properties.of(context), self.layout
        if not settings.results:
            sentence(layout, context, "Nothing generated yet.")
            return
        layout.template_list("UI_UL_list", "latentman_results", settings, "results", settings, "active_result", rows=2)
        if 0 <= settings.active_result < len(settings.results):
            result = settings.results[settings.active_result]
            layout.label(text=f"{result.count} frames · seed {result.seed} · flicker {result.hmse:.0f}")
        row = layout.row(align=True)
        row.operator("latentman.to_sequencer", icon="SEQUENCE")
        row.operator("latentman.as_material", icon="MATERIAL")
        # four in a row would cut their labels off
        row = layout.row(align=True)
        row.operator("latentman.keep_look", icon="LOCKED")
        row.operator("latentman.open_folder", icon="FILE_FOLDER")


CLASSES = (
    BackendPanel,
    CharacterPanel,
    RigPanel,
    MotionPanel,
    MotionSettingsPanel,
    KeyingPanel,
    EditMotionPanel,
    LookPanel,
    AdvancedPanel,
    TechniquesPanel,
    GeneratePanel,
    ResultPanel,
)

register, unregister = bpy.utils.register_classes_factory(CLASSES)
