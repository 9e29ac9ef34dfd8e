"""From the zip to the first clip in a real Blender window, by real clicks alone: five, and nothing is typed."""

from __future__ import annotations

import sys
from typing import Any

import bpy

from tools.window_actions import (
    KEY,
    Steps,
    click_at,
    get_arguments,
    get_connection,
    get_window_and_view,
    scroll,
    take_screenshot,
    wait_seconds,
    wait_until,
)
from tools.window_buttons import press_until
from tools.window_shots import get_settings


def get_set_up() -> Any:
    """The installed extension's *Set Up*."""
    return sys.modules[KEY + ".blender_addon.set_up.state"].set_up


def install_zip() -> Steps:
    """Install the extension from disk with Blender online, and show the sidebar's tab."""
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
    yield from wait_seconds(1)


def make_first_clip() -> Steps:
    """Install from disk, then five clicks: Set Up, Install, Add Mannequin, Make Motion, Generate."""
    yield from install_zip()
    yield from take_screenshot("20-fresh")
    set_up = get_set_up()
    yield from press_until("latentman.plan_set_up", lambda: set_up.state.value == "planned")
    yield from take_screenshot("21-plan")
    yield from press_until("latentman.run_set_up", lambda: set_up.state.value == "running")
    yield from wait_until(lambda: (set_up.step.name == "packages" and set_up.step.done > 60e6) or not set_up.busy, "packages")
    yield from take_screenshot("22-fetching")
    yield from wait_until(lambda: set_up.step.name == "trying" or not set_up.busy, "the check")
    yield from take_screenshot("23-trying")
    yield from wait_until(lambda: not set_up.busy, "the end of the installation")
    assert not set_up.message, set_up.message
    yield from wait_until(lambda: get_connection().connected or get_connection().error, "the backend")
    assert get_connection().connected, get_connection().error
    yield from take_screenshot("24-connected")
    yield from press_until("latentman.add_mannequin", lambda: get_settings().character is not None)
    yield from take_screenshot("25-mannequin")
    yield from press_until("latentman.make_motion", lambda: get_connection().motion_task is not None)
    yield from wait_until(lambda: get_connection().motion_task.done, "the motion")
    assert get_connection().motion_task.succeeded, get_connection().motion_task.error
    yield from take_screenshot("26-motion")
    yield from scroll(40)
    yield from take_screenshot("27-before")
    yield from press_until("latentman.generate()", lambda: get_connection().shot_task is not None)
    shot = get_connection().shot_task
    yield from wait_until(lambda: shot.progress.fraction > 0.5 or shot.done, "half of the shot")
    yield from take_screenshot("28-generating")
    yield from wait_until(lambda: shot.done, "the shot")
    assert shot.succeeded, shot.error
    yield from take_screenshot("29-clip")
