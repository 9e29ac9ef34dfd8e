"""The rivals' settings: what decides their frames beside a request."""

from __future__ import annotations

import msgspec


class TextToVideoZero(msgspec.Struct, frozen=True, tag=True):
    """Text2Video-Zero (arXiv 2303.13439) as diffusers' ``TextToVideoZeroPipeline`` runs it, with ControlNets: the first frame is
    denoised a little, its latents are moved further for every frame, noised again, and all frames end together, looking at the
    first one.

    ``motion`` is how far the picture moves in a frame, right and down, in pixels of a picture of 512. The way back begins at the
    first step whose timestep is not above ``noisier``, and the moved latents are those of the first one after it that is not above
    ``cleaner``, timesteps of 1000: with 50 steps of Stable Diffusion these are diffusers' own.
    """

    motion: tuple[float, float] = (12.0, 12.0)
    noisier: float = 941.0
    cleaner: float = 881.0


class FixedSeedImg2Img(msgspec.Struct, frozen=True, tag=True):
    """Every frame by itself by img2img from a grey render of its passes, with ControlNets, all with the same noise.

    ``strength`` is the fraction of the steps that it goes through.
    """

    strength: float = 0.8


class AnimateDiff(msgspec.Struct, frozen=True, tag=True):
    """AnimateDiff (arXiv 2307.04725) with ControlNets, as diffusers' ``AnimateDiffControlNetPipeline``: ``motion_module`` is the
    motion module's file or diffusers folder. ``beta_schedule`` is the one that motion modules were trained with."""

    motion_module: str
    beta_schedule: str = "linear"


Rival = TextToVideoZero | FixedSeedImg2Img | AnimateDiff
