"""A shot's frames once more, numbered one by one from 1, as Blender's image sequences need them.

A sequence is found by counting: a frame number below 0, one of every second frame, or a gap would end it. Nothing here uses bpy.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ..shared import shot

#: the folder beside the frames
SEQUENCE_FOLDER = "sequence"


def write_numbered(shown: Sequence[Path], folder: Path) -> list[Path]:
    """Make ``0001.png`` and so on in a folder, one for each of ``shown``, as links where the disk has them and as copies elsewhere;
    what was there before is replaced. Raises ``ShotError``."""
    out = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number, source in enumerate(shown, 1):
            target = folder / f"{number:04d}.png"
            _replace(source, target)
            out.append(target)
        for old in set(folder.glob("*.png")) - set(out):
            old.unlink()
    except OSError as error:
        raise shot.ShotError(
            "disk", f"{folder} cannot be written ({error.strerror or error}); make room there, then press the button again."
        ) from error
    return out


def _replace(source: Path, target: Path) -> None:
    with suppress(FileNotFoundError):
        if os.path.samefile(source, target):
            return
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # a disk without links
        shutil.copy2(source, target)
