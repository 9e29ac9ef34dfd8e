"""Saved passes as control images: depth and normals, OpenPose skeletons, by themselves or in the depth, and DensePose's IUV.

In go ``FramePasses`` and their manifest, out come (F, H, W, 3) uint8 pictures; ``MAPS`` lists the functions by name. They are
what ControlNets are given (``video/controls.py``) and what ``latentman export`` writes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...shared.manifest import PassesManifest
from ...shared.passes import FramePasses
from .depth_normal import draw_depth, draw_normals
from .iuv import draw_iuv
from .skeleton import draw_depth_openpose, draw_openpose

__all__ = ["MAPS", "draw_depth", "draw_depth_openpose", "draw_iuv", "draw_normals", "draw_openpose"]

#: the map's name -> the function that draws it
MAPS: dict[str, Callable[[FramePasses, PassesManifest], np.ndarray]] = {
    "depth": draw_depth,
    "normal": draw_normals,
    "openpose": draw_openpose,
    "iuv": draw_iuv,
    "depth_openpose": draw_depth_openpose,
}
#: maps that no ControlNet is for: some models see them by themselves
FOR_NO_CONTROLNET = ("depth_openpose",)
