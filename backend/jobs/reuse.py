"""Which frames of an earlier job a new one can take over: those of the same settings whose passes have not changed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...shared.passes import FramePasses
from ...shared.shot import ShotError, ShotRequest
from ..video.source import PassesSource

#: depth is relative to the whole shot's range, which moves a little when any frame changes
DEPTH_TOLERANCE = 0.02
#: shadows fall on a ground at the height of the whole shot's lowest foot, which moves a little, too: in the mean over the pixels
SHADOW_TOLERANCE = 0.01
#: where a pixel was before does not change how it looks
LEFT_OUT = ("depth", "motion_vectors", "shadow")


def is_same_frame(new: FramePasses, old: FramePasses) -> bool:
    """Whether two frames' passes (1, H, W, ...) show the same."""
    new_arrays, old_arrays = new.arrays(), old.arrays()
    if set(new_arrays) != set(old_arrays) or np.abs(new.depth - old.depth).max() > DEPTH_TOLERANCE:
        return False
    shadows = [one.shadow.astype(np.float32) for one in (new, old) if one.shadow is not None]
    if len(shadows) == 2 and np.abs(shadows[0] - shadows[1]).mean() > SHADOW_TOLERANCE:
        return False
    return all(np.array_equal(array, old_arrays[name]) for name, array in new_arrays.items() if name not in LEFT_OUT)


def iter_unchanged(
    request: ShotRequest, source: PassesSource, old: ShotRequest, old_source: PassesSource
) -> Iterator[tuple[int, int]]:
    """(index, index in the old job) of each frame that is as it was; one pair of frames is in memory at a time."""
    if source.size != old_source.size:
        return
    places = {frame: n for n, frame in enumerate(old.frames)}
    mixes, old_mixes = request.list_mixes(), old.list_mixes()
    for n, frame in enumerate(request.frames):
        m = places.get(frame)
        if m is None or mixes[n] != old_mixes[m] or request.get_control_scale(n) != old.get_control_scale(m):
            continue
        new_frame = source.frame(n)
        try:
            old_frame = old_source.frame(m)
        except ShotError:  # the earlier job's passes are not there any more
            continue
        if is_same_frame(new_frame, old_frame):
            yield n, m
