"""The command line's arguments, from the settings as they are declared: every setting has one, with its range and default."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection
from typing import Any

import msgspec

from .settings import Declared, SettingError, parts_of, settings_of, with_settings
from .shot import METHODS, Method


def option_of(name: str) -> str:
    """``guidance_scale`` -> ``--guidance-scale``."""
    return "--" + name.replace("_", "-")


def _reader(declared: Declared) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            value = declared.kind(text)
            declared.check(value)
        except SettingError as error:
            raise argparse.ArgumentTypeError(str(error)) from error
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"'{text}' is not a number; choose {declared.range_text()}") from error
        return value

    return read


def _help(declared: Declared, default: str | None) -> str:
    setting, words = declared.setting, [declared.setting.help]
    if setting.ge is not None or setting.le is not None:
        words.append(declared.range_text())
    if default is None and not declared.required and declared.default != "":
        default = f"default {declared.default}"
    if default:
        words.append(default)
    # argparse formats help with %
    return "; ".join(words).replace("%", "%%")


def add_setting(parser: argparse._ActionsContainer, declared: Declared, *, option: str = "", default: str | None = None) -> None:
    """One argument. It is absent from the parsed ones unless it was given; ``default`` says in words what holds then."""
    name = option or option_of(declared.name)
    values: dict[str, Any] = {"help": _help(declared, default), "default": argparse.SUPPRESS}
    if declared.required:
        values["required"] = True
    if declared.kind is bool:
        values["action"] = argparse.BooleanOptionalAction
    elif declared.setting.choices:
        values["choices"] = [choice.value for choice in declared.setting.choices]
        values["metavar"] = "{" + ",".join(filter(None, values["choices"])) + "}"
    else:
        values["type"] = _reader(declared) if declared.kind is not str else str
        values["metavar"] = declared.setting.unit.upper() or {int: "N", float: "X", str: "TEXT"}[declared.kind]
    parser.add_argument(name, **values)


def add_settings(parser: argparse._ActionsContainer, struct: type[msgspec.Struct], leave_out: Collection[str] = ()) -> None:
    """An argument for every setting of a struct and of the structs in it."""
    for declared in settings_of(struct):
        if declared.name not in leave_out:
            add_setting(parser, declared)


def given_settings(args: argparse.Namespace, struct: type[msgspec.Struct]) -> dict[str, Any]:
    """The settings of a struct that were given, by name."""
    found = vars(args)
    return {declared.name: found[declared.name] for declared in settings_of(struct) if declared.name in found}


def add_method_arguments(parser: argparse.ArgumentParser) -> None:
    """A switch for every technique, and an argument for every setting of it; what is not given is the preset's own."""
    own = "the preset's own when left out"
    group = parser.add_argument_group("techniques", "what the preset composes, to be changed one by one")
    for declared in settings_of(Method):
        add_setting(group, declared, default=own)
    for name, part in parts_of(Method).items():
        summary = (part.__doc__ or "").split(".")[0].split(":")[0].strip().replace("%", "%%")
        group.add_argument(option_of(name), action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=summary)
        for declared in settings_of(part):
            add_setting(group, declared, option=option_of(f"{name}_{declared.name}"), default=own)
    group.add_argument(
        "--plugin",
        action="append",
        default=[],
        metavar="NAME[:SETTING=VALUE,...]",
        help="a technique of another package, with its settings",
    )


def method_from(args: argparse.Namespace, preset: str) -> Method | None:
    """The preset's techniques with what was given changed; None where that is the preset itself.

    Raises ``SettingError`` for a plugin's settings that cannot be read.
    """
    found, own = vars(args), METHODS[preset]
    method = with_settings(own, given_settings(args, Method))
    for name, part in parts_of(Method).items():
        changes = {declared.name: found[key] for declared in settings_of(part) if (key := f"{name}_{declared.name}") in found}
        value = getattr(method, name)
        if found.get(name) is False:
            value = None
        elif found.get(name) or changes:
            value = with_settings(value or part(), changes)
        method = msgspec.structs.replace(method, **{name: value})
    if args.plugin:
        method = msgspec.structs.replace(method, plugins={**method.plugins, **dict(map(_plugin, args.plugin))})
    return None if method == own else method


def _plugin(text: str) -> tuple[str, dict[str, bool | int | float | str]]:
    """``name:setting=value,...`` -> the name and the settings, values read as JSON where they are."""
    name, _, rest = text.partition(":")
    values: dict[str, bool | int | float | str] = {}
    for piece in filter(None, rest.split(",")):
        key, equals, value = piece.partition("=")
        if not equals:
            raise SettingError(
                "plugin", f"'{piece}' is not a setting of the technique '{name}'; write it like {name}:SETTING=VALUE."
            )
        try:
            values[key.strip()] = msgspec.json.decode(value, type=bool | int | float | str)
        except msgspec.MsgspecError:
            values[key.strip()] = value
    return name.strip(), values
