"""What becomes of the curves beside the body's when its motion is trimmed, looped or joined: scale, custom properties, fingers.

Each function takes what holds the curves and the paths of those that the motion replaces, which are left alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import bpy
import numpy as np

from ...shared.vectors import smootherstep
from .curves import cut_curve, is_stepped, make_stepped, resample_curve

#: what becomes of the other curves: called with what holds them and the paths of those that are replaced
Retime: TypeAlias = Callable[[Any, set[str]], None]


def keep(holder: Any, replaced: set[str]) -> None:
    """Leave the other curves as they are."""


def cut(holder: Any, replaced: set[str], first: int, last: int) -> None:
    """Cut the other curves to two frames."""
    for curve in holder.fcurves:
        if curve.data_path not in replaced:
            cut_curve(curve, first, last)


def close_loop(holder: Any, replaced: set[str], first: int, last: int, blend: int) -> None:
    """Let the other curves end where they begin, over the last ``blend`` frames; those that step do so in the last frame."""
    frames = np.arange(first, last + 1, dtype=float)
    ramp = np.zeros(len(frames))
    blend = int(np.clip(blend, 2, len(frames) - 1))
    ramp[-blend:] = np.append(smootherstep(np.arange(1, blend) / blend), 1.0)
    for curve in holder.fcurves:
        if curve.data_path in replaced or curve.is_empty:
            continue
        values = np.array([curve.evaluate(frame) for frame in frames])
        if abs(values[-1] - values[0]) < 1e-6:
            continue
        weight = np.append(np.zeros(len(frames) - 1), 1.0) if is_stepped(curve) else ramp
        resample_curve(curve, frames, values * (1 - weight) + values[0] * weight)


def append(
    holder: Any,
    replaced: set[str],
    others: list[bpy.types.FCurve],
    first: int,
    at: int,
    overlap: int,
    other_start: int,
    other_end: int,
) -> None:
    """Continue the other curves with those of the Action that follows.

    It begins at frame ``at`` with its frame ``other_start``, and both are mixed over ``overlap`` frames. A curve that only one
    of them has holds its value over the other.
    """
    end = at + other_end - other_start
    frames = np.arange(first, end + 1, dtype=float)
    weight = smootherstep(np.clip((frames - at + 1) / (overlap + 1), 0, 1))
    own = {(curve.data_path, curve.array_index): curve for curve in holder.fcurves}
    following = {(curve.data_path, curve.array_index): curve for curve in others if not curve.is_empty}
    for key, other in following.items():
        if key[0] in replaced:
            continue
        later = np.array([other.evaluate(max(frame - at + other_start, other_start)) for frame in frames])
        curve = own.get(key)
        if curve is None:
            curve = holder.fcurves.new(key[0], index=key[1])
            if other.group is not None:
                curve.group = holder.groups.get(other.group.name) or holder.groups.new(other.group.name)
            before = later
        else:
            before = np.array([curve.evaluate(min(frame, at + overlap - 1)) for frame in frames])
        stepped = is_stepped(other)
        mix = (weight >= 0.5).astype(float) if stepped else weight
        if key[0].endswith("rotation_quaternion") and _points_away(own, following, key[0], at, other_start):
            # the same rotation with the other sign
            later = -later
        resample_curve(curve, frames, before * (1 - mix) + later * mix)
        if stepped:
            make_stepped(curve)


def _points_away(
    own: dict[tuple[str, int], bpy.types.FCurve],
    following: dict[tuple[str, int], bpy.types.FCurve],
    path: str,
    at: int,
    other_start: int,
) -> bool:
    """Whether two quaternions that are to be mixed lie on opposite sides."""
    pairs = [(own.get((path, axis)), following.get((path, axis))) for axis in range(4)]
    return sum(a.evaluate(at) * b.evaluate(other_start) for a, b in pairs if a is not None and b is not None) < 0
