"""Blender's properties from settings as ``shared`` declares them, and their values back.

    @declare(MotionRequest)
    class LatentManMotion(bpy.types.PropertyGroup): ...

gives the group one property for each setting, with its label, tooltip, range, choices and default.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

import bpy
import msgspec
import numpy as np
from bpy.props import BoolProperty, EnumProperty, FloatProperty, IntProperty, StringProperty

from ..shared.settings import Declared, list_settings

#: (identifier, label, tooltip), as Blender has them
Item = tuple[str, str, str]
#: what a choice without a name is called here, since Blender's identifiers cannot be empty
UNNAMED = "MODEL"
#: units that Blender writes behind a number and converts
_UNITS = {"s": {"unit": "TIME_ABSOLUTE"}, "m": {"unit": "LENGTH"}, "px": {"subtype": "PIXEL"}}

Group = TypeVar("Group", bound=type)


def property_of(declared: Declared, before: tuple[Item, ...] = ()) -> Any:
    """The property of a setting; ``before`` are items ahead of its choices, the first of which is then the default."""
    setting = declared.setting
    texts = {"name": setting.label, "description": setting.help}
    if setting.choices:
        items = before + tuple((choice.value or UNNAMED, choice.label, choice.help) for choice in setting.choices)
        return EnumProperty(**texts, items=items, default=items[0][0] if before else declared.default or UNNAMED)
    default = setting.example if declared.required else declared.default
    if declared.kind is bool:
        return BoolProperty(**texts, default=default)
    if declared.kind is str:
        return StringProperty(**texts, default=default)
    given = {"min": setting.ge, "max": setting.le, "soft_max": setting.soft_max}
    numbers = {name: declared.kind(bound) for name, bound in given.items() if bound is not None}
    numbers |= _UNITS.get(setting.unit, {})
    if declared.kind is int:
        return IntProperty(**texts, default=default, **numbers)
    if (setting.ge, setting.le) == (0, 1):
        numbers["subtype"] = "FACTOR"
    return FloatProperty(**texts, default=default, precision=3, **numbers)


def declare(struct: type[msgspec.Struct], leave_out: Collection[str] = ()) -> Callable[[Group], Group]:
    """A class decorator that gives a ``PropertyGroup`` a property for every setting of a struct and of the structs in it."""

    def add(group: Group) -> Group:
        for declared in list_settings(struct):
            if declared.name not in leave_out:
                group.__annotations__[declared.name] = property_of(declared)
        return group

    return add


def shortest(value: float) -> float:
    """The number that was typed: Blender keeps 0.1 in single precision and gives 0.10000000149 back."""
    return float(str(np.float32(value)))


def read(group: bpy.types.PropertyGroup, declared: Declared) -> Any:
    """The value of a setting, as a request or the command line has it."""
    value = getattr(group, declared.name)
    if declared.setting.choices:
        # Blender gives no name for what a newer version of the extension has stored
        return "" if value == UNNAMED else value or declared.default
    if declared.kind is float:
        return shortest(value)
    return declared.from_text(value) if declared.kind is str else value


def read_all(group: bpy.types.PropertyGroup, struct: type[msgspec.Struct], leave_out: Collection[str] = ()) -> dict[str, Any]:
    """The values of all settings of a struct, by name."""
    return {declared.name: read(group, declared) for declared in list_settings(struct) if declared.name not in leave_out}


def write_all(group: bpy.types.PropertyGroup, struct: type[msgspec.Struct], values: Mapping[str, Any]) -> None:
    """Put the settings of a struct that are in ``values`` into a group."""
    for declared in list_settings(struct):
        if declared.name in values:
            value = values[declared.name]
            setattr(group, declared.name, value or UNNAMED if declared.setting.choices else value)
