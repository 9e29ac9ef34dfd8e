"""The pictures that ControlNets take, from the passes."""

from __future__ import annotations

import numpy as np

from ...shared.passes import FramePasses
from ...shared.shot import ShotError, ShotRequest
from ..maps import MAPS


def make_control_pictures(passes: FramePasses, request: ShotRequest, kinds: tuple[str, ...]) -> list[np.ndarray]:
    """(F, 3, H, W) float32 pictures in [0, 1], one for each of ``kinds``, which are names of ``MAPS``.

    Raises ``ShotError`` when the passes lack what a kind needs.
    """
    out = []
    for kind in kinds:
        if kind == "depth":
            out.append(np.repeat(passes.depth[:, None], 3, 1).astype(np.float32))
            continue
        if request.manifest is None:
            raise ShotError(
                "control",
                f"The ControlNet for '{kind}' needs the cameras and key points that are rendered with the "
                "passes; render them again with this version.",
            )
        pictures = MAPS[kind](passes, request.manifest)
        out.append(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)).astype(np.float32) / 255)
    return out
