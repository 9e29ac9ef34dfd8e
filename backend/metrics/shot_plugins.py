"""Shots of other packages, on which evaluations run.

A package adds one with an entry point of the group ``latentman.shots`` that names a function without arguments. It gives a folder
of saved passes, or a ``Shot``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...shared.passes import FramePasses, check_arrays
from ...shared.shot import ShotError
from ..plugins import Plugins, describe_error
from .reference_shots import read_shot
from .shots import Shot

GROUP = "latentman.shots"


def _read(name: str, found: Any) -> Callable[[], Any]:
    if not callable(found):
        raise TypeError("it is not a function")
    return found


PLUGINS: Plugins[Callable[[], Any]] = Plugins(GROUP, "shot", _read)


def load_shot(name: str) -> Shot:
    """The shot of another package under its name. Raises ``ShotError`` for one that is unknown or broken."""
    make = PLUGINS.load(name)
    try:
        found = make()
    except ShotError:
        raise
    except (Exception, SystemExit) as error:  # what another package's code does
        raise ShotError(
            "shot", f"The shot '{name}' cannot be made ({describe_error(error)}); update its package, or leave it out."
        ) from error
    if isinstance(found, (str, os.PathLike)) and str(found):
        return read_shot(Path(found), name)
    if not isinstance(found, Shot) or not isinstance(found.passes, FramePasses):
        raise ShotError(
            "shot", f"The shot '{name}' is a {type(found).__name__}, and neither a folder nor a Shot; update its package."
        )
    frames, height, width = found.passes.mask.shape
    check_arrays(found.passes.arrays(), frames, width, height)
    return replace(found, name=name)


def choose_shot(path: Path) -> Shot | None:
    """The shot of another package that stands where a folder could; None for a folder, and for a name that nobody has."""
    name = str(path)
    return None if path.exists() or name not in PLUGINS.find() else load_shot(name)
