"""Projects frames onto the character's texture map: the look as one image, to be used as a material in Blender."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import binary_erosion

from ...shared.passes import FramePasses

SIZE, HOLE_LEVELS = 512, 3
#: a neighbouring pixel this many times farther away on the surface than usual lies on another part of it
JUMP = 4.0


def _compute_visibility(rest: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """(H, W) the resolution at which a pixel sees its surface, in pixels a metre; 0 at edges and folds."""
    spans = []
    for axis in (0, 1):
        step = np.linalg.norm(np.diff(rest, axis=axis), axis=-1)
        both = np.take(inside, range(1, inside.shape[axis]), axis) & np.take(inside, range(inside.shape[axis] - 1), axis)
        step = np.where(both, step, np.nan)
        pad = [(0, 0), (0, 0)]
        pad[axis] = (1, 0)
        before = np.pad(step, pad, constant_values=np.nan)
        pad[axis] = (0, 1)
        spans.append(np.fmax(before, np.pad(step, pad, constant_values=np.nan)))
    span = np.fmax(*spans)
    usual = np.nanmedian(span[inside]) if np.isfinite(span[inside]).any() else np.inf
    return np.where(np.isfinite(span) & (span < JUMP * usual) & (span > 0), 1 / np.maximum(span, 1e-9), 0.0)


class TextureGatherer:
    """Gathers frames, given one after the other, on the texture map of every character in them."""

    def __init__(self, size: int = SIZE) -> None:
        """``size`` of the map's sides in texels."""
        self._size = size
        self._total: dict[int, np.ndarray] = {}
        self._weights: dict[int, np.ndarray] = {}

    def add(self, image: np.ndarray, passes: FramePasses) -> None:
        """The next frame (H, W, 3) uint8 and its passes (1, H, W, ...)."""
        size = self._size
        mask, uv, rest = passes.mask[0], passes.uv[0], passes.rest_position[0].astype(np.float64)
        for character in np.unique(mask[mask > 0]).tolist():
            inside = mask == character
            visibility = _compute_visibility(rest, inside) * binary_erosion(inside)
            seen = visibility > 0
            column, row = (np.clip((axis * size).astype(int), 0, size - 1) for axis in (uv[seen][:, 0] % 1, 1 - uv[seen][:, 1] % 1))
            texel, weight = row * size + column, visibility[seen] ** 2
            light = (image[seen] / 255.0) ** 2.2
            total = self._total.setdefault(character, np.zeros((size * size, 3)))
            weights = self._weights.setdefault(character, np.zeros(size * size))
            weights += np.bincount(texel, weight, size * size)
            for channel in range(3):
                total[:, channel] += np.bincount(texel, weight * light[:, channel], size * size)

    def textures(self) -> dict[int, np.ndarray]:
        """Character -> (size, size, 4) uint8, row 0 at v = 1, for every character that was seen.

        A texel has the mean of the pixels that see it, in linear light, each weighted by how closely it sees the surface; small
        holes between them are filled, what no frame shows has alpha 0.
        """
        return {character: self._texture(character) for character, weights in self._weights.items() if weights.any()}

    def _texture(self, character: int) -> np.ndarray:
        size = self._size
        colour, known = _fill_holes(self._total[character].reshape(size, size, 3), self._weights[character].reshape(size, size))
        out = np.zeros((size, size, 4), np.uint8)
        out[..., :3] = np.round(np.clip(colour, 0, 1) ** (1 / 2.2) * 255)
        out[..., 3] = known * 255
        return out


def gather_texture(images: Sequence[np.ndarray], passes: FramePasses, character: int = 1, size: int = SIZE) -> np.ndarray | None:
    """(size, size, 4) uint8: what the frames (F, H, W, 3) uint8 show of a character (``TextureGatherer``); None when it is never
    seen."""
    gatherer = TextureGatherer(size)
    for n, image in enumerate(images):
        gatherer.add(image, passes.select([n]))
    return gatherer.textures().get(character)


def _fill_holes(total: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means (S, S, 3), holes of up to ``2 ** HOLE_LEVELS`` texels taken from coarser means; and where there is one."""
    sums, counts = [total], [weights]
    for _ in range(HOLE_LEVELS):
        size = len(sums[-1]) // 2
        sums.append(sums[-1].reshape(size, 2, size, 2, 3).sum((1, 3)))
        counts.append(counts[-1].reshape(size, 2, size, 2).sum((1, 3)))
    colour, known = np.zeros_like(sums[-1]), np.zeros(counts[-1].shape, bool)
    for s, c in zip(reversed(sums), reversed(counts), strict=True):
        if len(colour) != len(c):
            colour, known = colour.repeat(2, 0).repeat(2, 1), known.repeat(2, 0).repeat(2, 1)
        own = c > 0
        colour = np.where(own[..., None], s / np.maximum(c, 1e-12)[..., None], colour)
        known = known | own
    return colour, known
