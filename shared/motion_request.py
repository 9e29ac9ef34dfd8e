"""A motion that is asked for in words, and what of an existing one it must keep."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

import msgspec
import numpy as np

from .motion import MotionError
from .settings import Setting, SettingError, check_settings
from .skeleton import HUMANML_FPS, HUMANML_JOINT_COUNT, HUMANML_MAX_FRAMES, SMPL_JOINTS

MIN_FRAMES, MAX_SECONDS, MAX_VARIANTS = 10, 40.0, 64
#: the model that is part of the package
BUILT_IN = "starter"
#: separates sentences that follow each other; so does a new line
NEXT = "|"
_NEXT = re.compile(r"[|\r\n]+")
#: columns of ``Kept.parts``
ROOT, LOWER, UPPER = 0, 1, 2


class MotionRequest(msgspec.Struct, frozen=True):
    """What is asked for; ``text`` may hold several sentences with ``|`` between them, which share the time evenly."""

    text: Annotated[
        str,
        Setting(
            "Text",
            "What the person does; | between sentences that follow each other",
            example="a person walks forward, then waves with the right hand",
        ),
    ]
    seconds: Annotated[
        float,
        Setting(
            "Duration",
            "Seconds; more than 9.8 are made in passages that go over into each other",
            ge=MIN_FRAMES / HUMANML_FPS,
            le=MAX_SECONDS,
            unit="s",
        ),
    ] = 4.0
    seed: Annotated[int, Setting("Seed", "The same seed and settings give the same motions", ge=0, le=2**31 - 1)] = 0
    variants: Annotated[int, Setting("Variants", "Takes to choose from, each an Action", ge=1, le=MAX_VARIANTS, soft_max=16)] = 1
    guidance_scale: Annotated[
        float, Setting("Guidance", "How closely the text is followed; 0 is the model's own", ge=0, le=100, soft_max=20)
    ] = 0.0
    loop: Annotated[bool, Setting("Loop", "The last pose is the first one, so that the motion can be repeated")] = False
    in_place: Annotated[bool, Setting("In Place", "The body stays where it begins and steps on the spot")] = False
    steps: Annotated[int, Setting("Steps", "Deterministic steps; 0 is the model's own chain", ge=0, le=1000)] = 0
    model: Annotated[
        str, Setting("Model", "starter, the folder of an MDM checkpoint, kimodo, or a name that a package of the backend's adds")
    ] = BUILT_IN


@dataclass(frozen=True)
class Kept:
    """``joints`` (F, 22, 3) float32 metres, Y up, 20 frames a second, and which of their ``parts`` (F, 3) bool a new motion keeps:
    the root's path, the legs and the pelvis's height, the upper body. ``rotations`` (F, 24, 4) float32 are the local rotations
    of SMPL's joints in the same frames as unit quaternions (w, x, y, z), None where they are not known."""

    joints: np.ndarray
    parts: np.ndarray
    rotations: np.ndarray | None = None

    @property
    def kind(self) -> str:
        """What is kept: whole ``poses``, the ``legs`` with the path, or the ``path`` alone."""
        return "poses" if self.parts[:, UPPER].any() else "legs" if self.parts[:, LOWER].any() else "path"


def split_text(text: str) -> list[str]:
    """The sentences of a text in their order."""
    return [part.strip() for part in _NEXT.split(text) if part.strip()]


def split_sentences(request: MotionRequest) -> list[str]:
    """The sentences in their order."""
    return split_text(request.text)


def frame_count(request: MotionRequest) -> int:
    """The frames of a request; ``MotionError`` for what no motion model makes."""
    if not split_sentences(request):
        raise MotionError("The text is empty; describe what the person does.")
    for sentence in split_sentences(request):
        if not any(letter.isalpha() for letter in sentence):
            raise MotionError(f"The text '{sentence[:40]}' has no words; describe what the person does.")
    try:
        check_settings(request)
    except SettingError as error:
        raise MotionError(str(error)) from error
    frames = round(request.seconds * HUMANML_FPS)
    if frames < MIN_FRAMES * len(split_sentences(request)):
        raise MotionError(
            f"{len(split_sentences(request))} sentences do not fit into {request.seconds:g} seconds; give them more time."
        )
    return frames


def check_kept(request: MotionRequest, arrays: dict[str, np.ndarray]) -> Kept | None:
    """The arrays ``joints``, ``parts`` and perhaps ``rotations`` of a request, None when there are none; ``MotionError`` for
    others."""
    if not arrays:
        return None
    frames = frame_count(request)
    if frames > HUMANML_MAX_FRAMES:
        raise MotionError(f"Parts of a motion can be kept in at most {HUMANML_MAX_FRAMES / HUMANML_FPS:g} seconds; trim it first.")
    rotations = arrays.get("rotations")
    if (
        not {"joints", "parts"} <= set(arrays) <= {"joints", "parts", "rotations"}
        or arrays["joints"].shape != (frames, HUMANML_JOINT_COUNT, 3)
        or arrays["parts"].shape != (frames, 3)
        or not np.isfinite(arrays["joints"]).all()
    ):
        raise MotionError(f"The motion to keep does not have {frames} frames of {HUMANML_JOINT_COUNT} joints.")
    if rotations is not None and (
        rotations.shape != (frames, len(SMPL_JOINTS), 4) or not np.abs(np.linalg.norm(rotations, axis=-1) - 1).max() < 1e-3
    ):
        raise MotionError(f"The motion to keep does not have {frames} frames of {len(SMPL_JOINTS)} rotations.")
    return Kept(
        arrays["joints"].astype(np.float32),
        arrays["parts"].astype(bool),
        None if rotations is None else rotations.astype(np.float32),
    )
