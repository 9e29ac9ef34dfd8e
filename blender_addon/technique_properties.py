"""Techniques in the panel: for each its preset's own settings, those set here, or none at all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import bpy
import msgspec
from bpy.props import EnumProperty, PointerProperty, StringProperty

from ..shared.settings import SettingError, list_parts, list_settings, read_plugin, summarise, with_parts, with_settings
from ..shared.shot import METHODS, Method, ShotError
from .declared_properties import declare, read_all, write_all

#: the method's settings that belong to no technique of their own
COMMON = "common"
#: of those, what the panel has in another place
ELSEWHERE = ("matching",)
PRESET, HERE, OFF = "PRESET", "ON", "OFF"
PRESET_ITEM = (PRESET, "Preset's Own", "As the chosen preset has it")
_ITEMS = (PRESET_ITEM, (HERE, "Set Here", "With the settings below"), (OFF, "Off", "Left out"))


def title_of(name: str) -> str:
    """``shared_noise`` -> ``Shared Noise``."""
    return name.replace("_", " ").title()


def _values(name: str, preset: str) -> dict[str, Any]:
    """The settings of a technique as a preset has them; its defaults where the preset does without."""
    method = METHODS[preset]
    struct = list_parts(Method).get(name)
    values = msgspec.structs.asdict(method if struct is None else getattr(method, name) or struct())
    return {name: value for name, value in values.items() if name not in ELSEWHERE}


def _group(name: str, struct: type[msgspec.Struct], items: tuple[tuple[str, str, str], ...]) -> type:
    """The properties of one technique. Setting it here begins with what the preset has."""

    def begin(group: bpy.types.PropertyGroup, _: bpy.types.Context) -> None:
        if group.use == HERE:
            write_all(group, struct, _values(name, group.id_data.latentman.preset))

    use = EnumProperty(name=title_of(name), items=items, description=summarise(struct), update=begin)
    body = {"__doc__": summarise(struct), "__module__": __name__, "__annotations__": {"use": use}}
    return declare(struct, ELSEWHERE)(
        type(f"LatentManTechnique{title_of(name).replace(' ', '')}", (bpy.types.PropertyGroup,), body)
    )


STRUCTS: dict[str, type[msgspec.Struct]] = {COMMON: Method, **list_parts(Method)}
GROUPS = {
    # what is common to all frames cannot be left out
    name: _group(name, struct, _ITEMS[:2] if name == COMMON else _ITEMS)
    for name, struct in STRUCTS.items()
}


@dataclass(frozen=True)
class Technique:
    """One technique's properties in the panel, with the names of its settings."""

    name: str
    group: bpy.types.PropertyGroup
    settings: tuple[str, ...]

    @property
    def label(self) -> str:
        """The name for people."""
        return title_of(self.name)


class LatentManTechniques(bpy.types.PropertyGroup):
    """What is changed of the preset's techniques."""

    plugins: StringProperty(
        name="Others",
        description="Techniques of other packages, like NAME or NAME:SETTING=VALUE,SETTING=VALUE; several with ; between them",
    )

    def all(self) -> Iterator[Technique]:
        """Every technique."""
        for name, struct in STRUCTS.items():
            names = tuple(declared.name for declared in list_settings(struct) if declared.name not in ELSEWHERE)
            yield Technique(name, getattr(self, name), names)

    def apply(self, method: Method) -> Method:
        """The techniques with what is changed here."""
        changes: dict[str, dict[str, Any] | None] = {}
        for technique in self.all():
            if technique.group.use == HERE:
                changes[technique.name] = read_all(technique.group, STRUCTS[technique.name], ELSEWHERE)
            elif technique.group.use == OFF:
                changes[technique.name] = None
        common = changes.pop(COMMON, None)
        return with_parts(with_settings(method, common or {}), changes)

    def others(self) -> dict[str, dict[str, bool | int | float | str]]:
        """The techniques of other packages. Raises ``ShotError`` for a text that cannot be read."""
        try:
            return dict(read_plugin(text) for text in self.plugins.split(";") if text.strip())
        except SettingError as error:
            raise ShotError("method", str(error)) from error


for _name, _type in GROUPS.items():
    LatentManTechniques.__annotations__[_name] = PointerProperty(type=_type)

CLASSES = (*GROUPS.values(), LatentManTechniques)
