"""Settings, each declared once: type, range, default, help and unit stand at the field of a request.

    class Sampling(msgspec.Struct, frozen=True):
        steps: Annotated[int, Setting("Steps", "Denoising steps", ge=1, le=1000)] = 20

From such fields come the checks here, the command line's arguments, the panel's properties and the table in the docs.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, Union

import msgspec


class SettingError(ValueError):
    """A value cannot be used; ``name`` is the setting's, the message one sentence for the user."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


@dataclass(frozen=True)
class Choice:
    """One of a setting's values, with the words for people."""

    value: str
    label: str
    help: str = ""


@dataclass(frozen=True)
class Setting:
    """What is known of a setting beyond its type and default.

    ``ge`` and ``le`` bound numbers, both included; ``soft_max`` is as far as a slider goes; ``unit`` follows the number in
    texts. ``choices`` are the values that a text may have.
    """

    label: str
    help: str
    ge: float | None = None
    le: float | None = None
    soft_max: float | None = None
    unit: str = ""
    choices: tuple[Choice, ...] = ()


@dataclass(frozen=True)
class Declared:
    """A setting where it stands: ``path`` are the fields that lead to it, ``kind`` is int, float, bool or str; ``required`` ones
    have no default."""

    path: tuple[str, ...]
    kind: type
    default: Any
    required: bool
    setting: Setting

    @property
    def name(self) -> str:
        """The field's own name."""
        return self.path[-1]

    @property
    def words(self) -> str:
        """The name as it is written in a sentence."""
        return self.name.replace("_", " ")

    def check(self, value: Any) -> None:
        """Raise ``SettingError`` for a value that does not fit."""
        declared = self.setting
        if declared.choices:
            known = [choice.value for choice in declared.choices]
            if value not in known:
                named = ", ".join(filter(None, known))
                raise SettingError(self.name, f"The {self.words} '{value}' is unknown; use one of {named}.")
        elif self.kind in (int, float):
            whole = not isinstance(value, bool) and isinstance(value, int if self.kind is int else (int, float))
            low, high = declared.ge, declared.le
            fits = whole and math.isfinite(value) and (low is None or value >= low) and (high is None or value <= high)
            if not fits:
                raise SettingError(self.name, f"The {self.words} {value} is out of range; choose {self.range_text()}.")
        elif not isinstance(value, self.kind):
            raise SettingError(self.name, f"The {self.words} {value!r} is not a {self.kind.__name__}.")

    def range_text(self) -> str:
        """``0 to 1000``, ``at least 8`` or the like."""
        low, high = self.setting.ge, self.setting.le
        unit = f" {self.setting.unit}" if self.setting.unit else ""
        if low is not None and high is not None:
            return f"{low:g} to {high:g}{unit}"
        if low is not None:
            return f"at least {low:g}{unit}"
        return f"at most {high:g}{unit}" if high is not None else "a number"


Struct = TypeVar("Struct", bound=msgspec.Struct)


def _unwrap(hint: Any) -> tuple[Any, Setting | None]:
    """The bare type of a field's annotation, without ``Annotated``, and the declaration in it."""
    if typing.get_origin(hint) is Annotated:
        bare, *notes = typing.get_args(hint)
        return bare, next((note for note in notes if isinstance(note, Setting)), None)
    return hint, None


def _is_struct(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, msgspec.Struct)


def _optional_struct(hint: Any) -> type[msgspec.Struct] | None:
    """The struct of a ``Struct | None``."""
    if typing.get_origin(hint) not in (Union, types.UnionType):
        return None
    structs = [one for one in typing.get_args(hint) if _is_struct(one)]
    return structs[0] if len(structs) == 1 else None


def settings_of(struct: type[msgspec.Struct], path: tuple[str, ...] = ()) -> Iterator[Declared]:
    """Every declared setting of a struct and of the structs in it, in order; parts that may be left out are not entered."""
    hints = typing.get_type_hints(struct, include_extras=True)
    for field in msgspec.structs.fields(struct):
        hint, setting = _unwrap(hints[field.name])
        if setting is not None:
            required = field.default is msgspec.NODEFAULT
            yield Declared((*path, field.name), hint, None if required else field.default, required, setting)
        elif _is_struct(hint):
            yield from settings_of(hint, (*path, field.name))


def parts_of(struct: type[msgspec.Struct]) -> dict[str, type[msgspec.Struct]]:
    """The parts of a struct that may be left out (``Struct | None``), by field."""
    hints = typing.get_type_hints(struct, include_extras=True)
    found = {field.name: _optional_struct(hints[field.name]) for field in msgspec.structs.fields(struct)}
    return {name: part for name, part in found.items() if part is not None}


def check_settings(value: msgspec.Struct) -> None:
    """Raise ``SettingError`` for the first setting in a struct, and in the parts that it has, whose value does not fit."""
    for declared in settings_of(type(value)):
        owner: Any = value
        for name in declared.path[:-1]:
            owner = getattr(owner, name)
        declared.check(getattr(owner, declared.name))
    for name in parts_of(type(value)):
        part = getattr(value, name)
        if part is not None:
            check_settings(part)


def with_settings(value: Struct, changes: Mapping[str, Any]) -> Struct:
    """A struct with settings changed by their names, wherever in it they stand.

    Names that no setting has are taken for fields of the struct itself; ``TypeError`` for those that are none.
    """
    paths = {declared.name: declared.path for declared in settings_of(type(value))}
    for name, new in changes.items():
        value = _replace(value, paths.get(name, (name,)), new)
    return value


def _replace(value: Any, path: tuple[str, ...], new: Any) -> Any:
    first, *rest = path
    return msgspec.structs.replace(value, **{first: _replace(getattr(value, first), tuple(rest), new) if rest else new})
