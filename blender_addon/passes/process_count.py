"""How many Blenders share the frames of a shot. Nothing here uses bpy."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ...shared.machine import write_size

#: what ``--processes`` takes besides a number
AUTO = "auto"
#: more than these only wait for one another
MOST = 64
#: starting a Blender takes as long as some frames
LEAST_FRAMES = 4
#: the part of the free memory that Blenders may take, where their number is chosen here: what they show, the backend and others
#: need the rest
MEMORY_SHARE = 0.5


@dataclass(frozen=True)
class ProcessCount:
    """How many Blenders there are, and a sentence that says so; ``doubt`` is one about memory, "" where there is enough or nobody
    knows."""

    count: int
    sentence: str
    doubt: str = ""


def count_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def choose_process_count(asked: int | None, frames: int, cores: int, free: int | None, each: int) -> ProcessCount:
    """How many Blenders share so many frames; ``asked`` is None for as many as are useful. ``free`` is memory in bytes, None where
    nobody knows, and ``each`` what a Blender takes with this file."""
    if asked is not None:
        count = max(1, min(asked, frames, MOST))
        doubt = ""
        if count > 1 and free is not None and count * each > free:
            doubt = (
                f"{count} Blenders take about {write_size(count * each)} of memory with this file, {write_size(free)} are "
                f"free; with --processes {AUTO} there are as many as fit."
            )
        return ProcessCount(count, f"{_name(count)} the frames.", doubt)
    limits = {
        f"{cores} processor cores": cores,
        f"{frames} frames": frames // LEAST_FRAMES,
    }
    if free is not None:
        limits[f"{write_size(free)} of free memory, {write_size(each)} for each"] = int(MEMORY_SHARE * free / each)
    reason = min(limits, key=lambda name: limits[name])
    count = max(1, min(MOST, limits[reason]))
    return ProcessCount(count, f"{_name(count)} the frames ({AUTO}: {reason}).")


def _name(count: int) -> str:
    return "One Blender renders" if count == 1 else f"{count} Blenders share"
