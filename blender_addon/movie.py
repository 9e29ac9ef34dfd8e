"""Finished frames -> one movie file beside them, for a movie strip and for other programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bpy

from ..shared import shot
from ..shared.png import read_png_size
from .compat import remove_scene, set_video_format
from .passes.quiet import silence_stdout
from .render_gate import override_context
from .sequencer import GONE, add_image_strip

#: the file's name without its ending
MOVIE = "movie"


def get_movie_path(folder: Path, *, lossless: bool) -> Path:
    """The movie's file in a folder of frames."""
    return folder / f"{MOVIE}{'.mov' if lossless else '.mp4'}"


def encode_movie(
    scene: bpy.types.Scene, images: Sequence[Path], step: int = 1, *, first: int | None = None, transparent: bool = False
) -> Path:
    """Encode images of one size at the scene's frame rate, one frame for each scene frame, and return the file beside them.

    It is H.264 in MP4, or lossless in QuickTime where the frames are ``transparent`` or have sides that H.264 cannot have. The
    scene is not changed. Raises ``ShotError`` when there are no images, and when the file cannot be written.
    """
    if not images:
        raise shot.ShotError("frames", GONE)
    width, height = read_png_size(images[0].read_bytes())
    lossless = transparent or width % 2 == 1 or height % 2 == 1
    path = get_movie_path(images[0].parent, lossless=lossless)
    path.unlink(missing_ok=True)
    studio = bpy.data.scenes.new("LatentMan Movie")
    try:
        render: Any = studio.render
        render.resolution_x, render.resolution_y, render.resolution_percentage = width, height, 100
        render.fps, render.fps_base = scene.render.fps, scene.render.fps_base
        view: Any = studio.view_settings
        view.view_transform = "Standard"
        render.film_transparent = transparent
        strip = add_image_strip(studio, images, 1, MOVIE, step, first=first)
        studio.frame_start, studio.frame_end = 1, len(strip.elements)
        set_video_format(render.image_settings)
        _set_codec(render, lossless=lossless, transparent=transparent)
        render.filepath, render.use_file_extension = str(path), False
        # in its own context: Blender evaluates the context's scene anew afterwards, and poses without keyframes would be lost
        with silence_stdout(), override_context(bpy.context, scene=studio, view_layer=studio.view_layers[0]):
            bpy.ops.render.render(animation=True)
    except RuntimeError as error:
        raise shot.ShotError("movie", f"{path} cannot be written ({error}); add the frames as images instead.") from error
    finally:
        remove_scene(studio)
    if not path.is_file():
        raise shot.ShotError("movie", f"{path} was not written; make room on that disk, or add the frames as images instead.")
    return path


def _set_codec(render: Any, *, lossless: bool, transparent: bool) -> None:
    video = render.ffmpeg
    if lossless:
        video.format, video.codec = "QUICKTIME", "PNG"
        render.image_settings.color_mode = "RGBA" if transparent else "RGB"
    else:
        video.format, video.codec, video.constant_rate_factor = "MPEG4", "H264", "PERC_LOSSLESS"
        render.image_settings.color_mode = "RGB"
