"""The box *Look*: prompts in texts of the file, and prompts by frame."""

from __future__ import annotations

from typing import Any

import bpy
from bpy.props import EnumProperty, IntProperty

from ...shared.prompt_completion import complete_prompt
from ...shared.prompt_text import COMMENT
from .. import properties
from ..prompt_texts import PROMPTS, find_text, forget_text, get_text_name, has_changed_on_disk, list_texts, reload_text
from ..translation import tr
from ..typed_access import OperatorResult, get_scene
from .polls import Poll
from .reports import report

_HELP = {
    "prompt": "What the character and the place look like",
    "negative_prompt": "What should not be seen",
    "background_prompt": "What is around the character",
}
_ITEMS = tuple((name, label, _HELP[name]) for name, label in PROMPTS.items())


def _make_prompt_choice() -> Any:
    make: Any = EnumProperty
    return make(name="Prompt", description="Which of the prompts", items=_ITEMS, options={"SKIP_SAVE"})


def _show(context: bpy.types.Context, text: bpy.types.Text) -> None:
    """Show a text in a text editor: one that is open, or one in a window of its own."""
    manager: Any = context.window_manager
    for window in manager.windows:
        for area in window.screen.areas:
            if area.type == "TEXT_EDITOR":
                area.spaces.active.text = text
                return
    if bpy.app.background:
        return
    before = {window.as_pointer() for window in manager.windows}
    if bpy.ops.wm.window_new() != {"FINISHED"}:
        return
    opened = next(window for window in manager.windows if window.as_pointer() not in before)
    area = opened.screen.areas[0]
    area.ui_type = "TEXT_EDITOR"
    area.spaces.active.text = text
    area.spaces.active.show_word_wrap = True


class EditPrompt(bpy.types.Operator):
    bl_idname = "latentman.edit_prompt"
    bl_label = "Edit in Text Editor"
    bl_description = (
        "Write the prompt on several lines: opens its text in the text editor, and makes one where it has none. Line breaks become "
        "spaces, and lines that begin with # are not said"
    )
    bl_options = {"REGISTER", "UNDO"}

    prompt: _make_prompt_choice()

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Open the text."""
        settings = properties.get_settings(context)
        text = find_text(settings, self.prompt)
        if text is None:
            text = bpy.data.texts.new(PROMPTS[self.prompt])
            text.write(f"{COMMENT} " + tr("Line breaks become spaces, and lines like this one are not said.") + "\n")
            text.write(getattr(settings, self.prompt).strip())
            setattr(settings, get_text_name(self.prompt), text)
        _show(context, text)
        if text.library is not None:
            report(self, {"INFO"}, f"'{text.name}' is linked from another file; what is changed here is not kept.")
        return {"FINISHED"}


class ReloadPrompt(Poll, bpy.types.Operator):
    bl_idname = "latentman.reload_prompt"
    bl_label = "Reload"
    bl_description = "Take what the text's file on disk says by now; what was changed in the text is lost"
    bl_options = {"REGISTER", "UNDO"}

    prompt: _make_prompt_choice()

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse where no file has changed."""
        settings = properties.get_settings(context)
        return any(map(has_changed_on_disk, list_texts(settings).values())) or cls.refuse("No text's file has changed")

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Reload the text."""
        text = find_text(properties.get_settings(context), self.prompt)
        if text is None or not has_changed_on_disk(text):
            return {"CANCELLED"}
        if text.library is not None:
            report(self, {"ERROR"}, f"'{text.name}' is linked from another file; reload it there.")
            return {"CANCELLED"}
        try:
            reload_text(text)
        except (RuntimeError, OSError) as error:
            report(self, {"ERROR"}, f"The file of '{text.name}' cannot be read; save the text elsewhere, or unlink it. {error}")
            return {"CANCELLED"}
        return {"FINISHED"}


class ForgetPromptText(bpy.types.Operator):
    bl_idname = "latentman.forget_prompt_text"
    bl_label = "Use the Line"
    bl_description = "The text in which the prompt was written was removed; from now on the line in the panel is the prompt"
    bl_options = {"REGISTER", "UNDO"}

    prompt: _make_prompt_choice()

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Forget it."""
        forget_text(properties.get_settings(context), self.prompt)
        return {"FINISHED"}


class CompletePrompt(Poll, bpy.types.Operator):
    bl_idname = "latentman.complete_prompt"
    bl_label = "Complete Prompt"
    bl_description = (
        "The prompt leaves the hair, the clothes, the shoes or the place open, so that frames may disagree on them: adds words for "
        "them to the prompt, to be changed as you like. English words are known"
    )
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse a prompt that leaves nothing open, and one that is written in a text."""
        settings: Any = properties.get_settings(context)
        if find_text(settings, "prompt") is not None:
            return cls.refuse("The prompt is written in a text; add the words there")
        found = complete_prompt(settings.prompt, settings.read_prompt("background_prompt"))
        return bool(found.missing) or cls.refuse("The prompt leaves nothing open that is known of")

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Add the words."""
        settings: Any = properties.get_settings(context)
        settings.prompt = complete_prompt(settings.prompt, settings.read_prompt("background_prompt")).prompt
        return {"FINISHED"}


class AddPromptKey(Poll, bpy.types.Operator):
    bl_idname = "latentman.add_prompt_key"
    bl_label = "Add at Current Frame"
    bl_description = "Add a prompt that holds from the current frame on; it begins as the one that holds there now"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Refuse a second prompt at a frame."""
        frames = [key.frame for key in properties.get_settings(context).prompt_keys]
        return get_scene(context).frame_current not in frames or cls.refuse("There is a prompt at this frame; go to another frame")

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Add it."""
        settings, frame = properties.get_settings(context), get_scene(context).frame_current
        before = [key for key in sorted(settings.prompt_keys, key=lambda key: key.frame) if key.frame < frame]
        prompt = before[-1].prompt if before else settings.read_prompt("prompt")
        key = settings.prompt_keys.add()
        key.frame, key.prompt = frame, prompt
        return {"FINISHED"}


class RemovePromptKey(bpy.types.Operator):
    bl_idname = "latentman.remove_prompt_key"
    bl_label = "Remove"
    bl_description = "Take this prompt out of the list"
    bl_options = {"REGISTER", "UNDO"}

    index: IntProperty(name="Index", description="The prompt's place in the list", min=0, options={"SKIP_SAVE"})

    def execute(self, context: bpy.types.Context) -> OperatorResult:
        """Remove it."""
        keys = properties.get_settings(context).prompt_keys
        if self.index >= len(keys):
            return {"CANCELLED"}
        keys.remove(self.index)
        return {"FINISHED"}


CLASSES = (CompletePrompt, EditPrompt, ReloadPrompt, ForgetPromptText, AddPromptKey, RemovePromptKey)
