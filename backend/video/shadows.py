"""Shadows that walk along: what a picture's own shadow is, what lies under it, and where each frame's falls.

A model paints a shadow where it likes, and the background that all frames share keeps it there. It is found in the background
plate as what is darker than the ground around the feet, filled from beside it, and its strength and tint are those with which
every frame's own shadow is laid on: from the shadow pass, or as a soft contact shadow below what is near the ground.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import (
    binary_closing,
    binary_dilation,
    distance_transform_edt,
    gaussian_filter,
    gaussian_filter1d,
    grey_dilation,
    label,
    map_coordinates,
    percentile_filter,
    zoom,
)

from ...shared.depth import compute_metric_depth
from ...shared.overview import shrink
from ...shared.passes import FramePasses
from .cameras import Camera
from .horizon import find_ground_hits
from .plate_filling import fill_along_horizon

#: by how much a shadow darkens red, green and blue where the pictures have none to learn from: the sky brightens it
USUAL_TONE = np.array([0.42, 0.40, 0.36], np.float32)
#: the least and the most that it darkens where they have one
LEAST_TONE, MOST_TONE = 0.15, 0.8
#: a pass whose shadows are lighter than this is not stretched any more
LEAST_LEVEL = 0.5
#: side of the small picture in which a painted shadow is sought, and the part of its width in which ground is compared
SOUGHT, GROUND_SPAN = 128, 0.5
#: a shadow darkens its ground by ``DARK`` somewhere, and reaches as far as it still does by ``DIM``
DARK, DIM = 0.13, 0.05
#: how far around the feet a painted shadow is sought: above, below and beside, in heights of the figure
ABOVE, BELOW, BESIDE = 0.3, 0.15, 0.9
#: what is dark in more than this share of that place is the place and no shadow
MOST_SHARE = 0.5
#: pixels of 256 around a painted shadow that are filled with it
MARGIN = 3.0
#: pixels beside a character that take on its colours, as latents are coarser than pixels
EDGE = 6.0
#: lengths of contact shadows are of a figure of this many metres, and of those that are between these
FIGURE, SMALLEST, LARGEST = 1.7, 0.5, 5.0
#: metres above the ground at which what is near it darkens it still by 1 / e, for the contact and for the body above it
CONTACT, BODY = 0.08, 0.7
#: their softness in metres, and how dark each is
CONTACT_BLUR, BODY_BLUR, BODY_SHARE = 0.05, 0.18, 0.6
#: metres by which a body goes on behind what the camera sees of it
THICKNESS = 0.04
#: side in metres of a cell of the ground, and the most cells along a side
CELL, MOST_CELLS = 0.02, 512


@dataclass(frozen=True)
class CleanPlate:
    """A background without shadows: ``colour`` (H, W, 3) uint8, ``mended`` (H, W) bool what was filled in, and ``tone`` (3,)
    float32, by how much the shadow that was there darkened its ground; None where there was none."""

    colour: np.ndarray
    mended: np.ndarray
    tone: np.ndarray | None


def clean_plate(colour: np.ndarray, distance: np.ndarray, figure: np.ndarray, *, shadows: bool = True) -> CleanPlate:
    """The plate ``colour`` (H, W, 3) uint8, whose pixels were seen ``distance`` (H, W) pixels from characters, 0 where they were
    not, without what characters hide or colour by their edges and, with ``shadows``, without the shadow that ``figure`` (H, W)
    bool, the character in the frame that it was painted in, throws."""
    image, hidden = colour.astype(np.float32), distance <= EDGE
    whole = fill_along_horizon(image, hidden)
    painted = find_painted_shadow(whole, figure) if shadows else np.zeros_like(hidden)
    if not painted.any():
        return CleanPlate(whole.round().astype(np.uint8), hidden, None)
    reach = max(1, round(MARGIN * min(colour.shape[:2]) / 256))
    mended = hidden | (distance_transform_edt(~painted) <= reach)
    clean = fill_along_horizon(image, mended)
    return CleanPlate(clean.round().astype(np.uint8), mended, _measure_tone(image, clean, painted & ~hidden))


def _measure_tone(image: np.ndarray, clean: np.ndarray, painted: np.ndarray) -> np.ndarray | None:
    """(3,) float32 by how much the core of a painted shadow is darker than what lies under it."""
    if not painted.any():
        return None
    ratio = image[painted] / np.maximum(clean[painted], 4.0)
    dark = 1 - ratio.mean(1)
    core = ratio[dark >= np.quantile(dark, 0.6)]
    found = 1 - np.median(core, 0)
    mean = float(np.clip(found.mean(), LEAST_TONE, MOST_TONE))
    # a tint, and no colour of its own
    return (mean + np.clip(found - found.mean(), -0.12, 0.12)).clip(0, 0.9).astype(np.float32)


def find_painted_shadow(image: np.ndarray, figure: np.ndarray) -> np.ndarray:
    """(H, W) bool: the shadow that is painted in a picture (H, W, 3) float32 without holes, around the feet of ``figure`` (H, W)
    bool: what is darker than the ground at the same height, hangs together with the feet, and is not the place itself."""
    height, width = figure.shape
    nothing = np.zeros_like(figure)
    if not figure.any():
        return nothing
    factor = min(1.0, SOUGHT / max(height, width))
    small = zoom(image.mean(2), factor, order=1, grid_mode=True, mode="nearest") if factor < 1 else image.mean(2)
    small = gaussian_filter(small, 0.7)
    body = shrink(figure[None], *small.shape)[0]
    rows, columns = np.flatnonzero(body.any(1)), np.flatnonzero(body.any(0))
    if not len(rows):
        return nothing
    bottom, tall = rows[-1], rows[-1] - rows[0] + 1
    if bottom >= len(small) - 1:
        # the feet are not in the picture
        return nothing
    span = int(GROUND_SPAN * small.shape[1]) | 1
    ground = percentile_filter(small, 65, size=(3, span), mode="nearest")
    dark = 1 - small / np.maximum(ground, 8.0)
    spread = np.median(np.abs(dark[bottom - tall // 4 : bottom + 1]))
    zone = nothing[: len(small), : small.shape[1]].copy()
    zone[
        max(0, int(bottom - ABOVE * tall)) : int(bottom + BELOW * tall) + 1,
        max(0, int(columns[0] - BESIDE * tall)) : int(columns[-1] + BESIDE * tall) + 1,
    ] = True
    wide = binary_closing(np.pad((dark > max(DIM, 1.5 * spread)) & zone, 3), np.ones((3, 5)), 2)[3:-3, 3:-3]
    if wide.sum() > MOST_SHARE * zone.sum():
        return nothing
    feet = body.copy()
    feet[: int(bottom - 0.2 * tall)] = False
    near = distance_transform_edt(~feet) <= 0.08 * tall
    parts, count = label(wide, np.ones((3, 3)))
    dark_enough = [parts == part for part in range(1, count + 1) if dark[parts == part].max() > max(DARK, 3 * spread)]
    found = nothing[: len(small), : small.shape[1]].copy()
    for where in dark_enough:
        if (where & near).any():
            found |= where
    # what lies a little apart from the rest belongs to it: the shadow of the trunk beside those of the legs
    beside = binary_dilation(found, np.ones((3, 3)), max(1, int(0.08 * tall))) if found.any() else found
    for where in dark_enough:
        if (where & beside).any():
            found = found | where
    if factor == 1:
        return found
    large = zoom(
        found.astype(np.float32), (height / found.shape[0], width / found.shape[1]), order=1, grid_mode=True, mode="nearest"
    )
    return np.asarray(large > 0.4)


def measure_level(shadow: np.ndarray) -> float:
    """How dark a shadow pass, any shape, is in the middle of its shadows."""
    dark = shadow[shadow > 0.15]
    return float(np.clip(np.quantile(dark.astype(np.float32), 0.75), LEAST_LEVEL, 1.0)) if len(dark) else 1.0


def find_ground_height(depth: np.ndarray, mask: np.ndarray, camera: Camera, near: float, far: float) -> float:
    """The height in metres of the lowest point of the characters that one frame (H, W) shows, inf where it shows none or the
    picture's lower edge cuts them off."""
    body = mask > 0
    if not body.any() or body[-1].any() or far <= near:
        return float("inf")
    points = camera.find_points(compute_metric_depth(depth, near, far))[body]
    return float(np.quantile(points[:, 2], 0.002))


