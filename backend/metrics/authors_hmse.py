"""The human mean squared error by the formula of LatentMan's authors (arXiv 2312.07133), for comparison with their numbers.

Every frame is unwrapped into a texture of 256x256 by the surface's texture coordinates, between whose pixels the colours are
interpolated; the textures of a frame and the one before, and of the first and the last, are subtracted, and the squares averaged
over the texels that both show. The authors do all of it in 8 bits, where differences and squares wrap around at 256; both are
given here. They take the coordinates from DensePose, which is replaced by the passes' own.
"""

from __future__ import annotations

import numpy as np
from scipy.interpolate import LinearNDInterpolator
from scipy.spatial import Delaunay, QhullError

from ...shared.passes import FramePasses
from .frames import MeasuredFrame

NAN = float("nan")
#: side of the texture in texels
SIDE = 256


def unwrap(image: np.ndarray, passes: FramePasses) -> np.ndarray:
    """(SIDE, SIDE, 3) uint8 the texture that one frame (H, W, 3) with its passes (1, H, W, ...) shows; 0 where it shows nothing."""
    out, seen = np.zeros((SIDE, SIDE, 3), np.uint8), passes.mask[0] > 0
    uv = passes.uv[0][seen].astype(np.float64) * (SIDE - 1)
    if len(uv) < 4:
        return out
    covered = np.zeros((SIDE, SIDE), bool)
    for x in (np.floor, np.ceil):
        for y in (np.floor, np.ceil):
            # as in the authors' code, not the texel on the upper left and lower right alone but all around a pixel
            covered[y(uv[:, 1]).astype(int).clip(0, SIDE - 1), x(uv[:, 0]).astype(int).clip(0, SIDE - 1)] = True
    rows, cols = np.nonzero(covered)
    try:
        values = LinearNDInterpolator(Delaunay(uv), image[seen].astype(np.float64))(np.column_stack([cols, rows]))
    except QhullError:
        return out
    out[rows, cols] = np.nan_to_num(values).astype(np.uint8)
    return out


class AuthorsHmse:
    """Frames are added one after the other; the pair of the last and the first closes the circle."""

    def __init__(self) -> None:
        self._first: np.ndarray | None = None
        self._last: np.ndarray | None = None
        self._wrapped, self._whole, self._count, self._frames = 0, 0, 0, 0

    def add(self, frame: MeasuredFrame) -> None:
        """The next frame."""
        texture = unwrap(frame.image, frame.passes)
        if self._last is not None:
            self._compare(texture, self._last)
        self._first = texture if self._first is None else self._first
        self._last = texture
        self._frames += 1

    def _compare(self, texture: np.ndarray, other: np.ndarray) -> None:
        both = (texture != 0) & (other != 0)
        wrapped = texture - other  # 8 bits, as in the authors' code
        self._wrapped += int((wrapped * wrapped)[both].sum(dtype=np.int64))
        self._whole += int(((texture.astype(np.int64) - other) ** 2)[both].sum())
        self._count += int(both.sum())

    def figures(self) -> dict[str, float]:
        """``hmse_authors_printed`` in 8 bits and ``hmse_authors`` without wrapping; called once, when all frames have been
        added."""
        if self._first is None or self._last is None or self._frames < 2:
            return {"hmse_authors_printed": NAN, "hmse_authors": NAN}
        self._compare(self._first, self._last)
        count = self._count or NAN
        return {"hmse_authors_printed": self._wrapped / count, "hmse_authors": self._whole / count}
