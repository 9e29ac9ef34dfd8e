"""Prompts that are written on several lines, in a text of the file."""

from __future__ import annotations

from typing import Any

import bpy
from bpy.props import PointerProperty, StringProperty

from ..shared.prompt_text import COMMENT, join_lines
from ..shared.shot import ShotError

#: the settings that may be written in a text, and what people call them
PROMPTS = {"prompt": "Prompt", "negative_prompt": "Negative Prompt", "background_prompt": "Background Prompt"}


def get_text_name(prompt: str) -> str:
    """The property that points to the text of a prompt."""
    return f"{prompt}_text"


def _get_former_name(prompt: str) -> str:
    return f"{prompt}_text_was"


def _make_update(prompt: str) -> Any:
    def remember(self: Any, context: bpy.types.Context) -> None:
        # a text that is removed leaves nothing but its name here
        text = getattr(self, get_text_name(prompt))
        setattr(self, _get_former_name(prompt), text.name if text is not None else "")

    return remember


def add_text_properties(group: Any) -> Any:
    """A class decorator: for each prompt a text that it may be written in, and the name that the text had."""
    make_pointer: Any = PointerProperty
    make_string: Any = StringProperty
    for prompt, label in PROMPTS.items():
        group.__annotations__[get_text_name(prompt)] = make_pointer(
            name=label,
            type=bpy.types.Text,
            update=_make_update(prompt),
            description="A text of the file in which this prompt is written: line breaks become spaces, and lines that begin with "
            "# are not said",
        )
        group.__annotations__[_get_former_name(prompt)] = make_string(
            name="Former Text", description="The text that this prompt was written in", options={"HIDDEN"}
        )
    return group


def find_text(settings: Any, prompt: str) -> bpy.types.Text | None:
    """The text in which a prompt is written, if it is."""
    text: bpy.types.Text | None = getattr(settings, get_text_name(prompt))
    return text


def list_texts(settings: Any) -> dict[str, bpy.types.Text]:
    """The texts in which prompts are written."""
    return {prompt: text for prompt in PROMPTS if (text := find_text(settings, prompt)) is not None}


def unlink_texts(settings: Any) -> None:
    """Take the prompts' texts out of use, so that the lines in the panel count."""
    for prompt in PROMPTS:
        if find_text(settings, prompt) is not None:
            setattr(settings, get_text_name(prompt), None)
        forget_text(settings, prompt)


def link_texts(settings: Any, texts: dict[str, bpy.types.Text]) -> None:
    """Have prompts written in these texts."""
    for prompt, text in texts.items():
        setattr(settings, get_text_name(prompt), text)


def read_prompt(settings: Any, prompt: str) -> str:
    """What is said as a prompt: what stands in its text, or in the panel."""
    text = find_text(settings, prompt)
    return join_lines(text.as_string()) if text is not None else str(getattr(settings, prompt)).strip()


def check_prompt_text(settings: Any) -> None:
    """Raise ``ShotError`` where the prompt is written in a text that says nothing."""
    text = find_text(settings, "prompt")
    if text is not None and not read_prompt(settings, "prompt"):
        raise ShotError(
            "prompt",
            f"The text '{text.name}' says nothing; write the prompt there on lines without {COMMENT} in front, or unlink it.",
        )


def find_removed_text(settings: Any, prompt: str) -> str:
    """The name of the text in which a prompt was written until it was removed from the file; empty where none was."""
    return "" if find_text(settings, prompt) is not None else str(getattr(settings, _get_former_name(prompt)))


def forget_text(settings: Any, prompt: str) -> None:
    """A text that was removed is not missed any more."""
    setattr(settings, _get_former_name(prompt), "")


def has_changed_on_disk(text: bpy.types.Text) -> bool:
    """Whether the file of a text says something else than the text, which counts."""
    return bool(text.filepath) and not text.is_in_memory and text.is_modified


def reload_text(text: bpy.types.Text) -> None:
    """Put what the file of a text says by now in its place, everywhere. Raises ``RuntimeError`` for a file that cannot be read."""
    # Blender's own operator needs a text editor, without which it crashes
    name, path = text.name, text.filepath
    made = bpy.data.texts.load(bpy.path.abspath(path))
    text.user_remap(made)
    bpy.data.texts.remove(text)
    made.name, made.filepath = name, path
