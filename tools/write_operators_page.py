"""Writes the operators of ``docs/python.md`` from what Blender knows: ``python -m tools.write_operators_page``; ``--check`` only
compares. Needs Blender as a package."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import bpy

from latentman.blender_addon import registration
from latentman.blender_addon.operators import CLASSES

from .write_settings_page import format_table
from .written_page import write_page

PAGE = Path(__file__).resolve().parents[1] / "docs" / "python.md"
TYPES = {"BOOLEAN": "bool", "INT": "int", "FLOAT": "float", "STRING": "str", "ENUM": "str"}
#: what Blender itself says of numbers without a bound
UNBOUNDED = 2**31 - 1


def list_operators() -> list[Any]:
    """What Blender knows of every operator, in the panel's order; the add-on is registered."""
    kinds: list[Any] = [kind for kind in CLASSES if issubclass(kind, bpy.types.Operator)]
    operators: Any = bpy.ops
    return [getattr(operators.latentman, kind.bl_idname.partition(".")[2]).get_rna_type() for kind in kinds]


def list_arguments(operator: Any) -> list[Any]:
    """What an operator can be told; what only a dialog needs is left out."""
    return [
        one
        for one in operator.properties
        if one.identifier not in ("rna_type", "filter_glob", "filter_folder", "check_existing") and one.type != "COLLECTION"
    ]


def write_value(value: object) -> str:
    """A default as Python has it; Blender keeps single precision."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return repr(float(f"{value:.6g}")) if isinstance(value, float) else repr(value)


def write_default(argument: Any) -> str:
    """The default of an argument."""
    return write_value(argument.default)


def write_range(argument: Any) -> str:
    """The values that an argument takes."""
    if argument.type == "ENUM":
        return ", ".join(f"`{item.identifier}`" for item in argument.enum_items)
    if argument.type not in ("INT", "FLOAT"):
        return "–"
    low, high = argument.hard_min, argument.hard_max
    bounds = [f"at least {low:.6g}" if low > -UNBOUNDED else "", f"at most {high:.6g}" if high < UNBOUNDED else ""]
    return ", ".join(filter(None, bounds)) or "any number"


def write_operator(operator: Any) -> str:
    """A section of the page."""
    name = operator.identifier.partition("_OT_")[2]
    arguments = list_arguments(operator)
    call = f"bpy.ops.latentman.{name}({', '.join(f'{one.identifier}={write_default(one)}' for one in arguments)})"
    lines = [f"### {name}", "", f"```\n{call}\n```", "", f"*{operator.name}*: {operator.description}."]
    if arguments:
        rows = [(f"`{one.identifier}`", TYPES[one.type], write_range(one), one.description) for one in arguments]
        lines += ["", format_table(("argument", "type", "values", "what it does"), rows)]
    return "\n".join(lines)


def format_page(text: str) -> str:
    """The page with its operators made anew."""
    made = "\n\n".join(map(write_operator, list_operators()))
    return re.sub(
        r"(<!-- operators -->\n).*?(<!-- end -->)", lambda found: f"{found[1]}{made}\n{found[2]}", text, count=1, flags=re.S
    )


def _make_page() -> str:
    registration.register()
    try:
        return format_page(PAGE.read_text(encoding="utf-8"))
    finally:
        registration.unregister()


def main(argv: list[str] | None = None) -> int:
    """Write the page, or compare it; returns 1 when it is stale."""
    return write_page("write_operators_page", __doc__, PAGE, _make_page, argv)


if __name__ == "__main__":
    sys.exit(main())
