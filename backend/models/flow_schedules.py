"""The steps of models that are trained by flow matching: diffusers' own scheduler for them, and for some its multistep solver."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler

from ...shared.shot import ShotError
from .schedulers import FLOW

#: names of ``Sampling.scheduler`` that such a model can be stepped with: along the straight line, which is Euler's way
NAMES = ("", "euler")
#: the same of models that are also published with a multistep solver
SHIFTED_NAMES = (*NAMES, "unipc")


def check_flow_config(config: Mapping[str, Any], class_name: str, title: str) -> None:
    """``ShotError`` for a model of the family ``title`` whose scheduler is none of flow matching."""
    if class_name != FlowMatchEulerDiscreteScheduler.__name__ or config.get("invert_sigmas"):
        raise ShotError(
            "model",
            f"{title} is trained by flow matching, and the model's scheduler is {class_name or 'of another kind'}; use the "
            "FlowMatchEulerDiscreteScheduler that it was published with.",
        )
    if config.get("prediction_type"):
        raise ShotError(
            "model", f"{title} predicts a flow, not '{config['prediction_type']}'; take the prediction out of its settings file."
        )
    if config.get("rescale_betas_zero_snr"):
        raise ShotError("model", f"{title} has no zero terminal SNR; take zero_terminal_snr out of its settings file.")


def _check_choice(name: str, spacing: str, title: str, names: Sequence[str]) -> None:
    """``ShotError`` for a scheduler that is none of ``names``, and for a spacing."""
    if name not in names:
        choices = " or ".join(f"'{one}'" for one in names if one)
        raise ShotError(
            "scheduler", f"The scheduler '{name}' cannot step with {title}, which is trained by flow matching; choose {choices}."
        )
    if spacing:
        raise ShotError("spacing", f"{title} spaces its steps by itself; leave the spacing at the model's own.")


def make_flow_scheduler(
    config: Mapping[str, Any],
    class_name: str,
    name: str,
    spacing: str,
    tokens: int,
    sigmas: Sequence[float] | int,
    device: torch.device | None,
    title: str,
) -> FlowMatchEulerDiscreteScheduler:
    """A scheduler of flow matching at ``sigmas``, which it shifts by its configuration, or at as many steps of its own. ``tokens``
    is how many pieces of a picture the network sees, by which some models shift the steps.

    Raises ``ShotError`` for a scheduler or a spacing that it does not have, and for a model of another kind of diffusion.
    """
    check_flow_config(config, class_name, title)
    _check_choice(name, spacing, title, NAMES)
    scheduler = FlowMatchEulerDiscreteScheduler.from_config(dict(config))
    options: dict[str, Any] = dict(device=device)
    if config.get("use_dynamic_shifting"):
        options["mu"] = compute_shift(config, tokens)
    if isinstance(sigmas, int):
        scheduler.set_timesteps(sigmas, **options)
    else:
        scheduler.set_timesteps(sigmas=list(sigmas), **options)
    if not bool((scheduler.sigmas.double().diff() < 0).all()):
        raise ShotError("steps", f"The schedule of the model takes no {len(scheduler.timesteps)} steps; choose fewer.")
    return scheduler


def make_shifted_scheduler(
    config: Mapping[str, Any], class_name: str, name: str, spacing: str, steps: int, device: torch.device | None, title: str
) -> Any:
    """A scheduler of flow matching whose steps are always shifted alike, as far as the configuration says: along the straight line,
    or by UniPC, whichever is asked for or the model has. Raises ``ShotError`` as ``make_flow_scheduler`` does."""
    is_solver = class_name == UniPCMultistepScheduler.__name__ and bool(config.get("use_flow_sigmas"))
    if not is_solver:
        check_flow_config(config, class_name, title)
    elif config.get("prediction_type") != FLOW:
        raise ShotError(
            "model",
            f"{title} predicts a flow, not '{config.get('prediction_type')}'; take the prediction out of its settings file.",
        )
    if config.get("use_dynamic_shifting"):
        raise ShotError(
            "model", f"{title} shifts its steps always alike; take use_dynamic_shifting out of its scheduler's settings."
        )
    _check_choice(name, spacing, title, SHIFTED_NAMES)
    scheduler: Any
    if (name or ("unipc" if is_solver else "euler")) == "unipc":
        own = dict(config) if is_solver else {}
        shift = {} if is_solver else {"flow_shift": config.get("shift", 1.0)}
        scheduler = UniPCMultistepScheduler.from_config(own, prediction_type=FLOW, use_flow_sigmas=True, **shift)
    elif is_solver:
        scheduler = FlowMatchEulerDiscreteScheduler(shift=config.get("flow_shift", 1.0))
    else:
        scheduler = FlowMatchEulerDiscreteScheduler.from_config(dict(config))
    scheduler.set_timesteps(steps, device=device)
    if not bool((scheduler.sigmas.double().diff() < 0).all()):
        raise ShotError("steps", f"The schedule of the model takes no {steps} steps; choose fewer.")
    return scheduler


def compute_shift(config: Mapping[str, Any], tokens: int) -> float:
    """How far the steps are shifted towards the noise for pictures of so many tokens: along a line through two points that the
    configuration names."""
    fewest, most = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    low, high = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    slope = (high - low) / (most - fewest)
    return float(tokens * slope + low - slope * fewest)
