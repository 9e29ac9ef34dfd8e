"""Denoising a whole shot: diffusers' components, with the method's parts composed around each step.

All frames go through each step together, a few at a time, so that memory stays flat however long the clip is, and no
seams can show: every frame sees its reference at the same step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch

from backend.models.loading import ImageModel
from shared.shot import FramePasses, ShotError, ShotRequest

from .alignment import LatentAlignment
from .attention import first_frame_attention
from .controls import control_pictures
from .correspondence import Matches, background_matches, hungarian_matches, surface_matches
from .fusion import TextureFusion
from .guidance import LinearDecoder, PixelGuidance
from .noise import initial_noise
from .prediction import Predictor, guided, soft_region
from .sampling import Sampler

#: frames denoised together, at most; memory grows with it, results do not depend on it
CHUNK = 8
#: latents this many times larger than those that denoising began with are no picture any more
DIVERGED = 1000.0


class Interrupted(Exception):
    """The shot was asked to stop."""


def _ignore_progress(stage: str, step: int, steps: int) -> None:
    return None


def _never() -> bool:
    return False


@dataclass
class Watch:
    """What a running shot tells and asks: progress, stopping, and checkpoints of the latents after a step.

    ``seconds`` and ``notices`` are filled while it runs.
    """

    progress: Callable[[str, int, int], None] = _ignore_progress
    should_stop: Callable[[], bool] = _never
    save: Callable[[int, np.ndarray], None] = lambda step, latents: None
    resume: Callable[[], tuple[int, np.ndarray] | None] = lambda: None
    after_step: Callable[[int, torch.Tensor, torch.Tensor], torch.Tensor] | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Raise ``Interrupted`` when the shot should stop."""
        if self.should_stop():
            raise Interrupted

    def timed(self, stage: str, start: float) -> None:
        """Add the time since ``start`` to a stage."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start


def _out_of_memory(error: BaseException) -> bool:
    text = str(error).lower()
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "out of memory" in text or "alloc" in text


class ShotPipeline:
    """Generates a shot's frames with a loaded model (LatentMan, arXiv 2312.07133, and its parts on their own)."""

    def __init__(self, model: ImageModel, request: ShotRequest, passes: FramePasses, watch: Watch,
                 noise: torch.Tensor | None = None) -> None:
        """``noise`` (F, C, h, w) takes the place of the seed's. Raises ``ShotError`` when the model cannot do the request."""
        model.check_size(request.width, request.height)
        self._model, self._request, self._passes, self._watch = model, request, passes, watch
        self._method, self._noise = request.resolved_method(), noise
        self._sampler = Sampler(model.new_scheduler(request.steps, request.scheduler), request.seed, self._method.shared_noise)
        self._size = (request.height // model.latent_factor, request.width // model.latent_factor)
        self._chunk = CHUNK
        self._linear: LinearDecoder | None = None
        self._fusion: TextureFusion | None = None
        if self._method.fusion is not None:
            self._fusion = TextureFusion(passes, self._size, self._method.fusion, request.steps, model.device)

    def frames(self) -> Iterator[np.ndarray]:
        """The finished frames in order, (H, W, 3) uint8."""
        pictures: Iterable[torch.Tensor] = self.decoded(self.latents())
        if self._fusion and self._method.fusion and self._method.fusion.finish:
            pictures = self._fusion.finish(list(pictures))
        for picture in pictures:
            yield ((picture / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()

    def decoded(self, latents: torch.Tensor) -> Iterator[torch.Tensor]:
        """(3, H, W) float32 pictures around [-1, 1] of clean latents, one after the other."""
        for n in range(len(latents)):
            started = time.perf_counter()
            self._watch.check()
            with torch.no_grad():
                picture = self._model.decode(latents[n:n + 1])[0].float()
            if not torch.isfinite(picture).all():
                raise ShotError("diverged", f"Frame {n + 1} could not be decoded into a picture; use float32 for the "
                                            "auto-encoder, or another seed.")
            self._watch.progress("decoding", n + 1, len(latents))
            self._watch.timed("decoding", started)
            yield picture

    def _matches(self, size: tuple[int, int], reference: str) -> Matches:
        self._watch.check()
        started = time.perf_counter()
        self._watch.progress("matching", 0, 1)
        matching = surface_matches if self._method.matching == "surface" else hungarian_matches
        found = matching(self._passes, *size, reference)
        self._watch.timed("matching", started)
        return found

    def _alignments(self) -> list[LatentAlignment]:
        out, device, steps = [], self._model.device, self._request.steps
        settings = self._method.alignment
        if settings is not None:
            out.append(LatentAlignment(self._matches(self._size, settings.reference), steps, settings.until, device))
        if self._method.background is not None:
            found = background_matches(self._passes, *self._size)
            out.append(LatentAlignment(found, steps, self._method.background.until, device))
        return out

    def _guidance(self) -> PixelGuidance | None:
        settings = self._method.guidance
        if settings is None:
            return None
        size = self._size
        if settings.gradient != "linear":
            short = min(self._request.width, self._request.height)
            scale = (settings.resolution or short / 2) / short
            size = (round(self._request.height * scale), round(self._request.width * scale))
        reference = self._method.alignment.reference if self._method.alignment else "prev_new"
        return PixelGuidance(self._matches(size, reference), settings, self._request.steps, self._model.device)

    def _predictor(self) -> Predictor:
        request, model = self._request, self._model
        text = model.encode_text(request.prompt, request.negative_prompt, guided(model, request), request.width, request.height,
                                 request.background_prompt)
        self._watch.notices.extend(text.notices)
        region = None
        if request.background_prompt:
            region = soft_region(torch.from_numpy(self._passes.mask > 0), self._size).to(model.device, model.dtype)
        controls = [torch.from_numpy(picture).to(model.device, model.dtype)
                    for picture in control_pictures(self._passes, request, model.controls)]
        return Predictor(model, request, self._sampler, text, controls, region, anchored=self._method.cross_frame_attention)

    def latents(self) -> torch.Tensor:
        """(F, C, h, w) clean latents. Raises ``ShotError`` when they diverge or the memory is too small."""
        request, model, watch = self._request, self._model, self._watch
        alignments, guidance, predictor = self._alignments(), self._guidance(), self._predictor()
        resumed = watch.resume() if self._sampler.resumable else None
        first = 0
        if resumed is not None:
            first, latents = resumed[0], torch.from_numpy(resumed[1]).to(model.device, model.dtype)
            self._sampler.skip_to(first)
        else:
            shape = (int(model.unet.config.in_channels), *self._size)
            noise = self._noise
            if noise is None:
                noise = initial_noise(len(request.frames), shape, request.seed, self._method.shared_noise)
            latents = self._sampler.begin(noise.to(model.device, model.dtype))
        limit = DIVERGED * float(self._sampler.begin(torch.ones(1)))
        total = len(self._sampler.timesteps)
        with ExitStack() as stack:
            if self._method.cross_frame_attention:
                networks = [model.unet, *model.controlnets]
                stack.enter_context(first_frame_attention(networks, predictor.groups))
            for step in range(first, total):
                started = time.perf_counter()
                for alignment in alignments:
                    latents = alignment(latents, step)
                    self._sampler.align(partial(alignment, step=step))
                latents = self._step(latents, predictor, guidance, step)
                if not torch.isfinite(latents).all() or float(latents.abs().max()) > limit:
                    raise self._diverged(step, guidance)
                if watch.after_step:
                    latents = watch.after_step(step, self._sampler.timesteps[step], latents)
                watch.timed("denoising", started)
                watch.progress("denoising", step + 1, total)
                watch.save(step + 1, latents.float().cpu().numpy())
                watch.check()
        return latents

    def _diverged(self, step: int, guidance: PixelGuidance | None) -> ShotError:
        if guidance and any(guidance.active(n) for n in range(step + 1)):
            return ShotError("diverged", f"The frames diverged at step {step + 1}; lower rho, the step length of the pixel "
                                         f"guidance (it is {guidance.rho:g}).")
        return ShotError("diverged", f"The model gave values that are no picture at step {step + 1}; use another scheduler, a "
                                     "lower guidance scale, or float32.")

    def _step(self, latents: torch.Tensor, predictor: Predictor, guidance: PixelGuidance | None, step: int) -> torch.Tensor:
        """One step of every frame, with guidance where it is active."""
        guide = guidance if guidance and guidance.active(step) else None
        if guide:
            guide.begin_step()
        output, gradient = torch.empty_like(latents), torch.zeros_like(latents)
        start = 0
        while start < len(latents):
            self._watch.check()
            rows = list(range(start, min(start + self._chunk, len(latents))))
            try:
                output[rows], gradient[rows] = self._chunk_step(latents, rows, predictor, guide, step)
            except (RuntimeError, MemoryError) as error:
                if not _out_of_memory(error):
                    raise
                if self._chunk == 1:
                    raise ShotError("memory", "There is not enough memory for one frame; use a smaller size, or switch the "
                                              "pixel guidance's gradient to 'decoder' or off.") from error
                self._chunk = max(1, self._chunk // 2)
                self._watch.notices.append(f"Memory was short: {self._chunk} frames are denoised together.")
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
                continue
            start += len(rows)
        if self._fusion and self._fusion.active(step):
            with torch.no_grad():
                clean = self._sampler.clean(latents, output, step)
                clean = self._fusion.correct(clean, step, self._model.decode, self._model.encode, self._chunk)
                output = self._sampler.output_for(latents, clean, step)
        moved = self._sampler.advance(latents, output, step)
        return guide.move(moved, gradient) if guide else moved

    def _chunk_step(self, latents: torch.Tensor, rows: list[int], predictor: Predictor, guide: PixelGuidance | None,
                    step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The network's output for some frames, and the gradient of the guidance's loss, 0 without guidance."""
        through_network = guide is not None and guide.gradient == "full"
        current = latents[rows].detach().requires_grad_(guide is not None)
        with torch.set_grad_enabled(through_network):
            output = predictor(latents, current, rows, step)
        if guide is None:
            return output.detach(), torch.zeros_like(output)
        with torch.enable_grad():
            clean = self._sampler.clean(current, output, step)
            # half precision loses small gradients: they are scaled up on the way
            scale = guide.loss_scale(self._model.dtype)
            loss = guide.loss(rows, self._decoder(guide, clean)(clean)) * scale
            gradient, = torch.autograd.grad(loss, current)
        return output.detach(), gradient / scale

    def _decoder(self, guide: PixelGuidance, clean: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
        if guide.gradient != "linear":
            return self._model.decode
        if self._linear is None:
            with torch.no_grad():
                self._linear = LinearDecoder.fitted(clean.detach(), self._model.decode(clean.detach()))
        return self._linear
