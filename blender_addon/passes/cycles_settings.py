"""The settings with which Cycles renders the scenes of our own."""

from __future__ import annotations

from typing import Any

import bpy

from . import pass_engine


def set_up_cycles(scene: bpy.types.Scene, width: int, height: int, samples: int) -> None:
    """Make ``pass_engine`` render a scene, with so many samples at the centre of every pixel, without bounces, and seen through up
    to 64 transparent surfaces."""
    render: Any = scene.render
    settings = dict(
        engine=pass_engine.NAME,
        resolution_x=width,
        resolution_y=height,
        resolution_percentage=100,
        film_transparent=True,
        use_persistent_data=True,
        use_compositing=False,
        use_sequencer=False,
    )
    for name, value in settings.items():
        setattr(render, name, value)
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
