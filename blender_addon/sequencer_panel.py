"""The tab "LatentMan" in the sequencer's and the image editor's sidebars: the active strip's shot, and the viewer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import bpy

from .chosen_result import find_context_strip, find_strip_result, is_our_strip, list_versions
from .compat import get_sequencer_scene
from .connection import connection
from .error_drawing import draw_error, draw_task
from .error_places import Place
from .panel_base import draw_name, draw_sentence, draw_text, draw_words, make_row, set_properties
from .properties import get_scene_settings
from .result_properties import LatentManResult, get_scene_of
from .result_words import describe_steadiness, shorten
from .results_panel import draw_facts, draw_fetch, draw_history_buttons, draw_notice, draw_viewer
from .shot_notice import notice
from .translation import CONTEXT, tr, tr_filled
from .typed_access import get_layout
from .viewer import IMAGE, list_titles

if TYPE_CHECKING:
    from bpy.stub_internal.rna_enums import IconItems

#: versions of a shot that are listed: the strip's, those with a star, then the newest
MOST_VERSIONS = 12


class StripPanel(bpy.types.Panel):
    """The shot of the active strip."""

    bl_idname = "LATENTMAN_PT_strip"
    bl_label = "Generated Shot"
    bl_space_type = "SEQUENCE_EDITOR"
    bl_region_type = "UI"
    bl_category = "LatentMan"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Show the box where there is a strip or a result to add."""
        scene = context.scene
        has_results = scene is not None and len(get_scene_settings(scene).results) > 0
        return has_results or is_our_strip(find_context_strip(context)) or bool(notice.text)

    def draw(self, context: bpy.types.Context) -> None:
        """Draw the strip's result, its versions, and the buttons; without such a strip, what can be added."""
        layout = get_layout(self)
        draw_notice(layout)
        strip = find_context_strip(context)
        if not is_our_strip(strip):
            draw_sentence(layout, context, "Select a strip of a generated shot to see what it was made with.")
            _draw_add(layout, context)
            return
        result = find_strip_result(strip)
        if strip.mute:
            draw_sentence(layout, context, "This strip is muted (H shows it again).")
        if result is None:
            _draw_strip_alone(layout, context, strip)
            return
        draw_facts(layout, context, result)
        scene = get_scene_of(result)
        if scene != context.scene:
            draw_sentence(layout, context, f"The shot is of the scene '{scene.name}'.", "SCENE_DATA")
        _draw_versions(layout, result)
        task = connection.shot_task
        if task and not task.done:
            draw_task(layout, context, task)
        draw_error(layout, context, Place.SHOT)
        draw_history_buttons(layout, context)
        row = make_row(layout, context)
        row.operator("latentman.play_result", icon="PLAY")
        row.operator_menu_enum("latentman.compare_results", "other", text="Compare", text_ctxt=CONTEXT, icon="SPLIT_VERTICAL")
        layout.operator("latentman.choose_strip_result", icon="RESTRICT_SELECT_OFF")
        draw_error(layout, context, Place.RESULT)
        draw_fetch(layout, context)
        _draw_add(layout, context)


def _draw_strip_alone(layout: bpy.types.UILayout, context: bpy.types.Context, strip: Any) -> None:
    """What a strip itself knows, where its result was removed from the list."""
    draw_words(layout, context, shorten(str(strip.get("latentman_prompt", ""))) or tr("no prompt"), "OUTLINER_OB_FONT")
    draw_text(layout, f"seed {strip.get('latentman_seed', 0)}")
    draw_sentence(layout, context, "Its result is not in the list of any scene of this file.", "INFO")
    _draw_add(layout, context)


def _draw_versions(layout: bpy.types.UILayout, result: LatentManResult) -> None:
    """A button for each version of the shot, the newest first, up to ``MOST_VERSIONS``; the one that the strip shows is pressed."""
    versions = list_versions(result)
    if len(versions) < 2:
        return
    column = layout.column(align=True)
    draw_text(column, f"{len(versions)} versions of this shot")
    shown = sorted(versions, key=lambda one: (one == result, one.starred, one.created), reverse=True)[:MOST_VERSIONS]
    for one in sorted(shown, key=lambda one: one.created, reverse=True):
        text = " · ".join(filter(None, (shorten(one.name, 40), str(one.seed), describe_steadiness(one.hmse))))
        icon: IconItems = "SOLO_ON" if one.starred else "NONE"
        button = column.operator("latentman.strip_version", text=text, text_ctxt=CONTEXT, icon=icon, depress=one == result)
        set_properties(button, ticket=one.ticket, folder=one.folder)
    if len(versions) > len(shown):
        draw_text(column, f"{len(versions) - len(shown)} more in the box Results")


def _draw_add(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """The result that is chosen in the list, to be added here."""
    scene = context.scene
    result = get_scene_settings(scene).find_active_result() if scene is not None else None
    if result is None or get_sequencer_scene(context) is None:
        return
    column = layout.column(align=True)
    draw_name(column, tr_filled("Chosen: {}", shorten(result.name, 40)))
    row = make_row(column, context)
    row.operator("latentman.to_sequencer", text="Add Images", text_ctxt=CONTEXT, icon="SEQUENCE")
    set_properties(row.operator("latentman.to_sequencer", text="Add Movie", text_ctxt=CONTEXT, icon="FILE_MOVIE"), kind="MOVIE")


class ViewerPanel(bpy.types.Panel):
    """What the viewer shows, in the image editor that shows it."""

    bl_idname = "LATENTMAN_PT_viewer"
    bl_label = "Results"
    bl_space_type = "IMAGE_EDITOR"
    bl_region_type = "UI"
    bl_category = "LatentMan"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Show the box for our image only."""
        space: Any = context.space_data
        image = getattr(space, "image", None)
        return image is not None and image.name == IMAGE and bool(list_titles())

    def draw(self, context: bpy.types.Context) -> None:
        """Draw the wipe and the map."""
        draw_viewer(get_layout(self))


CLASSES = (StripPanel, ViewerPanel)
