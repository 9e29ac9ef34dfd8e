"""The tab "LatentMan" in the sidebar of the 3D viewport: one box per step of the work, in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import bpy
import msgspec

from ..shared.costume_files import is_costume
from ..shared.model_profile import SIDES
from ..shared.motion_request import MotionRequest
from ..shared.settings import list_settings
from ..shared.shot import ShotRequest
from ..shared.vocabulary import SENTENCES
from . import properties, queue_panel, results_panel, sequencer_panel
from .character.shape_names import name_shape
from .connection import connection
from .declared_properties import list_unknown_choices
from .error_drawing import draw_error, draw_task
from .error_places import Place
from .kept_framing import book as framing_book
from .library_panel import LISTS, ModelsPanel
from .live_preview import live
from .look_drawing import PromptKeysPanel, draw_presets, draw_prompt
from .motion.keying import Keying
from .motion_words import explain_words, list_new
from .operators.generate import PREVIEW_IMAGE
from .panel_base import SidebarPanel, draw_name, draw_sentence, draw_text, make_row, set_properties
from .passes.camera import find_marker_camera
from .passes.render_set import BODIES
from .passes.simulations import find_dependencies
from .preferences import find_used_environment, get_backend_python, get_preferences
from .prompt_keys import explain_curves
from .properties import get_bone_slots, get_kept_look
from .rigging.characters import find_character_meshes
from .rigging.instances import explain_instance, explain_instances
from .scene_range import find_other_range
from .set_up.drawing import draw_set_up
from .set_up.state import SetUpState, set_up
from .setting_presets import LOOK as LOOK_PRESETS
from .setting_presets import METHOD as METHOD_PRESETS
from .shot_times import estimate_shot
from .technique_properties import CUSTOM, LatentManTechniques
from .time_estimate import write_estimate
from .translation import CONTEXT, register_class, tr, tr_filled
from .typed_access import get_armature, get_layout, get_mesh, get_scene

if TYPE_CHECKING:
    from bpy.stub_internal.rna_enums import IconItems

#: the order in which settings are shown; declared settings that are not named here follow after them
LOOK = ("prompt", "negative_prompt", "reference", "reference_strength", "seed", "model", "preset")
ADVANCED = (
    "steps",
    "guidance_scale",
    "control_scale",
    "control_start",
    "control_end",
    "scheduler",
    "spacing",
    "matching",
    "background_prompt",
    "clip_skip",
    "keep_background",
    "character_only",
    "size",
    "use_scene_aspect",
    "output",
)
#: settings that follow the model until they are set, and the properties of each
FOLLOWING = {"size": SIDES, "steps": ("steps",), "guidance_scale": ("guidance_scale",), "scheduler": ("scheduler",)}
MOTION = ("text", "seconds", "seed", "variants", "loop", "in_place")
MOTION_MODEL = ("model", "guidance_scale", "steps")
KEYING = ("target", "root", "rotation", "foot_lock", "flat_soles", "tolerance", "keep_rate")
FEET = ("plant_speed", "plant_height")


def list_other_settings(struct: type[msgspec.Struct], *shown: str) -> list[str]:
    """The names of a struct's settings without those in ``shown``."""
    return [declared.name for declared in list_settings(struct) if declared.name not in shown]


def draw_following(column: bpy.types.UILayout, settings: properties.LatentManSettings, name: str) -> None:
    """Draw a setting that follows the model: the model's value in grey, or the user's own, with the switch between them."""
    follows = getattr(settings, f"follow_{name}")
    if follows:
        row = column.row(align=True)
        shown = row.row(align=True)
        shown.enabled = False
        shown.prop(settings, f"own_{name}")
        row.prop(settings, f"follow_{name}", text="", icon="LINKED")
        return
    for n, one in enumerate(FOLLOWING[name]):
        row = column.row(align=True)
        row.prop(settings, one)
        if n == 0:
            row.prop(settings, f"follow_{name}", text="", icon="UNLINKED")
        else:
            row.label(text="", icon="BLANK1")


