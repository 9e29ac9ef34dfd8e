"""Techniques in the panel: each uses the preset's settings, or settings of its own, or is off."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import bpy
import msgspec
from bpy.props import EnumProperty, PointerProperty, StringProperty

from ..shared.settings import SettingError, list_parts, list_settings, read_plugin, summarise, with_parts, with_settings
from ..shared.shot import METHODS, Method, ShotError
from .declared_properties import declare, read_values, write_values

#: the name for the method's settings that do not belong to a technique
COMMON = "common"
#: those of them that the panel shows in another place
SHOWN_ELSEWHERE = ("matching",)
#: the values of a technique's property ``use``, which .blend files store by their place
PRESET, CUSTOM, OFF = "PRESET", "ON", "OFF"
PRESET_ITEM = (PRESET, "Preset's Own", "As the chosen preset has it")
_ITEMS = (PRESET_ITEM, (CUSTOM, "Set Here", "With the settings below"), (OFF, "Off", "Left out"))


def make_title(name: str) -> str:
    """The label of a name: ``Shared Noise`` for ``shared_noise``."""
    return name.replace("_", " ").title()


def _get_preset_values(name: str, preset: str) -> dict[str, Any]:
    """The settings of a technique in a preset, or its defaults where the preset does not use it."""
    method = METHODS[preset]
    struct = list_parts(Method).get(name)
    values = msgspec.structs.asdict(method if struct is None else getattr(method, name) or struct())
    return {name: value for name, value in values.items() if name not in SHOWN_ELSEWHERE}


def _make_group(name: str, struct: type[msgspec.Struct], items: tuple[tuple[str, str, str], ...]) -> Any:
    """The property group of one technique. Choosing ``CUSTOM`` copies the preset's settings into it."""

    def on_use_change(group: Any, _: bpy.types.Context) -> None:
        if group.use == CUSTOM:
            write_values(group, struct, _get_preset_values(name, group.id_data.latentman.get_preset()))

    make_enum: Any = EnumProperty  # the stubs say that it returns None
    use = make_enum(name=make_title(name), items=items, description=summarise(struct), update=on_use_change)
    body = {"__doc__": summarise(struct), "__module__": __name__, "__annotations__": {"use": use}}
    group = type(f"LatentManTechnique{make_title(name).replace(' ', '')}", (bpy.types.PropertyGroup,), body)
    return declare(struct, SHOWN_ELSEWHERE)(group)


STRUCTS: dict[str, type[msgspec.Struct]] = {COMMON: Method, **list_parts(Method)}
GROUPS = {
    # the common settings cannot be left out
    name: _make_group(name, struct, _ITEMS[:2] if name == COMMON else _ITEMS)
    for name, struct in STRUCTS.items()
}


@dataclass(frozen=True)
class Technique:
    """One technique's property group in the panel, and the names of its settings."""

    name: str
    group: Any
    settings: tuple[str, ...]

    @property
    def label(self) -> str:
        """The name in the panel."""
        return make_title(self.name)


class LatentManTechniques(bpy.types.PropertyGroup):
    """The changes to the preset's techniques."""

    plugins: StringProperty(
        name="Others",
        description="Techniques of other packages, like NAME or NAME:SETTING=VALUE,SETTING=VALUE; several with ; between them",
    )

    def iter_techniques(self) -> Iterator[Technique]:
        """Every built-in technique, and the common settings as one more."""
        for name, struct in STRUCTS.items():
            names = tuple(declared.name for declared in list_settings(struct) if declared.name not in SHOWN_ELSEWHERE)
            yield Technique(name, getattr(self, name), names)

    def apply(self, method: Method) -> Method:
        """A method with the changes that are made here."""
        changes: dict[str, dict[str, Any] | None] = {}
        for technique in self.iter_techniques():
            if technique.group.use == CUSTOM:
                changes[technique.name] = read_values(technique.group, STRUCTS[technique.name], SHOWN_ELSEWHERE)
            elif technique.group.use == OFF:
                changes[technique.name] = None
        common = changes.pop(COMMON, None)
        return with_parts(with_settings(method, common or {}), changes)

    def read_plugins(self) -> dict[str, dict[str, bool | int | float | str]]:
        """The settings of techniques from other packages, by name. Raises ``ShotError`` for a text that cannot be parsed."""
        try:
            return dict(read_plugin(text) for text in self.plugins.split(";") if text.strip())
        except SettingError as error:
            raise ShotError("method", str(error)) from error


_make_pointer: Any = PointerProperty  # the stubs say that it returns None
for _name, _type in GROUPS.items():
    LatentManTechniques.__annotations__[_name] = _make_pointer(
        type=_type, name=_name.title(), description=f"Settings of the method: {_name}"
    )

CLASSES = (*GROUPS.values(), LatentManTechniques)
