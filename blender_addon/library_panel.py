"""The box *Models*: what the model is made of, and the library of models."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import bpy

from ..shared.library import KINDS, LibraryItem, matches, write_bytes
from ..shared.model_name import WEIGHTS, split_name
from . import model_library, properties
from .connection import connection
from .library_book import NEEDS_PAGE, NEEDS_TOKEN, book
from .online import is_online
from .panel_base import SidebarPanel, draw_name, draw_sentence, draw_text, set_properties
from .translation import CONTEXT, tr
from .typed_access import get_layout

if TYPE_CHECKING:
    from bpy.stub_internal.rna_enums import IconItems

#: kind of a part of a model's name -> its words
PART_TITLES = {
    "": "ControlNet",
    "depth": "Depth",
    "normal": "Normals",
    "openpose": "Pose",
    "iuv": "Surface",
    "lora": "LoRA",
    "embedding": "Textual inversion",
    "vae": "Decoder",
    "ip": "IP-Adapter",
    "encoder": "Picture encoder",
    "parts": "Other parts",
    "motion": "Motion module",
    "sees": "Sees",
}
_FIT_ICONS: dict[str, IconItems] = {"yes": "CHECKMARK", "tight": "ERROR", "no": "CANCEL", "": "BLANK1"}
_KIND_ICONS: dict[str, IconItems] = {
    "checkpoint": "IMAGE_DATA",
    "controlnet": "MOD_WIREFRAME",
    "lora": "MODIFIER",
    "vae": "IMAGE_RGB",
    "embedding": "FONT_DATA",
    "ip_adapter": "USER",
    "picture_encoder": "HIDE_OFF",
    "motion_module": "SEQUENCE",
    "motion": "ARMATURE_DATA",
    "text_encoder": "TEXT",
    "other": "ERROR",
}


def shorten_path(path: str) -> str:
    """What a path or hub id is called where there is little room: as in the list, without the ending of a file of weights."""
    name = path.rstrip("/\\").replace("\\", "/").rpartition("/")[2]
    name, at, commit = name.partition("@")
    name = name if len(commit) == 40 or not at else f"{name}@{commit}"
    ending = next((ending for ending in WEIGHTS if name.lower().endswith(ending)), "")
    return name[: len(name) - len(ending)] or name


def is_shown(item: LibraryItem, library: Any) -> bool:
    """Whether the list shows an entry."""
    if library.kind not in (model_library.ALL, item.kind.upper()) or (library.only_here and not item.is_here):
        return False
    return matches(item, library.search)


class LATENTMAN_UL_library(bpy.types.UIList):
    """The library: a picture where there is one, title, size, and whether it is here and fits."""

    bl_idname = "LATENTMAN_UL_library"

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
        """Draw a row."""
        found = model_library.find_row_item(item)
        if found is None:
            layout.label(text="")
            return
        row = layout.row(align=True)
        own = model_library.find_icon(found)
        if own:
            draw_name(row, found.title, icon_value=own)
        else:
            draw_name(row, found.title, _KIND_ICONS.get(found.kind, "QUESTION"))
        told = row.row(align=True)
        told.alignment = "RIGHT"
        draw_text(told, write_bytes(found.size))
        state: IconItems = "ERROR" if found.problem or found.damaged else "DISK_DRIVE" if found.is_here else "IMPORT"
        told.label(text="", icon=state if found.is_here or found.can_get else "URL")
        told.label(text="", icon=_FIT_ICONS.get(found.fits, "BLANK1"))

    def draw_filter(self, context: bpy.types.Context, layout: bpy.types.UILayout) -> None:
        """Nothing: search and kind stand above the list."""

    def filter_items(  # type: ignore[override]
        self, context: bpy.types.Context, data: Any, property: str
    ) -> tuple[list[int], list[int]]:
        """Which rows are shown; the order stays."""
        flags = []
        for row in data.rows:
            found = model_library.find_row_item(row)
            flags.append(self.bitflag_filter_item if found is not None and is_shown(found, data) else 0)
        return flags, []


class ModelsPanel(SidebarPanel):
    """What the model is made of, and the library of models to choose and to get."""

    bl_idname = "LATENTMAN_PT_models"
    bl_label = "Models"
    bl_parent_id = "LATENTMAN_PT_look"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        """Draw the model's parts, the list, and the buttons for the chosen entry."""
        layout = get_layout(self)
        draw_parts(layout, context)
        if not connection.connected:
            draw_sentence(layout, context, "The backend is not running, so its library is not known; press Start above.")
            return
        library = model_library.find_library()
        if not book.is_listed:
            book.want_list()
        if library is None:
            return
        row = layout.row(align=True)
        row.prop(library, "search", text="", icon="VIEWZOOM")
        row.operator("latentman.list_models", text="", icon="FILE_REFRESH")
        row = layout.row(align=True)
        row.prop(library, "kind", text="")
        row.prop(library, "only_here", toggle=True)
        layout.template_list("LATENTMAN_UL_library", "", library, "rows", library, "active", rows=6)
        draw_item(layout, context)
        draw_outcome(layout, context)
        row = layout.row(align=True)
        row.operator("latentman.add_models", icon="NEWFOLDER")
        set_properties(row.operator("latentman.verify_models", text="Verify All", text_ctxt=CONTEXT, icon="FILE_TICK"), name="")
        row.operator("latentman.give_token", text="", icon="KEYINGSET")
        draw_folders(layout, context)


