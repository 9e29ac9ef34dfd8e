"""Denoising a whole shot: diffusers' components, with the method's parts composed around each step."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np
import torch
from diffusers import DDIMScheduler

from backend.models.loading import ImageModel, TextConditions
from shared.shot import FramePasses, ShotRequest

from .alignment import LatentAlignment
from .attention import first_frame_attention
from .correspondence import Matches, hungarian_matches, surface_matches
from .guidance import PixelGuidance
from .noise import initial_noise

#: frames denoised together; memory grows with it, results do not depend on it
CHUNK = 8


class Interrupted(Exception):
    """The shot was asked to stop."""


def _ignore_progress(stage: str, step: int, steps: int) -> None:
    return None


def _never() -> bool:
    return False


@dataclass
class Watch:
    """What a running shot tells and asks: progress, stopping, and checkpoints of the latents after a step."""

    progress: Callable[[str, int, int], None] = _ignore_progress
    should_stop: Callable[[], bool] = _never
    save: Callable[[int, np.ndarray], None] = lambda step, latents: None
    resume: Callable[[], tuple[int, np.ndarray] | None] = lambda: None
    seconds: dict[str, float] = field(default_factory=dict)

    def check(self) -> None:
        """Raise ``Interrupted`` when the shot should stop."""
        if self.should_stop():
            raise Interrupted

    def timed(self, stage: str, start: float) -> None:
        """Add the time since ``start`` to a stage."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start


