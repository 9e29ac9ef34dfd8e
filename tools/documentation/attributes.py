"""Griffe's extension: what fields and constants are, from the ``#:`` comments above them and from declared settings.

``strength: Annotated[float, Setting("Strength", "How much", ge=0, le=1)]`` is shown as a ``float`` with the text "How much", its
range and its label in the panel.
"""

from __future__ import annotations

import ast
from typing import Any

import griffe


class AttributeTexts(griffe.Extension):
    """Gives attributes the docstrings that Python has no place for."""

    def on_attribute_instance(self, *, attr: griffe.Attribute, **_: Any) -> None:
        """Called for every attribute of a module or a class."""
        if attr.docstring is None:
            text = _find_comment(attr) or _describe_setting(attr)
            if text:
                attr.docstring = griffe.Docstring(text, lineno=attr.lineno, parent=attr)
        if isinstance(attr.annotation, griffe.ExprSubscript) and attr.annotation.canonical_name == "Annotated":
            inner = attr.annotation.slice
            if isinstance(inner, griffe.ExprTuple):
                attr.annotation = inner.elements[0]


def _find_comment(attr: griffe.Attribute) -> str:
    """The ``#:`` comment above an attribute."""
    if isinstance(attr.filepath, list):  # a namespace package has no text
        return ""
    lines, at = attr.lines_collection[attr.filepath], (attr.lineno or 1) - 2
    found: list[str] = []
    while at >= 0 and lines[at].strip().startswith("#:"):
        found.insert(0, lines[at].strip().removeprefix("#:").strip())
        at -= 1
    return " ".join(found)


def _describe_setting(attr: griffe.Attribute) -> str:
    """Help, label and range of a declared setting, as far as they are written out."""
    if not str(attr.annotation).startswith("Annotated["):
        return ""
    for node in ast.walk(ast.parse(str(attr.annotation), mode="eval")):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Setting":
            label, text = (ast.literal_eval(argument) for argument in node.args[:2])
            given = {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}
            bounds = [ast.unparse(given[name]) for name in ("ge", "le") if name in given]
            unit = f" {ast.literal_eval(given['unit'])}" if "unit" in given else ""
            words = [f"{text}."]
            if bounds:
                words.append(f"{' to '.join(bounds) if len(bounds) == 2 else 'At least ' + bounds[0]}{unit}.")
            return " ".join([*words, f"In the panel: *{label}*."])
    return "A declared setting; the page of settings has its range."