def measure_figures(depth: np.ndarray, mask: np.ndarray, camera: Camera, near: float, far: float) -> list[float]:
    """How large in metres, along the longest of the world's axes, each of the characters is that one frame (H, W) shows."""
    if far <= near:
        return []
    points = camera.find_points(compute_metric_depth(depth, near, far))
    seen = [points[mask == number] for number in np.unique(mask[mask > 0])]
    return [float(np.ptp(np.quantile(one, (0.002, 0.998), axis=0), axis=0).max()) for one in seen]


def scale_lengths(figure: float) -> float:
    """By how much the shadow of a figure of so many metres is larger than a person's: a child's, a crouching one's and a bear's
    are the same, those of scenes in other units not."""
    return 1.0 if SMALLEST <= figure <= LARGEST or not 0 < figure < np.inf else figure / FIGURE


def cast_contact_shadow(
    passes: FramePasses, row: int, camera: Camera, ground: float, near: float, far: float, scale: float = 1.0
) -> np.ndarray:
    """(H, W) float32 from 0 to 1: a soft shadow on the ground, at the height ``ground`` in metres, below what of frame ``row`` is
    near it; 0 on the characters and above the horizon. ``scale`` is that of its lengths."""
    height, width = passes.mask.shape[1:]
    out = np.zeros((height, width), np.float32)
    body = passes.mask[row] > 0
    if not body.any() or far <= near:
        return out
    points = camera.find_points(compute_metric_depth(passes.depth[row], near, far))[body]
    low = points[points[:, 2] - ground < 3 * BODY * scale]
    if not len(low):
        return out
    grid = _GroundGrid.around(low, scale)
    shade = grid.shade(low, ground)
    hits, there = find_ground_hits(camera, ground, height, width)
    there &= ~body
    at = (hits[there][:, :2] - grid.corner) / grid.side - 0.5
    out[there] = map_coordinates(shade, at.T, order=1, mode="constant")
    return out


