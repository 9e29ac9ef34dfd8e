"""Reads one frame's multilayer EXR back as arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import OpenEXR

from .scene_setup import PART_AOV, REST_AOV


def read(path: Path) -> dict[str, np.ndarray]:
    """``depth`` (H, W) metres with 1e10 for the background, ``mask`` (H, W) uint8, ``uv`` (H, W, 2), ``rest`` (H, W, 3),
    ``part`` (H, W) uint8; row 0 at the top.

    Raises ``ValueError`` when a pass is missing.
    """
    with OpenEXR.File(str(path), separate_channels=True) as file:
        channels = {name: channel.pixels for name, channel in file.channels().items()}

    def find(*endings: str) -> np.ndarray:
        for ending in endings:
            for name, pixels in channels.items():
                if name.endswith("." + ending):
                    return np.asarray(pixels, np.float32)
        raise ValueError(f"{path.name} lacks the pass '{endings[0]}'; it has {', '.join(sorted(channels))}")

    index = find("IndexOB.X", "Object Index.X")
    mask = np.round(index).astype(np.uint8)
    seen = mask > 0
    uv = np.stack([find("UV.U", "UV.X"), find("UV.V", "UV.Y")], -1) * seen[..., None]
    rest = np.stack([find(f"{REST_AOV}.{a}", f"{REST_AOV}.{b}") for a, b in ("RX", "GY", "BZ")], -1) * seen[..., None]
    part = np.where(seen, np.maximum(np.round(find(f"{PART_AOV}.X", f"{PART_AOV}.V")), 1), 0)
    depth = np.where(seen, find("Depth.Z", "Depth.V"), np.float32(1e10))
    return {"depth": depth, "mask": mask, "uv": uv.astype(np.float32), "rest": rest.astype(np.float32),
            "part": part.astype(np.uint8)}
