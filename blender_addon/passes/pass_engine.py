"""Cycles as a render engine that hands over what it has rendered, so that no file is written and read again.

Blender shows the passes of a render to its engine only. This one is Cycles itself, with one step more.
"""

from __future__ import annotations

import importlib
from typing import Any

import bpy
import numpy as np

from . import capture
from .engine import MODULE, SharedRegistration

NAME = "LATENTMAN_PASSES"

#: what has been rendered last
_received: list[dict[str, np.ndarray]] = []


def _get_cycles() -> Any:
    """What Cycles' own engine calls. It is an add-on, and may have been switched off and on."""
    return importlib.import_module(f"{MODULE}.engine")


class PassEngine(bpy.types.RenderEngine):
    """Does for a final render what Cycles' own engine does. It is no subclass of that: Blender would forget the engine with it."""

    bl_idname = NAME
    bl_label = "LatentMan (internal, Cycles)"
    bl_use_preview = False
    bl_use_exclude_layers = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: Cycles keeps its own here
        self.session: Any = None

    def __del__(self) -> None:
        _get_cycles().free(self)

    def update(self, data: bpy.types.BlendData | None = None, depsgraph: bpy.types.Depsgraph | None = None) -> None:
        """Export what has changed."""
        if not self.session:
            _get_cycles().create(self, data)
        _get_cycles().reset(self, data, depsgraph)

    def render(self, depsgraph: bpy.types.Depsgraph | None) -> None:  # type: ignore[override]  # the stubs let it return settings
        """Render, and hand over the result."""
        _get_cycles().render(self, depsgraph)
        if not self.test_break():
            _received.append(_read_result(self.get_result()))

    def render_frame_finish(self) -> None:
        """Let Cycles tidy up."""
        _get_cycles().render_frame_finish(self)

    def update_render_passes(self, scene: bpy.types.Scene | None = None, renderlayer: bpy.types.ViewLayer | None = None) -> None:
        """Name the passes that Cycles writes."""
        _get_cycles().register_passes(self, scene, renderlayer)


def _read_result(result: Any) -> dict[str, np.ndarray]:
    """Every channel (H, W) float32 of a render result by the names that multilayer files have, row 0 at the top."""
    out = {}
    for layer in result.layers:
        for one in layer.passes:
            pixels = np.empty(result.resolution_x * result.resolution_y * one.channels, np.float32)
            one.rect.foreach_get(pixels)
            planes = pixels.reshape(result.resolution_y, result.resolution_x, one.channels)[::-1]
            for n, letter in enumerate(one.channel_id):
                out[f"{layer.name}.{one.name}.{letter}"] = planes[..., n]
    return out


#: makes the engine known to Blender while somebody needs it
_registration = SharedRegistration(PassEngine)
register, unregister = _registration.register, _registration.unregister


def render(stage: bpy.types.Scene, scene: bpy.types.Scene, frame: int) -> dict[str, np.ndarray] | None:
    """The channels (H, W) float32 of a frame of ``scene``, whose engine is this one, rendered as ``capture.run_render`` does; None
    when the render was stopped."""
    _received.clear()
    try:
        capture.run_render(stage, scene, frame)
        return _received[-1] if _received else None
    finally:
        _received.clear()
