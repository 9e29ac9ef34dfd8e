"""What is said of costumes, and what they are to the window."""

from __future__ import annotations

from pathlib import Path

from .tasks.dress import DressTask


def describe_costume(path: Path, task: DressTask) -> str:
    """The sentence about a costume that was made."""
    views, known = len(task.request.frames), task.known
    share = "" if known is None else f", which show {known:.1%} of the surface"
    return f"The costume is in {path}, made from {views} views{share}"
