"""The shots of a scene as one line of text, which people can read and change before they submit a job."""

from __future__ import annotations

import bpy

from ..queue.finding import find_marked_shots, read_span
from ..queue.marked import Span, name_folders

#: letters that part the line
_MARKS = ":;@"


def write_frames(span: Span) -> str:
    """``1-24``, ``1-23:2`` or ``7``."""
    if span.count <= 1:
        return str(span.first)
    return f"{span.first}-{span.last}{f':{span.step}' if span.step > 1 else ''}"


def write_shots(scene: bpy.types.Scene) -> str:
    """``1-24`` for a scene without marked shots, else ``name: 1-24; other @ scene: 1-48``: a folder's name for each shot, the scene
    where it is another one, and the frames. Shots that need a camera or a view layer of their own are left out, as those that
    cannot be made."""
    found, _ = find_marked_shots(scene)
    shots = [one for one in found if not (one.problem or one.own_camera or one.layer or set(_MARKS) & set(one.scene))]
    if not shots:
        return write_frames(read_span(scene))
    named = zip(name_folders([one.name for one in shots]), shots, strict=True)
    return "; ".join(
        f"{name}{f' @ {one.scene}' if one.scene != scene.name else ''}: {write_frames(one.span)}" for name, one in named
    )