@dataclass(frozen=True)
class _GroundGrid:
    """Square cells of the ground from ``corner`` (2,), ``side`` metres each, for shadows whose lengths are ``scale`` as large."""

    corner: np.ndarray
    side: float
    count: tuple[int, int]
    scale: float

    @classmethod
    def around(cls, points: np.ndarray, scale: float) -> _GroundGrid:
        margin = 4 * BODY_BLUR * scale
        low, high = points[:, :2].min(0) - margin, points[:, :2].max(0) + margin
        side = max(CELL * scale, float((high - low).max()) / MOST_CELLS)
        x, y = np.ceil((high - low) / side).astype(int) + 1
        return cls(low, side, (int(x), int(y)), scale)

    def shade(self, points: np.ndarray, ground: float) -> np.ndarray:
        """How dark each cell is."""
        cells = tuple(((points[:, :2] - self.corner) / self.side).astype(int).T)
        above = np.maximum(points[:, 2] - ground, 0)
        left = np.ones(self.count)
        for fall, blur, share in ((CONTACT, CONTACT_BLUR, 0.9), (BODY, BODY_BLUR, BODY_SHARE)):
            near = np.zeros(self.count)
            np.maximum.at(near, cells, np.exp(-above / (fall * self.scale)))
            # only the side that the camera sees is there, and a foot is thicker
            thick = grey_dilation(near, max(1, round(2 * THICKNESS * self.scale / self.side)) | 1)
            spread = gaussian_filter(thick, blur * self.scale / self.side) * 1.4
            left *= 1 - share * np.clip(spread, 0, 1)
        return np.asarray(1 - left, np.float32)


def guess_contact_shadow(mask: np.ndarray) -> np.ndarray:
    """(H, W) float32 from 0 to 1: the same for frames whose camera is not known, below the lowest parts of each character in
    ``mask`` (H, W): flat spots, as if seen from a person's height."""
    out: np.ndarray = np.zeros(mask.shape, np.float32)
    for number in np.unique(mask[mask > 0]).tolist():
        body = mask == number
        rows, columns = np.flatnonzero(body.any(1)), np.flatnonzero(body.any(0))
        tall = len(rows) and rows[-1] - rows[0] + 1
        if rows[-1] >= len(mask) - 1:
            continue
        lowest = np.array([np.flatnonzero(body[:, column])[-1] for column in columns])
        for fall, wide, flat, share in ((0.02, 0.025, 0.008, 0.9), (0.12, 0.09, 0.03, BODY_SHARE)):
            spots = np.zeros(mask.shape, np.float32)
            spots[lowest, columns] = np.exp(-(rows[-1] - lowest) / (fall * tall))
            blurred = blur_sparse(spots, (flat * tall, wide * tall))
            out = 1 - (1 - out) * (1 - share * np.clip(blurred / max(float(blurred.max()), 1e-6), 0, 1))
    return np.asarray(out * (mask == 0), np.float32)


def blur_sparse(values: np.ndarray, sigmas: tuple[float, float]) -> np.ndarray:
    """``gaussian_filter`` of values (H, W) that are 0 nearly everywhere: rows and columns of zeros are left out."""
    out = np.zeros(values.shape, values.dtype)
    columns = np.flatnonzero(values.any(0))
    out[:, columns] = gaussian_filter1d(values[:, columns], sigmas[0], axis=0)
    rows = np.flatnonzero(out.any(1))
    out[rows] = gaussian_filter1d(out[rows], sigmas[1], axis=1)
    return out


def darken(picture: np.ndarray, shadow: np.ndarray, tone: np.ndarray) -> np.ndarray:
    """A picture (H, W, 3) of any brightness above 0 under a shadow (H, W) from 0 to 1 that darkens by ``tone`` (3,)."""
    return picture * (1 - np.clip(shadow, 0, 1)[..., None] * tone)
