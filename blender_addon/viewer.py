"""One image that shows a result, or two of them, at the scene's current frame: beside the viewport it plays along.

The image is made anew at every frame from the stored frames, so that gaps, steps and pictures of two sizes come out right. Its
pixels are not saved, and closing it, or opening a file, takes it away.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from bpy.props import BoolProperty, EnumProperty, FloatProperty, PointerProperty

from ..shared import logs
from .comparison import find_shown, map_flicker, put_beside, wipe
from .event_handlers import EventHandlers
from .paths import get_result_folder
from .redrawing import iter_areas, redraw_image
from .references import Reference, refer_to
from .result_properties import LatentManResult, get_scene_of
from .tasks.frames_folder import get_frame_number, list_frames
from .translation import register_class

logger = logs.get_logger(__name__)

IMAGE = "LatentMan Viewer"
#: reads the frames' files; hidden in lists
_READER = ".LatentMan Reader"
#: bytes of pictures that are kept read
MOST_BYTES = 512 << 20


@dataclass(frozen=True)
class Clip:
    """A result's frames on disk: ``numbers`` are their scene frames."""

    title: str
    folder: Path
    numbers: tuple[int, ...]
    paths: tuple[Path, ...]


@dataclass
class _Shown:
    """What the viewer shows."""

    scene: Reference
    clips: tuple[Clip, ...]
    pictures: OrderedDict[tuple[Path, float], np.ndarray] = field(default_factory=OrderedDict)


_shown: _Shown | None = None


def _refresh(self: Any, context: bpy.types.Context) -> None:
    refresh()


class LatentManViewer(bpy.types.PropertyGroup):
    """How the viewer shows two results."""

    mode: EnumProperty(
        name="Compare",
        description="How two results are shown",
        items=(
            ("WIPE", "Wipe", "The first one left of a line, the second one right of it"),
            ("BESIDE", "Side by Side", "Next to each other"),
            ("FIRST", "Only A", "The first one alone"),
            ("SECOND", "Only B", "The second one alone"),
        ),
        update=_refresh,
    )
    position: FloatProperty(
        name="Wipe", description="Where the line is", default=0.5, min=0, max=1, subtype="FACTOR", update=_refresh
    )
    flicker: BoolProperty(
        name="Flicker Map",
        description="Show how far each pixel is from the mean of the frames before and after it: what jumps to and fro is bright. "
        "Edges that move are, too, but equally in both results",
        update=_refresh,
    )


def get_options() -> LatentManViewer:
    """How the viewer shows two results."""
    manager: Any = bpy.context.window_manager
    options: LatentManViewer = manager.latentman_viewer
    return options


def find_clip(title: str, folder: Path) -> Clip | None:
    """The frames in a folder as they are on disk; None where there are none."""
    paths = tuple(list_frames(folder))
    numbers = tuple(number for path in paths if (number := get_frame_number(path)) is not None)
    return Clip(title, folder, numbers, paths) if paths else None


def open_viewer(result: LatentManResult, other: LatentManResult | None = None) -> bpy.types.Image | None:
    """Show a result, or two, from now on; returns the image. None where one of them has no frames on disk."""
    global _shown
    clips = [find_clip(one.name or one.prompt, get_result_folder(one)) for one in (result, other) if one is not None]
    known = tuple(clip for clip in clips if clip is not None)
    if len(known) < len(clips):
        return None
    _shown = _Shown(refer_to(get_scene_of(result)), known)
    refresh()
    return bpy.data.images.get(IMAGE)


def close_viewer() -> None:
    """Take the image away."""
    global _shown
    _shown = None
    for _, area in iter_areas("IMAGE_EDITOR"):
        space = area.spaces.active
        if space.image is not None and space.image.name == IMAGE:
            space.use_image_pin = False
    for name in (IMAGE, _READER):
        image = bpy.data.images.get(name)
        if image is not None:
            bpy.data.images.remove(image)


def list_titles() -> tuple[str, ...]:
    """What the shown results are called; empty where nothing is shown."""
    return tuple(clip.title for clip in _shown.clips) if _shown is not None else ()


def is_shown(result: LatentManResult) -> bool:
    """Whether the viewer shows a result."""
    return _shown is not None and any(clip.folder == get_result_folder(result) for clip in _shown.clips)


def find_range() -> tuple[int, int] | None:
    """The first and the last scene frame of what is shown."""
    if _shown is None:
        return None
    return min(clip.numbers[0] for clip in _shown.clips), max(clip.numbers[-1] for clip in _shown.clips)


def reread(folder: Path) -> None:
    """Read a folder's frames anew, as they were made again."""
    if _shown is None or all(clip.folder != folder for clip in _shown.clips):
        return
    _shown.pictures.clear()
    _shown.clips = tuple(find_clip(clip.title, clip.folder) or clip for clip in _shown.clips)
    refresh()


