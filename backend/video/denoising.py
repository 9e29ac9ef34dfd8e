"""Denoising a clip: the loop of a diffusers pipeline over all frames at once, with techniques plugged in around each step.

All frames of a clip go through each step together, a few at a time, so that memory stays flat however long it is, and no
seams can show: every frame sees its reference at the same step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TypeVar

import numpy as np
import torch

from ...shared.shot import ShotError
from ..models.families import TextConditions
from ..models.ip_adapters import ReferenceConditions
from ..models.noise_lines import widen
from .clips import get_window, plan_windows
from .controls import make_control_pictures
from .frame_conditions import FrameConditions
from .look import Anchor, Look
from .memory import run_in_batches, run_together
from .noise import list_noise_sources
from .prediction import Predictor
from .reference_attention import attend_to_reference
from .request_checks import explain_gradient
from .rows import put_rows, take_rows
from .run_context import Checkpoint
from .sampling import Sampler
from .selection import select_frames
from .shown_look import make_shown_look
from .techniques import ClipContext, Technique
from .techniques.fusion import TextureFusion

#: latents this many times larger than those that denoising began with are no picture any more
DIVERGED = 1000.0

Kind = TypeVar("Kind", bound=Technique)


class Denoising:
    """Takes the latents of a clip through the scheduler's steps.

    With an ``anchor``, that frame is put in front of the clip: techniques may attend to it, and it is not denoised again.
    """

    def __init__(
        self,
        context: ClipContext,
        techniques: Sequence[Technique],
        text: TextConditions,
        anchor: Anchor | None = None,
        reference: ReferenceConditions | None = None,
        conditions: FrameConditions | None = None,
        controls: Sequence[torch.Tensor] | None = None,
        look: Look | None = None,
    ) -> None:
        """``context`` is the clip's; its ``given_passes`` are the anchor's. The techniques begin with it. ``text`` is that of all
        frames, or of each, the given ones first. ``reference`` is the picture that the characters follow. ``conditions`` are those
        of the clip's own frames. ``controls`` (N, 3, H, W) in [0, 1] are the ControlNets' pictures of these; without them they are
        drawn from the passes. ``look`` is the one whose texture the context has, for networks that are shown it."""
        self._reference, self._conditions = reference, conditions
        self._context, self._techniques, self._anchor = context, techniques, anchor
        self._trajectory: list[torch.Tensor] = []
        self._stored: list[np.ndarray] = []
        model, request, self._given = context.model, context.request, context.given
        sampling, self._released = request.sampling, context.method.get_released()
        self._sampler = Sampler(
            model.make_scheduler(
                *(sampling.steps, sampling.scheduler, sampling.spacing, context.latent_size),
                from_zero=self._released.steps_from_zero,
            ),
            sampling.seed,
            [0] * self._given + list_noise_sources(techniques, context.rows),
            model.options.eta,
        )
        if controls is None:
            made = make_control_pictures(context.own_passes, request, model.controls)
            controls = [torch.from_numpy(picture) for picture in made]
        self._controls = controls = [control.to(context.device, context.dtype) for control in controls]
        if anchor is not None:
            controls = [torch.cat([first, own]) for first, own in zip(anchor.controls, controls, strict=True)]
        if conditions is not None and anchor is not None:
            scale = request.sampling.control_scale if anchor.control_scale is None else anchor.control_scale
            conditions = conditions.put_in_front(anchor.prompt or request.text.prompt, scale)
        for technique in techniques:
            technique.begin(context)
        shown = make_shown_look(look, context, self.find_technique(TextureFusion))
        self._predictor = Predictor(context, self._sampler, text, controls, conditions, shown)

    @property
    def steps(self) -> int:
        """The number of denoising steps."""
        return len(self._sampler.timesteps)

    @property
    def resumable(self) -> bool:
        """Whether denoising can be resumed from latents alone."""
        return self._sampler.resumable

    def find_technique(self, kind: type[Kind]) -> Kind | None:
        """The clip's technique of a kind, if it has one."""
        return next((technique for technique in self._techniques if isinstance(technique, kind)), None)

    def first_noise(self, noise: torch.Tensor) -> torch.Tensor:
        """(N, C, h, w) standard normal noise as the techniques change it."""
        for technique in self._techniques:
            noise = _check_shape(technique, noise, technique.first_noise(noise))
        return noise

    def scale_first_noise(self, noise: torch.Tensor) -> torch.Tensor:
        """The initial latents of standard normal noise."""
        return self._sampler.scale_noise(noise.to(self._context.device, self._context.dtype))

    def add_noise(self, clean: torch.Tensor, noise: torch.Tensor, step: int) -> torch.Tensor:
        """Clean latents with the amount of noise that precedes a step."""
        return self._sampler.add_noise(clean, noise.to(clean), step)

    def make_anchor(self) -> Anchor:
        """The clip's first frame, for other clips to look at; after ``run`` from the first step."""
        conditions = self._conditions
        return self._anchor or Anchor(
            torch.stack(self._trajectory),
            tuple(control[:1].clone() for control in self._controls),
            select_frames(self._context.own_passes, [0]),
            "" if conditions is None else conditions.mixes[0].leading,
            None if conditions is None else conditions.control_scales[0],
            None if self._context.turning is None else self._context.turning[0][0],
        )

    def resume(self, checkpoint: Checkpoint) -> torch.Tensor:
        """``run`` from a checkpoint on."""
        latents, trajectory = (
            torch.from_numpy(array).to(self._context.device, self._context.dtype)
            for array in (checkpoint.latents, checkpoint.trajectory)
        )
        self._trajectory, self._stored = list(trajectory), list(checkpoint.trajectory)
        return self.run(latents, checkpoint.step, keep=True)

    @torch.no_grad()
    def run(
        self, latents: torch.Tensor, first: int = 0, *, keep: bool = False, tell: Callable[[float], None] | None = None
    ) -> torch.Tensor:
        """(N, C, h, w) clean latents from those before step ``first``; ``keep`` stores a checkpoint after every step, and ``tell``
        is told which fraction of the steps is done.

        Raises ``ShotError`` when they diverge or the memory is too small.
        """
        model, run_context = self._context.model, self._context.run_context
        with ExitStack() as stack:
            stack.enter_context(attend_to_reference(model.denoiser, self._reference, self._predictor.groups))
            for technique in self._techniques:
                stack.enter_context(technique.attention([model.denoiser, *model.controlnets], self._predictor.groups))
            for step in range(first, self.steps):
                started = time.perf_counter()
                latents = self._denoise_step(latents, step, keep=keep)
                self._check_divergence(latents, step)
                if run_context.after_step:
                    given = run_context.after_step(step, self._sampler.timesteps[step], latents, self._predictor)
                    if given is not latents:
                        self._sampler.keep_moves()
                    latents = given
                run_context.record_time("denoising", started)
                if keep:
                    run_context.progress("denoising", step + 1, self.steps)
                    self._stored.append(self._trajectory[-1].float().cpu().numpy())
                    run_context.save(Checkpoint(step + 1, latents.float().cpu().numpy(), np.stack(self._stored)))
                if tell is not None:
                    tell((step + 1 - first) / (self.steps - first))
                run_context.check()
        return latents

    def _denoise_step(self, own: torch.Tensor, step: int, *, keep: bool) -> torch.Tensor:
        """The latents (N, C, h, w) after a step; ``keep`` adds the first frame's before it to the anchor's trajectory."""
        # 1. what the networks and the scheduler are to see
        for technique in self._techniques:
            technique.begin_step(step)
        latents = own if self._anchor is None else torch.cat([self._anchor.trajectory[step : step + 1], own])
        for technique in self._techniques:
            latents = _check_shape(technique, latents, technique.before_step(latents, step))
            self._sampler.change_history(partial(self._change_memory, technique, step))
        if keep:
            # a copy, so that the other frames' latents of every step need not stay
            self._trajectory.append(latents[0].clone())
        # 2. predict the noise, with the gradients that techniques ask for
        prediction, gradients = self._predict(latents, step)
        # 3. the clean latents that the prediction stands for, corrected
        clean = self._sampler.predict_clean(latents, prediction, step)
        given, predicted = clean[: self._given], clean[self._given :]
        corrected = predicted
        for technique in self._techniques:
            corrected = _check_shape(technique, corrected, technique.correct_clean(corrected, step))
        moved = corrected
        for technique in self._techniques:
            moved = _check_shape(technique, moved, technique.move_clean(moved, step))
        show_clean = self._context.run_context.show_clean
        if keep and show_clean is not None:
            show_clean(self._context.rows, moved)
        if moved is not corrected:
            shift = self._sampler.get_picture_scale(step) * (moved - corrected)
            latents = torch.cat([latents[: self._given], latents[self._given :] + shift])
        if moved is not predicted:
            prediction = self._sampler.prediction_for(latents, torch.cat([given, moved]), step)
        # 4. the scheduler's step
        stepped = own = self._sampler.step(latents, prediction, step)[self._given :]
        for technique, gradient in gradients:
            own = _check_shape(technique, own, technique.follow_gradient(own, gradient[self._given :], step))
        for technique in self._techniques:
            own = _check_shape(technique, own, technique.after_step(own, step))
        if own is not stepped:
            self._sampler.keep_moves()
        return own

    def _change_memory(self, technique: Technique, step: int, kept: torch.Tensor) -> torch.Tensor:
        """What a multistep solver remembers of all frames, as a technique changes latents before a step.

        Of given frames nothing was predicted here, so that nothing can be copied from them: there a frame keeps its own, which it
        predicted from the same latents.
        """
        if not self._given:
            return technique.before_step(kept, step)
        hidden = kept.clone()
        hidden[: self._given] = torch.nan
        changed = technique.before_step(hidden, step)
        return torch.where(torch.isnan(changed), kept, changed)

    def _predict(self, latents: torch.Tensor, step: int) -> tuple[torch.Tensor, list[tuple[Technique, torch.Tensor]]]:
        """The networks' output (F, C, h, w), 0 for given frames, and the gradient of every loss of this step in the latents."""
        guides = [technique for technique in self._techniques if technique.gradient_through(step)]
        is_clip = self._context.model.family.kind == "clip"
        output = self._predict_windows(latents, guides, step) if is_clip else torch.zeros_like(latents)
        gradients = [torch.zeros_like(latents) for _ in guides]

        def predict_batch(rows: list[int]) -> None:
            if is_clip:
                current = take_rows(latents, rows).detach().requires_grad_()
                found = self._differentiate(current, take_rows(output, rows), rows, guides, step)
            else:
                made, found = self._predict_batch(latents, rows, guides, step)
                put_rows(output, rows, made)
            for gradient, values in zip(gradients, found, strict=True):
                put_rows(gradient, rows, values)

        if guides or not is_clip:
            own = range(self._given, len(latents))
            run_in_batches(predict_batch, own, self._context.batch_budget, self._context.run_context)
        return output, list(zip(guides, gradients, strict=True))

    def _predict_windows(self, latents: torch.Tensor, guides: Sequence[Technique], step: int) -> torch.Tensor:
        """The networks' output (F, C, h, w) of a model of clips, 0 for given frames. Frames go through it in windows, in their
        order in the shot. Where windows overlap, all of them say something of the same latents, so that the mean of their outputs
        stands for that of their clean predictions. Raises ``ShotError`` for techniques that do not go with it."""
        context = self._context
        if any(guide.gradient_through(step) == "network" for guide in guides):
            raise explain_gradient(context.model.family)
        for technique in self._techniques:
            if technique.reference_frames(step):
                raise ShotError(
                    "technique",
                    f"The technique {type(technique).__name__} has all frames look at some, which {context.model.family.title} "
                    "cannot do; leave it out.",
                )
        output = widen(torch.zeros_like(latents))
        order = [self._given + n for n in sorted(range(len(context.rows)), key=context.rows.__getitem__)]
        for window in plan_windows(order, get_window(context.model), context.model.row_frames):
            rows = list(window.frames)
            weights = torch.tensor(window.weights, device=latents.device, dtype=output.dtype)[:, None, None, None]
            for technique in self._techniques:
                technique.before_prediction(rows, step)

            def predict(rows: list[int] = rows, weights: torch.Tensor = weights) -> None:
                output[rows] += weights * self._predictor(latents, latents[rows], rows, rows, step)

            run_together(predict, len(rows), context.run_context)
        return output.to(latents.dtype)

    def _predict_batch(
        self, latents: torch.Tensor, rows: list[int], guides: Sequence[Technique], step: int
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The networks' output for some frames, and the gradients of the losses of ``guides``."""
        frames = sorted({*rows, *(frame for technique in self._techniques for frame in technique.reference_frames(step))})
        for technique in self._techniques:
            technique.before_prediction(frames, step)
        through = [technique.gradient_through(step) for technique in guides]
        current = take_rows(latents, rows).detach().requires_grad_(bool(guides))
        with torch.set_grad_enabled("network" in through):
            output = self._predictor(latents, current, rows, frames, step)
        return output.detach(), self._differentiate(current, output, rows, guides, step)

    def _differentiate(
        self, current: torch.Tensor, output: torch.Tensor, rows: list[int], guides: Sequence[Technique], step: int
    ) -> list[torch.Tensor]:
        """The gradients of the losses of ``guides`` in the latents ``current`` of some frames, of which the networks gave
        ``output``."""
        through = [technique.gradient_through(step) for technique in guides]
        # half precision loses small gradients: they are scaled up on the way
        scale, gradients = loss_scale(self._context.dtype), []
        for n, technique in enumerate(guides):
            with torch.enable_grad():
                network = through[n] == "network"
                prediction = output if network else output.detach()
                # without the network the direct term is all that there is
                direct = current.detach() if network and self._released.omit_direct else current
                clean = self._sampler.predict_clean(direct, prediction, step)
                loss = technique.loss(rows, clean, step) * scale
                (gradient,) = torch.autograd.grad(loss, current, retain_graph=n + 1 < len(guides))
            gradients.append(gradient / scale)
        return gradients

    def finish_surfaces(self, pictures: list[torch.Tensor], look: Look) -> list[torch.Tensor]:
        """The clip's pictures (3, H, W) with a look's texture, as the fusion finishes them, which comes before what is around the
        surfaces."""
        fusion = self.find_technique(TextureFusion)
        return pictures if fusion is None else fusion.finish_pictures(pictures, look)

    def finish(self, pictures: Iterable[torch.Tensor]) -> Iterable[torch.Tensor]:
        """The clip's pictures (3, H, W) as all other techniques finish them, which have the last word; one after the other where
        none does."""
        for technique in self._techniques:
            finishes = type(technique).finish_pictures is not Technique.finish_pictures
            if finishes and not isinstance(technique, TextureFusion):
                pictures = technique.finish_pictures(list(pictures))
        return pictures

    def _check_divergence(self, latents: torch.Tensor, step: int) -> None:
        limit = DIVERGED * float(self._sampler.scale_noise(torch.ones(1)))
        # asked for once, since a GPU is waited for; what is no number is not less either
        if float(latents.abs().max()) <= limit:
            return
        for technique in self._techniques:
            advice = technique.advice_on_divergence(step)
            if advice:
                raise ShotError("diverged", f"The frames diverged at step {step + 1}; {advice}.")
        raise ShotError(
            "diverged",
            f"The model gave values that are not a picture at step {step + 1}; use another scheduler, a "
            "lower guidance scale, or float32.",
        )


def loss_scale(dtype: torch.dtype) -> float:
    """What losses are multiplied by while gradients flow in ``dtype``."""
    return 256.0 if dtype == torch.float16 else 1.0


def _check_shape(technique: Technique, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """What a technique made of a tensor. Raises ``ShotError`` when its shape is another."""
    if not isinstance(after, torch.Tensor) or after.shape != before.shape:
        found = list(after.shape) if isinstance(after, torch.Tensor) else type(after).__name__
        raise ShotError(
            "technique",
            f"The technique {type(technique).__name__} gave {found} instead of {list(before.shape)}; leave it out, or mend it.",
        )
    return after
