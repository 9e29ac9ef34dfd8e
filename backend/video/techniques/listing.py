"""The techniques that there are, described for people."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from ....shared.settings import Declared, list_settings
from ....shared.shot import Method, ShotError
from ....shared.version import VERSION
from ...plugins import origin_of
from .registry import BUILT_IN, find_plugins, load_plugin


def describe_techniques() -> Iterator[str]:
    """A line for every technique, with its name, where it comes from and what it does, and one below it for each setting."""
    switches = {declared.name: declared for declared in list_settings(Method)}
    for name, kind in BUILT_IN.items():
        yield _describe(name, f"latentman {VERSION}", kind)
        if kind.settings_type is None:
            yield _describe_setting(switches[name])
        else:
            yield from _describe_settings(kind.settings_type)
    for name, entry in find_plugins().items():
        try:
            plugin = load_plugin(name)
        except ShotError as error:
            yield f"{name}  [{origin_of(entry)}]  {error}"
            continue
        yield _describe(name, origin_of(entry), plugin)
        if plugin.settings_type is not None:
            yield from _describe_settings(plugin.settings_type)


def _describe(name: str, origin: str, kind: type) -> str:
    summary = (kind.__doc__ or "").strip().split("\n\n")[0]
    return f"{name}  [{origin}]  {' '.join(summary.split())}".rstrip()


def _describe_settings(struct: type[msgspec.Struct]) -> Iterator[str]:
    declared = {setting.name: setting for setting in list_settings(struct) if len(setting.path) == 1}
    for field in msgspec.structs.fields(struct):
        if field.name in declared:
            yield _describe_setting(declared[field.name])
        else:
            yield f"    {field.name}"


def _describe_setting(declared: Declared) -> str:
    setting, words = declared.setting, []
    if setting.choices:
        words.append(" | ".join(repr(choice.value) for choice in setting.offered))
    elif declared.kind is bool:
        words.append("true | false")
    elif setting.ge is not None or setting.le is not None:
        words.append(declared.range_text())
    words.append("required" if declared.required else f"default {declared.default!r}")
    return f"    {declared.name}: {', '.join(words)}. {setting.help}"
