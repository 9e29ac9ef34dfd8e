"""Which frames of an earlier job a new one can take over: those of the same settings whose passes have not changed."""

from __future__ import annotations

import numpy as np

from ...shared.shot import FramePasses, ShotRequest

#: depth is relative to the whole shot's range, which moves a little when any frame changes
DEPTH_TOLERANCE = 0.02
#: where a pixel was before is no part of how it looks
LEFT_OUT = ("depth", "motion")


def unchanged(request: ShotRequest, passes: FramePasses, old: ShotRequest, old_passes: FramePasses) -> dict[int, int]:
    """Index of each frame that is as it was -> its index in the old job."""
    if passes.mask.shape[1:] != old_passes.mask.shape[1:]:
        return {}
    places = {frame: n for n, frame in enumerate(old.frames)}
    new_arrays, old_arrays = passes.arrays(), old_passes.arrays()
    if set(new_arrays) != set(old_arrays):
        return {}
    out = {}
    for n, frame in enumerate(request.frames):
        m = places.get(frame)
        if m is None or np.abs(passes.depth[n] - old_passes.depth[m]).max() > DEPTH_TOLERANCE:
            continue
        if all(np.array_equal(array[n], old_arrays[name][m]) for name, array in new_arrays.items() if name not in LEFT_OUT):
            out[n] = m
    return out
