"""A run that a caller watches: called back after every step, changed by what the callback gives, and stopped when it is told to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback

from ...shared.shot import ShotError
from ..video.pipeline import Interrupted, RunContext, ShotPipeline
from ..video.prediction import Predictor, TensorShapeError

#: (pipeline, step index, timestep, tensors by name) -> tensors to go on with
StepCallback = Callable[[Any, int, torch.Tensor, dict[str, Any]], dict[str, Any] | None]
AnyCallback: TypeAlias = StepCallback | PipelineCallback | MultiPipelineCallbacks


def check_callback(callback: AnyCallback | None) -> None:
    """``TypeError`` for what cannot be called."""
    if callback is not None and not callable(callback):
        raise TypeError(f"The callback_on_step_end is a {type(callback).__name__}; give a function.")


def read_tensor_names(
    callback: AnyCallback | None, names: Sequence[str] | None, known: Sequence[str], background_prompt: str
) -> tuple[str, ...]:
    """The tensors of the ``known`` ones that a callback is given: its own if it is an object of diffusers', else ``names``. Raises
    ``ShotError`` for others, and for those that cannot be changed."""
    if isinstance(callback, (PipelineCallback, MultiPipelineCallbacks)):
        names = callback.tensor_inputs
    found = tuple(names or ())
    unknown = [name for name in found if name not in known]
    if unknown:
        raise ShotError(
            "callback",
            f"There is no tensor '{unknown[0]}' for callback_on_step_end_tensor_inputs; choose {', '.join(known)}.",
        )
    if background_prompt and set(found) - {"latents", "image"}:
        raise ShotError("callback", "A callback cannot change the text beside a background_prompt; leave one of them out.")
    return found


class StepWatch:
    """Calls back after every step of one run, and stops it after a step in which the pipeline is interrupted."""

    def __init__(self, pipeline: Any, context: RunContext, callback: AnyCallback | None, names: Sequence[str]) -> None:
        """``context`` is the run's; ``names`` are the tensors that the callback is given."""
        self._pipeline, self._context, self._callback, self._names = pipeline, context, callback, names
        #: the latents after the last step, and which frames they are
        self._last: tuple[torch.Tensor, tuple[int, ...]] | None = None
        context.after_step = self._after_step
        context.should_stop = lambda: pipeline._interrupt and self._last is not None

    def collect(self, run: ShotPipeline, *, as_latents: bool) -> tuple[list[torch.Tensor], list[int]]:
        """The frames of a clip that there are, finished or not, and which of the shot's they are."""
        found: dict[int, torch.Tensor] = {}
        try:
            found.update(run.iter_latents() if as_latents else run.iter_pictures())
        except Interrupted:
            assert self._last is not None
            self._context.should_stop = lambda: False
            latents, rows = self._last
            missing = [n for n, row in enumerate(rows) if row not in found]
            # frames that share rows are decoded together, and others only where they are missing
            values = latents[missing] if as_latents else run.decode_some(latents, missing)
            found.update(zip([rows[n] for n in missing], values, strict=True))
        order = sorted(found)
        return [found[row] for row in order], order

    def _after_step(self, step: int, timestep: torch.Tensor, latents: torch.Tensor, predictor: Predictor) -> torch.Tensor:
        pipeline, names = self._pipeline, self._names
        pipeline._frame_indices = predictor.rows
        if self._callback is not None:
            tensors = {"latents": latents} | (predictor.list_tensors() if set(names) - {"latents"} else {})
            guidance = pipeline._guidance_scale
            returned = self._callback(pipeline, step, timestep, {name: tensors.get(name) for name in names}) or {}
            latents = _read_latents(returned, latents)
            _change_inputs(predictor, returned, pipeline._guidance_scale if pipeline._guidance_scale != guidance else None)
        self._last = latents, predictor.rows
        return latents


def _read_latents(returned: Any, latents: torch.Tensor) -> torch.Tensor:
    """The latents that a callback gave, else those that it was given. Raises ``ShotError`` for others."""
    if not isinstance(returned, dict):
        raise ShotError("callback", f"The callback gave a {type(returned).__name__}; give a dictionary of tensors, or None.")
    found = returned.get("latents", latents)
    if not isinstance(found, torch.Tensor) or found.shape != latents.shape:
        what = list(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
        raise ShotError("callback", f"The callback gave latents of {what}; give them back as {list(latents.shape)}.")
    return found.to(latents)


def _change_inputs(predictor: Predictor, returned: dict[str, Any], guidance_scale: float | None) -> None:
    """Have the networks go on with what a callback gave. Raises ``ShotError`` for what they cannot."""
    try:
        predictor.replace_tensors(returned)
    except TensorShapeError as error:
        raise ShotError(
            "callback", f"The callback gave {error.name} of shape {error.shape}; give them back in the shape in which they came."
        ) from error
    if guidance_scale is None:
        return
    try:
        predictor.change_guidance(guidance_scale)
    except ValueError as error:
        raise ShotError(
            "guidance_scale", "Guidance cannot be switched on between steps; begin with a guidance_scale above 1."
        ) from error
