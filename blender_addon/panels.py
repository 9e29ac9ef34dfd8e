"""The sidebar of the 3D viewport, tab "LatentMan": one box for each step of the work, in its order."""

from __future__ import annotations

import textwrap

import bpy

from . import properties
from .operators.generate import PREVIEW_IMAGE
from .state import session

CHARACTERS_A_LINE = 7.5


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
        running = session.status != "not running"
        row.label(text=session.status, icon="RADIOBUT_ON" if session.connected else "RADIOBUT_OFF")
        if running:
            row.operator("latentman.stop_backend", icon="CANCEL")
        else:
            row.operator("latentman.start_backend", icon="PLAY")
            row.operator("latentman.connect_backend", text="", icon="LINKED")
        if session.error:
            sentence(self.layout, context, session.error, "ERROR")


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


class MotionPanel(_Box):
    """What does it do?"""

    bl_idname = "LATENTMAN_PT_motion"
    bl_label = "2  Motion"

    def draw(self, context):
        """Bundled clips, files, and the Action in use."""
        settings = properties.of(context)
        row = self.layout.row(align=True)
        row.prop(settings, "clip", text="")
        row.operator("latentman.use_clip", icon="CHECKMARK")
        self.layout.operator("latentman.import_motion", icon="IMPORT")
        character = settings.character
        if character is None:
            sentence(self.layout, context, "Pick a character above first.")
        elif character.animation_data and character.animation_data.action:
            self.layout.label(text=character.animation_data.action.name, icon="ACTION")


class LookPanel(_Box):
    """What does it look like?"""

    bl_idname = "LATENTMAN_PT_look"
    bl_label = "3  Look"

    def draw(self, context):
        """Prompt and model."""
        settings = properties.of(context)
        self.layout.prop(settings, "prompt", text="", icon="GREASEPENCIL")
        self.layout.prop(settings, "negative_prompt", text="", placeholder="what should not be seen", icon="X")
        column = self.layout.column()
        column.use_property_split, column.use_property_decorate = True, False
        for name in ("seed", "model", "preset"):
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
        for name in ("steps", "guidance_scale", "control_scale", "width", "height", "output"):
            column.prop(settings, name)


class GeneratePanel(_Box):
    """Make it."""

    bl_idname = "LATENTMAN_PT_generate"
    bl_label = "4  Generate"

    def draw(self, context):
        """Range, warnings with what mends them, buttons, progress."""
        settings, scene, layout = properties.of(context), context.scene, self.layout
        layout.prop(settings, "use_scene_range")
        if not settings.use_scene_range:
            row = layout.row(align=True)
            row.prop(settings, "frame_start")
            row.prop(settings, "frame_end")
        frames = settings.frames(scene)
        layout.label(text=f"{len(frames)} frames · {settings.width}x{settings.height}", icon="RENDER_ANIMATION")
        if scene.camera is None:
            sentence(layout, context, "There is no camera in the scene.", "ERROR")
            layout.operator("latentman.add_camera", icon="CAMERA_DATA")
        if not session.connected:
            sentence(layout, context, "The backend is not running; press Start above.")
        generation = session.generation
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
        row.operator("latentman.open_folder", icon="FILE_FOLDER")


CLASSES = (BackendPanel, CharacterPanel, MotionPanel, LookPanel, AdvancedPanel, GeneratePanel, ResultPanel)

register, unregister = bpy.utils.register_classes_factory(CLASSES)
