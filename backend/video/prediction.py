"""The network's prediction for some frames of a clip: UNet and ControlNets under classifier-free guidance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from ...shared.control_uses import ControlUse
from ...shared.settings import with_settings
from ...shared.shot import ShotRequest
from ..models.families import TextConditions
from ..models.image_model import ImageModel
from .frame_conditions import FrameConditions
from .sampling import Sampler
from .techniques import ClipContext


def soften_region(mask: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """(F, 1, h, w) in [0, 1]: the fraction of each latent pixel that characters take, its edge softened by a latent pixel."""
    fractions = F.interpolate(mask[:, None].float(), size, mode="area")
    return F.avg_pool2d(F.pad(fractions, (1, 1, 1, 1), mode="replicate"), 3, 1)


class Predictor:
    """Predicts what the scheduler needs for chosen frames.

    ``text`` holds the unconditional embeddings first when guided, then the prompt's, then those of the background's own prompt,
    where there is one, which apply where no character is. ``controls`` (F, 3, H, W) are the ControlNets' pictures, one each.
    With ``conditions``, those of all F frames, there are several prompts, or other control strengths than the request's.
    """

    def __init__(
        self,
        context: ClipContext,
        sampler: Sampler,
        text: TextConditions,
        controls: list[torch.Tensor],
        conditions: FrameConditions | None = None,
    ) -> None:
        self._model, self._request, self._conditions = context.model, context.request, conditions
        if conditions is not None:
            # each frame has its own
            self._request = with_settings(self._request, {"control_scale": 1.0})
        self._sampler, self._text, self._controls = sampler, text, controls
        self._region = None
        if context.request.text.background_prompt:
            character = torch.from_numpy(context.passes.mask > 0)
            self._region = soften_region(character, context.latent_size).to(context.device, context.dtype)
        # some few-step models take the guidance scale as an input, and need no second pass
        self._embedded = self._model.unet.config.get("time_cond_proj_dim") is not None
        self.guided = uses_guidance(self._model, self._request)
        #: runs of frames in a batch, for attention
        self.groups = int(self.guided) + 1 + int(self._region is not None)

    def __call__(self, latents: torch.Tensor, current: torch.Tensor, rows: list[int], frames: list[int], step: int) -> torch.Tensor:
        """(n, C, h, w) for the latents ``current`` of the frames ``rows``; the networks see the ``frames``, which are those and
        others of the whole clip's ``latents``, ascending."""
        if frames != rows:
            others = [frame for frame in frames if frame not in rows]
            order = [*others, *rows]
            current = torch.cat([latents[others], current])[[order.index(frame) for frame in frames]]
        timestep = self._sampler.timesteps[step]
        controls = [control[frames] for control in self._controls]
        batch = torch.cat([self._sampler.scale_model_input(current, step)] * self.groups)
        words = self._spread(self._text.embeddings, frames)
        added = {name: self._spread(value, frames) for name, value in self._text.added.items()}
        options = dict(encoder_hidden_states=words, added_cond_kwargs=added or None, return_dict=False)
        condition = None
        if self._embedded:
            scales = torch.full((len(batch),), self._request.sampling.guidance_scale - 1)
            condition = self._model.pipeline.get_guidance_scale_embedding(
                scales, embedding_dim=self._model.unet.config.time_cond_proj_dim
            ).to(batch.device, batch.dtype)
        pictures = [torch.cat([control] * self.groups) for control in controls]
        strengths: list[Any] = list_control_scales(self._model, self._request, step, len(self._sampler.timesteps))
        down, middle = None, None
        if any(strengths):
            if self._conditions is not None:
                factors = self._conditions.get_control_factors(frames, self.groups, batch)
                strengths = [strength * factors for strength in strengths]
            down, middle = self._model.family.predict_controls(self._model, batch, timestep, pictures, strengths, options)
        output = self._model.unet(
            batch,
            timestep,
            timestep_cond=condition,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
            **options,
        )[0]
        parts = list(output.chunk(self.groups))
        unconditional = parts.pop(0) if self.guided else None
        wanted = parts[0]
        if self._region is not None:
            region = self._region[frames]
            wanted = region * parts[0] + (1 - region) * parts[1]
        if unconditional is not None:
            wanted = unconditional + self._request.sampling.guidance_scale * (wanted - unconditional)
        return wanted if frames == rows else wanted[[frames.index(frame) for frame in rows]]

    def _spread(self, values: torch.Tensor, frames: Sequence[int]) -> torch.Tensor:
        """A row of each group's for each frame, of what the text has a row of for each prompt."""
        if self._conditions is None:
            return values.repeat_interleave(len(frames), 0)
        first, last = int(self.guided), len(values) - int(self._region is not None)
        around = (values[:first], values[last:])
        before, behind = (part.repeat_interleave(len(frames), 0) for part in around)
        return torch.cat([before, self._conditions.mix(values[first:last], frames), behind])


def list_control_scales(model: ImageModel, request: ShotRequest, step: int, steps: int) -> list[float]:
    """How strongly each ControlNet works at a step: as the model's name has it, times what the request has for all of them."""
    sampling = request.sampling
    overall = ControlUse(sampling.control_scale, sampling.control_start, sampling.control_end)
    return [overall.scale_at(step, steps) * use.scale_at(step, steps) for use in model.control_uses]


def uses_guidance(model: ImageModel, request: ShotRequest) -> bool:
    """Whether classifier-free guidance needs a second pass."""
    return request.sampling.guidance_scale > 1.0 and model.unet.config.get("time_cond_proj_dim") is None
