"""How long the panel's next shot may take, and what a finished one tells of the next."""

from __future__ import annotations

import bpy

from ..shared.shot import ShotRequest
from .connection import connection
from .properties import LatentManSettings
from .tasks.shot import ShotTask
from .time_estimate import QUESTION_SECONDS, Estimate, Job, Run, estimate, write_duration
from .time_history import history

#: a shot whose frames were on disk already, that waited for others, or fetched its model, tells nothing of the next one
_MAKING = "loading the model"
_WAITING = ("waiting", "downloading")


def estimate_shot(settings: LatentManSettings, scene: bpy.types.Scene, frames: int) -> Estimate | None:
    """How long a shot of so many frames may take on the backend's device; None where nothing tells."""
    size, steps = settings.get_picture_size(scene), settings.steps or settings.find_own_values(("steps",))["steps"]
    return None if size is None else _estimate(settings.get_model(), settings.get_preset(), size, int(steps), frames)


def estimate_request(request: ShotRequest, size: tuple[int, int]) -> Estimate | None:
    """How long a finished request for pictures of ``size`` may take on the backend's device; None where nothing tells."""
    return _estimate(request.sampling.model, request.preset, size, request.sampling.steps, len(request.frames))


def _estimate(model: str, preset: str, size: tuple[int, int], steps: int, frames: int) -> Estimate | None:
    if not steps or not connection.device or not frames:
        return None
    return estimate(Job(connection.device, model, preset, *size, steps, frames), history.list_runs())


def write_question(frames: int, found: Estimate | None) -> tuple[str, str]:
    """(title, message) of the question before a shot that takes more than a few minutes; empty where nothing is to be asked."""
    if found is None or found.seconds <= QUESTION_SECONDS:
        return "", ""
    word = "roughly" if found.is_rough else "about"
    return (
        f"Generate {frames} frames?",
        f"They take {word} {write_duration(found.seconds)} on this device. Finished frames are kept when you cancel.",
    )


def make_run(task: ShotTask, device: str) -> Run | None:
    """What a finished shot tells of the next one; None where its time says nothing: a preview, frames that were there already or
    were kept, and time that was spent in waiting."""
    made = ((task.report or {}).get("frames") or {}).get("made")
    request, seconds = task.request, task.seconds.get("backend", 0.0)
    if not task.succeeded or not device or made != len(request.frames) or seconds <= 0 or task.came_early:
        return None
    if _MAKING not in task.stages or any(stage.startswith(_WAITING) for stage in task.stages):
        return None
    size = (task.crop.width, task.crop.height) if task.crop is not None else (request.width, request.height)
    return Run(device, request.sampling.model, request.preset, *size, request.sampling.steps, made, round(seconds, 3))


def keep_time(task: ShotTask) -> None:
    """Keep the time of a finished shot, where it tells something."""
    run = make_run(task, connection.device)
    if run is not None:
        history.add(run)
