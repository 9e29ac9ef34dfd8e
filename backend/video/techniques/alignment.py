"""Spatial Latent Alignment (LatentMan, section 3): each frame takes over what other frames show of the same surface.

The paper copies latents from cell to cell. Along chains they are resampled below the cell. Latents themselves cannot be read
between their cells: an auto-encoder of eight pixels a cell makes other pictures of them, and averages of noise are less than noise.
So the clean predictions are resampled, as pictures, and every frame keeps its own noise.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from ....shared.shot import CHAIN, Alignment
from ..correspondence import Chains, Matches
from .context import ClipContext
from .technique import Technique

#: steps on which latents are resampled: each goes through the auto-encoder, and what that adds is there again at the next, so that
#: forty of a hundred take characters apart under strong guidance
MOST_RESAMPLED = 8


class MatchedCopy:
    """Copies matched latents from each frame's reference, in frame order, so that alignment chains through the clip."""

    def __init__(self, matches: Matches, device: torch.device) -> None:
        self._pairs = [
            (frame, other, torch.from_numpy(here).to(device), torch.from_numpy(there).to(device))
            for frame, (other, here, there) in enumerate(
                zip(matches.reference, matches.target_pixels, matches.reference_pixels, strict=True)
            )
            if other >= 0 and len(here)
        ]

    def __call__(self, latents: torch.Tensor) -> torch.Tensor:
        """Aligned copy of (F, C, h, w) latents."""
        flat = latents.clone().flatten(2)
        for frame, other, here, there in self._pairs:
            flat[frame][:, here] = flat[other][:, there]
        return flat.view_as(latents)


class ChainedPictures:
    """Gives every surface point the colour that it has in the frame in which it came into sight, read between the pixels."""

    def __init__(self, chains: Chains, device: torch.device) -> None:
        self._height, self._width = chains.height, chains.width
        # places are computed with in 64 bits, which Apple's GPUs do not have
        at = torch.device("cpu") if device.type == "mps" else device
        # of each frame, for each root: the pixels, and their places in the root
        self._parts = [
            [
                (int(root), torch.from_numpy(pixels[roots == root]).to(device), torch.from_numpy(places[roots == root]).to(at))
                for root in np.unique(roots)
            ]
            for pixels, roots, places in zip(chains.pixels, chains.roots, chains.places, strict=True)
        ]

    def __call__(self, pictures: torch.Tensor) -> torch.Tensor:
        """Aligned copy of (F, C, H, W) float32 pictures."""
        after = pictures.clone().flatten(2)
        # in the frames' order: beside a root there may be pixels of an older chain, which are to be read as they are shown
        for frame, parts in enumerate(self._parts):
            for root, pixels, places in parts:
                # sixteen numbers a pixel are found each time: kept, they would be most of a long clip's memory
                around, shares = _find_cubic_corners(places, self._height, self._width)
                after[frame][:, pixels] = (after[root][:, around.to(pictures.device)] * shares.to(pictures)).sum(1)
        return after.view_as(pictures)


def _find_cubic_corners(places: torch.Tensor, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """``correspondence.find_cubic_corners`` of places (N, 2) on the device that they are on, to the last bit."""
    x, y = places[:, 0].double() - 0.5, places[:, 1].double() - 0.5
    left, top = x.floor(), y.floor()

    def weigh(t: torch.Tensor) -> list[torch.Tensor]:
        return [
            ((-0.5 * t + 1.0) * t - 0.5) * t,
            (1.5 * t - 2.5) * t * t + 1.0,
            ((-1.5 * t + 2.0) * t + 0.5) * t,
            (0.5 * t - 0.5) * t * t,
        ]

    rows = [(top.long() + n).clamp(0, height - 1) for n in (-1, 0, 1, 2)]
    columns = [(left.long() + n).clamp(0, width - 1) for n in (-1, 0, 1, 2)]
    # a place's numbers side by side, in which order they are summed up
    pixels = torch.stack([row * width + column for row in rows for column in columns], 1).T
    return pixels, torch.stack([v * w for v in weigh(y - top) for w in weigh(x - left)], 1).T


def choose_steps(steps: range) -> Sequence[int]:
    """Of ``steps`` those on which latents are resampled along the chains: ``MOST_RESAMPLED`` at most, spread evenly, the last one
    among them."""
    count = min(MOST_RESAMPLED, len(steps))
    return [steps[(len(steps) * (n + 1) - 1) // count] for n in range(count)]


class LatentAlignment(Technique):
    """Each frame's latents are those of its reference frame where both show the same surface, on the first steps."""

    settings_type = Alignment
    settings: Alignment

    def begin(self, context: ClipContext) -> None:
        """Match every frame with its reference, at the latents' size, or follow the chains at the pictures'."""
        super().begin(context)
        self._steps: Sequence[int] = context.steps_between(0.0, self.settings.until)
        self._copy: MatchedCopy | None = None
        self._chained: ChainedPictures | None = None
        if self.settings.reference == CHAIN:
            passes = context.own_passes
            self._steps = choose_steps(context.steps_between(0.0, self.settings.until))
            self._chained = ChainedPictures(context.chains(), context.device)
            surface = torch.from_numpy((passes.surface_index > 0).astype(np.float32))[:, None]
            self._covered = F.interpolate(surface, context.latent_size, mode="area").to(context.device) > 0
        else:
            self._copy = MatchedCopy(context.matches(context.latent_size, self.settings.reference), context.device)

    def before_step(self, latents: torch.Tensor, step: int) -> torch.Tensor:
        """Copy along the matches."""
        return self._copy(latents) if self._copy is not None and step in self._steps else latents

    def move_clean(self, clean: torch.Tensor, step: int) -> torch.Tensor:
        """Resample along the chains. The latents move by the difference of two encodings, so that what the auto-encoder loses is
        not lost each time."""
        if self._chained is None or step not in self._steps:
            return clean
        encode, decode, size = self.context.encode, self.context.decode, self.context.batch_size
        before = torch.cat([decode(rows).float() for rows in clean.split(size)])
        after = self._chained(before)
        pairs = zip(after.to(clean.dtype).split(size), before.to(clean.dtype).split(size), strict=True)
        change = torch.cat([encode(new) - encode(old) for new, old in pairs])
        return clean + change * self._covered.to(clean.dtype)
