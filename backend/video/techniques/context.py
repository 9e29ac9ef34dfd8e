"""What a technique knows about the clip that it works on."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from ....shared.passes import FramePasses
from ....shared.shot import Method, ShotRequest
from ..cameras import Camera
from ..correspondence import Chains, Matches, follow_chains, match_hungarian, match_surfaces, prepare_surface_frames
from ..horizon import Horizon
from ..lattice import SurfaceTexture, cell_side
from ..light import Light
from ..memory import BatchBudget
from ..run_context import RunContext
from ..selection import join_clips

if TYPE_CHECKING:
    from ...models.image_model import ImageModel


@dataclass(frozen=True)
class ClipContext:
    """A clip: frames of a shot that go through the denoising steps together.

    ``request`` and ``own_passes`` are of the clip's own N frames, whose numbers in the shot are ``rows``. ``given_passes`` are
    those of finished frames in front of them. ``texture`` is what is known of the surface before the clip is made, ``filled`` what
    the frames show where that has nothing.

    Frames that are ``joint`` decide jointly how the shot looks. The others are made in clips of any size, at any time: each must
    depend on no other but the given ones.
    """

    model: ImageModel
    request: ShotRequest
    own_passes: FramePasses
    rows: tuple[int, ...]
    given_passes: FramePasses | None = None
    texture: SurfaceTexture | None = None
    filled: SurfaceTexture | None = None
    #: the light that the texture is seen in, None where it has that in itself; and whether it stays, or the clip's own is taken
    light: Light | None = None
    keeps_light: bool = True
    joint: bool = True
    #: the clip's latents are what is wanted, not pictures, which are finished
    wants_latents: bool = False
    #: the caller chose the first noise, instead of a seed
    noise_given: bool = False
    #: progress, warnings for the user, and ``check()``, which raises ``Interrupted`` when the user wants to stop
    run_context: RunContext = field(default_factory=RunContext)
    batch_budget: BatchBudget = field(default_factory=BatchBudget)
    #: the cameras of all F frames and how far the background is, where it turns with a camera that moves; None where it does not
    turning: tuple[tuple[Camera, ...], Horizon] | None = None
    #: (H, W) bool where the frames' background is not the first frame's, None where it is
    replaced: np.ndarray | None = None
    #: the side in metres of the shot's noise cells; None takes the clip's own
    shot_cell_side: Callable[[], float] | None = None
    _matches: dict[tuple[tuple[int, int], str], Matches] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def method(self) -> Method:
        """The settings of all techniques."""
        return self.request.get_method()

    @property
    def given(self) -> int:
        """How many frames stand in front of the clip's own."""
        return 0 if self.given_passes is None else self.given_passes.frame_count

    @cached_property
    def passes(self) -> FramePasses:
        """The passes of all F frames, the given ones first."""
        return self.own_passes if self.given_passes is None else join_clips(self.given_passes, self.own_passes)

    @property
    def steps(self) -> int:
        """The number of denoising steps."""
        return self.request.sampling.steps

    def steps_between(self, start: float, until: float) -> range:
        """The steps between two fractions of the schedule, the last one excluded."""
        return range(round(start * self.steps), round(until * self.steps))

    @property
    def latent_size(self) -> tuple[int, int]:
        """(h, w) of the latents."""
        return latent_size(self.model, self.request)

    @property
    def device(self) -> torch.device:
        """Where latents are."""
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        """The type of latents."""
        return self.model.dtype

    @property
    def batch_size(self) -> int:
        """How many frames fit into a batch at the moment; all of them where they share rows of latents."""
        return self.batch_budget.frames if self.model.row_frames == 1 else max(1, len(self.rows))

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """(n, C, h, w) clean latents -> (n, 3, H, W) pictures around [-1, 1]; differentiable."""
        return self.model.decode(latents)

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        """(n, 3, H, W) pictures in [-1, 1] -> (n, C, h, w) clean latents."""
        return self.model.encode(pictures)

    def matches(self, size: tuple[int, int], reference: str) -> Matches:
        """Which pixels of all F frames and their references show the same surface point, at ``size`` (h, w).

        ``reference`` is ``prev``, ``first`` or ``prev_new``. Found once a clip, however many techniques ask.
        """
        if (size, reference) not in self._matches:
            self.run_context.check()
            started = time.perf_counter()
            self.run_context.progress("matching", 0, 1)
            if self.method.matching == "surface":
                found = match_surfaces(self.passes, *size, reference)
            else:
                found = match_hungarian(self.passes, *size, reference, centred=self.method.get_released().centred)
            self._matches[size, reference] = found
            self.run_context.record_time("matching", started)
        return self._matches[size, reference]

    def chains(self) -> Chains:
        """The surface points of the clip's own frames, followed back to where they came into sight."""
        self.run_context.check()
        started = time.perf_counter()
        self.run_context.progress("matching", 0, 1)
        found = follow_chains(prepare_surface_frames(self.own_passes), self.run_context.check)
        self.run_context.record_time("matching", started)
        return found

    def cell_side(self) -> float:
        """The side in metres of cells about as large as a pixel, the same for every clip of the shot."""
        return self.shot_cell_side() if self.shot_cell_side else cell_side(prepare_surface_frames(self.own_passes))


def latent_size(model: ImageModel, request: ShotRequest) -> tuple[int, int]:
    """(h, w) of a request's latents."""
    return request.height // model.latent_factor, request.width // model.latent_factor