class ShotPipeline:
    """Generates a shot's frames with a loaded model (LatentMan, arXiv 2312.07133, and its parts on their own)."""

    def __init__(self, model: ImageModel, request: ShotRequest, passes: FramePasses, watch: Watch) -> None:
        """Raises ``ShotError`` when the model cannot do the request's size."""
        model.check_size(request.width, request.height)
        self._model, self._request, self._passes, self._watch = model, request, passes, watch
        self._method = request.resolved_method()
        # some few-step models take the guidance scale as an input, and need no second pass
        self._embedded_guidance = model.unet.config.get("time_cond_proj_dim") is not None
        self._guided = request.guidance_scale > 1.0 and not self._embedded_guidance
        self._scheduler = model.new_scheduler(request.steps)
        self._size = (request.height // model.latent_factor, request.width // model.latent_factor)

    def frames(self) -> Iterator[np.ndarray]:
        """The finished frames in order, (H, W, 3) uint8."""
        latents = self._denoise()
        started = time.perf_counter()
        total = len(latents)
        for n in range(total):
            self._watch.check()
            with torch.no_grad():
                picture = self._model.decode(latents[n:n + 1])[0]
            picture = ((picture.float() / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
            self._watch.progress("decoding", n + 1, total)
            self._watch.timed("decoding", started)
            yield picture.permute(1, 2, 0).cpu().numpy()
            started = time.perf_counter()

    def _matches(self, size: tuple[int, int], reference: str) -> Matches:
        self._watch.check()
        started = time.perf_counter()
        self._watch.progress("matching", 0, 1)
        matching = surface_matches if self._method.matching == "surface" else hungarian_matches
        found = matching(self._passes, *size, reference)
        self._watch.timed("matching", started)
        return found

    def _alignment(self) -> LatentAlignment | None:
        settings = self._method.alignment
        if settings is None:
            return None
        return LatentAlignment(self._matches(self._size, settings.reference), self._request.steps, settings.until,
                               self._model.device)

    def _guidance(self) -> PixelGuidance | None:
        settings = self._method.guidance
        if settings is None:
            return None
        short = min(self._request.width, self._request.height)
        scale = (settings.resolution or short / 2) / short
        size = (round(self._request.height * scale), round(self._request.width * scale))
        reference = self._method.alignment.reference if self._method.alignment else "prev_new"
        return PixelGuidance(self._matches(size, reference), settings, self._request.steps, self._model.device)

    def _denoise(self) -> torch.Tensor:
        """(F, C, h, w) clean latents."""
        request, model, watch = self._request, self._model, self._watch
        alignment, guidance = self._alignment(), self._guidance()
        text = model.encode_text(request.prompt, request.negative_prompt, self._guided, request.width, request.height)
        depth = torch.from_numpy(self._passes.depth)[:, None].expand(-1, 3, -1, -1).to(model.device, model.dtype)
        resumed = watch.resume()
        first = 0
        if resumed is not None:
            first, latents = resumed[0], torch.from_numpy(resumed[1]).to(model.device, model.dtype)
        else:
            shape = (int(model.unet.config.in_channels), *self._size)
            noise = initial_noise(len(request.frames), shape, request.seed, self._method.shared_noise)
            latents = noise.to(model.device, model.dtype) * self._scheduler.init_noise_sigma
        timesteps = self._scheduler.timesteps
        with ExitStack() as stack:
            if self._method.cross_frame_attention:
                groups = 2 if self._guided else 1
                stack.enter_context(first_frame_attention([model.unet, model.controlnet], groups))
            for step in range(first, len(timesteps)):
                started = time.perf_counter()
                if alignment:
                    latents = alignment(latents, step)
                latents = self._step(latents, timesteps[step], depth, text, guidance, step)
                watch.timed("denoising", started)
                watch.progress("denoising", step + 1, len(timesteps))
                watch.save(step + 1, latents.float().cpu().numpy())
                watch.check()
        return latents

    def _step(self, latents: torch.Tensor, timestep: torch.Tensor, depth: torch.Tensor, text: TextConditions,
              guidance: PixelGuidance | None, step: int) -> torch.Tensor:
        """One DDIM step of every frame, with guidance where it is active."""
        guide = guidance if guidance and guidance.active(step) else None
        if guide:
            guide.begin_step()
        out = torch.empty_like(latents)
        for start in range(0, len(latents), CHUNK):
            self._watch.check()
            rows = list(range(start, min(start + CHUNK, len(latents))))
            current = latents[rows].detach().requires_grad_(guide is not None)
            with torch.set_grad_enabled(guide is not None):
                output = self._predict(latents, current, rows, timestep, depth, text)
                if guide:
                    clean = self._clean_prediction(current, output, timestep)
                    gradient, = torch.autograd.grad(guide.loss(rows, self._model.decode(clean)), current)
            with torch.no_grad():
                moved = self._advance(output.detach(), timestep, current.detach(), rows, step)
                out[rows] = guide.move(moved, gradient) if guide else moved
        return out

    def _advance(self, output: torch.Tensor, timestep: torch.Tensor, latents: torch.Tensor, rows: list[int],
                 step: int) -> torch.Tensor:
        """The scheduler's step. Few-step schedulers add noise: the same to every frame where the noise is shared."""
        if isinstance(self._scheduler, DDIMScheduler):
            return self._scheduler.step(output, timestep, latents, eta=0.0).prev_sample
        moved = torch.empty_like(latents)
        for n, frame in enumerate(rows):
            seed = (self._request.seed, step, 0 if self._method.shared_noise else frame)
            generator = torch.Generator().manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
            # these schedulers count their own calls; a copy has each frame start from the same count
            moved[n] = copy.copy(self._scheduler).step(output[n:n + 1], timestep, latents[n:n + 1],
                                                       generator=generator).prev_sample[0]
        return moved

    def _predict(self, latents: torch.Tensor, current: torch.Tensor, rows: list[int], timestep: torch.Tensor,
                 depth: torch.Tensor, text: TextConditions) -> torch.Tensor:
        """The network's output for some frames, after classifier-free guidance; (N, C, h, w).

        Cross-frame attention needs the first frame at the head of every batch.
        """
        extra = self._method.cross_frame_attention and rows[0] != 0
        if extra:
            current, depth = torch.cat([latents[:1], current]), torch.cat([depth[:1], depth[rows]])
        else:
            depth = depth[rows]
        count, groups = len(current), 2 if self._guided else 1
        batch = torch.cat([self._scheduler.scale_model_input(current, timestep)] * groups)
        words = text.embeddings.repeat_interleave(count, 0)
        added = {name: value.repeat_interleave(count, 0) for name, value in text.added.items()}
        options = dict(encoder_hidden_states=words, added_cond_kwargs=added or None, return_dict=False)
        condition = None
        if self._embedded_guidance:
            scales = torch.full((len(batch),), self._request.guidance_scale - 1)
            condition = self._model.pipeline.get_guidance_scale_embedding(
                scales, embedding_dim=self._model.unet.config.time_cond_proj_dim).to(batch.device, batch.dtype)
        down, middle = self._model.controlnet(
            batch, timestep, controlnet_cond=torch.cat([depth] * groups),
            conditioning_scale=self._request.control_scale, **options)
        output = self._model.unet(batch, timestep, timestep_cond=condition, down_block_additional_residuals=down,
                                  mid_block_additional_residual=middle, **options)[0]
        if self._guided:
            unconditional, conditional = output.chunk(2)
            output = unconditional + self._request.guidance_scale * (conditional - unconditional)
        return output[1:] if extra else output

    def _clean_prediction(self, latents: torch.Tensor, output: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """The clean latents that an epsilon, v or sample prediction stands for."""
        alpha = self._scheduler.alphas_cumprod.to(latents.device, latents.dtype)[timestep]
        kind = self._scheduler.config.prediction_type
        if kind == "epsilon":
            return (latents - (1 - alpha).sqrt() * output) / alpha.sqrt()
        if kind == "v_prediction":
            return alpha.sqrt() * latents - (1 - alpha).sqrt() * output
        return output
