"""Schedulers by the names that requests have for them: diffusers' own, made from a model's configuration, and checked before
anything is made with them.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import diffusers
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    LCMScheduler,
    TCDScheduler,
    UniPCMultistepScheduler,
)

from ...shared.shot import ShotError
from .model_file import ModelFile

#: what a network may predict
PREDICTIONS = ("epsilon", "v_prediction", "sample")
#: what one predicts that is trained by flow matching, for schedulers that also step others
FLOW = "flow_prediction"
#: options of schedulers for all families of Stable Diffusion, as they were trained
TRAINED: Mapping[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
#: with less of the picture's variance than this in the first latents, noise that is predicted says nothing of the picture
NO_SIGNAL = 1e-6
#: denoising begins with noise alone; a schedule that says that this much of the variance is the picture's begins too late
TOO_LATE = 0.3

_DPM = {
    "algorithm_type": "dpmsolver++",
    "solver_order": 2,
    "thresholding": False,
    "use_karras_sigmas": False,
    "use_exponential_sigmas": False,
    "use_beta_sigmas": False,
    "use_lu_lambdas": False,
    "use_flow_sigmas": False,
    "final_sigmas_type": "zero",
}
_EULER = {
    "use_karras_sigmas": False,
    "use_exponential_sigmas": False,
    "use_beta_sigmas": False,
    "timestep_type": "discrete",
    "final_sigmas_type": "zero",
}
_KARRAS = {"use_karras_sigmas": True}
_UNIPC = {name: value for name, value in _DPM.items() if name not in ("algorithm_type", "use_lu_lambdas")}


@dataclass(frozen=True)
class SchedulerKind:
    """One of diffusers' classes with the options that make it what its name says. ``spacings`` are those that can be asked of it,
    ``predictions`` what it can step with."""

    scheduler_class: Any
    options: Mapping[str, Any] = field(default_factory=dict)
    spacings: tuple[str, ...] = ("leading", "trailing", "linspace")
    predictions: tuple[str, ...] = PREDICTIONS


#: every scheduler by its name, which is a choice of ``Sampling.scheduler``
SCHEDULERS: dict[str, SchedulerKind] = {
    # linspace: diffusers' DDIM steps to other noise levels than it then tells the network
    "ddim": SchedulerKind(DDIMScheduler, {"clip_sample": False, "set_alpha_to_one": False}, ("leading", "trailing")),
    "dpm++": SchedulerKind(DPMSolverMultistepScheduler, _DPM),
    "euler": SchedulerKind(EulerDiscreteScheduler, _EULER),
    "lcm": SchedulerKind(LCMScheduler, {"clip_sample": False}, ()),
    "tcd": SchedulerKind(TCDScheduler, {"clip_sample": False}, ()),
    "euler_a": SchedulerKind(EulerAncestralDiscreteScheduler, predictions=("epsilon", "v_prediction")),
    "euler_karras": SchedulerKind(EulerDiscreteScheduler, _EULER | _KARRAS, ()),
    "dpm++_karras": SchedulerKind(DPMSolverMultistepScheduler, _DPM | _KARRAS, ()),
    "dpm++_sde": SchedulerKind(DPMSolverMultistepScheduler, _DPM | {"algorithm_type": "sde-dpmsolver++"}),
    "dpm++_sde_karras": SchedulerKind(DPMSolverMultistepScheduler, _DPM | {"algorithm_type": "sde-dpmsolver++"} | _KARRAS, ()),
    "unipc": SchedulerKind(UniPCMultistepScheduler, _UNIPC),
}
#: their classes
STEPPED = tuple(dict.fromkeys(kind.scheduler_class for kind in SCHEDULERS.values()))


def name_own_scheduler(class_name: str) -> str:
    """The scheduler that a model has by itself, from the class of the one in its folder: DDIM, or LCM or TCD where it was distilled
    with them."""
    return {"LCMScheduler": "lcm", "TCDScheduler": "tcd"}.get(class_name, "ddim")


def make_own_scheduler(file: ModelFile) -> Any:
    """The scheduler of a checkpoint by what its file says: its betas are those of all families, its prediction type its own."""
    kinds = {"lcm": LCMScheduler, "tcd": TCDScheduler}
    options: dict[str, Any] = {
        **TRAINED,
        "prediction_type": file.prediction,
        "timestep_spacing": file.recommended.spacing,
        "rescale_betas_zero_snr": file.zero_terminal_snr,
    }
    return kinds.get(file.recommended.scheduler, DDIMScheduler)(**options)


def make_scheduler(
    config: Mapping[str, Any],
    class_name: str,
    steps: int,
    name: str = "",
    spacing: str = "",
    device: torch.device | None = None,
    *,
    from_zero: bool = False,
) -> Any:
    """A scheduler with a model's own betas and prediction type, set to a number of steps.

    ``config`` and ``class_name`` are those of the scheduler in the model's folder. Without a ``name`` it is the model's own;
    without a ``spacing`` (``leading``, ``trailing`` or ``linspace``) the steps lie as the configuration has it. With ``from_zero``
    leading steps begin at timestep 0, whatever the configuration's ``steps_offset``. Raises ``ShotError`` for what does not go
    together, and for more steps than there are.
    """
    name = name or name_own_scheduler(class_name)
    kind = SCHEDULERS[name]
    check_config(config, class_name)
    prediction = config.get("prediction_type", "epsilon")
    if prediction not in kind.predictions:
        raise ShotError(
            "scheduler",
            f"The scheduler '{name}' cannot step with a model that predicts the clean picture; choose 'ddim' or 'euler'.",
        )
    if spacing and spacing not in kind.spacings:
        raise ShotError("spacing", _explain_spacing(name, spacing, kind))
    options = {**kind.options, **({"timestep_spacing": spacing} if spacing else {}), **({"steps_offset": 0} if from_zero else {})}
    scheduler = kind.scheduler_class.from_config(_list_chosen_values(config, class_name), **options)
    if not _set_steps(scheduler, steps, device):
        most = next((fewer for fewer in range(steps - 1, 0, -1) if _set_steps(scheduler, fewer, device)), 0)
        raise ShotError("steps", f"The scheduler '{name}' cannot take {steps} steps with this model; choose at most {most}.")
    if prediction == "epsilon" and compute_first_signal(scheduler) < NO_SIGNAL:
        raise ShotError(
            "spacing",
            "The model predicts noise, but its schedule begins with noise alone (zero terminal SNR), where that says nothing of "
            "the picture; choose the spacing 'leading', or set its prediction type to v.",
        )
    return scheduler


def _list_chosen_values(config: Mapping[str, Any], class_name: str) -> dict[str, Any]:
    """A configuration without the defaults of its class, which are not another's; a value that was changed later is none of them,
    though diffusers still counts it as one."""
    own = getattr(diffusers, class_name, None)
    known = inspect.signature(own).parameters if isinstance(own, type) else {}
    unset = [name for name in config.get("_use_default_values", ()) if name in known and known[name].default == config.get(name)]
    return {**config, "_use_default_values": unset}


def compute_first_signal(scheduler: Any) -> float:
    """The fraction of the variance that is the picture's, by the schedule, in the latents that denoising begins with."""
    if isinstance(scheduler, FlowMatchEulerDiscreteScheduler) or scheduler.config.get("use_flow_sigmas"):
        noise = float(scheduler.sigmas[0])
        return (1 - noise) ** 2 / ((1 - noise) ** 2 + noise**2)
    if hasattr(scheduler, "sigmas"):
        return float(1 / (scheduler.sigmas[0].double() ** 2 + 1))
    return float(scheduler.alphas_cumprod[int(scheduler.timesteps[0])])


