"""Motion that adds up along a clip: surface points followed back, frame by frame, to the frame in which they came into sight.

Where a point is in that frame is composed of the places between the pixels that lie on the way, and then settled on that frame's
own surface, so that no error adds up however long the chain is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .surface import SurfaceFrame, find_reference_pixels, match, settle

#: pixels by which a point that is read between pixels may miss: at the edge of an arm before the body it would be a mixture
READING_ERROR = 0.2


@dataclass(frozen=True)
class Chains:
    """Where the surface points of every frame came into sight, at the passes' (height, width).

    For each frame ``pixels`` (N,) int64 are the flat pixels whose point an earlier frame shows, ``roots`` (N,) int64 the frame in
    which it came into sight, and ``places`` (N, 2) float32 where it is there: x to the right and y down in pixels, the first
    pixel's centre at 0.5. Pixels around the place may be in older chains themselves.
    """

    pixels: tuple[np.ndarray, ...]
    roots: tuple[np.ndarray, ...]
    places: tuple[np.ndarray, ...]
    height: int
    width: int


def find_cubic_corners(places: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The 16 pixels around each place (N, 2) as flat indices (16, N), and their weights (16, N) float64 of cubic convolution with
    a = -1/2 (Keys 1981), which loses the least detail; at the border its pixels go on outside."""
    x, y = places[:, 0].astype(np.float64) - 0.5, places[:, 1].astype(np.float64) - 0.5
    left, top = np.floor(x), np.floor(y)

    def weigh(t: np.ndarray) -> list[np.ndarray]:
        return [
            ((-0.5 * t + 1.0) * t - 0.5) * t,
            (1.5 * t - 2.5) * t * t + 1.0,
            ((-1.5 * t + 2.0) * t + 0.5) * t,
            (0.5 * t - 0.5) * t * t,
        ]

    rows = [np.clip(top.astype(np.int64) + n, 0, height - 1) for n in (-1, 0, 1, 2)]
    columns = [np.clip(left.astype(np.int64) + n, 0, width - 1) for n in (-1, 0, 1, 2)]
    pixels = np.stack([row * width + column for row in rows for column in columns])
    return pixels, np.stack([v * w for v in weigh(y - top) for w in weigh(x - left)])


def _is_readable(points: np.ndarray, ids: np.ndarray, frame: SurfaceFrame, places: np.ndarray) -> np.ndarray:
    """(N,) bool: whether what is read between the pixels of a frame at places (N, 2) belongs to points (N, 3). That is tried with
    the rest position, which is known."""
    if not len(frame.pixels):
        return np.zeros(len(points), bool)
    pixels, weights = find_cubic_corners(places, frame.height, frame.width)
    rows = frame.row_of[pixels]
    known = ((rows >= 0) & (frame.ids[rows] == ids)).all(0)
    read = (frame.key[rows] * weights[..., None]).sum(0)
    middle = frame.row_of[find_reference_pixels(places, frame.height, frame.width)]
    size = np.maximum(np.linalg.norm(frame.across[middle], axis=1), np.linalg.norm(frame.down[middle], axis=1))
    near = np.linalg.norm(read - points, axis=1) <= READING_ERROR * np.maximum(size, frame.footprint)
    return np.asarray(known & near)


def follow_chains(frames: list[SurfaceFrame], check: Callable[[], None] = lambda: None) -> Chains:
    """Follow the points of prepared frames back through the frames before; ``check`` is called for each frame."""
    height, width = frames[0].height, frames[0].width
    nothing = np.empty(0, np.int64)
    pixels, roots, places = [nothing], [nothing], [np.empty((0, 2), np.float32)]
    # of every pixel of the frame before: the frame and the place of its root
    root_of, place_of = np.full(height * width, -1), np.zeros((height * width, 2))
    for number in range(1, len(frames)):
        check()
        now, then = frames[number], frames[number - 1]
        here, there = match(now, then, height, width)
        rows = now.row_of[here]
        points, ids = now.key[rows], now.ids[rows]
        kept = _is_readable(points, ids, then, there)
        here, points, ids, there = here[kept], points[kept], ids[kept], there[kept].astype(np.float64)
        before = find_reference_pixels(there, height, width)
        centres = np.stack([before % width, before // width], 1) + 0.5
        root, place = root_of[before], place_of[before] + there - centres
        started = root < 0
        root, place = np.where(started, number - 1, root), np.where(started[:, None], there, place)
        good = started.copy()
        for earlier in np.unique(root[~started]):
            own = np.flatnonzero(~started & (root == earlier))
            found, seen = settle(points[own], ids[own], frames[earlier], place[own])
            place[own] = found
            good[own] = seen & _is_readable(points[own], ids[own], frames[earlier], found)
        here, root, place = here[good], root[good], place[good]
        root_of, place_of = np.full(height * width, -1), np.zeros((height * width, 2))
        root_of[here], place_of[here] = root, place
        pixels.append(here)
        roots.append(root)
        places.append(place.astype(np.float32))
    return Chains(tuple(pixels), tuple(roots), tuple(places), height, width)
