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

#: characters that a text setting may have
MAX_TEXT = 20_000


class SettingError(ValueError):
    """A value cannot be used; ``name`` is the setting's, the message one sentence for the user."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


@dataclass(frozen=True)
class Choice:
    """One of a setting's values, with the words for people.

    A .blend file remembers a choice by its place among the others, so new ones go to the end, and one that is offered no more stays
    in its place: ``successor`` is the value to use instead.
    """

    value: str
    label: str
    help: str = ""
    successor: str = ""


@dataclass(frozen=True)
class Setting:
    """What is known of a setting beyond its type and default.

    ``ge`` and ``le`` bound numbers, both included; ``soft_max`` is as far as a slider goes; ``unit`` follows the number in
    texts. ``choices`` are the values that a text may have. ``example`` is what a text without a default looks like; the panel
    begins with it. ``unset`` says in words what holds for 0 or an empty text, which then fit whatever the range. A text that
    ``is_path`` is chosen from the disk.
    """

    label: str
    help: str
    ge: float | None = None
    le: float | None = None
    soft_max: float | None = None
    unit: str = ""
    choices: tuple[Choice, ...] = ()
    example: str = ""
    unset: str = ""
    is_path: bool = False

    @property
    def offered(self) -> tuple[Choice, ...]:
        """The choices that can be made today."""
        return tuple(choice for choice in self.choices if not choice.successor)

    def find_successor(self, value: str) -> str:
        """The value to use for one that is offered no more; the value itself where it is offered, or unknown."""
        return next((choice.successor for choice in self.choices if choice.value == value and choice.successor), value)


def is_text(value: str) -> bool:
    """Whether all letters are those of a text: there is no null among them, and no half of a pair."""
    return "\0" not in value and (value.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in value))


def _write_number(value: float) -> str:
    """A bound or a default as people write it: 2147483647, 0.03, 1e-06."""
    return str(int(value)) if value == int(value) else f"{value:g}"


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
            successor = declared.find_successor(value)
            if successor != value:
                raise SettingError(self.name, f"The {self.words} '{value}' is no longer there; use '{successor}' instead.")
            if value not in [choice.value for choice in declared.choices]:
                raise SettingError(self.name, f"The {self.words} '{value}' is unknown; use one of {self.range_text()}.")
        elif self.kind in (int, float):
            number = not isinstance(value, bool) and isinstance(value, int if self.kind is int else (int, float))
            # a whole number may be too large to become a float
            finite = number and (isinstance(value, int) or math.isfinite(value))
            low, high = declared.ge, declared.le
            if finite and value == 0 and declared.unset:
                return
            if not finite or (low is not None and value < low) or (high is not None and value > high):
                raise SettingError(self.name, f"The {self.words} {value} is out of range; choose {self.range_text()}.")
        elif not isinstance(value, self.kind):
            raise SettingError(self.name, f"The {self.words} {value!r} is not a {self.kind.__name__}.")
        elif isinstance(value, str):
            self._check_text(value)

    def _check_text(self, value: str) -> None:
        if len(value) > MAX_TEXT:
            raise SettingError(self.name, f"The {self.words} has {len(value)} characters; use at most {MAX_TEXT}.")
        if not is_text(value):
            raise SettingError(self.name, f"The {self.words} contains characters that no text has; type it again.")

    def from_text(self, text: str) -> Any:
        """The value that was typed, without blanks around it; nothing typed is the default, where there is one.

        Raises ``SettingError`` for a value that does not fit.
        """
        text = text.strip()
        if not text and self.kind is str and not self.required and not self.setting.choices:
            return self.default
        try:
            value = self.kind(text)
        except ValueError:
            number = "whole number" if self.kind is int else "number"
            raise SettingError(self.name, f"The {self.words} '{text}' is not a {number}; choose {self.range_text()}.") from None
        self.check(value)
        return value

    def range_text(self, *, unit: bool = True) -> str:
        """``0 to 4096 px``, ``at least 8`` or the like for numbers, the values for choices; empty where anything goes."""
        if self.setting.choices:
            return ", ".join(filter(None, (choice.value for choice in self.setting.offered)))
        if self.kind not in (int, float):
            return ""
        low, high = self.setting.ge, self.setting.le
        behind = f" {self.setting.unit}" if unit and self.setting.unit else ""
        if self.setting.unset and low:
            # 0 is no number of the range
            behind += f", or 0 for {self.setting.unset}"
        if low is not None and high is not None:
            return f"{_write_number(low)} to {_write_number(high)}{behind}"
        if low is not None:
            return f"at least {_write_number(low)}{behind}"
        return f"at most {_write_number(high)}{behind}" if high is not None else "any number"

    def value_text(self, value: Any) -> str:
        """A value as people write it: on or off for switches, the label of a choice without a name."""
        if self.kind is bool:
            return "on" if value else "off"
        if self.setting.unset and not value:
            return self.setting.unset
        if self.kind in (int, float):
            return _write_number(value)
        if self.setting.choices and not value:
            return self.find_label(value)
        return str(value) or "none"

    def find_label(self, value: str) -> str:
        """The words for people of a choice; the value itself where there are none."""
        return next((choice.label for choice in self.setting.choices if choice.value == value), value)

    def default_text(self) -> str:
        """The default as people write it, empty where there is none."""
        return "" if self.required else self.value_text(self.default)


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
    if typing.get_origin(hint) not in (Union, types.UnionType) or type(None) not in typing.get_args(hint):
        return None
    structs = [one for one in typing.get_args(hint) if _is_struct(one)]
    return structs[0] if len(structs) == 1 else None


def list_settings(struct: type[msgspec.Struct], path: tuple[str, ...] = ()) -> Iterator[Declared]:
    """Every declared setting of a struct and of the structs in it, in order; parts that may be left out are not entered."""
    hints = typing.get_type_hints(struct, include_extras=True)
    for field in msgspec.structs.fields(struct):
        hint, setting = _unwrap(hints[field.name])
        if setting is not None:
            required = field.default is msgspec.NODEFAULT
            yield Declared((*path, field.name), hint, None if required else field.default, required, setting)
        elif _is_struct(hint):
            yield from list_settings(hint, (*path, field.name))


def list_parts(struct: type[msgspec.Struct]) -> dict[str, type[msgspec.Struct]]:
    """The parts of a struct that may be left out (``Struct | None``), by field."""
    hints = typing.get_type_hints(struct, include_extras=True)
    found = {field.name: _optional_struct(hints[field.name]) for field in msgspec.structs.fields(struct)}
    return {name: part for name, part in found.items() if part is not None}


def summarise(struct: type[msgspec.Struct]) -> str:
    """What a struct is, in the first words of its docstring, on one line and without marks."""
    first = (struct.__doc__ or "").split(".")[0].split(":")[0]
    return " ".join(first.replace("``", "").split())


def check_settings(value: msgspec.Struct) -> None:
    """Raise ``SettingError`` for the first setting in a struct, and in the parts that it has, whose value does not fit."""
    for declared in list_settings(type(value)):
        owner: Any = value
        for name in declared.path[:-1]:
            owner = getattr(owner, name)
        declared.check(getattr(owner, declared.name))
    for name in list_parts(type(value)):
        part = getattr(value, name)
        if part is not None:
            check_settings(part)


def with_settings(value: Struct, changes: Mapping[str, Any]) -> Struct:
    """A struct with settings changed by their names, wherever in it they stand.

    Names that no setting has are taken for fields of the struct itself; ``TypeError`` for any other name.
    """
    paths = {declared.name: declared.path for declared in list_settings(type(value))}
    for name, new in changes.items():
        value = _replace(value, paths.get(name, (name,)), new)
    return value


def with_parts(value: Struct, changes: Mapping[str, Mapping[str, Any] | None]) -> Struct:
    """A struct with parts changed by their names: None takes a part out; settings go into the part that is there, or into a new
    one with its defaults."""
    known = list_parts(type(value))
    for name, settings in changes.items():
        part = None if settings is None else with_settings(getattr(value, name) or known[name](), settings)
        value = msgspec.structs.replace(value, **{name: part})
    return value


def read_plugin(text: str) -> tuple[str, dict[str, bool | int | float | str]]:
    """``name:setting=value,...`` -> a technique's name and its settings, values read as JSON where they are.

    Raises ``SettingError`` for anything else.
    """
    name, _, rest = (part.strip() for part in text.partition(":"))
    if not name:
        raise SettingError("plugin", f"'{text}' names no technique; write it like NAME or NAME:SETTING=VALUE,... .")
    values: dict[str, bool | int | float | str] = {}
    for piece in filter(None, rest.split(",")):
        key, equals, value = (part.strip() for part in piece.partition("="))
        if not (key and equals):
            raise SettingError(
                "plugin", f"'{piece}' is not a setting of the technique '{name}'; write it like {name}:SETTING=VALUE."
            )
        try:
            values[key] = msgspec.json.decode(value, type=bool | int | float | str)
        except msgspec.MsgspecError:
            values[key] = value
    return name, values


def _replace(value: Any, path: tuple[str, ...], new: Any) -> Any:
    first, *rest = path
    return msgspec.structs.replace(value, **{first: _replace(getattr(value, first), tuple(rest), new) if rest else new})
