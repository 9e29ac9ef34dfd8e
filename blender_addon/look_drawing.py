"""Parts of the box *Look*: the preset menus, a prompt with its text, and prompts by frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import bpy

from ..shared.prompt_completion import complete_prompt
from ..shared.schedule import Schedule
from ..shared.settings import list_settings
from . import properties
from .operators.setting_presets import ADDERS, MENUS
from .panel_base import SidebarPanel, draw_sentence, draw_words, set_properties
from .prompt_keys import explain_frame, list_prompt_keys, shorten
from .prompt_texts import find_removed_text, find_text, get_text_name, has_changed_on_disk, read_prompt
from .setting_presets import PresetKind
from .translation import CONTEXT, tr_filled
from .typed_access import get_layout, get_scene

if TYPE_CHECKING:
    from bpy.stub_internal.rna_enums import IconItems


def draw_presets(layout: bpy.types.UILayout, kind: PresetKind) -> None:
    """Draw the menu of a kind of presets as Blender's own panels have it."""
    menu, add = MENUS[kind], ADDERS[kind].bl_idname
    row = layout.row(align=True)
    # after a preset was loaded, its name
    row.menu(menu.bl_idname, text=menu.bl_label, text_ctxt=CONTEXT)
    row.operator(add, text="", icon="ADD")
    set_properties(row.operator(add, text="", icon="REMOVE"), remove_active=True)


def draw_prompt(
    layout: bpy.types.UILayout, context: bpy.types.Context, prompt: str, icon: IconItems | None, placeholder: str = ""
) -> None:
    """Draw a prompt: its line, or the text that it is written in with what is said of it. Without an icon it has its name."""
    settings = properties.get_settings(context)
    text, row = find_text(settings, prompt), layout.row(align=True)
    label: Any = {"text": ""} if icon else {}
    if text is None:
        row.prop(settings, prompt, placeholder=placeholder, text_ctxt=CONTEXT, icon=icon or "NONE", **label)
        set_properties(row.operator("latentman.edit_prompt", text="", icon="TEXT"), prompt=prompt)
        removed = find_removed_text(settings, prompt)
        if removed:
            draw_sentence(layout, context, f"The text '{removed}' was removed from the file; the line above is used.", "ERROR")
            set_properties(layout.operator("latentman.forget_prompt_text"), prompt=prompt)
        if prompt == "prompt" and complete_prompt(settings.prompt, read_prompt(settings, "background_prompt")).missing:
            layout.operator("latentman.complete_prompt", icon="ADD")
        return
    row.prop(settings, get_text_name(prompt), icon="TEXT", **label)
    set_properties(row.operator("latentman.edit_prompt", text="", icon="GREASEPENCIL"), prompt=prompt)
    said = read_prompt(settings, prompt)
    if said:
        draw_words(layout, context, tr_filled("Said: {}", shorten(said)), "BLANK1")
    elif prompt == "prompt":
        draw_sentence(layout, context, f"The text '{text.name}' says nothing; lines that begin with # do not count.", "ERROR")
    if has_changed_on_disk(text):
        draw_sentence(layout, context, f"The file of '{text.name}' has changed on disk; what the text says here is used.", "ERROR")
        set_properties(layout.operator("latentman.reload_prompt"), prompt=prompt)


class PromptKeysPanel(SidebarPanel):
    """Prompts that hold from a frame on."""

    bl_idname = "LATENTMAN_PT_prompt_keys"
    bl_label = "Prompts by Frame"
    bl_parent_id = "LATENTMAN_PT_look"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        """Draw the list in the order of its frames, how one prompt turns into the next, and what is said at the current frame."""
        settings, layout = properties.get_settings(context), get_layout(self)
        keys: Any = settings.prompt_keys
        for n in sorted(range(len(keys)), key=lambda n: int(keys[n].frame)):
            row = layout.row(align=True)
            split = row.split(factor=0.3, align=True)
            split.prop(keys[n], "frame", text="")
            split.prop(keys[n], "prompt", text="", placeholder="nothing said: left out", text_ctxt=CONTEXT)
            set_properties(row.operator("latentman.remove_prompt_key", text="", icon="X"), index=n)
        layout.operator("latentman.add_prompt_key", icon="ADD")
        if not list_prompt_keys(settings):
            draw_sentence(layout, context, "The prompt above holds in all frames.")
            return
        column = layout.column()
        column.use_property_split, column.use_property_decorate = True, False
        for declared in list_settings(Schedule):
            column.prop(settings, declared.name)
        draw_sentence(layout, context, explain_frame(get_scene(context), settings, read_prompt(settings, "prompt")))
