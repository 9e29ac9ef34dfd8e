"""How far away a shot's frames are, kept from one *Preview Frame* to the next, and forgotten where the scene has changed.

Only previews use it: frames that are generated are always measured anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import bpy
import numpy as np

from ..compat import get_fcurves
from ..event_handlers import EventHandlers
from .own_data import PREFIX
from .visibility import find_visible

#: what of a frame's depth range, and of its ground, is known
Extents = tuple[float, float, float, bool]
#: what decides a frame's extent besides the scene
Key = tuple[Any, ...]
#: kinds of data that change with an Action that moves them
_MOVED = ("OBJECT", "ARMATURE", "MESH", "KEY", "CAMERA", "LATTICE", "CURVE", "ACTION")
#: settings of a render that decide where and what its objects are
_SETTINGS = ("frame_map_old", "frame_map_new", "fps", "fps_base", "use_simplify", "simplify_subdivision_render")
#: how many values of curves are remembered
MOST_VALUES = 2_000_000


@dataclass
class _Kept:
    """What is known of the frames of a shot; ``moves`` are the values (F, C) of each Action's curves at ``frames``, by its name.

    ``still`` holds what is not animated; ``depends`` says that frames depend on those before them.
    """

    frames: tuple[int, ...]
    extents: dict[int, Extents] = field(default_factory=dict)
    moves: dict[str, np.ndarray] = field(default_factory=dict)
    still: object = None
    depends: bool = False


_kept: dict[Key, _Kept] = {}


def find(key: Key) -> dict[int, Extents]:
    """The frames that are known under a key, and how far away they are."""
    kept = _kept.get(key)
    return dict(kept.extents) if kept is not None else {}


def keep(key: Key, frames: tuple[int, ...], extents: dict[int, Extents], *, depends: bool) -> None:
    """Keep frames for one shot, instead of what was kept for others; ``depends`` says that frames depend on those before them."""
    _kept.clear()
    moves, still = _sample_actions(frames), _describe_still()
    if moves is not None:
        _kept[key] = _Kept(frames, dict(extents), moves, still, depends)


def forget(*_: object) -> None:
    """Forget everything: another file, an undo step."""
    _kept.clear()


def _sample(curves: Iterable[Any], frames: tuple[int, ...]) -> np.ndarray:
    return np.array([[curve.evaluate(frame) for curve in curves] for frame in frames], np.float64).reshape(len(frames), -1)


def _sample_actions(frames: tuple[int, ...]) -> dict[str, np.ndarray] | None:
    """The values of all Actions' curves, None where there are too many to look at."""
    found = {action.name_full: get_fcurves(action) for action in bpy.data.actions}
    if sum(map(len, found.values())) * len(frames) > MOST_VALUES:
        return None
    return {name: _sample(curves, frames) for name, curves in found.items()}


def _describe_still() -> object:
    """What is not animated, as far as it is cheap to tell: objects' places and modifiers, who is seen, and the scenes' settings."""
    scenes = [
        (
            scene.name_full,
            scene.camera.name_full if scene.camera else "",
            [(marker.frame, marker.camera.name_full) for marker in scene.timeline_markers if marker.camera is not None],
            [getattr(scene.render, name) for name in _SETTINGS],
            scene.unit_settings.scale_length,
            [sorted(one.name_full for one in find_visible(layer).shown) for layer in scene.view_layers],
        )
        for scene in bpy.data.scenes
        if not scene.name.startswith(PREFIX)
    ]
    objects = [
        (one.name_full, tuple(np.array(one.matrix_basis).ravel().tolist()), one.hide_render, len(one.modifiers), one.parent)
        for one in bpy.data.objects
        if one.animation_data is None and not one.name.startswith(PREFIX)
    ]
    return scenes, objects


def _uses_strips() -> bool:
    """Whether an Action may be played at other frames than its own."""
    animated = [one.animation_data for one in bpy.data.objects if one.animation_data is not None]
    remapped = any(scene.render.frame_map_old != scene.render.frame_map_new for scene in bpy.data.scenes)
    return remapped or any(track.strips for data in animated for track in data.nla_tracks)


def _matters(update: Any) -> bool:
    """Whether an update may change what a frame shows. Objects are among the updates whenever anything is added to the file or
    removed, scenes of our own as well; a collection when its objects are others, which ``_describe_still`` tells."""
    block = update.id
    if block is None or block.id_type == "COLLECTION" or block.name.startswith(PREFIX):
        return False
    return block.id_type != "OBJECT" or update.is_updated_transform or update.is_updated_geometry


def _on_update(scene: bpy.types.Scene, graph: bpy.types.Depsgraph | None = None) -> None:
    """Forget the frames that an update of the scene has changed."""
    if not _kept or graph is None or scene.name.startswith(PREFIX):
        return
    updates: list[Any] = list(graph.updates)
    kinds = {update.id.id_type for update in updates if _matters(update)}
    for kept in list(_kept.values()):
        if _describe_still() != kept.still:
            forget()
            return
        if not kinds - {"SCENE"}:
            # a setting of the scene that does not move anything, such as one of our own
            continue
        if "ACTION" not in kinds or kinds - {*_MOVED, "SCENE"} or kept.depends or _uses_strips():
            forget()
            return
        moves = _sample_actions(kept.frames)
        if moves is None or moves.keys() != kept.moves.keys():
            forget()
            return
        for name, before in kept.moves.items():
            after = moves[name]
            if after.shape != before.shape:
                forget()
                return
            for n in np.flatnonzero((after != before).any(1)):
                kept.extents.pop(kept.frames[n], None)
        kept.moves = moves


_handlers = EventHandlers(depsgraph_update_post=_on_update, undo_post=forget, redo_post=forget, load_pre=forget)


def register() -> None:
    """Begin to follow what changes."""
    _handlers.register()


def unregister() -> None:
    """Stop following."""
    _handlers.unregister()
    forget()
