"""Depth and normal maps in the conventions of the ControlNets."""

from __future__ import annotations

import numpy as np

from ...shared.manifest import PassesManifest
from ...shared.passes import FramePasses
from ...shared.shot import ShotError


def draw_depth(passes: FramePasses, manifest: PassesManifest) -> np.ndarray:
    """(F, H, W, 3) uint8 grey: near is white, the background is black, with one depth range for the whole shot."""
    return np.repeat(np.round(passes.depth * 255).astype(np.uint8)[..., None], 3, -1)


def draw_normals(passes: FramePasses, manifest: PassesManifest) -> np.ndarray:
    """(F, H, W, 3) uint8 camera-space normals: red points to the right, green up, blue towards the camera. The background faces
    the camera.

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
