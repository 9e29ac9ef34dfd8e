"""Motion models by name: the starter, MDM checkpoints by their folder, and whatever other packages register.

A package adds a model with an entry point of the group ``latentman.motion_sources`` that names a class: called without
arguments, it gives an object with the one method of ``MotionSource``.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol

import torch

from ...shared.motion import MotionError
from ...shared.motion_request import Kept, MotionRequest
from .checkpoints import load_checkpoint
from .generate import MadeMotion, make
from .text import TextEncoder

STARTER = Path(__file__).resolve().parent / "starter"
GROUP = "latentman.motion_sources"
StepDone = Callable[[int, int], None]


class MotionSource(Protocol):
    """Anything that makes motions of HumanML3D's 22 joints from words."""

    def make(self, request: MotionRequest, kept: Kept | None, step_done: StepDone) -> MadeMotion:
        """The motions of a request. ``step_done(step, of)`` is called as they come about and may raise to stop.

        Raises ``MotionError`` for what it cannot do, such as keeping parts of a motion.
        """
        ...


class MdmSource:
    """An MDM checkpoint with its text encoder."""

    def __init__(
        self,
        checkpoint: Path,
        device: torch.device,
        statistics: Path | None = None,
        text_encoder: str | None = None,
    ) -> None:
        """Loads both; raises ``MotionError``."""
        self._device = device
        self._model = load_checkpoint(checkpoint, statistics)
        own = self._model.folder / "text_encoder"
        self._texts = TextEncoder(self._model.text_encoder, text_encoder or (str(own) if own.is_dir() else None), device)

    def make(self, request: MotionRequest, kept: Kept | None, step_done: StepDone) -> MadeMotion:
        """See ``MotionSource``."""
        return make(self._model, request, self._texts, self._device, kept, step_done)


def names() -> tuple[str, ...]:
    """The names that can be asked for beside folders."""
    return ("starter", *sorted(entry.name for entry in entry_points(group=GROUP)))


def load(name: str, device: torch.device, statistics: Path | None = None, text_encoder: str | None = None) -> MotionSource:
    """A source by its name or by the checkpoint's path; ``MotionError`` says what there is."""
    if name == "starter":
        return MdmSource(STARTER, device)
    for entry in entry_points(group=GROUP):
        if entry.name == name:
            return entry.load()()
    path = Path(name).expanduser()
    if not path.exists():
        raise MotionError(f"There is no motion model '{name}'; choose {', '.join(names())}, or the folder of an MDM checkpoint.")
    return MdmSource(path, device, statistics, text_encoder)
