"""Finished frames -> an image strip in the sequencer."""

from __future__ import annotations

from pathlib import Path

import bpy

from ..shared import shot
from .compat import sequences


def add_image_strip(scene: bpy.types.Scene, images: list[Path], start: int, name: str, step: int = 1):
    """An image strip of one picture a scene frame from ``start`` on, on the first free channel.

    ``step`` is how many scene frames each picture stands for. Raises ``ShotError`` when there are no pictures.
    """
    if not images:
        raise shot.ShotError("frames", "There are no finished frames yet; generate the shot first.")
    strips = sequences(scene)
    length = len(images) * step
    used = {s.channel for s in strips if s.frame_final_start < start + length and s.frame_final_end > start}
    channel = next(n for n in range(1, 129) if n not in used)
    strip = strips.new_image(name, str(images[0]), channel, start)
    for image in images:
        for _ in range(step if image is not images[0] else step - 1):
            strip.elements.append(image.name)
    return strip
