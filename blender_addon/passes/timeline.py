"""Leaving the current frame for a moment: everything is given back, poses without keyframes included."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import bpy
import numpy as np

#: what an Action moves of an object and of a bone, with the number of values
_TRANSFORMS = (("location", 3), ("rotation_euler", 3), ("rotation_quaternion", 4), ("rotation_axis_angle", 4), ("scale", 3))


class _Values:
    """The transforms of an animated object, of its bones, and its shape keys' values at the current frame."""

    def __init__(self, owner: bpy.types.Object) -> None:
        self._owner: Any = owner
        self._before = self._read()

    def _read(self) -> dict[str, np.ndarray]:
        owner = self._owner
        found = {name: np.array(getattr(owner, name), np.float32) for name, _ in _TRANSFORMS}
        if owner.pose is not None:
            for name, count in _TRANSFORMS:
                found[f"bones {name}"] = np.empty(count * len(owner.pose.bones), np.float32)
                owner.pose.bones.foreach_get(name, found[f"bones {name}"])
        keys = getattr(owner.data, "shape_keys", None)
        if keys is not None:
            found["keys"] = np.empty(len(keys.key_blocks), np.float32)
            keys.key_blocks.foreach_get("value", found["keys"])
        return found

    def restore(self) -> None:
        """Put back what the way through other frames has changed."""
        owner, now = self._owner, self._read()
        for name, _ in _TRANSFORMS:
            if not np.array_equal(now[name], self._before[name]):
                setattr(owner, name, self._before[name])
        # one by one and not all at once: only that tells Blender what to evaluate again, and what not
        for name, count in _TRANSFORMS if owner.pose is not None else ():
            before, after = (values[f"bones {name}"].reshape(-1, count) for values in (self._before, now))
            for n in np.flatnonzero((before != after).any(1)):
                setattr(owner.pose.bones[int(n)], name, before[n])
        if "keys" in now:
            for n in np.flatnonzero(self._before["keys"] != now["keys"]):
                owner.data.shape_keys.key_blocks[int(n)].value = self._before["keys"][n]


def _is_animated(found: bpy.types.Object) -> bool:
    data: Any = found.data
    keys = getattr(data, "shape_keys", None)
    return found.animation_data is not None or (keys is not None and keys.animation_data is not None)


@contextmanager
def keep_current_frame(scene: bpy.types.Scene) -> Iterator[None]:
    """Afterwards the scene is at the frame that it was at, with the camera and the poses that it had, keyed or not."""
    frame, subframe, camera = scene.frame_current, scene.frame_subframe, scene.camera
    values = [_Values(found) for found in scene.objects if _is_animated(found)]
    try:
        yield
    finally:
        scene.frame_set(frame, subframe=subframe)
        scene.camera = camera
        for one in values:
            one.restore()
