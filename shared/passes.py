"""A shot's rendered passes: their layout, the arrays, and whether they fit a request."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .shot import ShotError, ShotRequest

#: per-frame arrays of a shot: name -> (dtype, trailing dimensions after (frames, height, width))
PASS_LAYOUT: dict[str, tuple[str, tuple[int, ...]]] = {
    "depth": ("float32", ()),
    "mask": ("uint8", ()),
    "uv": ("float32", (2,)),
    "rest_position": ("float32", (3,)),
    "part": ("uint8", ()),
}
#: passes that may come along: name -> (dtype, trailing dimensions)
EXTRA_LAYOUT: dict[str, tuple[str, tuple[int, ...]]] = {
    "object_index": ("uint16", ()),
    "normal": ("float16", (3,)),
    "position": ("float32", (3,)),
    "motion_vectors": ("float32", (2,)),
    "shadow": ("float16", ()),
}
#: passes that files of earlier versions call by another name
FORMER_PASS_NAMES = {"rest": "rest_position", "motion": "motion_vectors"}


@dataclass(frozen=True)
class FramePasses:
    """The rendered passes of a shot, (F, H, W, ...) as in ``PASS_LAYOUT``, row 0 at the top.

    ``depth`` in [0, 1] with the shot's near = 1 and background 0; ``mask`` the character's number, 0 where there is none;
    ``uv`` texture coordinates; ``rest_position`` in metres where a point lies on the undeformed surface, the same in every frame;
    ``part`` the body part, 0 for the background.

    Those of ``EXTRA_LAYOUT`` may be None: ``object_index`` tells objects and instances apart, props included, 0 for the
    background; ``normal`` world-space unit normals; ``position`` world-space metres; ``motion_vectors`` the way in pixels (right,
    down) from a pixel to where its surface point was one scene frame before; ``shadow`` how much of the light the characters take
    from the ground and the props, 0 to 1, and 0 on themselves.
    """

    depth: np.ndarray
    mask: np.ndarray
    uv: np.ndarray
    rest_position: np.ndarray
    part: np.ndarray
    object_index: np.ndarray | None = None
    normal: np.ndarray | None = None
    position: np.ndarray | None = None
    motion_vectors: np.ndarray | None = None
    shadow: np.ndarray | None = None

    def arrays(self) -> dict[str, np.ndarray]:
        """The passes that there are, by name."""
        found = {name: getattr(self, name) for name in (*PASS_LAYOUT, *EXTRA_LAYOUT)}
        return {name: array for name, array in found.items() if array is not None}

    def select(self, rows: Sequence[int]) -> FramePasses:
        """The passes of the frames ``rows``, in that order."""
        return FramePasses(**{name: array[list(rows)] for name, array in self.arrays().items()})

    @property
    def frame_count(self) -> int:
        """The number of frames F."""
        return len(self.depth)

    @property
    def surface_index(self) -> np.ndarray:
        """(F, H, W) which surface a pixel sees, 0 for the background: the object index, else the character's number."""
        return self.mask if self.object_index is None else self.object_index


def join_frames(clips: Sequence[FramePasses]) -> FramePasses:
    """One clip after the other; passes that not all of them have are left out."""
    found = [clip.arrays() for clip in clips]
    names = [name for name in found[0] if all(name in arrays for arrays in found)]
    return FramePasses(**{name: np.concatenate([arrays[name] for arrays in found]) for name in names})


def compute_most_bytes(width: int, height: int) -> int:
    """The bytes of a frame with all passes that there are."""
    layouts = (PASS_LAYOUT | EXTRA_LAYOUT).values()
    return width * height * sum(np.dtype(dtype).itemsize * math.prod(trailing) for dtype, trailing in layouts)


def check_arrays(arrays: Mapping[str, np.ndarray], frames: int, width: int, height: int) -> FramePasses:
    """Arrays by name as passes (frames, height, width, ...); ``ShotError`` when shapes, types or values are others."""
    for name in PASS_LAYOUT:
        if name not in arrays:
            raise ShotError("passes", f"The pass '{name}' is missing; render the passes again.")
    found = {name: layout for name, layout in (PASS_LAYOUT | EXTRA_LAYOUT).items() if name in arrays}
    for name, (dtype, trailing) in found.items():
        array, wanted = arrays[name], (frames, height, width, *trailing)
        if array.shape != wanted or array.dtype != np.dtype(dtype):
            raise ShotError(
                "passes",
                f"The pass '{name}' is {array.dtype}{list(array.shape)}, expected {dtype}{list(wanted)}; render the passes again.",
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ShotError("passes", f"The pass '{name}' contains values that are not numbers; render it again.")
    return FramePasses(**{name: arrays[name] for name in found})


def check_passes(request: ShotRequest, arrays: Mapping[str, np.ndarray]) -> FramePasses:
    """The passes of a request, or ``ShotError`` when shapes, types or values do not fit it."""
    return check_arrays(arrays, len(request.frames), request.width, request.height)
