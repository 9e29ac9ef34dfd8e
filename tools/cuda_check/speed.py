"""What a frame costs: each way of making a shot at several lengths, against the paper's own setting on the same device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from latentman.backend.models.devices import choose_device
from latentman.shared.shot import ShotError

from .cells import Cell, measure_cell, warm_up
from .child import Task
from .device import describe_device
from .models import make_model
from .recording import Recorder
from .scale import Scale
from .shots import take_drawn

#: ways of making a shot, and the paper's setting
WAYS = ("surface", "surface_fast", "per_frame", "cross_frame", "latentman")
PAPER, PAPER_GUIDANCE = "the paper's setting", 9.0
#: of the paper's steps as many are made as show what a step of each kind takes
PAPER_DIVISOR = 10
#: seconds of a cell at most, and of one whose way is slow
LIMIT, SLOW_LIMIT = 40.0, 25.0


def list_cells(scale: Scale) -> list[Cell]:
    """The cells of a table, the most important first: the paper's setting, then the ways at its length, then the longest shots that
    few key frames pay for, and what is known to take long last."""
    frames, steps = scale.paper
    paper = Cell(PAPER, "latentman", frames, max(scale.steps, steps // PAPER_DIVISOR), PAPER_GUIDANCE, stands_for=steps)
    middle, longest = scale.frame_counts[-2], scale.frame_counts[-1]
    order = [
        *((way, middle) for way in ("per_frame", "surface", "surface_fast")),
        *((way, longest) for way in ("surface", "surface_fast")),
        *((way, count) for count in scale.frame_counts for way in WAYS),
    ]
    return [paper, *(Cell(f"{way}, {count} frames", way, count, scale.steps) for way, count in dict.fromkeys(order))]


def measure_cells(
    recorder: Recorder, cells: list[Cell], measure: Callable[[Cell, float], dict[str, Any]], left: Callable[[], float]
) -> None:
    """Record all cells; a longer shot of a way for which a shorter one was too long is not begun."""
    paper, too_long = None, set[str]()
    for cell in cells:
        limit = min(left(), SLOW_LIMIT if cell.variant == "latentman" and not cell.stands_for else LIMIT)
        if cell.variant in too_long:
            figures = measure(cell, 0.0) | {"reason": "a shorter shot took too long already"}
        else:
            recorder.begin(cell.name, seconds_per_frame=None)
            figures = measure(cell, limit)
        found = figures["seconds_per_frame"]
        if cell.name == PAPER:
            paper = found
        elif found is None and limit > 0:
            too_long.add(cell.variant)
        if paper and found:
            figures["times_as_fast_as_paper"] = paper / found
        recorder.add(cell.name, **figures)


def _run(task: Task, family: str) -> None:
    device, side = choose_device(task.device), task.scale.sides[family]
    task.recorder.tell(**describe_device(task.device))
    shot = take_drawn(task.drawn, side, max(task.scale.paper[0], *task.scale.frame_counts[:2]), max(0.0, task.clock.left / 3))
    model = make_model(family, device, divisor=task.scale.divisor)
    task.recorder.tell(**{f"{family}_precision": str(model.dtype).removeprefix("torch.")})
    try:
        task.recorder.begin("warming up", seconds=None)
        task.recorder.add("warming up", seconds=warm_up(model, shot))
    except ShotError as error:
        # the cells say the same where it was no accident
        task.recorder.add("warming up", seconds=None, reason=str(error))
    measure_cells(
        task.recorder,
        list_cells(task.scale),
        lambda cell, seconds: measure_cell(model, shot, cell, seconds),
        lambda: task.clock.left,
    )


def run_sd15(task: Task) -> None:
    """Stable Diffusion 1.5's shape."""
    _run(task, "sd1")


def run_sdxl(task: Task) -> None:
    """SDXL's shape."""
    _run(task, "sdxl")
