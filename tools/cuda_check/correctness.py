"""Whether a device makes the frames that it should: against the processor's, in every precision, with every scheduler and preset,
from a kept look, after an interruption, and where memory is short."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from latentman.backend.models.schedulers import SCHEDULERS
from latentman.backend.pictures import write_png
from latentman.shared.shot import PRESETS

from . import jobs
from .child import Task
from .device import describe_device
from .families import check_families
from .frames import Maker, compute_psnr, find_largest_difference, lay_out, without_tf32
from .shots import draw_shot, load_saved

#: levels by which frames in float32 may differ from the processor's, and decibels that halves must reach
MOST_LEVELS, LEAST_PSNR = 1, 35.0
#: presets whose frames are compared in every precision
COMPARED = ("surface", "per_frame")
#: frames of a shot for what concerns no more of them
FEW = 2


def make_maker(task: Task) -> Maker:
    """What makes the part's frames: of the shot from Blender, if it was brought."""
    scale = task.scale
    saved = load_saved(task.shots) if scale.name == "full" else None
    shot = saved.select(scale.check_frames) if saved else draw_shot(scale.check_frames, scale.check_side)
    task.recorder.tell(check_shot="rendered in Blender" if saved else "drawn by the package's rasteriser")
    return Maker(shot, scale.check_steps, {})


def check_precisions(task: Task, maker: Maker) -> None:
    """Frames in float32 against the processor's, in half precision against float32."""
    for preset in COMPARED:
        wanted = maker.make(maker.load("cpu"), preset=preset)
        exact = maker.make(maker.load(task.device), preset=preset)
        levels = find_largest_difference(exact, wanted)
        if maker.load(task.device).device.type == "cuda":
            with without_tf32():
                exactly = maker.make(maker.load(task.device), preset=preset)
            task.recorder.add(
                f"float32 without TF32, {preset}", largest_difference=find_largest_difference(exactly, wanted), of_default=levels
            )
        task.recorder.check(
            f"float32, {preset}", levels <= MOST_LEVELS, f"within {MOST_LEVELS} level of the processor's", largest_difference=levels
        )
        rows = [wanted, exact]
        for dtype in ("float16", "bfloat16"):
            found = maker.make(maker.load(task.device, dtype), preset=preset)
            psnr = compute_psnr(found, exact)
            task.recorder.check(f"{dtype}, {preset}", psnr >= LEAST_PSNR, f"{LEAST_PSNR:g} dB to float32", psnr=psnr)
            rows.append(found)
        if task.pictures is not None:
            task.pictures.mkdir(parents=True, exist_ok=True)
            write_png(task.pictures / f"precisions_{preset}.png", lay_out(rows))


def _check_alike(task: Task, maker: Maker, name: str, frames: int, **changes: Any) -> np.ndarray | None:
    try:
        wanted = maker.make(maker.load("cpu"), frames=frames, **changes)
        found = maker.make(maker.load(task.device), frames=frames, **changes)
    except Exception as error:  # one that fails says so, and the others are still tried
        task.recorder.check(name, False, "frames", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
        return None
    levels = find_largest_difference(found, wanted)
    task.recorder.check(name, levels <= MOST_LEVELS, f"within {MOST_LEVELS} level of the processor's", largest_difference=levels)
    return found


def check_presets(task: Task, maker: Maker) -> None:
    """Every preset."""
    rows = []
    for preset in PRESETS:
        if task.clock.left <= 0:
            task.recorder.check(f"preset {preset}", None, "frames", "no time was left")
            continue
        if preset not in COMPARED:
            rows.append(_check_alike(task, maker, f"preset {preset}", 0, preset=preset))
    shown = [row for row in rows if row is not None]
    if shown and task.pictures is not None:
        write_png(task.pictures / "presets.png", lay_out(shown))


def check_schedulers(task: Task, maker: Maker) -> None:
    """Every scheduler."""
    for scheduler in SCHEDULERS:
        if task.clock.left <= 0:
            task.recorder.check(f"scheduler {scheduler}", None, "frames", "no time was left")
            continue
        _check_alike(task, maker, f"scheduler {scheduler}", FEW, preset="per_frame", scheduler=scheduler, steps=4)


def run(task: Task) -> None:
    """Make all checks, the most important first; one that raises is kept with its reason."""
    task.recorder.tell(**describe_device(task.device))
    maker = make_maker(task)
    checks: tuple[Callable[[Task, Maker], None], ...] = (
        check_precisions,
        jobs.check_resumption,
        jobs.check_kept_look,
        jobs.check_cancelling,
        jobs.check_short_memory,
        jobs.check_growth,
        check_schedulers,
        check_presets,
        check_families,
    )
    for check in checks:
        name = check.__name__.removeprefix("check_").replace("_", " ")
        if task.clock.left <= 0:
            task.recorder.check(name, None, "", "no time was left")
            continue
        try:
            check(task, maker)
        except Exception as error:  # the checks after it are still made
            task.recorder.check(name, False, "", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
