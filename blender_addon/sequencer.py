"""Finished frames -> strips in the sequencer, and keeping those that are there up to date."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import bpy

from ..shared import shot
from .compat import get_strip_range, get_strips, iter_strips
from .paths import make_stored_path, resolve
from .strip_timing import spread_frames
from .tasks.frames_folder import get_frame_number
from .view_colours import FRAME_SPACE, ColourChoice, choose_colour_space

CHANNELS = 128
#: Blender cuts the names of strips at 63 bytes
NAME_LENGTH = 40
GONE = "The frames of this result are gone; press Fetch Again, or generate the shot again."


def make_strip_name(prompt: str, seed: int) -> str:
    """A strip's name: the beginning of the prompt, and the seed."""
    words = " ".join(prompt.split())
    return f"{words[:NAME_LENGTH].rstrip()} · {seed}" if words else f"Seed {seed}"


def spread_images(images: Sequence[Path], step: int = 1, first: int | None = None) -> list[Path]:
    """The image of every scene frame from ``first`` on, by the frame numbers that the files are named after.

    Files with other names follow each other every ``step`` frames.
    """
    numbers = [number for image in images if (number := get_frame_number(image)) is not None]
    if len(numbers) < len(images):
        numbers, first = [n * step for n in range(len(images))], None
    return [images[place] for place in spread_frames(numbers, step, first)]


def find_free_channel(scene: bpy.types.Scene, start: int, end: int) -> int:
    """The first channel without a strip from the scene frame ``start`` to before ``end`` that is neither locked nor muted.

    Raises ``ShotError`` where all are in use.
    """
    strips = get_strips(scene)
    used = {strip.channel for strip in strips if (found := get_strip_range(strip))[0] < end and found[1] > start}
    editor: Any = scene.sequence_editor
    # the collection begins with a channel 0 that strips cannot be on
    closed = {number for number, channel in enumerate(editor.channels) if channel.lock or channel.mute}
    for number in range(1, CHANNELS + 1):
        if number not in used | closed:
            return number
    raise shot.ShotError(
        "sequencer",
        f"All {CHANNELS} channels of the sequencer are in use, locked or muted from frame {start} to {end - 1}; free one of them "
        "there, then add the strip again.",
    )


def add_image_strip(
    scene: bpy.types.Scene,
    images: Sequence[Path],
    start: int,
    name: str,
    step: int = 1,
    output: str = "",
    *,
    first: int | None = None,
    properties: Mapping[str, str | int] | None = None,
) -> Any:
    """Add an image strip that begins at the scene frame ``start``, on the first free channel, fitted into the scene's picture and
    in its own colours, and return it.

    Each image is shown for ``step`` scene frames; where an image is missing, the one before stays. ``first`` is the frame number
    that belongs at ``start``, by default the first image's. ``output`` is the setting that says whether paths are relative outside
    of the file's folder. ``properties`` become custom properties of the strip.

    Raises ``ShotError`` when there are no images and when every channel is in use.
    """
    if not images:
        raise shot.ShotError("frames", GONE)
    shown = spread_images(images, step, first)
    channel = find_free_channel(scene, start, start + len(shown))
    strip = get_strips(scene).new_image(name, str(shown[0]), channel, start)
    _set_images(strip, shown, output)
    _finish(scene, strip, properties)
    return strip


def add_movie_strip(
    scene: bpy.types.Scene,
    movie: Path,
    start: int,
    length: int,
    name: str,
    output: str = "",
    *,
    properties: Mapping[str, str | int] | None = None,
) -> Any:
    """Add a movie of ``length`` scene frames as a strip, as ``add_image_strip`` does. Raises ``ShotError`` like it."""
    if not movie.is_file():
        raise shot.ShotError("frames", GONE)
    strip = get_strips(scene).new_movie(name, str(movie), find_free_channel(scene, start, start + length), start)
    strip.filepath = make_stored_path(movie, output)
    _finish(scene, strip, properties)
    return strip


def _finish(scene: bpy.types.Scene, strip: Any, properties: Mapping[str, str | int] | None) -> None:
    fit_strip(scene, strip)
    colour_strip(strip, choose_colour_space(scene))
    # whatever lies below shows through where frames are transparent, and nowhere else
    strip.blend_type = "ALPHA_OVER"
    for key, value in (properties or {}).items():
        strip[key] = value


def fit_strip(scene: bpy.types.Scene, strip: Any) -> None:
    """Scale a strip so that its picture fills the scene's as far as it can without being cut or distorted."""
    element = strip.elements[0]
    if not element.orig_width or not element.orig_height:
        return
    render = scene.render
    width, height = render.resolution_x * render.pixel_aspect_x, render.resolution_y * render.pixel_aspect_y
    scale = min(width / element.orig_width, height / element.orig_height)
    strip.transform.scale_x, strip.transform.scale_y = scale / render.pixel_aspect_x, scale / render.pixel_aspect_y


def colour_strip(strip: Any, choice: ColourChoice) -> None:
    """Read a strip's pictures in a colour space."""
    strip.colorspace_settings.name = choice.space
    # 8-bit pictures in another colour space than the sequencer's lose it when Blender 5 lays them over other strips
    strip.use_float = choice.space != FRAME_SPACE


def _set_images(strip: Any, shown: Sequence[Path], output: str) -> None:
    """Have a strip show images of one folder, one for each frame of its content, and read all of them anew."""
    folder = make_stored_path(shown[0].parent, output)
    strip.directory = folder if folder.endswith("/") else f"{folder}/"
    elements = strip.elements
    while len(elements) > len(shown):
        elements.pop(len(elements) - 1)
    for place, image in enumerate(shown):
        if place < len(elements):
            elements[place].filename = image.name
        else:
            elements.append(image.name)
    strip.invalidate_cache("RAW")


def find_strips(scene: bpy.types.Scene, folder: Path) -> list[Any]:
    """The strips of a scene, those in meta strips, too, that show the frames in a folder, as images or as a movie."""
    return [strip for strip in iter_strips(scene) if get_strip_folder(strip) == folder]


def get_strip_folder(strip: Any) -> Path | None:
    """The folder of the images or the movie that a strip shows; None for other strips."""
    if strip.type == "IMAGE":
        return resolve(strip.directory)
    return resolve(strip.filepath).parent if strip.type == "MOVIE" else None


def refresh_strip(
    strip: Any,
    images: Sequence[Path],
    step: int = 1,
    output: str = "",
    *,
    first: int | None = None,
    properties: Mapping[str, str | int] | None = None,
) -> None:
    """Have an image strip show these images from now on, where it is and as it is cut; the arguments are those of
    ``add_image_strip``. Raises ``ShotError`` when there are no images."""
    if not images:
        raise shot.ShotError("frames", GONE)
    _set_images(strip, spread_images(images, step, first), output)
    for key, value in (properties or {}).items():
        strip[key] = value


def reload_movie_strip(strip: Any) -> None:
    """Have a movie strip read its file anew."""
    strip.filepath = strip.filepath
    strip.invalidate_cache("RAW")
