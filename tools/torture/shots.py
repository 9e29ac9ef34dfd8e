"""Small jobs that go through all of the method's code, and what they give when nothing disturbs them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from latentman.shared.passes import FramePasses
from latentman.shared.shot import Alignment, Fusion, Guidance, Keyframes, Method, ShotRequest, make_request

PROMPT = "a man in a red shirt, on a beach"
SURFACE = Method(matching="surface", fusion=Fusion(full_steps=1), keyframes=Keyframes(2, 0.5))
#: name -> (method, frames); joint denoising with checkpoints, key frames that others follow, the paper's, frame by frame
KINDS: dict[str, tuple[Method, int]] = {
    "key frames": (SURFACE, 5),
    "joint": (Method(matching="surface", fusion=Fusion(full_steps=1)), 3),
    "paper": (Method(matching="surface", alignment=Alignment(), guidance=Guidance()), 3),
    "per frame": (Method(shared_noise=False, cross_frame_attention=False), 4),
}


@dataclass(frozen=True)
class Shot:
    """A request and its passes."""

    kind: str
    request: ShotRequest
    passes: FramePasses
    transparent: bool = False


def make_passes(frames: int, size: int, shift: int = 2) -> FramePasses:
    """A ball of two parts that rolls to the right by ``shift`` pixels a frame, its surface points with it."""
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32)
    made: dict[str, list[np.ndarray]] = {"depth": [], "mask": [], "uv": [], "rest_position": [], "part": []}
    for n in range(frames):
        across, down = (columns - size / 3 - n * shift) / (size / 4), (rows - size / 2) / (size / 4)
        inside = across**2 + down**2 < 1
        height = np.sqrt(np.clip(1 - across**2 - down**2, 0, None))
        point = np.stack([across, down, height], -1) * 0.15 * inside[..., None]
        made["mask"].append(inside.astype(np.uint8))
        made["depth"].append((inside * (0.5 + 0.4 * height)).astype(np.float32))
        made["rest_position"].append(point.astype(np.float32))
        made["uv"].append((np.stack([across, down], -1) * 0.4 + 0.5).astype(np.float32) * inside[..., None])
        made["part"].append((inside * (1 + (down > 0))).astype(np.uint8))
    return FramePasses(**{name: np.stack(arrays) for name, arrays in made.items()})


def make_shot(model: str, kind: str, seed: int = 0, size: int = 64, steps: int = 4, **changes: Any) -> Shot:
    """A job of one of the kinds with the image model in a folder. The same arguments give the same job."""
    method, count = KINDS[kind]
    numbers = tuple(range(1, count + 1))
    request = make_request(
        PROMPT, numbers, 20.0, model=model, width=size, height=size, steps=steps, seed=seed, method=method, **changes
    )
    return Shot(kind, request, make_passes(count, size), transparent=kind == "per frame")
