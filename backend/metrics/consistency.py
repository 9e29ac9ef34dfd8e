"""The few figures that every finished job is given."""

from __future__ import annotations

import numpy as np

from ...shared.shot import FramePasses
from .surface import Images, PairErrors

NAN = float("nan")


class BackgroundError:
    """Differences of consecutive frames where both show no surface at all (0..255 scale): for a still camera."""

    def __init__(self) -> None:
        self._total, self._count = 0.0, 0
        self._before: tuple[np.ndarray, np.ndarray] | None = None

    def add(self, image: np.ndarray, passes: FramePasses) -> None:
        """The next frame (H, W, 3) uint8 and its passes (1, H, W, ...)."""
        empty = passes.surface_index[0] == 0
        if self._before is not None:
            still = empty & self._before[1]
            self._total += float(((image.astype(np.float64) - self._before[0]) ** 2).mean(-1)[still].sum())
            self._count += int(still.sum())
        self._before = image, empty

    @property
    def mean(self) -> float:
        """The mean over pixels; NaN where there is nothing to compare."""
        return self._total / self._count if self._count else NAN


class Consistency:
    """Figures for frames that are given one after the other; differences are squared on the 0..255 scale."""

    def __init__(self) -> None:
        self._pairs, self._background = PairErrors(), BackgroundError()

    def add(self, image: np.ndarray, passes: FramePasses) -> None:
        """The next frame (H, W, 3) uint8 and its passes (1, H, W, ...)."""
        self._pairs.add(image, passes)
        self._background.add(image, passes)

    def figures(self) -> dict[str, float]:
        """``hmse``: matched surface points of consecutive frames. ``background_mse``: pixels that are background in both frames of
        a pair; meaningful for a still camera. ``matched_share``: matched pixels over the character's pixels. NaN where there is
        nothing to compare."""
        pairs = self._pairs
        return {
            "hmse": pairs.error / pairs.matched if pairs.matched else NAN,
            "background_mse": self._background.mean,
            "matched_share": pairs.matched / pairs.visible if pairs.visible else NAN,
        }


def background_error(images: Images, passes: FramePasses) -> float:
    """``BackgroundError`` of a whole clip."""
    found = BackgroundError()
    for n in range(len(images)):
        found.add(images[n], passes.select([n]))
    return found.mean


def consistency(images: Images, passes: FramePasses) -> dict[str, float]:
    """``Consistency`` of a whole clip: frames (F, H, W, 3) uint8 with their passes."""
    found = Consistency()
    for n in range(len(images)):
        found.add(images[n], passes.select([n]))
    return found.figures()
