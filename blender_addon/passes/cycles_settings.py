"""The settings with which Cycles renders the scenes of our own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy

from ..compat import set_multilayer_exr


def set_up_cycles(scene: bpy.types.Scene, width: int, height: int, path: Path, samples: int) -> None:
    """Make Cycles render a scene into a multilayer OpenEXR file, with so many samples at the centre of every pixel, without
    bounces, and seen through up to 64 transparent surfaces."""
    render: Any = scene.render
    settings = dict(
        engine="CYCLES",
        resolution_x=width,
        resolution_y=height,
        resolution_percentage=100,
        film_transparent=True,
        filepath=str(path),
        use_file_extension=True,
        use_persistent_data=True,
        use_compositing=False,
        use_sequencer=False,
        use_overwrite=True,
    )
    for name, value in settings.items():
        setattr(render, name, value)
    set_multilayer_exr(render.image_settings)
    # Cycles registers its settings itself, so that the stubs do not know them
    owner: Any = scene
    cycles = dict(
        samples=samples,
        use_adaptive_sampling=False,
        use_denoising=False,
        max_bounces=0,
        transparent_max_bounces=64,
        device="CPU",
        filter_width=0.01,
        seed=0,
        use_auto_tile=False,
        film_transparent_glass=False,
    )
    for name, value in cycles.items():
        setattr(owner.cycles, name, value)
