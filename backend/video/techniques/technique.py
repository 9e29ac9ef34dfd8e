"""The hooks through which a technique takes part in denoising a clip.

``Denoising.run`` calls them in this order, each hook of all techniques in the registry's order:

    begin(context)                                  once a clip
    noise_source(frame), first_noise(noise)         before the first step, unless the clip begins with kept latents
    with attention(networks, groups):
        for step in range(...):
            begin_step(step)
            before_step(latents, step)              also for what a multistep solver remembers
            for batches of frames:
                reference_frames(step), before_prediction(frames, step), the UNet and the ControlNets
                loss(frames, clean, step)           on steps that gradient_through(step) names
            correct_clean(clean, step)
            move_clean(clean, step)
            the scheduler's step
            follow_gradient(latents, gradient, step)
            after_step(latents, step)
    finish_pictures(pictures)                       once the latents are decoded

F frames go through the loop: the clip's own N frames, and in front of them, where another clip's frame is there to look at,
``context.given`` frames that are not made again. Latents are (F or N, C, h, w) in the model's type on its device.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, Literal

import msgspec
import torch

from .context import ClipContext


class Technique:
    """A technique that does nothing; others override the hooks that they need.

    Tensors that come in are not to be changed in place: a hook gives a new one, or the same one to leave everything as it is.
    Gradients are off in all hooks but ``loss``. An object serves one clip after the other. ``ShotError`` with one sentence
    says that a technique cannot do what it is asked.
    """

    #: the struct that the settings are checked against and converted to; None for a technique without settings
    settings_type: ClassVar[type[msgspec.Struct] | None] = None
    #: an instance of ``settings_type``
    settings: Any
    #: the clip that is being made; there from ``begin`` on
    context: ClipContext

    def __init__(self, settings: Any = None) -> None:
        """Without ``settings`` they are the defaults of ``settings_type``."""
        self.settings = self.settings_type() if settings is None and self.settings_type else settings

    def begin(self, context: ClipContext) -> None:
        """A clip begins: forget the one before, and prepare what its passes and the number of steps decide."""
        self.context = context

    def noise_source(self, frame: int) -> int:
        """The frame whose random numbers a frame takes, for its first noise and for what few-step schedulers add.

        Both are numbers of frames in the shot, from 0. Called without a context.
        """
        return frame

    def first_noise(self, noise: torch.Tensor) -> torch.Tensor:
        """The standard normal noise that the clip's own frames begin with, (N, C, h, w) float32 on the CPU.

        ``context.noise_given`` says that the caller chose it.
        """
        return noise

    def attention(self, networks: Sequence[Any], groups: int) -> AbstractContextManager[None]:
        """What surrounds the whole loop: the place to set attention processors on ``networks``, which are the UNet and every
        ControlNet, and to put the old ones back. Where two techniques set a layer's processor, the later one's works.

        A batch of the networks is ``groups`` equal runs of the same frames: unconditional first if guided, then the prompt's,
        then the background's own.
        """
        return nullcontext()

    def reference_frames(self, step: int) -> tuple[int, ...]:
        """Frames (numbers among the F) that every batch of a step also holds, in the order of their numbers, so that attention
        can look at them."""
        return ()

    def begin_step(self, step: int) -> None:
        """A step begins; steps count from 0, the noisiest."""

    def before_step(self, latents: torch.Tensor, step: int) -> torch.Tensor:
        """The latents (F, C, h, w) that the networks and the scheduler are to see at a step.

        Also called for the earlier predictions that a multistep solver remembers: a pure function of what comes in.
        """
        return latents

    def before_prediction(self, frames: Sequence[int], step: int) -> None:
        """The networks are about to see a batch of these frames (numbers among the F, ascending), references included."""

    def gradient_through(self, step: int) -> Literal["prediction", "network"] | None:
        """Whether ``loss`` is called at a step, and what is differentiated: ``network`` goes through the UNet and the ControlNets
        to the latents, which takes much memory; with ``prediction`` their output is held fixed. Frames that are in a batch only to
        be looked at are held fixed, too."""
        return None

    def loss(self, frames: Sequence[int], clean: torch.Tensor, step: int) -> torch.Tensor:
        """A scalar to be made smaller, of the clean latents (n, C, h, w) predicted for ``frames`` (n numbers among the F).

        Differentiable in ``clean``: ``context.decode`` is, too. Called for one batch after the other, in the order of the frames;
        how many make a batch depends on the memory, so the sum over all batches must not, and a batch may come again.
        """
        return clean.sum() * 0.0

    def correct_clean(self, clean: torch.Tensor, step: int) -> torch.Tensor:
        """The clean latents (N, C, h, w) that the scheduler is to step towards, from those predicted for the clip's own frames."""
        return clean

    def move_clean(self, clean: torch.Tensor, step: int) -> torch.Tensor:
        """As ``correct_clean``, but under the noise that was predicted: the latents that the scheduler steps from move along with
        their clean ones. What ``correct_clean`` changes leaves them where they are, and so is taken out of the noise.
        """
        return clean

    def follow_gradient(self, latents: torch.Tensor, gradient: torch.Tensor, step: int) -> torch.Tensor:
        """The latents (N, C, h, w) after the scheduler's step, moved by the ``gradient`` (N, C, h, w) of ``loss`` in the latents
        before it."""
        return latents

    def after_step(self, latents: torch.Tensor, step: int) -> torch.Tensor:
        """The latents (N, C, h, w) that the next step begins with."""
        return latents

    def finish_pictures(self, pictures: list[torch.Tensor]) -> list[torch.Tensor]:
        """The clip's finished pictures, N times (3, H, W) float32 around [-1, 1]."""
        return pictures

    def advice_on_divergence(self, step: int) -> str:
        """What the user should do when the latents have grown beyond all bounds at a step, as the second half of a sentence; empty
        when this technique is not to blame."""
        return ""
