"""Converts settings, as ``shared`` declares them, into Blender's properties, and reads and writes their values.

    @declare(MotionRequest)
    class LatentManMotion(DeclaredProperties, bpy.types.PropertyGroup): ...

gives the group one property for each setting, with its label, tooltip, range, choices and default.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import bpy
import msgspec
import numpy as np
from bpy.props import BoolProperty, EnumProperty, FloatProperty, IntProperty, StringProperty

from ..shared.settings import Choice, Declared, list_settings
from .compat import RELATIVE_PATH

#: (identifier, label, tooltip), as Blender has them
Item = tuple[str, str, str]
#: the identifier of the choice whose value is empty, since Blender's identifiers cannot be empty
UNNAMED = "MODEL"
#: the property options for units that Blender shows behind a number and converts
_UNITS: dict[str, dict[str, Any]] = {"s": {"unit": "TIME_ABSOLUTE"}, "m": {"unit": "LENGTH"}, "px": {"subtype": "PIXEL"}}

Group = TypeVar("Group", bound=type)


class DeclaredProperties:
    """Mixin for groups that ``declare`` extends: their settings are attributes which a type checker cannot see."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


#: (group, context, text that is being typed) -> texts to choose from
Search = Callable[[Any, bpy.types.Context, str], list[str]]


def _make_item(choice: Choice) -> Item:
    return choice.value or UNNAMED, choice.label, choice.help


def make_property(declared: Declared, leading_items: tuple[Item, ...] = (), search: Search | None = None) -> Any:
    """The property of a setting. ``leading_items`` are put before its choices, and the first of them becomes the default;
    ``search`` offers completions while a text is typed, which may be any other all the same."""
    setting = declared.setting
    texts: dict[str, Any] = {"name": setting.label, "description": setting.help}
    if setting.choices:
        items = [(*item, number) for number, item in enumerate((*leading_items, *map(_make_item, setting.choices)))]
        gone = {choice.value for choice in setting.choices if choice.successor}
        return EnumProperty(
            **texts,
            # numbered by their places, which .blend files remember
            items=[item for item in items if item[0] not in gone],
            default=items[0][0] if leading_items else declared.default or UNNAMED,
        )
    default = setting.example if declared.required else declared.default
    if declared.kind is bool:
        return BoolProperty(**texts, default=default)
    if declared.kind is str:
        if setting.is_path:
            return StringProperty(**texts, default=default, subtype="FILE_PATH", options=RELATIVE_PATH)
        if search is not None:
            return StringProperty(**texts, default=default, search=search, search_options={"SUGGESTION"})
        return StringProperty(**texts, default=default)
    low = 0 if setting.unset else setting.ge
    bounds = {"min": low, "max": setting.le, "soft_max": setting.soft_max}
    numbers: dict[str, Any] = {name: declared.kind(bound) for name, bound in bounds.items() if bound is not None}
    numbers |= _UNITS.get(setting.unit, {})
    if declared.kind is int:
        return IntProperty(**texts, default=default, **numbers)
    if (setting.ge, setting.le) == (0, 1):
        numbers["subtype"] = "FACTOR"
    return FloatProperty(**texts, default=default, precision=3, **numbers)


def declare(
    struct: type[msgspec.Struct], leave_out: Collection[str] = (), searches: Mapping[str, Search] | None = None
) -> Callable[[Group], Group]:
    """A class decorator that adds a property to a ``PropertyGroup`` for every setting of a struct and of the structs in it;
    ``searches`` are those of ``make_property`` by the setting's name."""

    def add_properties(group: Group) -> Group:
        for declared in list_settings(struct):
            if declared.name not in leave_out:
                group.__annotations__[declared.name] = make_property(declared, search=(searches or {}).get(declared.name))
        return group

    return add_properties


def shorten_float(value: float) -> float:
    """The shortest decimal with the same single precision value: Blender stores 0.1 and returns 0.10000000149."""
    return float(str(np.float32(value)))


def read_value(group: bpy.types.bpy_struct, declared: Declared) -> Any:
    """The value of a setting, as it appears in a request and on the command line."""
    value = getattr(group, declared.name)
    if declared.setting.choices:
        # Blender returns "" for a choice that another version of the extension has stored
        return "" if value == UNNAMED else value or declared.default
    if declared.kind is float:
        return shorten_float(value)
    return declared.from_text(value) if declared.kind is str else value


def list_unknown_choices(group: bpy.types.bpy_struct, struct: type[msgspec.Struct]) -> list[str]:
    """Sentences about the settings of a struct whose stored choice this version does not offer, so that the default counts: that
    of a newer version, or one that is no longer there."""
    return [
        f"{declared.setting.label}: the choice stored in this file is not offered by this version. "
        f"'{declared.find_label(declared.default)}' is used until you choose one."
        for declared in list_settings(struct)
        if declared.setting.choices and hasattr(group, declared.name) and not getattr(group, declared.name)
    ]


def read_values(group: bpy.types.bpy_struct, struct: type[msgspec.Struct], leave_out: Collection[str] = ()) -> dict[str, Any]:
    """The values of all settings of a struct, by name."""
    return {declared.name: read_value(group, declared) for declared in list_settings(struct) if declared.name not in leave_out}


def write_values(group: bpy.types.PropertyGroup, struct: type[msgspec.Struct], values: Mapping[str, Any]) -> None:
    """Set the properties of those settings of a struct that are in ``values``; in place of a choice that is offered no more, its
    successor is set."""
    for declared in list_settings(struct):
        if declared.name in values:
            value = values[declared.name]
            if declared.setting.choices:
                value = declared.setting.find_successor(value) or UNNAMED
            setattr(group, declared.name, value)
