"""Depth and normal pictures in the conventions of ControlNet, and the list of all pictures."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...shared.manifest import PassesManifest
from ...shared.shot import FramePasses, ShotError
from .iuv import iuv_images
from .skeleton import openpose_images


def depth_images(passes: FramePasses, manifest: PassesManifest) -> np.ndarray:
    """(F, H, W, 3) uint8 grey: near = white, background = black, one range for the whole shot."""
    return np.repeat(np.round(passes.depth * 255).astype(np.uint8)[..., None], 3, -1)


def normal_images(passes: FramePasses, manifest: PassesManifest) -> np.ndarray:
    """(F, H, W, 3) uint8 camera-space normals: red to the right, green up, blue towards the camera; the background looks at the
    camera.

    Raises ``ShotError`` when the passes have no normals or no cameras.
    """
    if passes.normal is None or not manifest.cameras:
        raise ShotError("passes", "The passes hold no normals; render them again.")
    out = np.empty((*passes.mask.shape, 3), np.float32)
    for n, camera in enumerate(manifest.cameras):
        to_camera = np.array(camera.world_to_camera).reshape(4, 4)[:3, :3]
        out[n] = passes.normal[n].astype(np.float32) @ to_camera.T.astype(np.float32)
    out[passes.surface_index == 0] = (0, 0, 1)
    return np.round((np.clip(out, -1, 1) + 1) * 127.5).astype(np.uint8)


def _openpose(passes: FramePasses, manifest: PassesManifest) -> np.ndarray:
    return openpose_images(manifest)


#: name -> how it is made of the passes and their manifest
MAPS: dict[str, Callable[[FramePasses, PassesManifest], np.ndarray]] = {
    "depth": depth_images,
    "normal": normal_images,
    "openpose": _openpose,
    "iuv": iuv_images,
}
