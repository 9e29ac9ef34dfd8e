"""The command line's arguments, from the settings as they are declared: every setting has one, with its range and default."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from .pasted_paths import expand_home
from .settings import Declared, SettingError, list_parts, list_settings, read_plugin, summarise, with_parts, with_settings
from .shot import METHODS, Method

Value = TypeVar("Value")


def get_option(name: str) -> str:
    """``guidance_scale`` -> ``--guidance-scale``."""
    return "--" + name.replace("_", "-")


def part_option(part: str, name: str) -> str:
    """The argument of a technique's setting: ``guidance``, ``rho`` -> ``--guidance-rho``."""
    return get_option(f"{part}_{name}")


def _answer(read: Callable[[str], Value]) -> Callable[[str], Value]:
    """``read`` with its ``SettingError`` as argparse wants it, so that the sentence is shown."""

    def type_of_argument(text: str) -> Value:
        try:
            return read(text)
        except SettingError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return type_of_argument


def read_path(text: str) -> Path:
    """A path that was typed, as argparse's type. An empty one would be the folder that somebody happens to be in."""
    if not text.strip() or "\0" in text:
        raise argparse.ArgumentTypeError("a path cannot be empty or have such characters; name a file or a folder")
    try:
        return expand_home(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _help(declared: Declared, default: str) -> str:
    setting, words = declared.setting, [declared.setting.help]
    if setting.example:
        words.append(f'such as "{setting.example}"')
    if declared.kind in (int, float):
        words.append(declared.range_text())
    default = default or declared.default_text()
    if default:
        words.append(f"default {default}")
    # argparse formats help with %
    return "; ".join(words).replace("%", "%%")


def _metavar(declared: Declared) -> str:
    if declared.setting.choices:
        return "{" + ",".join(choice.value for choice in declared.setting.offered if choice.value) + "}"
    return declared.setting.unit.upper() or {int: "N", float: "X", str: "TEXT"}[declared.kind]


def add_setting(
    parser: argparse._ActionsContainer,
    declared: Declared,
    *,
    option: str = "",
    aliases: Collection[str] = (),
    default: str = "",
    repeat: bool = False,
) -> None:
    """One argument. It is absent from the parsed ones unless it was given; ``default`` says in words what holds then, and that a
    setting without a default of its own need not be given.

    ``option`` takes the place of its usual name, without dashes for an argument known by its position; ``aliases`` are further
    names; with ``repeat`` it may be given several times and is a list.
    """
    names = [option or get_option(declared.name), *aliases]
    values: dict[str, Any] = {"help": _help(declared, default)}
    if names[0].startswith("-"):
        values |= {"default": argparse.SUPPRESS, "required": declared.required and not (repeat or default)}
    if declared.kind is bool:
        values["action"] = argparse.BooleanOptionalAction
    else:
        values |= {"type": _answer(declared.from_text), "metavar": _metavar(declared)}
    if repeat:
        values["action"], values["help"] = "append", values["help"] + "; may be given several times"
    parser.add_argument(*names, **values)


def add_settings(
    parser: argparse._ActionsContainer, struct: type[msgspec.Struct], leave_out: Collection[str] = (), default: str = ""
) -> None:
    """An argument for every setting of a struct and of the structs in it; ``default`` as in ``add_setting``."""
    for declared in list_settings(struct):
        if declared.name not in leave_out:
            add_setting(parser, declared, default=default)


def read_given_settings(args: argparse.Namespace, struct: type[msgspec.Struct], leave_out: Collection[str] = ()) -> dict[str, Any]:
    """The settings of a struct that were given, by name."""
    found, names = vars(args), [declared.name for declared in list_settings(struct)]
    return {name: found[name] for name in names if name in found and name not in leave_out}


def add_method_arguments(parser: argparse.ArgumentParser) -> None:
    """A switch for every technique, and an argument for every setting of it; what is not given is the preset's own."""
    own = "the preset's own"
    group = parser.add_argument_group("techniques", "what the preset composes, to be changed one by one")
    for declared in list_settings(Method):
        add_setting(group, declared, default=own)
    for name, part in list_parts(Method).items():
        group.add_argument(
            get_option(name),
            action=argparse.BooleanOptionalAction,
            default=argparse.SUPPRESS,
            help=f"{summarise(part)}; default {own}".replace("%", "%%"),
        )
        for declared in list_settings(part):
            add_setting(group, declared, option=part_option(name, declared.name), default=own)
    group.add_argument(
        "--plugin",
        action="append",
        default=[],
        type=_answer(read_plugin),
        metavar="NAME[:SETTING=VALUE,...]",
        help="a technique of another package, with its settings; may be given several times",
    )


def has_method_arguments(args: argparse.Namespace) -> bool:
    """Whether any of the arguments of ``add_method_arguments`` was given."""
    names = [declared.name for declared in list_settings(Method)]
    for name, part in list_parts(Method).items():
        names += [name, *(f"{name}_{declared.name}" for declared in list_settings(part))]
    return bool(args.plugin) or any(name in vars(args) for name in names)


def read_method(args: argparse.Namespace, preset: str) -> Method | None:
    """The preset's techniques with what was given changed; None where that is the preset itself."""
    found, own = vars(args), METHODS[preset]
    changes: dict[str, dict[str, Any] | None] = {}
    for name, part in list_parts(Method).items():
        given = {declared.name: found[key] for declared in list_settings(part) if (key := f"{name}_{declared.name}") in found}
        if found.get(name) is False:
            changes[name] = None
        elif found.get(name) or given:
            changes[name] = given
    method = with_parts(with_settings(own, read_given_settings(args, Method)), changes)
    method = msgspec.structs.replace(method, plugins=method.plugins | dict(args.plugin))
    return None if method == own else method
