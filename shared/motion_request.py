"""A motion that is asked for in words, and what of an existing one it must keep."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from .motion import MotionError
from .passes_folder import write_atomically
from .skeleton import HUMANML_FPS, HUMANML_JOINT_COUNT, HUMANML_MAX_FRAMES

MIN_FRAMES, MAX_SECONDS, MAX_VARIANTS = 10, 40.0, 64
#: separates sentences that follow each other
NEXT = "|"
#: columns of ``Kept.parts``
ROOT, LOWER, UPPER = 0, 1, 2


class MotionRequest(msgspec.Struct, frozen=True):
    """What is asked for. ``steps`` 0 runs the model's whole chain, other values that many deterministic steps; ``guidance_scale`` 0
    is the model's own; ``text`` may hold several sentences with ``|`` between them, which share the time evenly."""

    text: str
    seconds: float = 4.0
    seed: int = 0
    variants: int = 1
    guidance_scale: float = 0.0
    steps: int = 0
    model: str = "starter"


@dataclass(frozen=True)
class Kept:
    """``joints`` (F, 22, 3) float32 metres, Y up, 20 frames a second, and which of their ``parts`` (F, 3) bool a new motion keeps:
    the root's path, the legs and the pelvis's height, the upper body."""

    joints: np.ndarray
    parts: np.ndarray


def save_made(path: Path, vectors: np.ndarray, request: MotionRequest) -> None:
    """Write made motions (N, F, 263) as the ``.npz`` that the add-on reads: ``vectors``, ``fps``, ``text``, ``seed``, ``model``."""
    buffer = io.BytesIO()
    np.savez(buffer, vectors=vectors, fps=np.float32(HUMANML_FPS), text=np.array(request.text), seed=np.int64(request.seed),
             model=np.array(request.model))
    write_atomically(path, buffer.getvalue())


def sentences(request: MotionRequest) -> list[str]:
    """The sentences in their order."""
    return [part.strip() for part in request.text.split(NEXT) if part.strip()]


def frame_count(request: MotionRequest) -> int:
    """The frames of a request; ``MotionError`` for what no motion model makes."""
    if not sentences(request):
        raise MotionError("The text is empty; describe what the person does.")
    frames = round(request.seconds * HUMANML_FPS) if math.isfinite(request.seconds) else 0
    if not MIN_FRAMES <= frames <= MAX_SECONDS * HUMANML_FPS:
        raise MotionError(f"{request.seconds:g} seconds are out of range; choose {MIN_FRAMES / HUMANML_FPS:g} to {MAX_SECONDS:g}.")
    if frames < MIN_FRAMES * len(sentences(request)):
        raise MotionError(f"{len(sentences(request))} sentences do not fit into {request.seconds:g} seconds; give them more time.")
    if not 1 <= request.variants <= MAX_VARIANTS:
        raise MotionError(f"{request.variants} variants are out of range; choose 1 to {MAX_VARIANTS}.")
    if not (math.isfinite(request.guidance_scale) and 0 <= request.guidance_scale <= 100):
        raise MotionError(f"A guidance scale of {request.guidance_scale} is out of range; choose 0 to 100.")
    if not 0 <= request.steps <= 1000:
        raise MotionError(f"{request.steps} steps are out of range; choose 0 (all) to 1000.")
    return frames


def check_kept(request: MotionRequest, arrays: dict[str, np.ndarray]) -> Kept | None:
    """The arrays ``joints`` and ``parts`` of a request, None when there are none; ``MotionError`` for others."""
    if not arrays:
        return None
    frames = frame_count(request)
    if frames > HUMANML_MAX_FRAMES:
        raise MotionError(f"Parts of a motion can be kept in at most {HUMANML_MAX_FRAMES / HUMANML_FPS:g} seconds; trim it first.")
    if set(arrays) != {"joints", "parts"} or arrays["joints"].shape != (frames, HUMANML_JOINT_COUNT, 3) or (
            arrays["parts"].shape != (frames, 3)) or not np.isfinite(arrays["joints"]).all():
        raise MotionError(f"The motion to keep does not have {frames} frames of {HUMANML_JOINT_COUNT} joints.")
    return Kept(arrays["joints"].astype(np.float32), arrays["parts"].astype(bool))