class BackendPanel(SidebarPanel):
    """The backend's state, and how to start and stop it."""

    bl_idname = "LATENTMAN_PT_backend"
    bl_label = "Backend"

    def draw(self, context: bpy.types.Context) -> None:
        """Draw the state, and the buttons to start or stop."""
        layout = get_layout(self)
        if not connection.running and (set_up.state is not SetUpState.IDLE or not get_backend_python(context)):
            self._draw_set_up(context)
            return
        row = layout.row(align=True)
        draw_text(row, connection.status, "RADIOBUT_ON" if connection.connected else "RADIOBUT_OFF")
        if connection.running:
            row.operator("latentman.stop_backend", icon="CANCEL")
        else:
            row.operator("latentman.start_backend", icon="PLAY")
            row.operator("latentman.connect_backend", text="", icon="LINKED")
            environment = find_used_environment(context)
            if environment is not None and environment.is_outdated:
                draw_sentence(layout, context, "This version of the extension comes with other packages for the backend.")
                layout.operator("latentman.plan_set_up", text="Update...", text_ctxt=CONTEXT, icon="IMPORT")
        draw_error(layout, context, Place.BACKEND)
        row = layout.row(align=True)
        row.operator("latentman.copy_diagnostics", icon="COPYDOWN")
        row.operator("latentman.open_log_folder", text="", icon="FILE_FOLDER")

    def _draw_set_up(self, context: bpy.types.Context) -> None:
        """Draw *Set Up* in place of *Start*, which would have nothing to start."""
        layout = get_layout(self)
        if set_up.state is SetUpState.IDLE:
            row = layout.row(align=True)
            row.scale_y = 1.4
            row.operator("latentman.plan_set_up", icon="IMPORT")
            row.operator("latentman.connect_backend", text="", icon="LINKED")
            draw_error(layout, context, Place.BACKEND)
        draw_set_up(layout, context, get_preferences(context))


class CharacterPanel(SidebarPanel):
    """The character, and ways to add one."""

    bl_idname = "LATENTMAN_PT_character"
    bl_label = "1  Character"

    def draw(self, context: bpy.types.Context) -> None:
        """Draw the picker and the buttons that add a character."""
        layout = get_layout(self)
        settings = properties.get_settings(context)
        layout.prop(settings, "character", text="")
        # an instance cannot be picked, and nothing else would say why
        sentence = explain_instance(context.active_object)
        if not sentence and settings.character is None:
            sentence = explain_instances(get_scene(context).objects)
        if sentence:
            draw_sentence(layout, context, sentence)
        row = make_row(layout, context)
        row.operator("latentman.add_mannequin", icon="OUTLINER_OB_ARMATURE")
        row.operator("latentman.load_smpl", icon="FILE_FOLDER")


