"""Sorts the channels of one frame that Cycles has rendered into passes."""

from __future__ import annotations

import numpy as np

from ...shared.vectors import normalise
from .pass_material import NORMAL_AOV, PART_AOV, PREVIOUS_AOV, REST_POSITION_AOV

BACKGROUND = np.float32(1e10)


def read_passes(channels: dict[str, np.ndarray], width: int, height: int) -> dict[str, np.ndarray]:
    """The passes (height, width, ...) among ``channels`` (height, width) by name, row 0 at the top.

    ``depth`` float32 metres, 1e10 for the background; ``index`` int32 pass index, 0 for the background; ``part`` uint8; ``uv``
    and ``rest_position`` float32; ``normal`` float16; and, where they are there, ``position`` and ``previous`` positions in the
    object's space, float32. Raises ``ValueError`` when a pass is missing or the size differs.
    """

    def find(*endings: str) -> np.ndarray:
        for ending in endings:
            for name, pixels in channels.items():
                if name.endswith("." + ending):
                    return np.asarray(pixels, np.float32)
        raise ValueError(f"the render lacks the pass '{endings[0]}'; it has {', '.join(sorted(channels))}")

    index = np.round(find("IndexOB.X", "Object Index.X")).astype(np.int32)
    if index.shape != (height, width):
        raise ValueError(f"the render is {index.shape[1]}x{index.shape[0]} instead of {width}x{height}")
    seen = index > 0

    def vectors(*axes: tuple[str, ...]) -> np.ndarray:
        return np.stack([find(*names) for names in axes], -1) * seen[..., None]

    def colours(aov: str) -> np.ndarray:
        return vectors(*((f"{aov}.{a}", f"{aov}.{b}") for a, b in ("RX", "GY", "BZ")))

    found = {
        "depth": np.where(seen, find("Depth.Z", "Depth.V"), BACKGROUND),
        "index": index,
        "part": np.where(seen, np.maximum(np.round(find(f"{PART_AOV}.X", f"{PART_AOV}.V")), 1), 0).astype(np.uint8),
        "uv": vectors(("UV.U", "UV.X"), ("UV.V", "UV.Y")),
        "rest_position": colours(REST_POSITION_AOV),
        "normal": normalise(colours(NORMAL_AOV)).astype(np.float16),
    }
    if any(name.endswith("Position.X") for name in channels):
        found["position"] = vectors(*((f"Position.{a}",) for a in "XYZ"))
    if any(f".{PREVIOUS_AOV}." in name for name in channels):
        found["previous"] = colours(PREVIOUS_AOV)
    return found
