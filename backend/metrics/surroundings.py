"""What the picture shows around the characters: a halo at their edge, what they leave behind, and a background that changes.

For a camera that stands still. Where a pixel shows no surface, its colour is compared with what it shows when the characters are
far from it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import distance_transform_edt

from .frames import MeasuredFrame

NAN = float("nan")
#: pixels outside the silhouette that are its halo, and beyond which a pixel is clear of it
HALO, CLEAR = 6, 12
#: a pixel that was covered so many frames ago may show a ghost
GHOST_FRAMES = 2


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


@dataclass
class Surroundings:
    """Figures of frames that are added one after the other; it keeps a few pictures' worth of sums."""

    _clear: _Sums | None = None
    _halo: _Sums | None = None
    _ghost: _Sums | None = None
    _covered: list[np.ndarray] = field(default_factory=list)
    _previous: tuple[np.ndarray, np.ndarray] | None = None
    _change: float = 0.0
    _changed: int = 0

    def add(self, frame: MeasuredFrame) -> None:
        """The next frame."""
        empty = frame.passes.surface_index[0] == 0
        if self._clear is None or self._halo is None or self._ghost is None:
            self._clear, self._halo, self._ghost = (_Sums.make(frame.image.shape) for _ in range(3))
        if self._previous is not None:
            still = empty & self._previous[1]
            self._change += float(((frame.image - self._previous[0]) ** 2).mean(-1)[still].sum())
            self._changed += int(still.sum())
        self._previous = frame.image, empty
        away = distance_transform_edt(~frame.mask) if frame.mask.any() else np.full(frame.mask.shape, np.inf)
        self._clear.add(frame.image, empty & (away > CLEAR))
        self._halo.add(frame.image, empty & (away <= HALO))
        left = np.logical_or.reduce(self._covered) if self._covered else np.zeros_like(empty)
        self._ghost.add(frame.image, empty & left)
        self._covered = [*self._covered, frame.mask][-GHOST_FRAMES:]

    def figures(self) -> dict[str, float]:
        """``background_error``, ``background_std``, ``halo_error`` and ``ghost_error``; see ``figures.FIGURES``."""
        if self._clear is None or self._halo is None or self._ghost is None:
            return dict.fromkeys(("background_error", "background_std", "halo_error", "ghost_error"), NAN)
        seen = self._clear.count > 0
        plate = self._clear.total / np.maximum(self._clear.count, 1)[..., None]
        often = self._clear.count > 1
        # the plate is the mean of the same pixels, which takes one of them out of their variance
        share = self._clear.count[often] / np.maximum(self._clear.count[often] - 1, 1)
        variance = (self._clear.square[often] / self._clear.count[often][:, None] - plate[often] ** 2).mean(1) * share
        weights = self._clear.count[often]
        return {
            "background_error": self._change / self._changed if self._changed else NAN,
            "background_std": float(np.sqrt(max(np.average(variance, weights=weights), 0.0))) if often.any() else NAN,
            "halo_error": self._halo.compare(plate, seen & (self._halo.count > 0)),
            "ghost_error": self._ghost.compare(plate, seen & (self._ghost.count > 0)),
        }
