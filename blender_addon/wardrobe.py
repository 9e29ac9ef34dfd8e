"""What a character wears: a costume's file, the images of its surfaces, and what was painted on them.

A character keeps its costume as it keeps a look: the text names a file instead of a job.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from ..shared.charts import Charts, measure_likeness
from ..shared.costume_files import (
    COSTUME,
    PAINT,
    add_costume,
    is_costume,
    read_charts,
    read_costume,
    read_images,
    read_prompt,
    with_paint,
)
from ..shared.files import read_file
from ..shared.png import encode_rgba, is_intact_png
from ..shared.shot import ShotError
from .look import find_look, find_look_image
from .passes.render_set import get_bodies
from .paths import make_stored_path, resolve
from .properties import get_kept_look, set_kept_look
from .tasks import frames_folder

#: how like the surfaces must be that wear a costume
ALIKE = 0.9


def read_kept_files(character: bpy.types.Object | None, kept: str) -> dict[str, bytes]:
    """The files of the costume that a character keeps, with what was painted on its images; none where it keeps none. Raises
    ``ShotError`` where the costume is gone or damaged."""
    if not is_costume(kept):
        return {}
    path = resolve(kept)
    if not path.is_file():
        raise ShotError("costume", f"The costume {path} is gone; open it from where it is now, dress again, or press New Look.")
    files = {COSTUME: read_costume(path)}
    charts = read_charts(files[COSTUME])
    for number, image in find_worn_images(character, path.parent).items():
        if number in charts.names:
            files[f"{PAINT}{number}"] = image
    return files


def read_all_files(
    character: bpy.types.Object | None, kept: str, subjects: str, objects: Iterable[bpy.types.Object]
) -> dict[str, bytes]:
    """As ``read_kept_files``, and where a shot shows more than the picked character (``subjects`` as in ``SceneOptions``), the
    costumes of the others among ``objects``. Raises ``ShotError``."""
    files = read_kept_files(character, kept)
    if subjects == "character":
        return files
    for other in sorted(objects, key=lambda one: one.name):
        worn = get_kept_look(other)[0]
        if other == character or not is_costume(worn):
            continue
        own = read_kept_files(other, worn)
        painted = {int(name.removeprefix(PAINT)): data for name, data in own.items() if name.startswith(PAINT)}
        files = add_costume(files, with_paint(own[COSTUME], painted))
    return files


def find_worn_images(character: bpy.types.Object | None, folder: Path) -> dict[int, bytes]:
    """The PNG files of the images in a folder that a character's materials show, as they are now, by their surfaces' numbers."""
    found: dict[int, bytes] = {}
    try:
        bodies = get_bodies(character)
    except ShotError:
        return found
    for body in bodies:
        image = find_look_image(find_look(body))
        if image is None:
            continue
        path = resolve(image.filepath)
        number = re.fullmatch(r"texture_([0-9]{1,5})", path.stem)
        if number is not None and path.parent == folder and int(number[1]) not in found:
            found[int(number[1])] = read_image(image, path)
    return found


def read_image(image: bpy.types.Image, path: Path) -> bytes:
    """An image as a PNG file: the one on disk, or where it was painted on since or packed, what is in memory."""
    if not image.is_dirty and image.packed_file is None and path.is_file():
        data = read_file(path)
        if is_intact_png(data):
            return data
    width, height = image.size
    if not (width and height) or image.channels != 4:
        raise ShotError("paint", f"The image {image.name} has no pixels; reload it, or press As Material again.")
    pixels: Any = image.pixels
    flat = np.empty(width * height * 4, np.float32)
    pixels.foreach_get(flat)
    rows = np.round(np.clip(flat.reshape(height, width, 4)[::-1], 0, 1) * 255).astype(np.uint8)
    return encode_rgba(rows.tobytes(), width, height)


def wear(character: bpy.types.Object, path: Path, prompt: str, output: str = "") -> None:
    """Have a character keep a costume from now on; ``output`` is the panel's setting."""
    set_kept_look(character, make_stored_path(path, output), prompt)


def list_wearers(folder: Path) -> list[str]:
    """The names of the characters whose costume is in a result's folder."""
    worn = {character.name: get_kept_look(character)[0] for character in bpy.data.objects}
    return sorted(name for name, kept in worn.items() if is_costume(kept) and resolve(kept).is_relative_to(folder))


def find_textures(folder: Path, bodies: list[bpy.types.Object]) -> dict[bpy.types.Object, Path]:
    """The image of each body in a result's folder: its own, where its surfaces have one each, else the character's."""
    try:
        report = json.loads(read_file(folder / frames_folder.REPORT, frames_folder.MAX_REPORT))
        surfaces: Mapping[str, str] = report["costume"]["surfaces"]
        numbers = {str(name): int(number) for number, name in surfaces.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        numbers = {}
    look = folder / frames_folder.LOOK_FOLDER
    return {body: look / f"texture_{numbers.get(body.name, 1)}.png" for body in bodies}


def unpack(data: bytes, folder: Path) -> tuple[Path, str]:
    """Put a costume's file and its images into a folder of the project; returns the file there and the costume's prompt. Raises
    ``ShotError``."""
    images = read_images(data)
    try:
        prompt = read_prompt(data)
    except (ValueError, KeyError):
        prompt = ""
    frames_folder.make_folder(folder)
    path = folder / frames_folder.COSTUME_FILE
    frames_folder.store_file(path, data)
    for number, image in images.items():
        frames_folder.store_file(folder / f"texture_{number}.png", image)
    return path, prompt


def check_surface(character: bpy.types.Object, own: Charts, costume: Charts) -> None:
    """Raise ``ShotError`` where a costume was made for another surface than the character has; ``own`` are its charts."""
    if measure_likeness(own, costume) < ALIKE:
        raise ShotError(
            "costume",
            f"The costume was made for another surface than that of '{character.name}'; open it on the character that it was made "
            "for, or dress this one.",
        )
