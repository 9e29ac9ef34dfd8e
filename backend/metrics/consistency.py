"""The few figures that are measured of every finished job."""

from __future__ import annotations

import numpy as np

from ...shared.passes import FramePasses
from .surface import Images, PairErrors

NAN = float("nan")


class BackgroundError:
    """Squared differences of consecutive frames where neither shows any surface (0..255 scale); meaningful for a still camera."""

    def __init__(self) -> None:
        self._total, self._count = 0.0, 0
        self._previous: tuple[np.ndarray, np.ndarray] | None = None

    def add(self, image: np.ndarray, passes: FramePasses) -> None:
        """The next frame (H, W, 3) uint8 and its passes (1, H, W, ...)."""
        empty = passes.surface_index[0] == 0
        if self._previous is not None:
            still = empty & self._previous[1]
            self._total += float(((image.astype(np.float64) - self._previous[0]) ** 2).mean(-1)[still].sum())
            self._count += int(still.sum())
        self._previous = image, empty

    @property
    def mean(self) -> float:
        """The mean over pixels and channels; NaN when there is nothing to compare."""
        return self._total / self._count if self._count else NAN


class Consistency:
    """Figures of frames that are added one after the other; differences are squared, on the 0..255 scale."""

    def __init__(self) -> None:
        self._pairs, self._background = PairErrors(), BackgroundError()

    def add(self, image: np.ndarray, passes: FramePasses) -> None:
        """The next frame (H, W, 3) uint8 and its passes (1, H, W, ...)."""
        self._pairs.add(image, passes)
        self._background.add(image, passes)

    def figures(self) -> dict[str, float]:
        """``hmse`` (the paper's human mean squared error) compares matched surface points of consecutive frames; ``background_mse``
        compares pixels that are background in both, which is meaningful for a still camera; ``matched_fraction`` is the number of
        matched pixels over that of the character's pixels. NaN when there is nothing to compare."""
        pairs = self._pairs
        return {
            "hmse": pairs.error / pairs.matched if pairs.matched else NAN,
            "background_mse": self._background.mean,
            "matched_fraction": pairs.matched / pairs.visible if pairs.visible else NAN,
        }


def background_error(images: Images, passes: FramePasses) -> float:
    """``BackgroundError.mean`` of a whole clip: frames (F, H, W, 3) uint8 with their passes."""
    found = BackgroundError()
    for n in range(len(images)):
        found.add(images[n], passes.select([n]))
    return found.mean


def measure_consistency(images: Images, passes: FramePasses) -> dict[str, float]:
    """``Consistency.figures`` of a whole clip: frames (F, H, W, 3) uint8 with their passes."""
    found = Consistency()
    for n in range(len(images)):
        found.add(images[n], passes.select([n]))
    return found.figures()
