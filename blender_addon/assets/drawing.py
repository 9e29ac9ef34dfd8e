"""The asset library in the preferences."""

from __future__ import annotations

import bpy

from ...shared.shot import ShotError
from ...shared.version import VERSION
from ..panel_base import draw_sentence, draw_text
from ..translation import CONTEXT
from .building import build
from .library import is_registered, read_version


def draw_assets_page(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """Draw whether the library is there, and its buttons."""
    box = layout.box()
    try:
        version = read_version()
        registered = is_registered()
    except ShotError as error:
        draw_sentence(box, context, str(error), "ERROR")
        return
    if build.busy:
        draw_text(box, "The asset library is being made ...", "SORTTIME")
        return
    # a sentence has a line of its own: beside buttons it is cut off
    if not version:
        draw_text(box, "Mannequin and clips for the Asset Browser: not installed", "ASSET_MANAGER")
        box.operator("latentman.install_assets", icon="IMPORT")
    else:
        old = version != VERSION
        text = f"Made by version {version} of the extension" if old else "The asset library is up to date"
        if not registered:
            text = "The asset library is there, but the preferences do not name it"
        draw_text(box, text, "ERROR" if old or not registered else "CHECKMARK")
        row = box.row(align=True)
        row.operator("latentman.install_assets", text="Renew", text_ctxt=CONTEXT, icon="FILE_REFRESH")
        row.operator("latentman.open_assets_folder", text="", icon="FILE_FOLDER")
        row.operator("latentman.remove_assets", text="", icon="TRASH")
    if build.sentence:
        draw_sentence(box, context, build.sentence, "ERROR" if build.has_failed else "INFO")
