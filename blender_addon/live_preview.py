"""The picture of a shot that is being made: its key frames while they take shape, then each frame as it arrives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bpy
import bpy.utils.previews
import numpy as np

from ..shared import logs
from ..shared.drafts import make_sheet
from .redrawing import redraw_image

logger = logs.get_logger(__name__)

#: the image that image editors show while a shot is made
IMAGE = "LatentMan Live"
_NAME = "live"
#: about how many pixels along a side small pictures take in an image editor
WATCHED_SIDE = 768


class LivePreview:
    """What the panel and the image editors show of the running shot."""

    def __init__(self) -> None:
        self._icons: Any = None
        #: whether there is something to show
        self.is_shown = False
        #: what was shown last: pixels (H, W, 4) float32 whose rows begin at the bottom, or the file of a frame
        self._last: np.ndarray | Path | None = None

    @property
    def icon(self) -> int:
        """The number of the icon, 0 as long as there is nothing to show."""
        return int(self._icons[_NAME].icon_id) if self.is_shown and self._icons is not None else 0

    def begin(self) -> None:
        """Another shot is being made; of the one before nothing is shown any more."""
        self.is_shown, self._last = False, None

    def show_small(self, pictures: Sequence[np.ndarray], *, only_icon: bool = False) -> None:
        """Show small pictures (h, w, 3) uint8 of one size, in the panel and, unless ``only_icon``, in the image editors."""
        sheet = make_sheet(pictures)
        height, width = sheet.shape[:2]
        # Blender's rows begin at the bottom
        pixels = np.ones((height, width, 4), np.float32)
        pixels[..., :3] = sheet[::-1] / np.float32(255)
        self._show_icon(pixels)
        if not only_icon:
            # an image editor shows pixel for pixel
            times = max(1, WATCHED_SIDE // max(height, width))
            self._show(pixels.repeat(times, 0).repeat(times, 1))

    def show_file(self, path: Path) -> None:
        """Show a finished frame in the image editors."""
        self._show(path)

    def make_image(self) -> bpy.types.Image:
        """The image that shows the running shot, made if need be."""
        image = bpy.data.images.get(IMAGE) or bpy.data.images.new(IMAGE, 64, 64)
        if self._last is not None:
            self._show(self._last)
        return image

    def _show(self, shown: np.ndarray | Path) -> None:
        self._last = shown
        image = bpy.data.images.get(IMAGE)
        if image is None:
            return
        if isinstance(shown, Path):
            image.source, image.filepath = "FILE", str(shown)
            image.reload()
        else:
            image.source = "GENERATED"
            image.generated_height, image.generated_width = shown.shape[:2]
            image.pixels.foreach_set(shown.ravel())
            image.update()
        redraw_image(image)

    def _show_icon(self, pixels: np.ndarray) -> None:
        try:
            if self._icons is None:
                self._icons = bpy.utils.previews.new()
            shown = self._icons.get(_NAME) or self._icons.new(_NAME)
            height, width = pixels.shape[:2]
            # a square, as icons are drawn
            side = max(height, width)
            square = np.zeros((side, side, 4), np.float32)
            top, left = (side - height) // 2, (side - width) // 2
            square[top : top + height, left : left + width] = pixels
            for size, values in (("image_size", "image_pixels_float"), ("icon_size", "icon_pixels_float")):
                setattr(shown, size, (side, side))
                getattr(shown, values).foreach_set(square.ravel())
            self.is_shown = True
        except (RuntimeError, TypeError, ValueError):
            logger.exception("the picture of the running shot cannot be shown")

    def forget(self) -> None:
        """Let go of the icon."""
        self.is_shown, self._last = False, None
        if self._icons is not None:
            bpy.utils.previews.remove(self._icons)
            self._icons = None


live = LivePreview()


def register() -> None:
    """Nothing yet: the icon is made when there is something to show."""


def unregister() -> None:
    """Let go of the icon."""
    live.forget()
