"""The network's prediction for some frames of a clip: UNet and ControlNets under classifier-free guidance."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ...shared.control_uses import ControlUse
from ...shared.shot import ShotRequest
from ..models.families import TextConditions
from ..models.image_model import ImageModel
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

    Differentiable in the latents, apart from what the method's ``as_released`` holds fixed.
    """

    def __init__(self, context: ClipContext, sampler: Sampler, text: TextConditions, controls: list[torch.Tensor]) -> None:
        self._model, self._request = context.model, context.request
        self._sampler, self._text, self._controls = sampler, text, controls
        self._released = context.method.get_released()
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
        count, timestep = len(current), self._sampler.timesteps[step]
        controls = [control[frames] for control in self._controls]
        seen = self._sampler.scale_model_input(current, step)
        # a batch that is not guided has no unconditional half, and nothing but the conditional one to go through
        held = seen.detach() if self.guided and self._released.omit_conditional else seen
        batch = torch.cat([seen, *[held] * (self.groups - 1)])
        words = self._text.embeddings.repeat_interleave(count, 0)
        added = {name: value.repeat_interleave(count, 0) for name, value in self._text.added.items()}
        options = dict(encoder_hidden_states=words, added_cond_kwargs=added or None, return_dict=False)
        condition = None
        if self._embedded:
            scales = torch.full((len(batch),), self._request.sampling.guidance_scale - 1)
            condition = self._model.pipeline.get_guidance_scale_embedding(
                scales, embedding_dim=self._model.unet.config.time_cond_proj_dim
            ).to(batch.device, batch.dtype)
        pictures = [torch.cat([control] * self.groups) for control in controls]
        strengths = list_control_scales(self._model, self._request, step, len(self._sampler.timesteps))
        down, middle = None, None
        if any(strengths):
            with torch.set_grad_enabled(torch.is_grad_enabled() and not self._released.omit_controlnet):
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


def list_control_scales(model: ImageModel, request: ShotRequest, step: int, steps: int) -> list[float]:
    """How strongly each ControlNet works at a step: as the model's name has it, times what the request has for all of them."""
    sampling = request.sampling
    overall = ControlUse(sampling.control_scale, sampling.control_start, sampling.control_end)
    return [overall.scale_at(step, steps) * use.scale_at(step, steps) for use in model.control_uses]


def uses_guidance(model: ImageModel, request: ShotRequest) -> bool:
    """Whether classifier-free guidance needs a second pass."""
    return request.sampling.guidance_scale > 1.0 and model.unet.config.get("time_cond_proj_dim") is None
