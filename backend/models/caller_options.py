"""What a caller of the diffusers pipelines may ask of the scheduler and the networks, which no request says."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDIMScheduler, TCDScheduler

from ...shared.shot import ShotError
from .schedulers import STEPPED, check_config


@dataclass(frozen=True)
class CallerOptions:
    """``scheduler`` steps instead of one that is made by its name, exactly as it is configured; ``timesteps`` or ``sigmas`` are a
    schedule of the caller's own; ``eta`` is that of DDIM and TCD, None for their own; in ``guess_mode`` ControlNets do not see
    the unconditional pass; ``lora_scale`` is the strength of the LoRAs that diffusers has loaded into the UNet."""

    scheduler: Any = None
    timesteps: tuple[int, ...] = ()
    sigmas: tuple[float, ...] = ()
    eta: float | None = None
    guess_mode: bool = False
    lora_scale: float | None = None

    @property
    def has_schedule(self) -> bool:
        """Whether the steps are not counted but given."""
        return bool(self.timesteps or self.sigmas)

    def prepare(self, made: Any, steps: int, device: torch.device) -> Any:
        """The scheduler to step with: the caller's own, else ``made``, with the caller's schedule, else with ``steps``. Raises
        ``ShotError`` for what does not go together."""
        scheduler = made if self.scheduler is None else copy.deepcopy(self.scheduler)
        name = type(scheduler).__name__
        if self.scheduler is not None:
            check_config(scheduler.config, name)
        if self.eta and not isinstance(scheduler, (DDIMScheduler, TCDScheduler)):
            raise ShotError("eta", f"The {name} has no eta; use DDIM or TCD, or leave eta out.")
        try:
            if self.timesteps:
                _check_accepted(scheduler, "timesteps")
                scheduler.set_timesteps(timesteps=list(self.timesteps), device=device)
            elif self.sigmas:
                _check_accepted(scheduler, "sigmas")
                scheduler.set_timesteps(sigmas=list(self.sigmas), device=device)
            elif self.scheduler is not None:
                scheduler.set_timesteps(steps, device=device)
        except (ValueError, AssertionError, IndexError) as error:
            if isinstance(error, ShotError):
                raise
            what = "timesteps" if self.timesteps else "sigmas" if self.sigmas else f"{steps} steps"
            raise ShotError("steps", f"The {name} cannot take {what} ({error}); give others.") from error
        levels = scheduler.sigmas if hasattr(scheduler, "sigmas") else scheduler.timesteps
        if not bool((torch.as_tensor(levels).double().diff() < 0).all()):
            raise ShotError("steps", f"The steps of the {name} do not all lead to less noise; give other steps.")
        return scheduler


def _check_accepted(scheduler: Any, argument: str) -> None:
    if argument not in inspect.signature(scheduler.set_timesteps).parameters:
        able = [kind.__name__ for kind in STEPPED if argument in inspect.signature(kind.set_timesteps).parameters]
        raise ShotError(
            argument,
            f"The {type(scheduler).__name__} takes no {argument} of one's own; set pipe.scheduler to one of {', '.join(able)}, or "
            f"leave {argument} out.",
        )


def check_stepped(scheduler: Any) -> None:
    """``ShotError`` for a scheduler that the method cannot step with."""
    if type(scheduler) not in STEPPED:
        raise ShotError(
            "scheduler",
            f"The method cannot step with a {type(scheduler).__name__}; set pipe.scheduler to one of "
            f"{', '.join(kind.__name__ for kind in STEPPED)}.",
        )


def read_schedule(timesteps: Sequence[int] | None, sigmas: Sequence[float] | None) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """A caller's schedule. Raises ``ShotError`` for both at once, and for an empty one."""
    if timesteps is not None and sigmas is not None:
        raise ShotError("timesteps", "The steps are given by timesteps and by sigmas; give only one of the two.")
    for name, given in (("timesteps", timesteps), ("sigmas", sigmas)):
        if given is not None and not len(given):
            raise ShotError(name, f"No frames can be made in 0 steps; give {name} with at least one number.")
    return tuple(int(t) for t in timesteps or ()), tuple(float(s) for s in sigmas or ())
