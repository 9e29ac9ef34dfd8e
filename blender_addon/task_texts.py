"""What the panel and the status bar say of a task that is under way."""

from __future__ import annotations

from ..shared.task import TaskState
from .shot_progress import CANCELLING
from .tasks.shot import ShotTask
from .tasks.task import Task


def is_cancelling(task: Task) -> bool:
    """Whether it was cancelled and has not ended yet."""
    return task.state is TaskState.CANCELLING


def get_task_fraction(task: Task) -> float:
    """The share of the whole task that is done."""
    return task.progress.fraction if isinstance(task, ShotTask) else task.fraction


def describe_task(task: Task) -> str:
    """What it does; of a shot with the frames and the time left."""
    if is_cancelling(task):
        return CANCELLING
    return task.progress.describe(task.stage) if isinstance(task, ShotTask) else task.stage
