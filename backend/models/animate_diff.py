"""AnimateDiff: a Stable Diffusion 1.x whose UNet has a motion module in it, so that the frames of a clip see each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from diffusers import AnimateDiffControlNetPipeline, DiffusionPipeline

from .stable_diffusion import StableDiffusion

#: frames that the published modules were trained with; their places go further
TRAINED_FRAMES = 16


class AnimateDiff(StableDiffusion):
    """Stable Diffusion 1.x with a motion module. Its ControlNets are those of Stable Diffusion and see each frame by itself."""

    title = "AnimateDiff"
    kind: ClassVar[Literal["frames", "clip"]] = "clip"
    pipeline_class = AnimateDiffControlNetPipeline

    def has_controlnet(self, config: Mapping[str, Any]) -> bool:
        """None: a motion module is put into a model that was loaded with its ControlNets."""
        return False

    def has_pipeline(self, pipeline: DiffusionPipeline) -> bool:
        """The one with plain ControlNets alone."""
        return isinstance(pipeline, AnimateDiffControlNetPipeline)

    def get_window(self, config: Mapping[str, Any]) -> int:
        """As many as it was trained with, or has places for."""
        return min(TRAINED_FRAMES, int(config["motion_max_seq_length"]))

    def run_unet(
        self, unet: Any, latents: torch.Tensor, timestep: torch.Tensor, groups: int, options: Mapping[str, Any]
    ) -> torch.Tensor:
        """See ``UNetFamily``. The UNet takes the frames of each run along an axis of their own; texts and what the ControlNets add
        are of each frame."""
        condition = options.get("timestep_cond")
        # it is of a whole run
        own = {**options, "timestep_cond": None if condition is None else condition[:groups]}
        clips = latents.unflatten(0, (groups, -1)).transpose(1, 2)
        output: torch.Tensor = unet(clips, timestep, **own)[0]
        return output.transpose(1, 2).flatten(0, 1)
