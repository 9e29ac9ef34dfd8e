"""The box *Results*: the history of generated shots, and what to do with each. Drawing reads no disk: ``result_shelf`` knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy
from bpy.props import BoolProperty

from ..shared.model_name import split_name
from ..shared.shot import ALL_PRESETS
from . import properties
from .chosen_result import list_versions
from .connection import connection
from .error_drawing import draw_error, draw_task
from .error_places import Place
from .library_panel import shorten_path
from .look import find_dressed, shows_texture
from .panel_base import SidebarPanel, draw_name, draw_sentence, draw_text, draw_words, make_row, set_properties
from .paths import get_result_folder
from .result_properties import LatentManResult, get_scene_of, is_partial, make_shot_key
from .result_shelf import shelf
from .result_words import describe_consistency, describe_date, describe_frames, shorten
from .shot_notice import notice
from .translation import CONTEXT, tr
from .typed_access import get_layout
from .viewer import get_options, is_shown, list_titles


class LATENTMAN_UL_results(bpy.types.UIList):
    """The results, newest first: picture, star, name, frames."""

    bl_idname = "LATENTMAN_UL_results"

    only_starred: BoolProperty(name="Only Starred", description="Show only results with a star")
    only_shot: BoolProperty(name="Only This Shot", description="Show only versions of the chosen result's shot")

    def draw_item(  # type: ignore[override]  # the stubs know it with fewer arguments
        self,
        context: bpy.types.Context,
        layout: bpy.types.UILayout,
        data: Any,
        item: Any,
        icon: int,
        active_data: Any,
        active_property: str,
        index: int = 0,
        flag: int = 0,
    ) -> None:
        """Draw a row; a double click renames."""
        folder = get_result_folder(item)
        picture = shelf.find_icon(folder)
        row = layout.row(align=True)
        if picture:
            row.prop(item, "name", text="", emboss=False, icon_value=picture)
        else:
            row.prop(item, "name", text="", emboss=False, icon="ERROR" if is_gone(folder) else "RENDER_ANIMATION")
        told = row.row(align=True)
        told.alignment = "RIGHT"
        draw_text(told, f"{item.count}/{item.total}" if item.count < item.total else f"{item.count}")
        if is_partial(item):
            told.label(text="", icon="TIME")
        told.prop(item, "starred", text="", emboss=False, icon="SOLO_ON" if item.starred else "SOLO_OFF")

    def draw_filter(self, context: bpy.types.Context, layout: bpy.types.UILayout) -> None:
        """Search, stars, and this shot alone."""
        row = layout.row(align=True)
        row.prop(self, "filter_name", text="", icon="VIEWZOOM")
        row.prop(self, "only_starred", text="", icon="SOLO_ON")
        row.prop(self, "only_shot", text="", icon="CAMERA_DATA")

    def filter_items(  # type: ignore[override]
        self, context: bpy.types.Context, data: Any, property: str
    ) -> tuple[list[int], list[int]]:
        """Which rows are shown, and their order."""
        words = str(self.filter_name).lower().split()
        active = data.find_active_result()
        key = make_shot_key(active) if self.only_shot and active is not None else None
        flags = [
            self.bitflag_filter_item
            if (one.starred or not self.only_starred) and (key is None or make_shot_key(one) == key) and matches(one, words)
            else 0
            for one in data.results
        ]
        return flags, order_newest_first(data.results)


def matches(result: LatentManResult, words: list[str]) -> bool:
    """Whether every word stands in a result's name, prompt, preset or model."""
    text = f"{result.name} {result.prompt} {result.preset} {result.model} {result.seed}".lower()
    return all(word in text for word in words)


def order_newest_first(results: Any) -> list[int]:
    """The row of each result: those without a date, of earlier versions, come last in the order in which they were added."""
    places = sorted(range(len(results)), key=lambda n: (results[n].created, n), reverse=True)
    rows = [0] * len(places)
    for row, place in enumerate(places):
        rows[place] = row
    return rows


def is_gone(folder: Path) -> bool:
    """Whether a result's frames are known not to be on disk."""
    state = shelf.find(folder)
    return state is not None and not state.frames


def write_preset(name: str) -> str:
    """A preset's label; its name where this version does not know it."""
    preset = ALL_PRESETS.get(name)
    return preset.label if preset is not None else name


def write_facts(result: LatentManResult) -> list[str]:
    """What is known of a result, a line each; lines of what is not known are left out."""
    width, height = result.size
    model = shorten_path(split_name(result.model)[0])
    frames = describe_frames(result.count, result.total, result.made, result.kept, partial=is_partial(result))
    size = f"{width}x{height}" if width and height else ""
    others = [one.hmse for one in list_versions(result) if one != result]
    return [
        text
        for text in (
            " · ".join(filter(None, (write_preset(result.preset), model, f"seed {result.seed}"))),
            " · ".join(filter(None, (frames, size, describe_date(result.created)))),
            describe_consistency(result.hmse, others),
        )
        if text
    ]


