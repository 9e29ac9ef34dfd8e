"""Clips and takes in the 3D viewport's asset shelf: a click has the character move by one."""

from __future__ import annotations

from typing import Any

import bpy

from ..properties import get_settings
from ..translation import register_class


class ClipShelf(bpy.types.AssetShelf):
    """Action assets of every library, in Object Mode; poses are in Blender's own shelf, in Pose Mode."""

    bl_idname = "LATENTMAN_AST_clips"
    bl_space_type = "VIEW_3D"
    bl_options = {"NO_ASSET_DRAG"}
    bl_activate_operator = "latentman.use_action_asset"
    bl_default_preview_size = 64

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Offer it where there is a character that can move."""
        return context.mode == "OBJECT" and context.scene is not None and get_settings(context).find_armature() is not None

    @classmethod
    def asset_poll(cls, asset: bpy.types.AssetRepresentation | None) -> bool:
        """Show Actions that move."""
        if asset is None:
            return False
        data: Any = asset.metadata
        return asset.id_type == "ACTION" and not data.get("is_single_frame")

    @classmethod
    def draw_context_menu(
        cls, context: bpy.types.Context, asset: bpy.types.AssetRepresentation | None, layout: bpy.types.UILayout | None
    ) -> None:
        """What can be done with an asset."""
        if layout is None:
            return
        layout.operator("latentman.use_action_asset", icon="ACTION")
        layout.operator("asset.open_containing_blend_file", icon="FILE_BLEND")


def register() -> None:
    """Register the shelf."""
    register_class(ClipShelf)


def unregister() -> None:
    """Unregister it."""
    bpy.utils.unregister_class(ClipShelf)
