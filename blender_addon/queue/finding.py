"""Reads what marks shots in a file: the camera markers and the scene strips of a scene."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import bpy

from ..compat import (
    get_strip_content,
    get_strip_parts,
    get_strip_range,
    get_strip_view_layer,
    list_muted_channels,
)
from .marked import CameraMarker, FoundShot, SceneStrip, Span, find_marker_shots, find_strip_shots, join_shots


def read_span(scene: bpy.types.Scene) -> Span:
    """The scene's range."""
    return Span(scene.frame_start, scene.frame_end, scene.frame_step)


def read_markers(scene: bpy.types.Scene) -> list[CameraMarker]:
    """The markers that bind cameras, in the order in which the scene has them; others do not count."""
    return [
        CameraMarker(marker.name, marker.frame, marker.camera.name, marker.camera.hide_render)
        for marker in scene.timeline_markers
        if marker.camera is not None
    ]


def read_strips(scene: bpy.types.Scene) -> list[SceneStrip]:
    """The scene strips and the meta strips that hold some; none where there is no sequencer."""
    editor: Any = scene.sequence_editor
    if editor is None:
        return []
    return _read_strips(editor.strips if hasattr(editor, "strips") else editor.sequences, list_muted_channels(editor))


def _read_strips(strips: Iterable[Any], muted: frozenset[int]) -> list[SceneStrip]:
    found = []
    for strip in strips:
        is_muted = strip.mute or strip.channel in muted
        if strip.type == "META":
            parts = tuple(_read_strips(get_strip_parts(strip), list_muted_channels(strip)))
            if parts:
                found.append(SceneStrip(strip.name, *get_strip_range(strip), is_muted, parts=parts))
        elif strip.type == "SCENE":
            found.append(_read_strip(strip, is_muted))
    return found


def _read_strip(strip: Any, is_muted: bool) -> SceneStrip:
    scene = strip.scene
    if scene is None:
        return SceneStrip(strip.name, *get_strip_range(strip), is_muted)
    content, skipped = get_strip_content(strip)
    return SceneStrip(
        strip.name,
        *get_strip_range(strip),
        is_muted,
        scene.name,
        Span(scene.frame_start, scene.frame_end),
        content,
        skipped,
        strip.scene_camera.name if strip.scene_camera is not None else "",
        get_strip_view_layer(strip),
        strip.scene_input == "SEQUENCER",
        len(getattr(strip, "retiming_keys", ())) > 0,
        bpy.path.basename(scene.library.filepath) if scene.library is not None else "",
    )


def find_marked_shots(scene: bpy.types.Scene, edit: bpy.types.Scene | None = None) -> tuple[list[FoundShot], list[str]]:
    """The shots that a scene's markers mark, and those of the scene strips of ``edit``, by default of the same scene; and sentences
    about what is left out."""
    shots, notes = find_marker_shots(scene.name, read_span(scene), read_markers(scene))
    more, others = find_strip_shots(read_strips(edit or scene))
    return join_shots(shots, more), [*notes, *others]