def draw_parts(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """The base, and a row for each part with its strength."""
    settings = properties.get_settings(context)
    base, _ = split_name(settings.model)
    column = layout.column(align=True)
    draw_name(column, shorten_path(base) or tr("no model"), "IMAGE_DATA")
    parts = model_library.list_parts(settings.model)
    for index, part in enumerate(parts[: model_library.MOST_PARTS]):
        row = column.row(align=True)
        if part is None:
            draw_text(row, "a part that cannot be understood", "ERROR")
        else:
            title = tr(PART_TITLES.get(part.kind, part.kind.capitalize()))
            # without a slider all of the width is the name's
            place = row.split(factor=0.65, align=True) if part.has_strength else row
            draw_name(place, f"{title}: {shorten_path(part.path)}")
            if part.has_strength:
                place.prop(settings.parts, f"strength_{index}", text="", slider=True)
        set_properties(row.operator("latentman.remove_part", text="", icon="X"), index=index)
    if len(parts) > model_library.MOST_PARTS:
        more = len(parts) - model_library.MOST_PARTS
        draw_sentence(layout, context, f"{more} more parts stand in the model's name above.")


def draw_item(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """The chosen entry and its buttons."""
    item = model_library.find_active_item()
    if item is None:
        return
    box = layout.box()
    icon = model_library.find_icon(item)
    if icon:
        box.template_icon(icon, scale=5.0)
    size = write_bytes(item.size) or ("" if item.is_here else "size not known yet")
    draw_name(box, item.title, _KIND_ICONS.get(item.kind, "QUESTION"))
    draw_text(box, " · ".join(filter(None, (KINDS.get(item.kind, item.kind), size, item.licence))))
    for sentence in filter(None, (item.purpose, ", ".join(item.words))):
        draw_sentence(box, context, sentence, "BLANK1")
    if item.fit_sentence:
        draw_sentence(box, context, item.fit_sentence, _FIT_ICONS.get(item.fits, "BLANK1"))
    if item.damaged:
        draw_sentence(box, context, "A check has found it damaged; get it again.", "ERROR")
    if item.problem:
        draw_sentence(box, context, item.problem, "ERROR")
    task = connection.library_task
    if task is not None and not task.done:
        box.progress(factor=task.fraction, text=tr(task.stage), translate=False)
        box.operator("latentman.cancel_library", icon="CANCEL")
    else:
        row = box.row(align=True)
        row.operator("latentman.use_model", icon="CHECKMARK")
        row.operator("latentman.get_model", icon="IMPORT")
        if item.can_get and not is_online():
            draw_sentence(box, context, "Blender is not allowed to go online; allow it in the preferences to get models.", "ERROR")
            box.operator("latentman.allow_online", icon="INTERNET")
    row = box.row(align=True)
    # beside two others a longer word is cut off
    row.operator("latentman.open_model_page", text="Page", text_ctxt=CONTEXT, icon="URL")
    set_properties(row.operator("latentman.verify_models", icon="FILE_TICK"), name=item.name)
    row.operator("latentman.remove_model", icon="TRASH")


def draw_outcome(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """What the last change came to, with a button where one helps."""
    if book.error:
        draw_sentence(layout, context, book.error, "ERROR")
        row = layout.row(align=True)
        if book.error_code in NEEDS_PAGE:
            row.operator("latentman.open_model_page", icon="URL")
        if book.error_code in NEEDS_TOKEN:
            row.operator("latentman.give_token", icon="KEYINGSET")
    elif book.sentence:
        draw_sentence(layout, context, book.sentence, "CHECKMARK")
    for warning in book.warnings[:5]:
        draw_sentence(layout, context, warning, "ERROR")


def draw_folders(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """The user's folders, each with a button to read it no more."""
    for folder in book.folders:
        row = layout.row(align=True)
        draw_name(row, os.path.basename(folder.path) or folder.path, "ERROR" if folder.problem else "FILE_FOLDER")
        set_properties(row.operator("latentman.forget_folder", text="", icon="X"), path=folder.path)
    for notice in book.notices[:3]:
        draw_sentence(layout, context, notice, "ERROR")


LISTS = (LATENTMAN_UL_library,)