def draw_facts(layout: bpy.types.UILayout, context: bpy.types.Context, result: LatentManResult) -> None:
    """A result's picture, prompt and facts, and whether its frames are there."""
    folder = get_result_folder(result)
    picture = shelf.find_icon(folder)
    if picture:
        layout.template_icon(picture, scale=6.0)
    draw_words(layout, context, shorten(result.prompt) or tr("no prompt"), "OUTLINER_OB_FONT")
    for line in write_facts(result):
        draw_sentence(layout, context, line, "BLANK1")
    state = shelf.find(folder)
    if state is not None and not state.frames:
        can_fetch = "press Fetch Again, or generate the shot again." if result.job else "generate the shot again."
        draw_sentence(layout, context, f"The frames are not on disk any more; {can_fetch}", "ERROR")
        layout.operator("latentman.locate_result", icon="FILE_FOLDER")
    elif state is not None and state.frames < result.count:
        draw_sentence(layout, context, f"Only {state.frames} of the {result.count} frames are on disk.", "ERROR")


def draw_history_buttons(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """The buttons that a result has in the panel and in the sequencer."""
    # in a row of its own: beside another button its words are cut off
    layout.operator("latentman.restore_settings", icon="LOOP_BACK")
    row = layout.row(align=True)
    row.operator("latentman.make_again", icon="FILE_REFRESH")
    set_properties(row.operator("latentman.make_again", text="", icon="ADD"), new_seed=True)
    row = make_row(layout, context)
    row.operator("latentman.open_folder", text="Folder", text_ctxt=CONTEXT, icon="FILE_FOLDER")
    row.operator("latentman.copy_prompt", text="Prompt", text_ctxt=CONTEXT, icon="COPYDOWN")
    row.operator("latentman.copy_seed", text="Seed", text_ctxt=CONTEXT, icon="COPYDOWN")
    row.operator("latentman.remove_result", text="", icon="TRASH")


def draw_fetch(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """*Fetch Again*, or how far it is."""
    task = connection.fetch_task
    if task and not task.done:
        draw_task(layout, context, task)
    else:
        layout.operator("latentman.fetch_result", icon="IMPORT")


def draw_notice(layout: bpy.types.UILayout) -> None:
    """The line about a shot that is done."""
    if not notice.text:
        return
    row = layout.row(align=True)
    draw_text(row, notice.text, "CHECKMARK")
    set_properties(row.operator("latentman.play_result", text="", icon="PLAY"), ticket=notice.ticket)
    row.operator("latentman.dismiss_notice", text="", icon="X", emboss=False)


def draw_viewer(layout: bpy.types.UILayout) -> None:
    """What the Image Editor shows, and how."""
    titles = list_titles()
    if not titles:
        return
    options = get_options()
    box = layout.box()
    row = box.row()
    draw_text(row, "In the Image Editor", "IMAGE_DATA")
    row.operator("latentman.close_viewer", text="", icon="X", emboss=False)
    for letter, title in zip("AB", titles, strict=False):
        draw_name(box, f"{letter}: {shorten(title, 60)}" if len(titles) > 1 else shorten(title, 60))
    if len(titles) > 1:
        box.prop(options, "mode", text="")
        if options.mode == "WIPE":
            box.prop(options, "position")
    box.prop(options, "flicker", toggle=True)


class ResultPanel(SidebarPanel):
    """The generated shots, and what to do with them."""

    bl_idname = "LATENTMAN_PT_result"
    bl_label = "5  Results"

    def draw(self, context: bpy.types.Context) -> None:
        """Draw the list of results, and the buttons for the active one."""
        settings, layout = properties.get_settings(context), get_layout(self)
        draw_error(layout, context, Place.RESULT)
        draw_notice(layout)
        if not settings.results:
            draw_sentence(layout, context, "Nothing generated yet.")
            return
        layout.template_list("LATENTMAN_UL_results", "", settings, "results", settings, "active_result", rows=4)
        result = settings.find_active_result()
        if result is None:
            return
        draw_facts(layout, context, result)
        row = make_row(layout, context)
        row.scale_y = 1.2
        row.operator("latentman.play_result", icon="PLAY", depress=is_shown(result))
        row.operator_menu_enum("latentman.compare_results", "other", text="Compare", text_ctxt=CONTEXT, icon="SPLIT_VERTICAL")
        draw_viewer(layout)
        row = make_row(layout, context)
        pair = row.row(align=True)
        pair.operator("latentman.to_sequencer", icon="SEQUENCE")
        pair.operator("latentman.show_in_sequencer", text="", icon="VIEWZOOM")
        row.operator("latentman.to_compositor", icon="NODE_COMPOSITING")
        row = make_row(layout, context)
        set_properties(row.operator("latentman.to_sequencer", text="As Movie", text_ctxt=CONTEXT, icon="FILE_MOVIE"), kind="MOVIE")
        row.operator("latentman.keep_look", icon="LOCKED")
        _draw_material(layout, settings, result)
        draw_history_buttons(layout, context)
        draw_fetch(layout, context)


def _draw_material(layout: bpy.types.UILayout, settings: properties.LatentManSettings, result: LatentManResult) -> None:
    """*As Material*, pressed where the character wears this look, and the way back."""
    # not the character's bodies: to find them takes long in a large scene
    dressed = find_dressed(get_scene_of(result).objects)
    row = layout.row(align=True)
    worn = any(shows_texture(body, get_result_folder(result)) for body in dressed)
    row.operator("latentman.as_material", icon="MATERIAL", depress=worn)
    if dressed and settings.character is not None:
        row.operator("latentman.own_materials", text="", icon="LOOP_BACK")


LISTS = (LATENTMAN_UL_results,)
