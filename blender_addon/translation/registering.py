"""Registers classes so that their texts are looked up in the extension's own context.

A label such as *Surface* is a word of Blender's too, and would otherwise come out in Blender's translation of it, amid English
ones, in a language that the extension has no catalogue for.
"""

from __future__ import annotations

import inspect
from typing import Any

import bpy

from .language import CONTEXT, note


def _set_contexts(kind: type) -> None:
    """Put the names of a class's properties, which may stand in a base of it, into the extension's context."""
    for owner in kind.__mro__:
        if "__annotations__" not in vars(owner) or owner.__module__.startswith(("bpy_types", "_bpy_types", "typing")):
            continue
        for name, deferred in inspect.get_annotations(owner, eval_str=True).items():
            keywords = getattr(deferred, "keywords", None)
            if isinstance(keywords, dict):
                keywords.setdefault("translation_context", CONTEXT)
                owner.__annotations__[name] = deferred
                note(keywords.get("name", ""))
                note(keywords.get("description", ""))
                items = keywords.get("items", ())
                for item in items if not callable(items) else ():
                    note(item[1])
                    note(item[2])


def register_class(kind: Any) -> None:
    """Register a class of Blender's with the extension's context for its label and for its properties' names."""
    if "bl_translation_context" not in vars(kind):
        kind.bl_translation_context = CONTEXT
    note(getattr(kind, "bl_label", ""))
    note(getattr(kind, "bl_description", ""))
    _set_contexts(kind)
    bpy.utils.register_class(kind)
