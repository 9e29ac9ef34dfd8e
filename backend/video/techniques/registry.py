"""Techniques by name: those of this package, and whatever other packages register.

A package adds a technique with an entry point of the group ``latentman.techniques`` that names a class derived from ``Technique``.
``Method.plugins`` asks for it by the entry point's name, with its settings. It is loaded only then, so a broken package does no
harm to those who do not use it.

Techniques work in this order: those of this package as ``BUILT_IN`` has them, then those of others by their names, then objects
that a caller made.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import msgspec

from ....shared.settings import SettingError, check_settings, list_settings
from ....shared.shot import Method, ShotError
from ...plugins import origin_of
from .alignment import LatentAlignment
from .background import SharedBackground
from .cross_frame_attention import CrossFrameAttention
from .fusion import TextureFusion
from .guidance import PixelGuidance
from .shared_noise import SharedNoise
from .surface_noise import SurfaceNoise
from .technique import Technique

GROUP = "latentman.techniques"

#: field of ``Method`` -> the technique that it switches on, and configures where it is more than a switch
BUILT_IN: dict[str, type[Technique]] = {
    "shared_noise": SharedNoise,
    "surface_noise": SurfaceNoise,
    "cross_frame_attention": CrossFrameAttention,
    "alignment": LatentAlignment,
    "background": SharedBackground,
    "guidance": PixelGuidance,
    "fusion": TextureFusion,
}


def build_techniques(method: Method) -> list[Technique]:
    """New techniques as a method asks for them, in the order in which they work.

    Raises ``ShotError`` for a plugin that is not installed or broken, and for settings that it does not have.
    """
    own = [kind(settings) for name, kind in BUILT_IN.items() if (settings := getattr(method, name))]
    return [*own, *(_build_plugin(name, method.plugins[name]) for name in sorted(method.plugins))]


def find_plugins() -> dict[str, EntryPoint]:
    """The techniques of other packages, by name, not loaded."""
    return {entry.name: entry for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name)}


def load_plugin(name: str) -> type[Technique]:
    """The class of another package's technique. Raises ``ShotError`` when there is none of that name, or it is broken."""
    found = find_plugins()
    if name in BUILT_IN:
        raise ShotError("plugin", f"The technique '{name}' is built in; set it in the method itself, not among its plugins.")
    if name not in found:
        there = f"choose {', '.join(found)}" if found else "no package with techniques is installed in the backend's environment"
        raise ShotError("plugin", f"There is no technique '{name[:40]}'; {there}.")
    try:
        kind = found[name].load()
    except (Exception, SystemExit) as error:  # what a package does while it is imported is beyond us
        raise _make_error(name, error) from error
    if not (isinstance(kind, type) and issubclass(kind, Technique)):
        raise _make_error(name, f"{found[name].value} is not a class derived from Technique")
    if kind.settings_type is not None and not (
        isinstance(kind.settings_type, type) and issubclass(kind.settings_type, msgspec.Struct)
    ):
        raise _make_error(name, "its settings_type is not a msgspec.Struct")
    return kind


def _make_error(name: str, reason: BaseException | str) -> ShotError:
    if isinstance(reason, BaseException):
        lines = str(reason).strip().splitlines()
        reason = f"{type(reason).__name__}: {lines[0]}" if lines else type(reason).__name__
    origin = origin_of(find_plugins()[name])
    return ShotError(
        "plugin", f"The technique '{name}' of {origin} cannot be used ({reason}); update that package, or leave it out."
    )


def _build_plugin(name: str, values: Mapping[str, Any]) -> Technique:
    kind = load_plugin(name)
    settings = convert_settings(name, kind.settings_type, values)
    try:
        return kind(settings)
    except ShotError:
        raise
    except Exception as error:
        raise _make_error(name, error) from error


def convert_settings(name: str, struct: type[msgspec.Struct] | None, values: Mapping[str, Any]) -> msgspec.Struct | None:
    """A technique's settings from plain values. Raises ``ShotError`` with a sentence for the first that does not fit."""
    known = [field.name for field in msgspec.structs.fields(struct)] if struct else []
    for key in values:
        if key not in known:
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise ShotError("plugin", f"The technique '{name}' has no setting '{key[:40]}'; {has}.")
    if struct is None:
        return None
    try:
        for declared in list_settings(struct):
            # before msgspec sees them: these sentences are better
            if len(declared.path) == 1 and declared.name in values:
                declared.check(values[declared.name])
        settings = msgspec.convert(dict(values), struct)
        check_settings(settings)
    except SettingError as error:
        sentence = str(error)
        raise ShotError("plugin", f"In the technique '{name}', {sentence[0].lower()}{sentence[1:]}") from error
    except (msgspec.ValidationError, ValueError, TypeError) as error:
        raise ShotError(
            "plugin", f"The settings of the technique '{name}' do not fit ({error}); see latentman techniques."
        ) from error
    return settings
