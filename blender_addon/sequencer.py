"""Finished frames -> an image strip in the sequencer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy

from ..shared import shot
from .compat import get_strips
from .paths import make_stored_path


def add_image_strip(scene: bpy.types.Scene, images: list[Path], start: int, name: str, step: int = 1, output: str = "") -> Any:
    """Add an image strip that begins at the scene frame ``start``, on the first free channel, and return it.

    Each image is shown for ``step`` scene frames. Raises ``ShotError`` when there are no images.
    ``output`` is the setting that says whether paths are relative outside of the file's folder.
    """
    if not images:
        raise shot.ShotError("frames", "The frames of this result are gone; press Fetch Again, or generate the shot again.")
    strips = get_strips(scene)
    length = len(images) * step
    folder = make_stored_path(images[0].parent, output)
    used = {s.channel for s in strips if s.frame_final_start < start + length and s.frame_final_end > start}
    channel = next(n for n in range(1, 129) if n not in used)
    strip = strips.new_image(name, str(images[0]), channel, start)
    strip.directory = folder if folder.endswith("/") else f"{folder}/"
    for image in images:
        for _ in range(step if image is not images[0] else step - 1):
            strip.elements.append(image.name)
    return strip
