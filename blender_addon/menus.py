"""Entries in Blender's own menus, which the search by F3 finds, too."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import bpy

from ..shared import logs
from .assets.library import read_version
from .translation import CONTEXT, register_class
from .typed_access import get_layout

if TYPE_CHECKING:
    from bpy.stub_internal.rna_enums import IconItems

logger = logs.get_logger(__name__)

#: operators of a menu with their icons; None is a line between them
Entries = tuple[tuple[str, "IconItems"] | None, ...]

OBJECT: Entries = (
    ("make_motion", "ARMATURE_DATA"),
    ("import_motion", "IMPORT"),
    ("use_armature", "CHECKMARK"),
    None,
    ("smooth_motion", "MOD_SMOOTH"),
    ("loop_motion", "FILE_REFRESH"),
    ("trim_motion", "ARROW_LEFTRIGHT"),
    ("join_motions", "TRACKING_FORWARDS"),
    ("make_in_place", "CENTER_ONLY"),
    ("reduce_keys", "KEYFRAME"),
    ("find_plants", "VIEWZOOM"),
    None,
    ("mark_take", "ASSET_MANAGER"),
    ("mark_pose", "ASSET_MANAGER"),
    None,
    ("frame_character", "CAMERA_DATA"),
    ("preview_frame", "IMAGE_DATA"),
    ("generate", "RENDER_ANIMATION"),
    ("queue_add", "ADD"),
    ("queue_marked", "MARKER_HLT"),
    ("watch", "WINDOW"),
    ("cancel", "CANCEL"),
    None,
    ("play_result", "PLAY"),
    ("compare_results", "IMAGE_DATA"),
    ("as_material", "MATERIAL"),
    ("own_materials", "LOOP_BACK"),
    ("keep_look", "LOCKED"),
)
STRIP: Entries = (
    ("play_result", "PLAY"),
    ("compare_results", "IMAGE_DATA"),
    ("restore_settings", "LOOP_BACK"),
    ("make_again", "FILE_REFRESH"),
    ("fetch_result", "IMPORT"),
    ("open_folder", "FILE_FOLDER"),
    None,
    ("queue_marked", "MARKER_HLT"),
)


def draw_entries(layout: bpy.types.UILayout, entries: Entries) -> None:
    """Draw a menu's entries, each as its button in the panel is pressed."""
    layout.operator_context = "INVOKE_DEFAULT"
    for entry in entries:
        if entry is None:
            layout.separator()
        else:
            layout.operator(f"latentman.{entry[0]}", icon=entry[1])


class ObjectMenu(bpy.types.Menu):
    """What can be done with a character."""

    bl_idname = "LATENTMAN_MT_object"
    bl_label = "LatentMan"
    bl_description = "Motions, frames and looks of the character"

    def draw(self, context: bpy.types.Context) -> None:
        """Draw the entries."""
        draw_entries(get_layout(self), OBJECT)


class StripMenu(bpy.types.Menu):
    """What can be done with the shot of a strip."""

    bl_idname = "LATENTMAN_MT_strip"
    bl_label = "LatentMan"
    bl_description = "The shot that the active strip shows"

    def draw(self, context: bpy.types.Context) -> None:
        """Draw the entries."""
        draw_entries(get_layout(self), STRIP)


def _draw_add(self: Any, context: bpy.types.Context) -> None:
    layout = get_layout(self)
    layout.separator()
    layout.operator("latentman.add_mannequin", icon="OUTLINER_OB_ARMATURE")
    layout.operator_context = "INVOKE_DEFAULT"
    layout.operator("latentman.load_smpl", icon="FILE_FOLDER")


def _draw_object(self: Any, context: bpy.types.Context) -> None:
    layout = get_layout(self)
    layout.separator()
    layout.menu(ObjectMenu.bl_idname, icon="OUTLINER_OB_ARMATURE")


def _draw_import(self: Any, context: bpy.types.Context) -> None:
    layout = get_layout(self)
    layout.operator_context = "INVOKE_DEFAULT"
    layout.operator("latentman.import_motion", text="Motion onto Character (LatentMan)", text_ctxt=CONTEXT)


def _draw_sequencer_add(self: Any, context: bpy.types.Context) -> None:
    layout = get_layout(self)
    layout.separator()
    layout.operator("latentman.to_sequencer", text="LatentMan Result", text_ctxt=CONTEXT, icon="SEQUENCE")


def _draw_strip(self: Any, context: bpy.types.Context) -> None:
    layout = get_layout(self)
    layout.separator()
    layout.menu(StripMenu.bl_idname, icon="SEQUENCE")


def _draw_assets(self: Any, context: bpy.types.Context) -> None:
    layout = get_layout(self)
    layout.separator()
    layout.operator_context = "INVOKE_DEFAULT"
    layout.operator("latentman.use_action_asset", text="Use on Character (LatentMan)", text_ctxt=CONTEXT, icon="ACTION")
    words = "Renew LatentMan's Library" if read_version() else "Install LatentMan's Library"
    layout.operator("latentman.install_assets", text=words, text_ctxt=CONTEXT)


def _draw_asset(self: Any, context: bpy.types.Context) -> None:
    layout = get_layout(self)
    layout.separator()
    layout.operator("latentman.use_action_asset", text="Use on Character (LatentMan)", text_ctxt=CONTEXT, icon="ACTION")


#: menus of Blender's, and what is added at the end of each
ADDED: tuple[tuple[str, Callable[[Any, bpy.types.Context], None]], ...] = (
    ("VIEW3D_MT_add", _draw_add),
    ("VIEW3D_MT_object", _draw_object),
    ("VIEW3D_MT_pose", _draw_object),
    ("TOPBAR_MT_file_import", _draw_import),
    ("SEQUENCER_MT_add", _draw_sequencer_add),
    ("SEQUENCER_MT_strip", _draw_strip),
    ("ASSETBROWSER_MT_asset", _draw_assets),
    ("ASSETBROWSER_MT_context_menu", _draw_asset),
)
_CLASSES = (ObjectMenu, StripMenu)


def register() -> None:
    """Add the entries."""
    for cls in _CLASSES:
        register_class(cls)
    for name, draw in ADDED:
        menu = getattr(bpy.types, name, None)
        if menu is None:
            # another version's menus; the panel has everything
            logger.info("This Blender has no menu %s", name)
        else:
            menu.append(draw)


def unregister() -> None:
    """Take them away."""
    for name, draw in reversed(ADDED):
        menu = getattr(bpy.types, name, None)
        if menu is not None:
            menu.remove(draw)
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
