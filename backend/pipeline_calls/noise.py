"""The random numbers of a call: generators, or noise that the caller drew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ...shared.shot import ShotError
from ..video.noise import draw_noise

Generators = torch.Generator | list[torch.Generator] | None
#: how many seeds a request can have, from 0
SEEDS = 2**31


def check_generators(generator: Generators, frames: int, clips: int) -> None:
    """``ShotError`` for a list of generators that is not as long as there are frames, ``TypeError`` for what are none."""
    several = isinstance(generator, (list, tuple))
    for one in generator if isinstance(generator, (list, tuple)) else [generator]:
        if not isinstance(one, torch.Generator) and (several or one is not None):
            raise TypeError(f"The generator is a {type(one).__name__}; give torch.Generator().manual_seed(...).")
    if isinstance(generator, (list, tuple)) and len(generator) != frames * clips:
        raise ShotError(
            "generator",
            f"There are {len(generator)} generators for {frames * clips} frames; give one, or a list with one for each.",
        )


def check_latents(latents: torch.Tensor | None, shape: Sequence[int]) -> None:
    """``ShotError`` for noise of another shape than (F, C, h, w), as often as there are clips."""
    if latents is not None and (not isinstance(latents, torch.Tensor) or list(latents.shape) != list(shape)):
        found = list(latents.shape) if isinstance(latents, torch.Tensor) else type(latents).__name__
        raise ShotError("latents", f"The latents are {found} and must be a tensor {list(shape)}; leave them out, or give such.")
    if latents is not None and not torch.isfinite(latents).all():
        raise ShotError("latents", "The latents hold what is no number; leave them out, or give others.")


def find_seed(generator: torch.Generator | Sequence[torch.Generator]) -> int:
    """The seed of what a scheduler adds: that of a fresh generator, else what its state comes to. Generators stay as they are."""
    if not isinstance(generator, torch.Generator):
        seeds = [find_seed(each) for each in generator]
        return int(np.random.SeedSequence(seeds).generate_state(1)[0]) % SEEDS
    seed, state = generator.initial_seed(), generator.get_state()
    copied = torch.Generator(generator.device).manual_seed(seed)
    if torch.equal(copied.get_state(), state):
        return seed % SEEDS
    copied.set_state(state)
    return int(torch.randint(0, SEEDS, (1,), generator=copied, device=copied.device))


@dataclass(frozen=True)
class CallNoise:
    """What draws the noise of a call's clips of ``len(sources)`` frames of ``shape`` (C, h, w): one ``generator``, which all clips
    take after each other, or a list with one for each frame, clip after clip. ``sources`` says whose random numbers each frame
    takes from one generator. ``latents`` (clips * F, C, h, w) take the noise's place."""

    generator: torch.Generator | Sequence[torch.Generator]
    latents: torch.Tensor | None
    sources: Sequence[int]
    shape: tuple[int, int, int]

    def draw(self, clip: int) -> tuple[int, torch.Tensor]:
        """The seed of what a scheduler adds to a clip, counted from 0, and the clip's noise (F, C, h, w)."""
        frames = len(self.sources)
        own = slice(clip * frames, (clip + 1) * frames)
        generator = self.generator if isinstance(self.generator, torch.Generator) else self.generator[own]
        seed = find_seed(generator)
        if self.latents is not None:
            return seed, self.latents[own]
        if isinstance(generator, torch.Generator):
            return seed, draw_noise(self.sources, range(frames), self.shape, generator)
        return seed, torch.cat(
            [torch.randn((1, *self.shape), generator=one, device=one.device, dtype=torch.float32).cpu() for one in generator]
        )
