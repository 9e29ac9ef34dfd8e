"""The few figures that are measured of every finished job."""

from __future__ import annotations

import numpy as np

from ...shared.passes import FramePasses
from .frames import Images, pair_with_passes
from .surface import PairErrors
from .surroundings import BackgroundError

NAN = float("nan")


class Consistency:
    """Figures of frames that are added one after the other; differences are squared, on the 0..255 scale."""

    def __init__(self) -> None:
        self._pairs, self._background = PairErrors(), BackgroundError()

    def add(self, image: np.ndarray, passes: FramePasses) -> None:
        """The next frame (H, W, 3) uint8 and its passes (1, H, W, ...)."""
        self._pairs.add(image, passes)
        self._background.add(image, passes)

    def cut(self) -> None:
        """The next frame is meant to look otherwise, so that it is compared with none before it."""
        self._pairs.cut()
        self._background.cut()

    def figures(self) -> dict[str, float]:
        """``hmse`` (the paper's human mean squared error) compares matched surface points of consecutive frames; ``background_mse``
        is what the list of figures calls ``background_error``, meaningful for a still camera; ``matched_fraction`` is the number of
        matched pixels over that of the pixels inside the silhouettes. NaN when there is nothing to compare."""
        pairs = self._pairs
        return {
            "hmse": pairs.error / pairs.matched if pairs.matched else NAN,
            "background_mse": self._background.mean,
            "matched_fraction": pairs.matched / pairs.visible if pairs.visible else NAN,
        }


def background_error(images: Images, passes: FramePasses) -> float:
    """``BackgroundError.mean`` of a whole clip: frames (F, H, W, 3) uint8 with their passes."""
    found = BackgroundError()
    for image, own in pair_with_passes(images, passes):
        found.add(image, own)
    return found.mean


def measure_consistency(images: Images, passes: FramePasses) -> dict[str, float]:
    """``Consistency.figures`` of a whole clip: frames (F, H, W, 3) uint8 with their passes."""
    found = Consistency()
    for image, own in pair_with_passes(images, passes):
        found.add(image, own)
    return found.figures()
