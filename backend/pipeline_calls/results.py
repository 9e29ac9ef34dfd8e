"""What a call gives: pictures in the form that was asked for, and bars that show how far it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from diffusers.image_processor import VaeImageProcessor
from diffusers.utils import BaseOutput

from ...shared.shot import ShotError

OUTPUT_TYPES = ("pil", "np", "pt", "latent")


@dataclass
class LatentManOutput(BaseOutput):
    """``frames``: a list of PIL images, a float32 array (F, H, W, 3) in [0, 1], such a tensor (F, 3, H, W), or latents
    (F, C, h, w); with several clips a list of these, or an array or tensor with the clips as one more first dimension.

    ``frame_indices`` says which of the shot's frames they are, counted from 0: all of them, unless the call was interrupted; with
    several clips a list for each. ``warnings`` are sentences about what was guessed or will not look right.
    ``nsfw_content_detected`` is what the model's safety checker found, None without one.
    """

    frames: Any
    frame_indices: list[Any] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    nsfw_content_detected: list[Any] | None = None


@dataclass(frozen=True)
class Clip:
    """``frames`` in the form that was asked for, which of the shot's they are, and what a safety checker found in them; None
    without one."""

    frames: Any
    frame_indices: list[int]
    nsfw_content_detected: Any = None


def check_output_type(output_type: str | None) -> None:
    """``ShotError`` for a form that there is not."""
    if output_type not in OUTPUT_TYPES:
        raise ShotError("output_type", f"There is no output_type '{output_type}'; choose {', '.join(OUTPUT_TYPES)}.")


def to_arrays(pictures: Sequence[torch.Tensor]) -> np.ndarray:
    """(F, H, W, 3) float32 in [0, 1] of pictures (3, H, W) around [-1, 1]."""
    return np.stack([((p.float() / 2 + 0.5).clamp(0, 1)).permute(1, 2, 0).cpu().numpy() for p in pictures])


def convert_arrays(arrays: np.ndarray, output_type: str) -> Any:
    """(F, H, W, 3) in [0, 1] as ``np``, ``pt`` or ``pil``."""
    if output_type == "np":
        return arrays
    if output_type == "pt":
        return torch.from_numpy(arrays.transpose(0, 3, 1, 2).copy())
    return VaeImageProcessor.numpy_to_pil(arrays)


def make_output(clips: Sequence[Clip], warnings: list[str], *, several: bool) -> LatentManOutput:
    """What a call gives back of its clips, of which ``several`` were asked for or one."""
    if not several:
        (clip,) = clips
        return LatentManOutput(clip.frames, clip.frame_indices, warnings, clip.nsfw_content_detected)
    found = [clip.nsfw_content_detected for clip in clips]
    return LatentManOutput(
        _join_frames([clip.frames for clip in clips]),
        [clip.frame_indices for clip in clips],
        warnings,
        None if found[0] is None else found,
    )


def _join_frames(clips: list[Any]) -> Any:
    """Several clips in one array or tensor where they are of one length."""
    if all(isinstance(clip, np.ndarray) for clip in clips) and len({clip.shape for clip in clips}) == 1:
        return np.stack(clips)
    if all(isinstance(clip, torch.Tensor) for clip in clips) and len({clip.shape for clip in clips}) == 1:
        return torch.stack(clips)
    return clips


class Bars:
    """Shows a run's progress with a bar for each of its stages, one after the other."""

    def __init__(self, make: Callable[..., Any]) -> None:
        """``make`` is a pipeline's ``progress_bar``."""
        self._make, self._stage = make, ""
        self._bar: Any = None

    def show(self, stage: str, step: int, steps: int) -> None:
        """See ``RunContext.progress``."""
        if stage != self._stage or self._bar is None or step < self._bar.n:
            if self._bar is not None:
                # a stage is over when another begins, whether or not it said so
                self._bar.update(self._bar.total - self._bar.n)
            self.close()
            self._bar = self._make(total=steps)
            self._bar.set_description(stage)
            self._stage = stage
        self._bar.update(step - self._bar.n)

    def close(self) -> None:
        """End the bar that there is."""
        if self._bar is not None:
            self._bar.close()
        self._bar = None
