"""A scene's frame rate."""

from __future__ import annotations

import bpy


def frame_rate(scene: bpy.types.Scene) -> float:
    """Frames per second; Blender stores it as a fraction, so that 29.97 is 30 / 1.001."""
    return float(scene.render.fps / scene.render.fps_base)
