"""Methods of other packages: compositions of techniques under a name, beside the presets.

A package adds one with an entry point of the group ``latentman.methods`` that names a ``Method``, a ``Preset``, or a function
without arguments that gives either.
"""

from __future__ import annotations

from typing import Any

from ..shared.settings import check_settings
from ..shared.shot import ALL_PRESETS, PRESETS, Method, Preset, ShotError, check_request, make_request
from .plugins import Plugins

GROUP = "latentman.methods"


def _read(name: str, found: Any) -> Preset:
    given = found() if callable(found) else found
    preset = Preset(name, "", given) if isinstance(given, Method) else given
    if not isinstance(preset, Preset) or not isinstance(preset.method, Method):
        raise TypeError("it is neither a Method nor a Preset")
    check_settings(preset.method)
    check_request(make_request("a person", frames=(1,), fps=24.0, method=preset.method))
    return preset


PLUGINS: Plugins[Preset] = Plugins(GROUP, "method", _read, lambda: tuple(PRESETS))


def find_method(name: str) -> Method:
    """The method of a preset or of another package by its name. Raises ``ShotError`` when there is none any more, or it is
    broken."""
    if not isinstance(name, str):
        raise ShotError("method", f"The method is a {type(name).__name__}; give a name or a Method.")
    if name in PRESETS:
        return PRESETS[name].method
    if name in ALL_PRESETS and name not in PLUGINS.find():
        raise ShotError("method", f"The method '{name}' is no longer there; use '{ALL_PRESETS[name].successor}' instead.")
    return PLUGINS.load(name).method