def list_schedule_warnings(scheduler: Any) -> tuple[str, ...]:
    """Sentences about a schedule that can be run and will not look right."""
    if compute_first_signal(scheduler) <= TOO_LATE:
        return ()
    return (
        f"With {len(scheduler.timesteps)} steps and this spacing the schedule begins in the middle of the noise, which shows in "
        "the frames; choose the spacing 'trailing', or another number of steps.",
    )


def check_config(config: Mapping[str, Any], class_name: str) -> None:
    """``ShotError`` for a model of another kind of diffusion."""
    prediction = config.get("prediction_type", "epsilon")
    other = next((mark for mark in ("EDM", "FlowMatch") if class_name.startswith(mark)), "")
    if other or config.get("use_flow_sigmas") or prediction not in PREDICTIONS:
        what = f"its scheduler is {class_name}" if other else f"its prediction type is '{prediction}'"
        raise ShotError("model", f"The model is of a kind of diffusion that is not supported: {what}; use one of epsilon or v.")


def _explain_spacing(name: str, spacing: str, kind: SchedulerKind) -> str:
    if kind.spacings:
        return f"The scheduler '{name}' cannot space its steps as '{spacing}'; choose {' or '.join(kind.spacings)}."
    other = name.removesuffix("_karras")
    instead = f", or the scheduler '{other}'" if other != name else ""
    return f"The scheduler '{name}' spaces its steps by itself; leave the spacing at the model's own{instead}."


def _set_steps(scheduler: Any, steps: int, device: torch.device | None) -> bool:
    """Set a number of steps; False where the scheduler refuses it, or makes steps that lead nowhere or lie outside the schedule."""
    try:
        scheduler.set_timesteps(steps, device=device)
    except ValueError:
        return False
    _drop_step_too_many(scheduler, steps)
    times = scheduler.timesteps.double().cpu()
    levels = scheduler.sigmas.double().cpu() if hasattr(scheduler, "sigmas") else times
    inside = float(times.min()) >= 0 and float(times.max()) < scheduler.config.num_train_timesteps
    return len(times) == steps and inside and bool((levels.diff() < 0).all())


def _drop_step_too_many(scheduler: Any, steps: int) -> None:
    """Trailing steps are counted in floating point, which for some numbers (61, 103, ...) makes one more, behind the last."""
    if len(scheduler.timesteps) == steps + 1 and scheduler.timesteps[-1] < 0:
        scheduler.timesteps = scheduler.timesteps[:-1]
        scheduler.num_inference_steps = steps
        if hasattr(scheduler, "sigmas"):
            scheduler.sigmas = torch.cat([scheduler.sigmas[:steps], scheduler.sigmas[-1:]])
