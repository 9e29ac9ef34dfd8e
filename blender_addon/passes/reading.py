"""One frame's multilayer EXR, as Cycles writes it, as arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..shared_link import exr
from .scene_setup import INSTANCE_AOV, PART_AOV, REST_AOV

BACKGROUND = np.float32(1e10)


def read(path: Path, width: int, height: int, box: tuple[int, int, int, int]) -> dict[str, np.ndarray]:
    """The frame's passes (height, width, ...), row 0 at the top, of a file that holds the rectangle ``box``.

    ``depth`` float32 metres, 1e10 for the background; ``index`` int32 pass index, 0 for the background; ``instance``
    float32; ``part`` uint8; ``uv`` and ``rest`` float32; ``normal`` float16; and, where the file has
    them, ``position`` and ``motion`` float32.
    Raises ``ValueError`` when a pass is missing.
    """
    channels = exr.read_channels(path)
    left, top, right, bottom = box

    def find(*endings: str) -> np.ndarray:
        for ending in endings:
            for name, pixels in channels.items():
                if name.endswith("." + ending):
                    return np.asarray(pixels, np.float32)
        raise ValueError(f"{path.name} lacks the pass '{endings[0]}'; it has {', '.join(sorted(channels))}")

    def placed(pixels: np.ndarray, empty: float = 0.0) -> np.ndarray:
        if pixels.shape[:2] != (bottom - top, right - left):
            raise ValueError(f"{path.name} is {pixels.shape[1]}x{pixels.shape[0]} instead of {right - left}x{bottom - top}")
        out = np.full((height, width, *pixels.shape[2:]), empty, pixels.dtype)
        out[top:bottom, left:right] = pixels
        return out

    index = np.round(find("IndexOB.X", "Object Index.X")).astype(np.int32)
    seen = index > 0

    def vectors(*axes: tuple[str, ...], dtype: type = np.float32) -> np.ndarray:
        return placed((np.stack([find(*names) for names in axes], -1) * seen[..., None]).astype(dtype))

    found = {
        "depth": placed(np.where(seen, find("Depth.Z", "Depth.V"), BACKGROUND), BACKGROUND), "index": placed(index),
        "instance": placed(find(f"{INSTANCE_AOV}.X", f"{INSTANCE_AOV}.V") * seen),
        "part": placed(np.where(seen, np.maximum(np.round(find(f"{PART_AOV}.X", f"{PART_AOV}.V")), 1), 0).astype(np.uint8)),
        "uv": vectors(("UV.U", "UV.X"), ("UV.V", "UV.Y")),
        "rest": vectors(*((f"{REST_AOV}.{a}", f"{REST_AOV}.{b}") for a, b in ("RX", "GY", "BZ"))),
        "normal": vectors(*((f"Normal.{a}",) for a in "XYZ"), dtype=np.float16)}
    if any(name.endswith("Position.X") for name in channels):
        found["position"] = vectors(*((f"Position.{a}",) for a in "XYZ"))
    if any(name.endswith("Vector.X") for name in channels):
        found["motion"] = vectors(("Vector.X",), ("Vector.Y",)) * np.float32([1, -1])
    return found
