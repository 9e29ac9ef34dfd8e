"""Whether each frame shows what its passes show at that time: late, early and repeated frames."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_dilation, gaussian_filter

from .bands import find_window
from .frames import MeasuredFrame

NAN = float("nan")
#: frames by which a picture may be early or late and is still found
REACH = 3
#: by how much better another frame's outline must fit before a picture belongs to that frame
MARGIN = 1.1
#: a frame is a repetition when the pixels of the characters have changed by less than this (squared, 0..255 scale)
SAME = 0.5


class Timing:
    """Compares each frame's edges with the outlines of the frames around it; frames are added one after the other."""

    def __init__(self) -> None:
        self._slopes: dict[int, np.ndarray] = {}
        self._outlines: dict[int, np.ndarray] = {}
        self._offsets: list[int] = []
        self._previous: MeasuredFrame | None = None
        self._repeated, self._pairs, self._last = 0, 0, -1

    def add(self, frame: MeasuredFrame) -> None:
        """The next frame."""
        window = find_window(frame.mask, 24)
        slopes = np.zeros(frame.mask.shape, np.float32)
        if frame.mask.any():
            smooth = gaussian_filter(frame.image[window], (1.0, 1.0, 0))
            slopes[window] = np.sqrt(sum(np.square(np.gradient(smooth, axis=axis)) for axis in (0, 1)).sum(-1))
        self._slopes[frame.number] = slopes
        self._outlines[frame.number] = np.flatnonzero(binary_dilation(frame.mask) & binary_dilation(~frame.mask))
        self._last = frame.number
        self._judge(frame.number - REACH)
        for store in (self._slopes, self._outlines):
            store.pop(frame.number - 2 * REACH, None)
        if self._previous is not None:
            both = self._previous.mask | frame.mask
            moved = (self._previous.mask != frame.mask).any()
            if both.any() and moved:
                self._pairs += 1
                self._repeated += bool(((frame.image - self._previous.image)[both] ** 2).mean() < SAME)
        self._previous = frame

    def _judge(self, number: int) -> None:
        if number not in self._slopes:
            return
        slopes = self._slopes[number].ravel()
        fits = {
            other - number: float(slopes[self._outlines[other]].mean())
            for other in range(number - REACH, number + REACH + 1)
            if other in self._outlines and len(self._outlines[other])
        }
        if 0 not in fits or len(fits) < 2:
            return
        best = max(fits, key=lambda offset: (fits[offset], -abs(offset)))
        self._offsets.append(best if fits[best] > MARGIN * fits[0] else 0)

    def figures(self) -> dict[str, float]:
        """``timing_error`` and ``repeated_frames``; see ``figures.FIGURES``. Called once, when all frames have been added."""
        for number in range(max(self._last - REACH + 1, 0), self._last + 1):
            self._judge(number)
        return {
            "timing_error": float(np.abs(self._offsets).mean()) if self._offsets else NAN,
            "repeated_frames": self._repeated / self._pairs if self._pairs else NAN,
        }
