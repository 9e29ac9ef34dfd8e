"""From the zip to the first clip in a real Blender window, by real clicks alone: five, and nothing is typed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import bpy

from tools.window_actions import (
    KEY,
    click_at,
    click_down_column,
    get_arguments,
    get_connection,
    get_window_and_view,
    scroll,
    take_screenshot,
    wait_seconds,
    wait_until,
)


def get_set_up() -> Any:
    """The installed extension's *Set Up*."""
    return sys.modules[KEY + ".blender_addon.set_up.state"].set_up


def get_settings() -> Any:
    """The panel's settings."""
    scene: Any = bpy.context.scene
    return scene.latentman


def _press(across: float, down: int, reached: Callable[[], bool], what: str) -> Iterator[None]:
    """Click once, at a part of the sidebar's width and so many pixels below its top, and wait for what the button does."""
    region = get_window_and_view()[2]
    click_at(region.x + round(region.width * across), region.y + region.height - down)
    yield from wait_until(reached, what)


def make_first_clip() -> Iterator[None]:
    """Install from disk, then five clicks: Set Up, Install, Add Mannequin, Make Motion, Generate."""
    package, _ = get_arguments()
    yield from wait_seconds(2)
    bpy.ops.extensions.package_install_files(filepath=package, repo="user_default", enable_on_install=True)
    preferences = bpy.context.preferences
    assert preferences is not None
    preferences.system.use_online_access = True
    _, area, region = get_window_and_view()
    # away with the splash screen, which nobody has open when they install something
    click_at(area.x + 80, area.y + 60)
    area.spaces.active.show_region_ui = True  # type: ignore[union-attr]
    yield from wait_seconds(2)
    region.active_panel_category = "LatentMan"  # type: ignore[assignment]  # it depends on the add-ons
    yield from take_screenshot("20-fresh")
    set_up = get_set_up()
    yield from _press(0.3, 45, lambda: set_up.state.value == "planned", "the plan")
    yield from take_screenshot("21-plan")
    yield from _press(0.5, 222, lambda: set_up.state.value == "running", "the installation")
    yield from wait_until(lambda: (set_up.step.name == "packages" and set_up.step.done > 60e6) or not set_up.busy, "packages")
    yield from take_screenshot("22-fetching")
    yield from wait_until(lambda: set_up.step.name == "trying" or not set_up.busy, "the check")
    yield from take_screenshot("23-trying")
    yield from wait_until(lambda: not set_up.busy, "the end of the installation")
    assert not set_up.message, set_up.message
    yield from wait_until(lambda: get_connection().connected or get_connection().error, "the backend")
    assert get_connection().connected, get_connection().error
    yield from take_screenshot("24-connected")
    yield from _press(0.25, 163, lambda: get_settings().character is not None, "the mannequin")
    yield from take_screenshot("25-mannequin")
    # the panel grows while it is looked at
    yield from click_down_column(0.25, lambda: get_connection().motion_task is not None, 300, 350)
    yield from wait_until(lambda: get_connection().motion_task.done, "the motion")
    assert get_connection().motion_task.succeeded, get_connection().motion_task.error
    yield from take_screenshot("26-motion")
    yield from scroll(40)
    yield from take_screenshot("27-before")
    yield from click_down_column(0.75, lambda: get_connection().shot_task is not None, 588, 624)
    yield from wait_until(lambda: get_connection().shot_task.fraction > 0.5 or get_connection().shot_task.done, "half of the shot")
    yield from take_screenshot("28-generating")
    yield from wait_until(lambda: get_connection().shot_task.done, "the shot")
    assert get_connection().shot_task.succeeded, get_connection().shot_task.error
    yield from take_screenshot("29-clip")
