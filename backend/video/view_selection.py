"""Key frames whose views overlap, so that a background that turns with the camera goes on from one to the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .cameras import Camera
from .horizon import Horizon

#: the side in pixels of the pictures in which is counted what others show
COUNTED = 24
#: a key frame shows at most this share that none before it shows, and the other frames as much at most
MOST_NEW = 0.6
#: key frames that are added at most
MOST_ADDED = 6


def bridge_views(
    chosen: Sequence[int], rows: Sequence[int], cameras: Mapping[int, Camera], horizon: Horizon, seen: Sequence[Camera] = ()
) -> list[int]:
    """Key frames in an order in which each shows the background of those before it, for the most part: ``chosen``, the first of
    which stays the first, and those of ``rows`` that lie between or go on from there. ``cameras`` are all frames', ``seen``
    those of pictures that there are already."""
    places = {row: horizon.locate(cameras[row], COUNTED, COUNTED) for row in rows}
    unseen = {row: np.ones((COUNTED, COUNTED), bool) for row in rows}

    def see(camera: Camera) -> None:
        for row in rows:
            pixels, before = camera.project(places[row], COUNTED, COUNTED)
            unseen[row] &= ~(before & (pixels >= 0).all(-1) & (pixels < COUNTED).all(-1))

    done, left, added = list(chosen[:1]), list(chosen[1:]), 0
    for camera in (*seen, *(cameras[row] for row in done)):
        see(camera)
    while True:
        shares = {row: float(found.mean()) for row, found in unseen.items() if row not in done}
        near = [row for row in left if shares[row] <= MOST_NEW]
        # as far on as possible, so that few are enough
        steps = [row for row, share in shares.items() if share <= MOST_NEW]
        if near:
            row = min(near, key=lambda one: shares[one])
            left.remove(row)
        elif steps and added < MOST_ADDED and (left or max(shares.values()) > MOST_NEW):
            row, added = max(steps, key=lambda one: shares[one]), added + 1
        elif left:
            row = left.pop(0)
        else:
            return done
        done.append(row)
        see(cameras[row])
