"""The one pass over a clip that computes all figures; ``figures`` says what they are.

Frames are added one after the other, so that a clip of any length takes about the same memory.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Protocol

import numpy as np

from ...shared.passes import FramePasses
from .authors_hmse import AuthorsHmse
from .clip_pairs import ClipPairs, measure_change
from .frames import Images, MeasuredFrame, pair_with_passes, prepare_frame
from .pictures import BoundaryContrast, PictureContrast, Segmentation, compare_contrast, measure_contrast
from .shading import CellGatherer
from .surface import CellColourGatherer, WarpError
from .surroundings import Surroundings
from .timing import Timing


class Part(Protocol):
    """What gathers some of the figures from frames that are added one after the other."""

    def add(self, frame: MeasuredFrame) -> None:
        """The next frame."""

    def figures(self) -> dict[str, float]:
        """The figures by name, once all frames have been added."""


#: name -> what gathers figures from the frames, and their names; parts that no wanted figure needs are left out
PARTS: dict[str, tuple[Callable[[], Part], tuple[str, ...]]] = {
    "pairs": (
        ClipPairs,
        (
            *("hmse", "hmse_floor", "hmse_relative", "hmse_texture", "hmse_p95", "hmse_worst", "hmse_cyclic", "matched_fraction"),
            *("rim_error", "jitter", "slide", "texture_change", "screen_lock", "change_slope"),
        ),
    ),
    "authors": (AuthorsHmse, ("hmse_authors", "hmse_authors_printed")),
    "warp": (WarpError, ("warp_error",)),
    "cells": (CellGatherer, ("drift", "recolouring", "unexplained_change", "flicker_fast", "flicker_slow", "liveliness")),
    "contrast": (
        PictureContrast,
        ("detail", "detail_level", "grain", "detail_coarse", "contrast", "saturation", "exposure"),
    ),
    "colours": (CellColourGatherer, ("surface_variance_low", "surface_variance_high", "reappearance", "shading_std")),
    "surroundings": (Surroundings, ("background_error", "background_std", "halo_error", "ghost_error")),
    "segmentation": (Segmentation, ("silhouette_iou", "boundary_f_measure")),
    "edges": (BoundaryContrast, ("boundary_contrast",)),
    "timing": (Timing, ("timing_error", "repeated_frames")),
}
#: all figures, as ``figures`` lists them: that module's words are not code, and results do not go out of date with them
NAMES = tuple(name for _, names in PARTS.values() for name in names)


class ClipMeasurer:
    """Computes figures of a clip whose frames are added one after the other."""

    def __init__(self, only: Collection[str] = (), more: Mapping[str, Part] | None = None) -> None:
        """``only`` are names of figures, which spare the work for others; all when it is empty. Raises ``KeyError`` for others.
        ``more`` are further parts by a name of their own, such as ``PerceptualSimilarity``."""
        for name in only:
            if name not in NAMES:
                raise KeyError(name)
        wanted = set(only or NAMES)
        self._parts = {name: make() for name, (make, figures) in PARTS.items() if wanted & set(figures)}
        self._parts |= more or {}
        self._wanted, self._count = wanted, 0

    def add(self, image: np.ndarray, passes: FramePasses) -> None:
        """The next frame (H, W, 3) uint8 and its passes (1, H, W, ...)."""
        frame = prepare_frame(self._count, image, passes)
        for part in self._parts.values():
            part.add(frame)
        self._count += 1

    @property
    def contrast(self) -> dict[str, float]:
        """``PictureContrast.figures``, for those who are compared with this clip; empty when it was not wanted."""
        part = self._parts.get("contrast")
        return part.figures() if isinstance(part, PictureContrast) else {}

    @property
    def change(self) -> dict[int, float]:
        """lag in frames -> root mean square change of surface points in levels, up to the clip's length once ``figures`` was
        called; empty when it was not wanted."""
        pairs = self._parts.get("pairs")
        return measure_change([*pairs.neighbours, *pairs.older]) if isinstance(pairs, ClipPairs) else {}

    def figures(self, reference: dict[str, float] | None = None) -> dict[str, float]:
        """The wanted figures by name, in the order of ``PARTS``, and parts of them; NaN where there is nothing to measure.

        ``reference`` is the ``contrast`` of the per-frame run with the same seed; without one the figures that are ratios to it
        are NaN. Called once."""
        found: dict[str, float] = {}
        for part in self._parts.values():
            found |= part.figures()
        levels = self.contrast
        found |= {f"{name}_level": value for name, value in levels.items()}
        found |= compare_contrast(levels, reference) if reference else dict.fromkeys(levels, float("nan"))
        extra = [name for name in found if name not in NAMES]
        return {name: found[name] for name in [*(name for name in NAMES if name in self._wanted), *extra]}


def measure_frames(
    frames: Iterable[tuple[np.ndarray, FramePasses]],
    reference: dict[str, float] | None = None,
    only: Collection[str] = (),
    more: Mapping[str, Part] | None = None,
) -> dict[str, float]:
    """``ClipMeasurer.figures`` of frames (H, W, 3) uint8, each with its passes (1, H, W, ...), read one at a time."""
    found = ClipMeasurer(only, more)
    for image, passes in frames:
        found.add(image, passes)
    return found.figures(reference)


def measure_clip(
    images: Images,
    passes: FramePasses,
    reference: Images | None = None,
    only: Collection[str] = (),
    more: Mapping[str, Part] | None = None,
) -> dict[str, float]:
    """``ClipMeasurer.figures`` of a whole clip: frames (F, H, W, 3) uint8 with their passes; ``reference`` are the frames of the
    per-frame run with the same seed."""
    contrast = measure_contrast(pair_with_passes(reference, passes)) if reference is not None else None
    return measure_frames(pair_with_passes(images, passes), contrast, only, more)
