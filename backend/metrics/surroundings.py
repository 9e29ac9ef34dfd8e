"""What the picture shows around the characters: a halo at their edge, what they leave behind, and a background that changes.

For a camera that stands still. Where a pixel shows no surface, its colour is compared with what it shows when the characters are
far from it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...shared.passes import FramePasses
from ..video.distances import measure_distance
from .frames import MeasuredFrame

NAN = float("nan")
#: pixels outside the silhouette that are its halo, and beyond which a pixel is clear of it
HALO, CLEAR = 6, 12
#: a pixel that was covered so many frames ago may show a ghost
GHOST_FRAMES = 2


class BackgroundError:
    """Squared differences of consecutive frames where neither shows any surface (0..255 scale); meaningful for a still camera."""

    def __init__(self) -> None:
        self._total, self._count = 0.0, 0
        self._previous: tuple[np.ndarray, np.ndarray] | None = None

    def add(self, image: np.ndarray, passes: FramePasses) -> None:
        """The next frame (H, W, 3) on the 0..255 scale and its passes (1, H, W, ...)."""
        empty = passes.surface_index[0] == 0
        if self._previous is not None:
            still = empty & self._previous[1]
            self._total += float(((image.astype(np.float64) - self._previous[0]) ** 2).mean(-1)[still].sum())
            self._count += int(still.sum())
        self._previous = image, empty

    def cut(self) -> None:
        """The next frame is compared with none before it."""
        self._previous = None

    @property
    def mean(self) -> float:
        """The mean over pixels and channels; NaN when there is nothing to compare."""
        return self._total / self._count if self._count else NAN


@dataclass
class _Sums:
    """Number, sum and sum of squares of colours at every pixel."""

    count: np.ndarray
    total: np.ndarray
    square: np.ndarray

    @classmethod
    def make(cls, shape: tuple[int, ...]) -> _Sums:
        return cls(np.zeros(shape[:2]), np.zeros(shape), np.zeros(shape))

    def add(self, image: np.ndarray, where: np.ndarray) -> None:
        self.count[where] += 1
        self.total[where] += image[where]
        self.square[where] += image[where] ** 2

    def compare(self, plate: np.ndarray, known: np.ndarray) -> float:
        """Mean squared difference of all that was added from colours (H, W, 3), at the pixels ``known``."""
        number = float(self.count[known].sum())
        count = self.count[known][:, None]
        error = self.square[known] - 2 * plate[known] * self.total[known] + count * plate[known] ** 2
        return float(error.mean(1).sum()) / number if number else NAN


class Surroundings:
    """Figures of frames that are added one after the other; it keeps a few pictures' worth of sums."""

    def __init__(self) -> None:
        self._background = BackgroundError()
        self._sums: tuple[_Sums, _Sums, _Sums] | None = None
        self._covered: list[np.ndarray] = []

    def add(self, frame: MeasuredFrame) -> None:
        """The next frame."""
        self._background.add(frame.image, frame.passes)
        if self._sums is None:
            shape = frame.image.shape
            self._sums = _Sums.make(shape), _Sums.make(shape), _Sums.make(shape)
        clear, halo, ghost = self._sums
        empty = frame.passes.surface_index[0] == 0
        away = measure_distance(frame.mask)
        clear.add(frame.image, empty & (away > CLEAR))
        halo.add(frame.image, empty & (away <= HALO))
        left = np.logical_or.reduce(self._covered) if self._covered else np.zeros_like(empty)
        ghost.add(frame.image, empty & left)
        self._covered = [*self._covered, frame.mask][-GHOST_FRAMES:]

    def figures(self) -> dict[str, float]:
        """``background_error``, ``background_std``, ``halo_error`` and ``ghost_error``; see ``figures.FIGURES``."""
        if self._sums is None:
            return dict.fromkeys(("background_error", "background_std", "halo_error", "ghost_error"), NAN)
        clear, halo, ghost = self._sums
        seen, often = clear.count > 0, clear.count > 1
        plate = clear.total / np.maximum(clear.count, 1)[..., None]
        weights = clear.count[often]
        # the plate is the mean of the same pixels, which takes one of them out of their variance
        share = weights / np.maximum(weights - 1, 1)
        variance = (clear.square[often] / weights[:, None] - plate[often] ** 2).mean(1) * share
        return {
            "background_error": self._background.mean,
            "background_std": float(np.sqrt(max(np.average(variance, weights=weights), 0.0))) if often.any() else NAN,
            "halo_error": halo.compare(plate, seen & (halo.count > 0)),
            "ghost_error": ghost.compare(plate, seen & (ghost.count > 0)),
        }
