"""Denoising a clip: diffusers' components, with the method's parts composed around each step.

All frames of a clip go through each step together, a few at a time, so that memory stays flat however long it is, and no
seams can show: every frame sees its reference at the same step.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

import torch

from ...shared.shot import FramePasses, ShotError, ShotRequest
from ..models.loading import ImageModel, TextConditions
from .alignment import LatentAlignment
from .attention import first_frame_attention
from .controls import control_pictures
from .correspondence import Matches, background_matches, hungarian_matches, surface_matches
from .fusion import TextureFusion
from .guidance import LinearDecoder, PixelGuidance
from .look import Anchor
from .prediction import Predictor, soft_region
from .sampling import Sampler
from .selection import frames_of, joined
from .watch import Checkpoint, Watch

#: frames denoised together, at most; memory grows with it, results do not depend on it
CHUNK = 8
#: latents this many times larger than those that denoising began with are no picture any more
DIVERGED = 1000.0


@dataclass
class Room:
    """How many frames memory has room for; shrinks when it is short."""

    chunk: int = field(default_factory=lambda: CHUNK)


def _out_of_memory(error: BaseException) -> bool:
    text = str(error).lower()
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "out of memory" in text or "alloc" in text


class Denoising:
    """Takes the latents of a clip through the scheduler's steps.

    With ``anchor`` an earlier frame stands in front of the clip: attention and background look at it, and it is not made again.
    """

    def __init__(
        self,
        model: ImageModel,
        request: ShotRequest,
        passes: FramePasses,
        text: TextConditions,
        watch: Watch,
        room: Room,
        fusion: TextureFusion | None = None,
        anchor: Anchor | None = None,
    ) -> None:
        """``request`` and ``passes`` are of the clip alone, ``fusion`` is for its frames."""
        self._model, self._request, self._watch, self._room = model, request, watch, room
        self._method, self._fusion, self._anchor = request.resolved_method(), fusion, anchor
        self._own = 0 if anchor is None else 1
        self._clip, self._passes = passes, passes if anchor is None else joined(anchor.passes, passes)
        self._sampler = Sampler(
            model.new_scheduler(request.sampling.steps, request.sampling.scheduler),
            request.sampling.seed,
            self._method.shared_noise,
        )
        self._size = latent_size(model, request)
        self._text = text
        self._linear: LinearDecoder | None = None
        self._path: list[torch.Tensor] = []
        self._controls = [
            torch.from_numpy(picture).to(model.device, model.dtype) for picture in control_pictures(passes, request, model.controls)
        ]

    @property
    def steps(self) -> int:
        """The number of denoising steps."""
        return len(self._sampler.timesteps)

    @property
    def resumable(self) -> bool:
        """Whether latents alone say how to go on."""
        return self._sampler.resumable

    def from_noise(self, noise: torch.Tensor) -> torch.Tensor:
        """First latents of standard normal noise."""
        return self._sampler.begin(noise.to(self._model.device, self._model.dtype))

    def from_clean(self, clean: torch.Tensor, noise: torch.Tensor, step: int) -> torch.Tensor:
        """Clean latents under the noise that there is before a step."""
        return self._sampler.noised(clean, noise.to(clean), step)

    def anchored(self) -> Anchor:
        """The clip's first frame, for other clips to look at; after ``run`` from the first step."""
        return self._anchor or Anchor(
            torch.stack(self._path), tuple(control[:1] for control in self._controls), frames_of(self._clip, [0])
        )

    def _matches(self, size: tuple[int, int], reference: str) -> Matches:
        self._watch.check()
        started = time.perf_counter()
        self._watch.progress("matching", 0, 1)
        matching = surface_matches if self._method.matching == "surface" else hungarian_matches
        found = matching(self._passes, *size, reference)
        self._watch.timed("matching", started)
        return found

    def _alignments(self) -> list[LatentAlignment]:
        out, device, steps = [], self._model.device, self._request.sampling.steps
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
        return PixelGuidance(self._matches(size, reference), settings, self._request.sampling.steps, self._model.device)

    def _predictor(self) -> Predictor:
        request, model = self._request, self._model
        region = None
        if request.text.background_prompt:
            region = soft_region(torch.from_numpy(self._passes.mask > 0), self._size).to(model.device, model.dtype)
        controls = self._controls
        if self._anchor is not None:
            controls = [torch.cat([first, own]) for first, own in zip(self._anchor.controls, controls, strict=True)]
        return Predictor(model, request, self._sampler, self._text, controls, region, anchored=self._method.cross_frame_attention)

    def go_on(self, checkpoint: Checkpoint) -> torch.Tensor:
        """``run`` from where a run that was kept stood."""
        latents, path = (
            torch.from_numpy(array).to(self._model.device, self._model.dtype) for array in (checkpoint.latents, checkpoint.path)
        )
        self._path = list(path)
        return self.run(latents, checkpoint.step, keep=True)

    def run(self, latents: torch.Tensor, first: int = 0, *, keep: bool = False) -> torch.Tensor:
        """(F, C, h, w) clean latents from those before step ``first``; ``keep`` has the watch keep them after every step.

        Raises ``ShotError`` when they diverge or the memory is too small.
        """
        model, watch, total = self._model, self._watch, self.steps
        alignments, guidance, predictor = self._alignments(), self._guidance(), self._predictor()
        limit = DIVERGED * float(self._sampler.begin(torch.ones(1)))
        self._sampler.skip_to(first)
        with ExitStack() as stack:
            if self._method.cross_frame_attention:
                networks = [model.unet, *model.controlnets]
                stack.enter_context(first_frame_attention(networks, predictor.groups))
            for step in range(first, total):
                started = time.perf_counter()
                if self._anchor is not None:
                    latents = torch.cat([self._anchor.path[step : step + 1], latents[-len(self._clip.mask) :]])
                for alignment in alignments:
                    latents = alignment(latents, step)
                    self._sampler.align(partial(alignment, step=step))
                if keep:
                    self._path.append(latents[0])
                latents = self._step(latents, predictor, guidance, step)
                if not torch.isfinite(latents).all() or float(latents.abs().max()) > limit:
                    raise self._diverged(step, guidance)
                if watch.after_step:
                    latents = torch.cat(
                        [latents[: self._own], watch.after_step(step, self._sampler.timesteps[step], latents[self._own :])]
                    )
                watch.timed("denoising", started)
                if keep:
                    watch.progress("denoising", step + 1, total)
                    watch.save(
                        Checkpoint(
                            step + 1, latents[self._own :].float().cpu().numpy(), torch.stack(self._path).float().cpu().numpy()
                        )
                    )
                watch.check()
        return latents[self._own :]

    def _diverged(self, step: int, guidance: PixelGuidance | None) -> ShotError:
        if guidance and any(guidance.active(n) for n in range(step + 1)):
            return ShotError(
                "diverged",
                f"The frames diverged at step {step + 1}; lower rho, the step length of the pixel "
                f"guidance (it is {guidance.rho:g}).",
            )
        return ShotError(
            "diverged",
            f"The model gave values that are no picture at step {step + 1}; use another scheduler, a "
            "lower guidance scale, or float32.",
        )

    def _step(self, latents: torch.Tensor, predictor: Predictor, guidance: PixelGuidance | None, step: int) -> torch.Tensor:
        """One step of every frame, with guidance where it is active."""
        guide = guidance if guidance and guidance.active(step) else None
        if guide:
            guide.begin_step()
        output, gradient = torch.zeros_like(latents), torch.zeros_like(latents)
        start = self._own
        while start < len(latents):
            self._watch.check()
            rows = list(range(start, min(start + self._room.chunk, len(latents))))
            try:
                output[rows], gradient[rows] = self._chunk_step(latents, rows, predictor, guide, step)
            except (RuntimeError, MemoryError) as error:
                if not _out_of_memory(error):
                    raise
                if self._room.chunk == 1:
                    raise ShotError(
                        "memory",
                        "There is not enough memory for one frame; use a smaller size, or switch the "
                        "pixel guidance's gradient to 'decoder' or off.",
                    ) from error
                self._room.chunk = max(1, self._room.chunk // 2)
                self._watch.notices.append(f"Memory was short: {self._room.chunk} frames are denoised together.")
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
                continue
            start += len(rows)
        if self._fusion and self._fusion.active(step):
            with torch.no_grad():
                clean = self._sampler.clean(latents, output, step)
                own = self._fusion.correct(clean[self._own :], step, self._model.decode, self._model.encode, self._room.chunk)
                output = self._sampler.output_for(latents, torch.cat([clean[: self._own], own]), step)
        moved = self._sampler.advance(latents, output, step)
        return guide.move(moved, gradient) if guide else moved

    def _chunk_step(
        self, latents: torch.Tensor, rows: list[int], predictor: Predictor, guide: PixelGuidance | None, step: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
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
            (gradient,) = torch.autograd.grad(loss, current)
        return output.detach(), gradient / scale

    def _decoder(self, guide: PixelGuidance, clean: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
        if guide.gradient != "linear":
            return self._model.decode
        if self._linear is None:
            with torch.no_grad():
                self._linear = LinearDecoder.fitted(clean.detach(), self._model.decode(clean.detach()))
        return self._linear


def latent_size(model: ImageModel, request: ShotRequest) -> tuple[int, int]:
    """(h, w) of a request's latents."""
    return request.height // model.latent_factor, request.width // model.latent_factor
