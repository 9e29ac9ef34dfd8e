"""What is behind characters and under shadows, filled in along the horizon from both sides."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter1d, map_coordinates

#: known pixels beside a gap whose mean it is filled from
BESIDE = 5
#: a line through a gap may climb by this share of the gap's width, and is sought in windows of this share of the height
CLIMB, WINDOW = 0.25, 0.06
#: what is finer than so many pixels goes on into a gap as it is mirrored at its ends
FINE = 4.0
#: pixels by which filled rows are smoothed across each other
SMOOTH = 1.5


def fill_along_horizon(image: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """(H, W, 3) float32: an image (H, W, 3) float32 whose pixels ``unknown`` (H, W) bool are filled from those to the left and to
    the right of them, so that lines which enter a gap on one side meet those that leave it on the other, and grain goes on. What
    nothing is beside takes the nearest known colour; where nothing is known, nothing changes."""
    known = ~unknown
    if known.all() or not known.any():
        return image.copy()
    height, width = unknown.shape
    columns = np.broadcast_to(np.arange(width), unknown.shape)
    left = np.maximum.accumulate(np.where(known, columns, -1), axis=1)
    right = np.minimum.accumulate(np.where(known, columns, width)[:, ::-1], axis=1)[:, ::-1]
    from_left, from_right = _extend(image, known, left), _extend(image[:, ::-1], known[:, ::-1], (width - 1 - right)[:, ::-1])
    from_right = from_right[:, ::-1]
    gap = np.maximum(right - left, 1)
    share = np.where(left < 0, 1.0, np.where(right >= width, 0.0, (columns - left) / gap)).astype(np.float32)
    climb = _find_climb(from_left, from_right, unknown, left, right)
    rows = np.arange(height)[:, None]
    inner = (left >= 0) & (right < width)
    behind = np.where(inner, rows - climb[:, None] * (columns - left), rows)
    ahead = np.where(inner, rows + climb[:, None] * (right - columns), rows)
    filled = np.empty_like(image)
    for channel in range(image.shape[2]):
        one, other = (
            map_coordinates(side[..., channel], [at, columns], order=1, mode="nearest")
            for side, at in ((from_left, behind), (from_right, ahead))
        )
        filled[..., channel] = one * (1 - share) + other * share
    # rows are filled one by one, and neighbours are to fit together
    inside = np.maximum(gaussian_filter1d(unknown.astype(np.float32), SMOOTH, axis=0), 1e-3)
    filled = gaussian_filter1d(np.where(unknown[..., None], filled, 0), SMOOTH, axis=0) / inside[..., None]
    filled += _continue_grain(image, known, left, right, share)
    nowhere = unknown & (left < 0) & (right >= width)
    out = np.where(unknown[..., None], filled, image)
    if nowhere.any():
        at = distance_transform_edt(nowhere, return_distances=False, return_indices=True)
        out = out[tuple(at)]
    return np.clip(out, 0, 255).astype(np.float32)


def _extend(image: np.ndarray, known: np.ndarray, last: np.ndarray) -> np.ndarray:
    """(H, W, 3) at each pixel the mean of the last few known ones to its left in a row, of which ``last`` (H, W) is the last
    one's column."""
    sums = np.cumsum(np.where(known[..., None], image, 0), 1, dtype=np.float64)
    counts = np.cumsum(known, 1, dtype=np.float64)
    end = np.maximum(last, 0)
    start = np.maximum(end - BESIDE, 0)
    rows = np.arange(len(image))[:, None]
    first = (start == 0)[..., None] & (end < BESIDE)[..., None]
    total = sums[rows, end] - np.where(first, 0, sums[rows, start])
    count = counts[rows, end][..., None] - np.where(first, 0, counts[rows, start][..., None])
    out = (total / np.maximum(count, 1)).astype(np.float32)
    empty = (count[..., 0] < 1) | (last < 0)
    if empty.any() and not empty.all():
        # a line that climbs through a gap may come from a row that has nothing on this side
        at = distance_transform_edt(empty, sampling=(1, 1e3), return_distances=False, return_indices=True)
        out = out[tuple(at)]
    return out


def _find_climb(
    from_left: np.ndarray, from_right: np.ndarray, unknown: np.ndarray, left: np.ndarray, right: np.ndarray
) -> np.ndarray:
    """(H,) by how many rows a line goes down for each column to the right, so that both sides of a gap fit best."""
    height, width = unknown.shape
    out = np.zeros(height)
    inner = unknown & (left >= 0) & (right < width)
    rows = np.flatnonzero(inner.any(1))
    if len(rows) < 3:
        return out
    # the widest gap of each row; rows without one take the nearest row's
    gap = np.where(inner, right - left, 0)
    at = gap.argmax(1)
    nearest = rows[np.abs(np.arange(height)[:, None] - rows).argmin(1)]
    span = gap[nearest, at[nearest]].astype(np.float64)
    profile = np.arange(height)
    one, other = from_left[profile, at[nearest]], from_right[profile, at[nearest]]
    most = int(max(1, min(CLIMB * np.median(span[rows]), height / 4)))
    sigma = max(2.0, WINDOW * height)
    shifts = np.arange(-most, most + 1)
    costs = np.empty((len(shifts), height))
    for n, shift in enumerate(shifts):
        a, b = (profile - shift / 2).clip(0, height - 1), (profile + shift / 2).clip(0, height - 1)
        first, second = (
            np.stack([np.interp(where, profile, side[:, c]) for c in range(side.shape[1])], 1)
            for side, where in ((one, a), (other, b))
        )
        costs[n] = gaussian_filter1d(((first - second) ** 2).mean(1), sigma) + 0.02 * shift**2 + 0.5 * abs(shift)
    found = shifts[costs.argmin(0)].astype(np.float64)
    return gaussian_filter1d(found, sigma / 2) / np.maximum(span, 1.0)


def _continue_grain(image: np.ndarray, known: np.ndarray, left: np.ndarray, right: np.ndarray, share: np.ndarray) -> np.ndarray:
    """(H, W, 3) what is finer than ``FINE`` pixels beside the gaps, mirrored into them."""
    height, width = known.shape
    weight = gaussian_filter1d(known.astype(np.float32), FINE, axis=1)
    coarse = gaussian_filter1d(np.where(known[..., None], image, 0), FINE, axis=1) / np.maximum(weight, 1e-3)[..., None]
    fine = np.where(known[..., None], image - coarse, 0)
    # what stands out is a thing and no grain
    fine = np.clip(fine, -24, 24)
    columns, rows = np.arange(width)[None], np.arange(height)[:, None]
    out, power = np.zeros_like(image), np.zeros((height, width, 1), np.float32)
    for mirrored, part in ((2 * left - columns, 1 - share), (2 * right - columns, share)):
        at = np.clip(mirrored, 0, width - 1)
        there = ((mirrored >= 0) & (mirrored < width) & known[rows, at])[..., None]
        out += np.where(there, fine[rows, at], 0) * part[..., None]
        power += np.where(there, part[..., None] ** 2, 0)
    # the sum of two unlike grains is as strong as one of them
    return out / np.sqrt(np.maximum(power, 0.25))
