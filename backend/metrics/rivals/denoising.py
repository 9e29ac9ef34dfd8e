"""A plain denoising loop over some frames of a shot, between any two steps: what rivals have in common."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ....shared.passes import FramePasses
from ....shared.shot import ShotError, ShotRequest
from ...models.image_model import ImageModel
from ...video.controls import make_control_pictures
from ...video.memory import BatchBudget, run_in_batches
from ...video.prediction import Predictor, uses_guidance
from ...video.run_context import RunContext
from ...video.sampling import Sampler
from ...video.selection import select_request
from ...video.techniques import ClipContext


class PlainDenoising:
    """Takes the latents of some frames through steps of the scheduler, under ControlNets and classifier-free guidance."""

    def __init__(
        self, model: ImageModel, request: ShotRequest, passes: FramePasses, rows: Sequence[int], run_context: RunContext
    ) -> None:
        """``request`` and ``passes`` are the shot's, ``rows`` the frames' numbers in it."""
        own = select_request(request, rows)
        sampling = own.sampling
        self._context = ClipContext(
            model=model,
            request=own,
            own_passes=passes.select(rows),
            rows=tuple(rows),
            run_context=run_context,
            batch_budget=BatchBudget.within(model.plan.frames),
        )
        self.scheduler = model.make_scheduler(sampling.steps, sampling.scheduler, sampling.spacing, self._context.latent_size)
        self.sampler = Sampler(self.scheduler, sampling.seed, rows)
        text = model.encode_text(
            own.text.prompt,
            own.text.negative_prompt,
            guided=uses_guidance(model, own),
            width=own.width,
            height=own.height,
            background=own.text.background_prompt,
            clip_skip=own.text.clip_skip,
        )
        controls = [
            torch.from_numpy(picture).to(model.device, model.dtype)
            for picture in make_control_pictures(self._context.own_passes, own, model.controls)
        ]
        self._predictor = Predictor(self._context, self.sampler, text, controls)

    @property
    def steps(self) -> int:
        """The number of denoising steps."""
        return len(self.sampler.timesteps)

    @property
    def groups(self) -> int:
        """Runs of frames in a batch of the networks, for attention."""
        return self._predictor.groups

    @torch.no_grad()
    def run(self, latents: torch.Tensor, first: int, until: int, seen: Sequence[int] = ()) -> torch.Tensor:
        """(N, C, h, w) latents before step ``until`` from those before step ``first``; every batch also holds the frames ``seen``,
        places among the N. Raises ``ShotError`` when they are no numbers any more."""
        for step in range(first, until):
            output = torch.zeros_like(latents)

            def predict(rows: list[int], *, step: int = step, given: torch.Tensor = latents, out: torch.Tensor = output) -> None:
                out[rows] = self._predictor(given, given[rows], rows, sorted({*rows, *seen}), step)

            run_in_batches(predict, range(len(latents)), self._context.batch_budget, self._context.run_context)
            latents = self.sampler.step(latents, output, step)
            if not torch.isfinite(latents).all():
                raise ShotError("diverged", f"The frames diverged at step {step + 1}; use another scheduler, or float32.")
        return latents