class RigPanel(SidebarPanel):
    """The character's height and body shape, and its bone map."""

    bl_idname = "LATENTMAN_PT_rig"
    bl_label = "Body and Bones"
    bl_parent_id = "LATENTMAN_PT_character"
    bl_options = {"DEFAULT_CLOSED"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Show the box only for armatures."""
        return properties.get_settings(context).find_armature() is not None

    def draw(self, context: bpy.types.Context) -> None:
        """Draw the height, the shape sliders of SMPL bodies, by name where it is known what they do, and the bone map as a list."""
        armature, layout = properties.get_settings(context).find_armature(), get_layout(self)
        if armature is None:
            return
        row = make_row(layout, context)
        row.operator("latentman.set_height", icon="FULLSCREEN_ENTER")
        row.operator("latentman.fit_skeleton", icon="BONE_DATA")
        keys = next((keys for o in find_character_meshes(armature) if (keys := get_mesh(o).shape_keys)), None)
        column = layout.column(align=True)
        for key in keys.key_blocks if keys else ():
            if key.name.startswith("Shape"):
                column.prop(key, "value", text=tr(name_shape(key.name, len(key.data))), translate=False, slider=True)
        draw_bone_map(layout, context, armature, "CHARACTER")


def draw_bone_map(layout: bpy.types.UILayout, context: bpy.types.Context, armature: bpy.types.Object, owner: str) -> None:
    """Draw an armature's bone map as a list, with the buttons that fill it; ``owner`` is CHARACTER or SOURCE."""
    row = layout.row(align=True)
    set_properties(row.operator("latentman.guess_bones", icon="VIEWZOOM"), owner=owner)
    set_properties(row.operator("latentman.load_bones", text="", icon="FILE_FOLDER"), owner=owner)
    set_properties(row.operator("latentman.save_bones", text="", icon="FILE_TICK"), owner=owner)
    slots, data = get_bone_slots(armature), get_armature(armature)
    if not slots:
        draw_sentence(layout, context, "Bones are mapped automatically; press Guess Bones to see and change the map.")
        return
    draw_text(layout, f"{sum(bool(slot.bone) for slot in slots)} of {len(slots)} joints mapped")
    doubtful = sum(bool(slot.doubt) for slot in slots)
    if doubtful:
        what = f"{doubtful} bones are doubtful" if doubtful > 1 else "1 bone is doubtful"
        draw_sentence(layout, context, f"{what}: check them, change what is wrong, and confirm the rest.", "ERROR")
        set_properties(layout.operator("latentman.confirm_bones", icon="CHECKMARK"), owner=owner)
    column = layout.column(align=True)
    for slot in slots:
        missing = slot.bone and slot.bone not in data.bones
        line = column.split(factor=0.4, align=True)
        draw_text(line, slot.name.replace("_", " "), "ERROR" if missing else "QUESTION" if slot.doubt else "NONE")
        line.prop_search(slot, "bone", data, "bones", text="")
        if slot.doubt:
            draw_sentence(column, context, f"{slot.bone} {slot.doubt}.", "BLANK1")


def draw_motion_range(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """Offer the motion's range where the scene has another one."""
    found = find_other_range(get_scene(context), properties.get_settings(context).find_armature())
    if found is not None:
        layout.operator(
            "latentman.use_motion_range",
            text=tr(f"Use the Motion's Range ({found[0]} to {found[1]})"),
            translate=False,
            icon="PREVIEW_RANGE",
        )


class MotionPanel(SidebarPanel):
    """The motion: generated from a sentence, imported, or one of the takes."""

    bl_idname = "LATENTMAN_PT_motion"
    bl_label = "2  Motion"

    def draw(self, context: bpy.types.Context) -> None:
        """Draw the sentence, the import button, and the takes."""
        settings, layout = properties.get_settings(context), get_layout(self)
        row = layout.row(align=True)
        row.prop(settings.motion, "text", text="", icon="GREASEPENCIL")
        words: tuple[str, ...] = ()
        if settings.motion.uses_built_in_model:
            row.menu("LATENTMAN_MT_actions", text="", icon="DOWNARROW_HLT")
            words = explain_words(settings.motion.text)
        for sentence in words:
            draw_sentence(layout, context, sentence, "ERROR")
        row = make_row(layout, context)
        for name, label in (("seconds", ""), ("seed", "Seed"), ("variants", "Takes")):
            row.prop(settings.motion, name, text=label, text_ctxt=CONTEXT)
        row = make_row(layout, context)
        for name in ("loop", "in_place"):
            row.prop(settings.motion, name, toggle=True)
        task = connection.motion_task
        if task and not task.done:
            draw_task(layout, context, task)
        else:
            row = make_row(layout, context)
            row.scale_y = 1.2
            row.operator("latentman.make_motion", icon="ARMATURE_DATA")
            row.operator("latentman.import_motion", icon="IMPORT")
        draw_error(layout, context, Place.MOTION)
        for warning in list_new(task.warnings, words) if task else ():
            draw_sentence(layout, context, warning, "ERROR")
        draw_motion_range(layout, context)
        if settings.character is None:
            draw_sentence(layout, context, "Pick a character above first.")
            return
        row = layout.row(align=True)
        set_properties(row.operator("latentman.step_take", text="", icon="TRIA_LEFT"), step=-1)
        action = settings.find_action()
        if action:
            draw_name(row, action.name, "ACTION")
        else:
            draw_text(row, "no motion yet", "ACTION")
        set_properties(row.operator("latentman.step_take", text="", icon="TRIA_RIGHT"), step=1)
        row.operator("latentman.mark_take", text="", icon="ASSET_MANAGER")
        layout.operator_menu_enum("latentman.remake_motion", "keep", icon="KEYFRAME_HLT")
        row = layout.row(align=True)
        row.prop(settings, "source", text="", icon="ARMATURE_DATA", placeholder="Source", text_ctxt=CONTEXT)
        row.operator("latentman.use_armature", text="Use", text_ctxt=CONTEXT, icon="CHECKMARK")
        source = settings.find_source()
        if source is not None:
            header, body = layout.panel_prop(settings, "show_source_bones")
            draw_text(header, "Source's Bones")
            if body is not None:
                draw_bone_map(body, context, source, "SOURCE")


class ActionMenu(bpy.types.Menu):
    """The actions that the built-in motion model knows."""

    bl_idname = "LATENTMAN_MT_actions"
    bl_label = "Actions"
    bl_description = "What the built-in motion model knows; with Shift held, an action is put after what the text says already"

    def draw(self, context: bpy.types.Context) -> None:
        """Draw an entry for each action."""
        layout = get_layout(self)
        layout.operator_context = "INVOKE_DEFAULT"
        for action, sentences in SENTENCES.items():
            for n, sentence in enumerate(sentences):
                if n == 0:
                    layout.separator()
                    set_properties(layout.operator("latentman.choose_action", text=action, text_ctxt=CONTEXT), sentence=sentence)
                else:
                    set_properties(
                        layout.operator("latentman.choose_action", text=tr(f"    {sentence}"), translate=False), sentence=sentence
                    )


class MotionSettingsPanel(SidebarPanel):
    """The motion model's settings, and the clips that come with the extension."""

    bl_idname = "LATENTMAN_PT_motion_settings"
    bl_label = "Model and Clips"
    bl_parent_id = "LATENTMAN_PT_motion"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        """Draw the model's settings and the clips."""
        settings = properties.get_settings(context)
        column = get_layout(self).column()
        column.use_property_split, column.use_property_decorate = True, False
        for name in (*MOTION_MODEL, *list_other_settings(MotionRequest, *MOTION, *MOTION_MODEL)):
            column.prop(settings.motion, name)
        preferences = get_preferences(context) if settings.motion.model.startswith("kimodo") else None
        if preferences is not None:
            column.prop(preferences, "kimodo")
            draw_sentence(get_layout(self), context, "A change is used from the backend's next start on.")
        row = get_layout(self).row(align=True)
        row.prop(settings, "clip", text="")
        row.operator("latentman.use_clip", icon="CHECKMARK")


class KeyingPanel(SidebarPanel):
    """How motions are written as keyframes."""

    bl_idname = "LATENTMAN_PT_keying"
    bl_label = "Keyframes"
    bl_parent_id = "LATENTMAN_PT_motion"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        """Draw the keying settings."""
        keying = properties.get_settings(context).keying
        column = get_layout(self).column()
        column.use_property_split, column.use_property_decorate = True, False
        for name in (*KEYING, *list_other_settings(Keying, *KEYING, *FEET)):
            column.prop(keying, name)


class EditMotionPanel(SidebarPanel):
    """Edits of the Action in use, and its foot contacts."""

    bl_idname = "LATENTMAN_PT_edit_motion"
    bl_label = "Edit and Feet"
    bl_parent_id = "LATENTMAN_PT_motion"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        """Draw the edits, each of which makes a new Action, and the list of foot contacts."""
        settings, layout = properties.get_settings(context), get_layout(self)
        grid = layout.grid_flow(columns=2, even_columns=True, align=True)
        edits: tuple[tuple[str, IconItems], ...] = (
            ("smooth_motion", "MOD_SMOOTH"),
            ("loop_motion", "FILE_REFRESH"),
            ("trim_motion", "ARROW_LEFTRIGHT"),
            ("join_motions", "TRACKING_FORWARDS"),
            ("reduce_keys", "KEYFRAME"),
            ("make_in_place", "CENTER_ONLY"),
            ("add_ik", "CON_KINEMATIC"),
            ("remove_ik", "BONE_DATA"),
        )
        for name, icon in edits:
            grid.operator(f"latentman.{name}", icon=icon)
        row = layout.row(align=True)
        for name in FEET:
            row.prop(settings.keying, name)
        layout.operator("latentman.find_plants", icon="VIEWZOOM")
        for n, contact in enumerate(settings.plants):
            row = layout.row(align=True)
            row.prop(contact, "side", text="")
            row.prop(contact, "start")
            row.prop(contact, "end")
            set_properties(row.operator("latentman.edit_plants", text="", icon="X"), change=f"{n}")
        set_properties(
            layout.operator("latentman.edit_plants", text="Add at Current Frame", text_ctxt=CONTEXT, icon="ADD"), change="ADD"
        )
        layout.operator_menu_enum("latentman.lock_feet", "mode", text="Lock Feet", text_ctxt=CONTEXT, icon="LOCKED")


class LookPanel(SidebarPanel):
    """The prompt and the settings that decide the look."""

    bl_idname = "LATENTMAN_PT_look"
    bl_label = "3  Look"

    def draw(self, context: bpy.types.Context) -> None:
        """Draw the kept look, the prompt, and the model."""
        settings, layout = properties.get_settings(context), get_layout(self)
        job, prompt = get_kept_look(settings.character) if settings.character is not None else ("", "")
        if job:
            row = layout.row(align=True)
            worn = is_costume(job)
            draw_name(row, tr_filled("Wears: {}" if worn else "Kept: {}", prompt), "MOD_CLOTH" if worn else "LOCKED")
            if worn:
                row.operator("latentman.save_costume", text="", icon="EXPORT")
            row.operator("latentman.new_look", text="", icon="X")
        draw_presets(layout, LOOK_PRESETS)
        draw_prompt(layout, context, "prompt", "GREASEPENCIL")
        profile = settings.find_profile()
        own = profile.negative_prompt if profile is not None else ""
        placeholder = f"the model's own: {own}" if own else "what should not be visible"
        draw_prompt(layout, context, "negative_prompt", "X", placeholder)
        column = layout.column()
        column.use_property_split, column.use_property_decorate = True, False
        for name in LOOK[2:]:
            if name == "reference_strength" and not settings.reference:
                # it counts with a picture only
                continue
            row = column.row()
            if name == "reference_strength":
                row.prop(
                    settings,
                    name,
                    text="Strength" if settings.reference_strength >= 0 else "Strength (Model's Own)",
                    text_ctxt=CONTEXT,
                )
            else:
                row.prop(settings, name)
        for sentence in list_unknown_choices(settings, ShotRequest):
            draw_sentence(layout, context, sentence, "ERROR")
        row = layout.row(align=True)
        row.operator("latentman.dress", icon="MOD_CLOTH")
        row.operator("latentman.open_costume", text="", icon="FILE_FOLDER")
        error = connection.profiles.find_error(settings.get_model())
        if error:
            draw_sentence(layout, context, error, "ERROR")
        for sentence in explain_curves(get_scene(context)):
            draw_sentence(layout, context, sentence)


class AdvancedPanel(SidebarPanel):
    """The settings of a shot that are seldom changed."""

    bl_idname = "LATENTMAN_PT_advanced"
    bl_label = "Advanced"
    bl_parent_id = "LATENTMAN_PT_look"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        """Draw the settings, those that have no place of their own last."""
        settings = properties.get_settings(context)
        draw_presets(get_layout(self), METHOD_PRESETS)
        column = get_layout(self).column()
        column.use_property_split, column.use_property_decorate = True, False
        for name in (*ADVANCED, *list_other_settings(ShotRequest, *LOOK, *ADVANCED, *SIDES, *properties.FROM_SCENE)):
            if name in FOLLOWING:
                draw_following(column, settings, name)
            elif name == "background_prompt":
                draw_prompt(column, context, name, None)
            else:
                row = column.row()
                # its keyframes count in each frame
                row.use_property_decorate = name == "control_scale"
                row.prop(settings, name)


class TechniquesPanel(SidebarPanel):
    """The techniques of the preset, and changes to them."""

    bl_idname = "LATENTMAN_PT_techniques"
    bl_label = "Techniques"
    bl_parent_id = "LATENTMAN_PT_advanced"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        """Draw every technique: with the preset's settings, with its own, or off."""
        settings, layout = properties.get_settings(context), get_layout(self)
        techniques: LatentManTechniques = settings.techniques
        for technique in techniques.iter_techniques():
            column = layout.column(align=True)
            row = column.split(factor=0.45, align=True)
            draw_text(row, technique.label, "CHECKMARK" if settings.has_technique(technique.name) else "BLANK1")
            row.prop(technique.group, "use", text="")
            if technique.group.use == CUSTOM:
                column.use_property_split, column.use_property_decorate = True, False
                for name in technique.settings:
                    column.prop(technique.group, name)
        layout.prop(settings.techniques, "plugins")


def hangs_on(found: bpy.types.Object, character: bpy.types.Object | None) -> bool:
    """Whether an object moves with a character's bones without being deformed by them, so that it may be a prop."""
    if character is None or found == character or found.type not in BODIES:
        return False
    return character in find_dependencies([found]) and found not in find_character_meshes(character)


class GeneratePanel(SidebarPanel):
    """What is generated: scope, range, warnings, progress."""

    bl_idname = "LATENTMAN_PT_generate"
    bl_label = "4  Generate"

    def draw(self, context: bpy.types.Context) -> None:
        """Draw scope and range, warnings with buttons that fix them, and the buttons or the progress."""
        settings, scene, layout = properties.get_settings(context), get_scene(context), get_layout(self)
        layout.prop(settings, "subjects")
        active = context.active_object
        if active is not None and hangs_on(active, settings.character):
            layout.prop(active, "latentman_is_prop", text=tr(f"{active.name} is only a prop"), translate=False)
        row = make_row(layout, context)
        row.prop(settings, "use_scene_range")
        row.prop(settings, "only_changed", text="Only Changed", text_ctxt=CONTEXT)
        if not settings.use_scene_range:
            row = make_row(layout, context)
            row.prop(settings, "frame_start")
            row.prop(settings, "frame_end")
            row.prop(settings, "frame_step")
        frames = settings.get_frames(scene)
        size = settings.get_picture_size(scene)
        shown = f"{size[0]}x{size[1]}" if size else "the model's own size"
        draw_text(layout, f"{len(frames)} frames · {shown}", "RENDER_ANIMATION")
        if connection.connected and frames:
            draw_text(layout, write_estimate(estimate_shot(settings, scene, len(frames))), "TIME")
        if not settings.shows_frame(scene):
            draw_sentence(layout, context, "The frames have another shape than the camera's frame in the viewport.", "ERROR")
            # one below the other: beside each other their words are cut off
            column = layout.column(align=True)
            column.operator("latentman.match_scene_size", icon="RESTRICT_VIEW_OFF")
            column.prop(settings, "use_scene_aspect", toggle=True)
        if scene.camera is None and find_marker_camera(scene) is None:
            draw_sentence(layout, context, "There is no camera in the scene.", "ERROR")
        elif sentence := framing_book.explain(context, scene, settings.character, size):
            draw_sentence(layout, context, sentence)
        layout.operator("latentman.frame_character", icon="CAMERA_DATA")
        if not connection.connected:
            draw_sentence(layout, context, "The backend is not running; press Start above.")
        task = connection.shot_task
        if task and not task.done:
            draw_task(layout, context, task)
            if live.icon:
                layout.template_icon(live.icon, scale=8.0)
            layout.operator("latentman.watch", icon="WINDOW")
        else:
            row = make_row(layout, context)
            row.scale_y = 1.3
            row.operator("latentman.preview_frame", icon="IMAGE_DATA")
            row.operator("latentman.generate", icon="RENDER_ANIMATION")
        draw_error(layout, context, Place.SHOT)
        image = bpy.data.images.get(PREVIEW_IMAGE)
        if image and image.preview and (task is None or task.done):
            layout.template_icon(image.preview.icon_id, scale=6.0)


CLASSES = (
    BackendPanel,
    CharacterPanel,
    RigPanel,
    MotionPanel,
    MotionSettingsPanel,
    KeyingPanel,
    EditMotionPanel,
    LookPanel,
    PromptKeysPanel,
    ModelsPanel,
    AdvancedPanel,
    TechniquesPanel,
    GeneratePanel,
    queue_panel.QueuePanel,
    results_panel.ResultPanel,
    *sequencer_panel.CLASSES,
)

_EVERY = (*LISTS, *queue_panel.LISTS, *results_panel.LISTS, ActionMenu, *CLASSES)


def register() -> None:
    """Register the boxes, and the lists and menus in them."""
    for kind in _EVERY:
        register_class(kind)


def unregister() -> None:
    """Unregister them."""
    for kind in reversed(_EVERY):
        bpy.utils.unregister_class(kind)
