"""What the parts of the window's test have in common: the panel's settings, a shot that is set up and generated, and its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bpy

from tools.window_actions import (
    StallMonitor,
    Steps,
    can_click,
    click,
    get_connection,
    get_window_manager,
    press_ctrl_z,
    wait_seconds,
    wait_until,
)

PROMPT = "a knight in red armour"
monitor = StallMonitor()


def get_current_scene() -> bpy.types.Scene:
    """The scene; to be asked for again after every undo."""
    scene = bpy.context.scene
    assert scene is not None
    return scene


def get_settings() -> Any:
    """The panel's settings, whose type is the installed extension's; to be asked for again after every undo."""
    scene: Any = get_current_scene()
    return scene.latentman


def wait_for_shot(shot: Any, reached: Callable[[Any], bool], what: str) -> Steps:
    """Wait until a shot has reached something, or has ended."""
    return wait_until(lambda: shot.done or reached(shot), what)


def is_in_stage(stage: str, fraction: float) -> Callable[[Any], bool]:
    """A test whether a shot has done more than a fraction of a stage."""
    return lambda shot: shot.stage == stage and shot.fraction > fraction


def set_up_shot(frames: int, seed: int, steps: int = 8) -> None:
    """Set up a shot that has not been made yet."""
    scene = get_current_scene()
    if scene.camera is None:
        click("latentman.use_clip")
        click("latentman.frame_character")
        scene = get_current_scene()
    scene.frame_start, scene.frame_end = 1, frames
    chosen = get_settings()
    chosen.prompt, chosen.seed, chosen.steps, chosen.only_changed = PROMPT, seed, steps, False


def check_panel_is_free() -> None:
    """Fail while something is being made."""
    assert not get_connection().busy, "the panel is still busy"
    assert can_click("latentman.generate"), "Generate is greyed out"


def generate(phase: str, seed: int, steps: int = 8) -> Steps:
    """Generate two frames."""
    set_up_shot(2, seed, steps)
    monitor.phase = phase
    click("latentman.generate")
    yield from wait_until(lambda: get_connection().shot_task.done, f"frames {phase}")
    assert get_connection().shot_task.succeeded, f"{phase}: {get_connection().shot_task.error}"
    check_panel_is_free()


def press_ctrl_z_and_wait() -> Steps:
    """Ctrl+Z over the viewport, and time for it."""
    press_ctrl_z()
    yield from wait_seconds(2)


def find_layout() -> bpy.types.WorkSpace:
    """The workspace with the viewport, which a sequencer's may have taken the place of."""
    shown = get_window_manager().windows[0].workspace
    return next((one for one in bpy.data.workspaces if one.name == "Layout"), shown)
