"""Where a shot's frames are stored as they come in. What is counted as stored can be read back. Nothing here uses bpy."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ...shared import shot
from ...shared.costume_files import COSTUME, SUFFIX, read_costume, read_images
from ...shared.dress_options import find_shot_frame
from ...shared.files import read_file, write_atomically
from ...shared.png import is_intact_png

#: a shot's report beside its frames, and bytes of one at most: a manifest's worth of frames
REPORT, MAX_REPORT = "report.json", 64 << 20
#: the folder of a shot's textures, beside its frames
LOOK_FOLDER = "look"
#: the folder of the shot's own frames beside a dressing's views
SHOT_FOLDER = "shot"
#: the costume that a shot made or wears, in that folder
COSTUME_FILE = f"character{SUFFIX}"


def make_folder(folder: Path) -> None:
    """Make a folder and those above it. Raises ``ShotError``."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _make_disk_error(folder, error) from error


def _make_disk_error(path: Path, error: OSError) -> shot.ShotError:
    return shot.ShotError(
        "disk",
        f"{path} cannot be written ({error.strerror or error}); make room there or choose another Output folder, then generate "
        "again: what is finished is kept.",
    )


def _store(path: Path, content: bytes) -> None:
    """Write a file and read it back: not every full or failing disk says so. Raises ``ShotError``, and then there is no file."""
    try:
        write_atomically(path, content)
        intact = read_file(path) == content
    except OSError as error:
        raise _make_disk_error(path, error) from error
    if not intact:
        with suppress(OSError):
            path.unlink()
        raise shot.ShotError(
            "disk",
            f"{path} was not stored as a whole; make room on that disk or choose another Output folder, then generate again: "
            "what is finished is kept.",
        )


def store_png(data: np.ndarray, path: Path) -> None:
    """Write the bytes of a PNG file (N,) uint8, completely or not at all. Raises ``ShotError``, also for half a PNG file."""
    content = data.tobytes()
    if not is_intact_png(content):
        raise shot.ShotError(
            "answer", f"The backend sent something other than a whole image for {path.name}; generate the shot again."
        )
    _store(path, content)


def store_frame(folder: Path, frame: int, arrays: Mapping[str, np.ndarray]) -> Path:
    """Write the picture of a scene frame, the array ``png``; returns its file, which of a frame that a dressing shows as the shot
    does lies in a folder of its own. Raises ``ShotError``."""
    path = _find_path(folder, frame)
    if path.parent != folder:
        make_folder(path.parent)
    store_png(arrays["png"], path)
    return path


def _find_path(folder: Path, frame: int) -> Path:
    shown = find_shot_frame(frame)
    return folder / f"{frame:04d}.png" if shown is None else folder / SHOT_FOLDER / f"{shown:04d}.png"


class _FormerSettings(msgspec.Struct):
    frames: list[int]


class _FormerCostume(msgspec.Struct):
    known: float


class _FormerDressing(msgspec.Struct):
    """What the report of a dressing, and of no other shot, has."""

    settings: _FormerSettings
    costume: _FormerCostume


def remove_former(folder: Path, frames: Iterable[int]) -> None:
    """Remove what an earlier dressing into the same folder has stored by its own report, but for the ``frames`` of the new one: its
    views would be a part of the new turntable. Other files stay, as do those that cannot be removed."""
    try:
        former = msgspec.json.decode(read_file(folder / REPORT, MAX_REPORT), type=_FormerDressing)
    except (OSError, ValueError, msgspec.MsgspecError):
        return
    for frame in set(former.settings.frames) - set(frames):
        with suppress(OSError):
            _find_path(folder, frame).unlink()
    with suppress(OSError):  # it is not there, or others are in it
        (folder / SHOT_FOLDER).rmdir()


def count_own(folder: Path, paths: Iterable[Path]) -> int:
    """How many of the frames that were stored lie in the folder itself."""
    return sum(path.parent == folder for path in paths)


def store_file(path: Path, content: bytes) -> None:
    """Write a file, completely or not at all. Raises ``ShotError``."""
    _store(path, content)


def store_report(folder: Path, report: dict[str, Any], textures: Mapping[str, np.ndarray], name: str = REPORT) -> None:
    """Write a shot's report, and its textures' and its costume's files, (N,) uint8 each. A costume's image that was painted on
    since is kept: as it is where the costume is the same, else beside the new one. Raises ``ShotError``."""
    _store(folder / name, msgspec.json.format(msgspec.json.encode(report)))
    if textures:
        make_folder(folder / LOOK_FOLDER)
    made = _read_made_images(folder / LOOK_FOLDER) if COSTUME in textures else {}
    for name, texture in textures.items():
        path = folder / LOOK_FOLDER / (COSTUME_FILE if name == COSTUME else f"{name}.png")
        if name == COSTUME:
            store_file(path, texture.tobytes())
            continue
        before = made.get(name)
        if before is not None and _is_painted(path, before):
            if before == texture.tobytes():
                continue
            with suppress(OSError):
                path.replace(_find_free_path(path.with_stem(f"{path.stem}_painted")))
        store_png(texture, path)


def _read_made_images(folder: Path) -> dict[str, bytes]:
    """The images of a costume in a folder as they were made, by the names of their files without the ending."""
    try:
        return {f"texture_{number}": data for number, data in read_images(read_costume(folder / COSTUME_FILE)).items()}
    except shot.ShotError:
        return {}


def _is_painted(path: Path, before: bytes) -> bool:
    """Whether an image is another whole one than it was made as."""
    try:
        data = read_file(path)
    except (OSError, ValueError):
        return False
    return data != before and is_intact_png(data)


def _find_free_path(path: Path) -> Path:
    """A path, with a number where there is such a file."""
    numbers = (path.with_stem(f"{path.stem}_{number}") for number in count(2))
    return path if not path.exists() else next(one for one in numbers if not one.exists())


def get_frame_number(path: Path) -> int | None:
    """The scene frame that a frame's file is named after; None for other files."""
    return int(path.stem) if re.fullmatch("-?[0-9]{1,9}", path.stem) else None


def list_frames(folder: Path) -> list[Path]:
    """The frames' files in a folder, in the order of their scene frames; none where there is no folder."""
    try:
        found = [(number, path) for path in folder.glob("*.png") if (number := get_frame_number(path)) is not None]
    except OSError:
        return []
    return [path for _, path in sorted(found)]
