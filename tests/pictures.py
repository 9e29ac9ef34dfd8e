"""Pictures to compare renders with, and the renders."""

from __future__ import annotations

import tempfile
from pathlib import Path

import bpy
import numpy as np
from PIL import Image


def make_photo(width, height):
    """(H, W, 3) uint8: skin, sky and leaves in light and shade, as no saturated colours that view transforms cannot show."""
    rng = np.random.default_rng(5)
    colours = np.array([(224, 172, 140), (160, 205, 246), (110, 140, 90), (128, 128, 128)])
    picture = colours[rng.integers(0, len(colours), (height, width))] * np.linspace(0.3, 0.95, height)[:, None, None]
    return np.clip(picture + rng.normal(0, 3, picture.shape), 8, 247).astype(np.uint8)


def render_picture(scene, frame, *, alpha=False):
    """(H, W, 3) or (H, W, 4) uint8 of a scene frame, rendered to a PNG file, through the sequencer and the compositor."""
    settings = scene.render.image_settings
    if hasattr(settings, "media_type"):
        settings.media_type = "IMAGE"
    settings.file_format, settings.color_mode, settings.color_depth = "PNG", "RGBA" if alpha else "RGB", "8"
    scene.render.resolution_percentage, scene.render.dither_intensity = 100, 0
    with tempfile.TemporaryDirectory() as folder:
        scene.render.filepath = str(Path(folder) / "picture.png")
        scene.frame_set(frame)
        bpy.ops.render.render(write_still=True, scene=scene.name)
        with Image.open(scene.render.filepath) as picture:
            return np.asarray(picture.convert("RGBA" if alpha else "RGB"))