def _read(path: Path) -> np.ndarray | None:
    """A picture (H, W, 4) float32; None where it cannot be read."""
    assert _shown is not None
    try:
        key = (path, path.stat().st_mtime)
    except OSError:
        return None
    kept = _shown.pictures.get(key)
    if kept is not None:
        _shown.pictures.move_to_end(key)
        return kept.astype(np.float32) / 255
    reader = bpy.data.images.get(_READER)
    if reader is None:
        reader = bpy.data.images.load(str(path))
        reader.name = _READER
    else:
        reader.filepath = str(path)
    reader.reload()
    width, height = reader.size
    if not (width and height):
        return None
    flat = np.empty(width * height * reader.channels, np.float32)
    pixels: Any = reader.pixels
    pixels.foreach_get(flat)
    picture = np.ones((height, width, 4), np.float32)
    picture[..., : reader.channels] = flat.reshape(height, width, reader.channels)
    _shown.pictures[key] = (picture * 255 + 0.5).astype(np.uint8)
    while len(_shown.pictures) > 2 and sum(one.nbytes for one in _shown.pictures.values()) > MOST_BYTES:
        _shown.pictures.popitem(last=False)
    return picture


def _show_clip(clip: Clip, frame: int, *, flicker: bool) -> np.ndarray | None:
    place = find_shown(clip.numbers, frame)
    picture = _read(clip.paths[place])
    if picture is None or not flicker:
        return picture
    before = _read(clip.paths[place - 1]) if place > 0 else None
    after = _read(clip.paths[place + 1]) if place + 1 < len(clip.paths) else None
    return map_flicker(before, picture, after)


def compose(frame: int) -> np.ndarray | None:
    """The picture (H, W, 4) float32 at a scene frame; None where nothing is shown, or none of it can be read."""
    if _shown is None:
        return None
    options = get_options()
    wanted = _shown.clips
    if len(wanted) == 2 and options.mode in ("FIRST", "SECOND"):
        wanted = wanted[:1] if options.mode == "FIRST" else wanted[1:]
    pictures = [one for clip in wanted if (one := _show_clip(clip, frame, flicker=options.flicker)) is not None]
    if len(pictures) < 2:
        return pictures[0] if pictures else None
    left, right = pictures
    return put_beside(left, right) if options.mode == "BESIDE" else wipe(left, right, options.position)


def refresh() -> None:
    """Make the image anew for the current frame of the results' scene."""
    if _shown is None:
        return
    scene = _shown.scene.find()
    picture = compose(scene.frame_current) if scene is not None else None
    if picture is None:
        return
    height, width = picture.shape[:2]
    image = bpy.data.images.get(IMAGE)
    if image is None:
        image = bpy.data.images.new(IMAGE, width, height, alpha=True)
        image.alpha_mode = "STRAIGHT"
    elif tuple(image.size) != (width, height):
        image.scale(width, height)
    pixels: Any = image.pixels
    pixels.foreach_set(np.ascontiguousarray(picture, np.float32).ravel())
    image.update()
    redraw_image(image)


def _on_frame(scene: bpy.types.Scene, *_: object) -> None:
    # frames that a render or the passes step through are nobody's to look at
    is_running: Any = bpy.app.is_job_running  # the stubs say that it returns nothing
    if _shown is not None and scene == _shown.scene.find() and not is_running("RENDER"):
        refresh()


def _on_undo(*_: object) -> None:
    # an undo takes the image back to an earlier frame, or away from the editors that showed it
    refresh()
    image = bpy.data.images.get(IMAGE) if _shown is not None else None
    for _, area in iter_areas("IMAGE_EDITOR"):
        space = area.spaces.active
        if image is not None and space.image is None and space.use_image_pin:
            space.image = image


def _on_load(*_: object) -> None:
    close_viewer()


_handlers = EventHandlers(frame_change_post=_on_frame, undo_post=_on_undo, redo_post=_on_undo, load_post=_on_load)


def register() -> None:
    """Give the window its viewer."""
    register_class(LatentManViewer)
    manager_type: Any = bpy.types.WindowManager
    make_pointer: Any = PointerProperty
    manager_type.latentman_viewer = make_pointer(
        type=LatentManViewer, name="LatentMan's Viewer", description="What is shown of results, and how they are compared"
    )
    _handlers.register()


def unregister() -> None:
    """Take it away again."""
    _handlers.unregister()
    close_viewer()
    manager_type: Any = bpy.types.WindowManager
    del manager_type.latentman_viewer
    bpy.utils.unregister_class(LatentManViewer)
