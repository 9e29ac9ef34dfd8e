"""What a character wears: a costume's file, the images of its surfaces, and what was painted on them.

A character keeps its costume as it keeps a look: the text names a file instead of a job.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from ..shared.charts import Charts, match_surfaces, measure_likeness
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
from .look import find_look, find_look_image, find_surface, read_surface_number
from .passes.render_set import find_followers, get_bodies
from .passes.staged_character import stage_character
from .paths import make_stored_path, resolve
from .properties import find_look_library, get_kept_look, set_kept_look
from .tasks import frames_folder
from .typed_access import SceneContext, get_mesh

#: how like the surfaces must be that wear a costume
ALIKE = 0.9
#: texture coordinates that differ by more than this are others
OTHER_MAP = 0.002


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


def find_wearing(character: bpy.types.Object | None) -> list[bpy.types.Object]:
    """The meshes that can wear a costume: those that the character's bones deform, and others that hang on it and have texture
    coordinates. Raises ``ShotError`` as ``get_bodies`` does."""
    bodies = get_bodies(character)
    if character is not None and character.type == "ARMATURE":
        bodies += [one for one in find_followers(character) if one.type == "MESH" and one not in bodies and one.library is None]
    mapped = [one for one in bodies if get_mesh(one).uv_layers]
    # where there is no map at all, that is said of the first
    return mapped or bodies


def find_worn_images(character: bpy.types.Object | None, folder: Path) -> dict[int, bytes]:
    """The PNG files of the images of a costume, whose ``folder`` for textures is given, that a character's materials show, as they
    are now and whatever files they are in, by their surfaces' numbers."""
    found: dict[int, bytes] = {}
    try:
        bodies = find_wearing(character)
    except ShotError:
        return found
    for body in bodies:
        material = find_look(body)
        image = find_look_image(material)
        if image is None or material is None:
            continue
        path = resolve(image.filepath) if image.filepath else Path()
        number = find_surface(material, folder.parent.name)
        if number is None and path.parent == folder:
            # from an earlier version
            number = read_surface_number(path)
        if number is not None and number not in found:
            found[number] = read_image(image, path)
    return found


def read_image(image: bpy.types.Image, path: Path) -> bytes:
    """An image as a PNG file: the one on disk, or where it was painted on since, is packed or is of another kind, what is in
    memory."""
    if not image.is_dirty and image.packed_file is None and path.is_file():
        data = read_file(path)
        if is_intact_png(data):
            return data
    width, height = image.size
    channels = image.channels
    if not (width and height) or channels not in (1, 3, 4):
        raise ShotError("paint", f"The image {image.name} has no pixels; reload it, or press As Material again.")
    pixels: Any = image.pixels
    flat = np.empty(width * height * channels, np.float32)
    pixels.foreach_get(flat)
    rows = np.ones((height, width, 4), np.float32)
    found = flat.reshape(height, width, channels)[::-1]
    rows[..., : 4 if channels == 4 else 3] = np.nan_to_num(found)
    space = image.colorspace_settings
    if image.is_float and not (space is not None and space.is_data):
        # such images are kept in the colours of light, which files of 8 bits are not
        colour = np.clip(rows[..., :3], 0, 1)
        rows[..., :3] = np.where(colour <= 0.0031308, colour * 12.92, 1.055 * colour ** (1 / 2.4) - 0.055)
    return encode_rgba(np.round(np.clip(rows, 0, 1) * 255).astype(np.uint8).tobytes(), width, height)


def wear(character: bpy.types.Object, path: Path, prompt: str, output: str = "") -> None:
    """Have a character keep a costume from now on; ``output`` is the panel's setting."""
    set_kept_look(character, make_stored_path(path, output), prompt)
    if find_look_library(character) is not None:
        # there it would begin at the library's file
        set_kept_look(character, str(path), prompt)


def list_wearers(folder: Path) -> list[str]:
    """The names of the characters whose costume is in a result's folder."""
    worn = {character.name: get_kept_look(character)[0] for character in bpy.data.objects}
    return sorted(name for name, kept in worn.items() if is_costume(kept) and resolve(kept).is_relative_to(folder))


def explain_left_out(character: bpy.types.Object, dressed: Container[bpy.types.Object]) -> str:
    """Which meshes of a character do not show the image of its costume, and why; "" where all do."""
    bodies = get_bodies(character)
    if character.type == "ARMATURE":
        bodies += [one for one in find_followers(character) if one.type == "MESH" and one not in bodies]
    names = ", ".join(f"'{one.name}'" for one in bodies if one not in dressed and not one.hide_render)
    return f"{names} keep their own materials, as they have no texture map or are not part of the costume." if names else ""


def find_textures(
    context: SceneContext, character: bpy.types.Object, folder: Path
) -> tuple[dict[bpy.types.Object, Path], list[str]]:
    """The image in a result's folder of each mesh of a character, and what is to be said of them: of a costume that of its own
    surface, whatever it is called now, and none for what it does not have; else the character's.

    Raises ``ShotError``, also for a costume of another surface.
    """
    look = folder / frames_folder.LOOK_FOLDER
    if not (look / frames_folder.COSTUME_FILE).is_file():
        return {body: look / "texture_1.png" for body in get_bodies(character)}, []
    charts = read_charts(read_costume(look / frames_folder.COSTUME_FILE))
    own = stage_character(context, character, plan=False).charts
    check_surface(character, own, charts)
    numbers = find_numbers(own, charts, find_wearing(character))
    notes = list(filter(None, [explain_left_out(character, numbers), explain_other_map(own, charts)]))
    return {body: look / f"texture_{number}.png" for body, number in numbers.items()}, notes


def find_numbers(own: Charts, costume: Charts, bodies: Iterable[bpy.types.Object]) -> dict[bpy.types.Object, int]:
    """The number in a costume of each body's surface, by the character's ``own`` charts; none for bodies that it does not have."""
    table = match_surfaces(own, costume, ALIKE)
    # of surfaces with a body's name its own comes first, and its instances after it
    numbers = {name: table[number] for number, name in reversed(own.names.items()) if number in table}
    return {body: numbers[body.name] for body in bodies if body.name in numbers}


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


def explain_other_map(own: Charts, costume: Charts) -> str:
    """Which surfaces were unwrapped anew since a costume was made, whose images then lie wrong on them; "" for none."""
    changed = []
    for number, its in match_surfaces(own, costume, ALIKE).items():
        one, other = own.select(number), costume.select(its)
        # only of the very same triangles it is quickly told
        if one.rest.shape == other.rest.shape and np.allclose(one.rest, other.rest, atol=1e-4 * float(np.ptp(one.rest) or 1.0)):
            moved = np.abs(one.uv - other.uv).max((1, 2)) > OTHER_MAP
            changed += [f"'{own.names[number]}'"] if moved.mean() > 1 - ALIKE else []
    names = ", ".join(dict.fromkeys(changed))
    return (
        f"The texture map of {names} is another one than when it was dressed, so the image lies wrong on it; dress again."
        if names
        else ""
    )


def check_surface(character: bpy.types.Object, own: Charts, costume: Charts) -> None:
    """Raise ``ShotError`` where a costume was made for another surface than the character has; ``own`` are its charts."""
    if measure_likeness(own, costume) < ALIKE:
        raise ShotError(
            "costume",
            f"The costume was made for another surface than that of '{character.name}'; open it on the character that it was made "
            "for, or dress this one.",
        )
