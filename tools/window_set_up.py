"""The part of the window's test about *Set Up*, by real clicks: cancelled, from files, repaired, moved, paired with, removed.

It begins with nothing but the zip, and is run alone. ``LATENTMAN_WINDOW_WHEELS`` is the folder of the packages.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bpy

from tools.window_actions import (
    KEY,
    Steps,
    get_arguments,
    get_connection,
    get_window_manager,
    take_screenshot,
    wait_seconds,
    wait_until,
)
from tools.window_buttons import Place, confirm, find_place, press, press_key, press_until
from tools.window_first_clip import get_set_up, install_zip


def wait_for_set_up(what: str) -> Steps:
    """Wait until what runs has ended, and not failed."""
    set_up = get_set_up()
    yield from wait_until(lambda: not set_up.busy, what)
    assert set_up.state.value != "failed", set_up.message


def find_environment() -> Any:
    """The backend's environment that is used, or None."""
    preferences = sys.modules[KEY + ".blender_addon.preferences"]
    return sys.modules[KEY + ".shared.backend_environment"].find_current(preferences.get_backend_folder(bpy.context))


def find_browser() -> bpy.types.Window | None:
    """The window of the file browser, None where there is none."""
    found = (window for window in get_window_manager().windows if window.screen.areas[0].type == "FILE_BROWSER")
    return next(found, None)


def choose_folder(folder: Path, picture: str) -> Steps:
    """Choose a folder in the file browser that opens in a window of its own."""
    yield from wait_until(lambda: find_browser() is not None, "the file browser")
    window = find_browser()
    assert window is not None
    area: Any = next(area for area in window.screen.areas if area.type == "FILE_BROWSER")
    yield from wait_until(lambda: area.spaces.active.params is not None, "the file browser's folder")
    area.spaces.active.params.directory = os.fsencode(folder)
    yield from wait_seconds(1)
    (request := get_arguments()[1] / f"{picture}.request").touch()
    yield from wait_until(request.with_suffix(".done").exists, "a screenshot of the file browser")
    yield from press("file.execute()", find_place(area, "EXECUTE", window))
    yield from wait_until(lambda: find_browser() is None, "the file browser to be closed")


def use_set_up() -> Steps:
    """The whole of it."""
    yield from install_zip()
    yield from cancel_installation()
    yield from install_from_files()
    place = yield from show_preferences_page()
    yield from press_until("latentman.repair_backend", lambda: get_set_up().busy, place)
    yield from take_screenshot("31-repairing")
    yield from wait_for_set_up("the repair")
    assert "Nothing was damaged" in get_set_up().result, get_set_up().result
    yield from take_screenshot("31-repaired")
    yield from move(place)
    yield from pair(place)
    yield from remove(place)


def cancel_installation() -> Steps:
    """Install from the network, and cancel while packages come."""
    set_up = get_set_up()
    yield from press_until("latentman.plan_set_up", lambda: set_up.state.value == "planned")
    yield from press_until("latentman.run_set_up", lambda: set_up.state.value == "running")
    yield from wait_until(lambda: (set_up.step.name == "packages" and set_up.step.done > 10e6) or not set_up.busy, "packages")
    yield from press_until("latentman.cancel_set_up", lambda: not set_up.busy)
    assert "what has come is kept" in set_up.result, set_up.result
    yield from take_screenshot("31-cancelled")


def install_from_files() -> Steps:
    """Plan again, which knows what has come, then install from a folder."""
    set_up = get_set_up()
    yield from press_until("latentman.plan_set_up", lambda: set_up.state.value == "planned")
    assert set_up.plan["present"] > 5e6, set_up.plan["present"]
    yield from take_screenshot("31-planned-again")
    yield from press("latentman.set_up_from_files")
    yield from choose_folder(Path(os.environ["LATENTMAN_WINDOW_WHEELS"]), "31-files")
    yield from wait_until(lambda: not set_up.busy, "the plan from files")
    assert set_up.state.value == "planned" and set_up.plan["files"], (set_up.state, set_up.message)
    yield from take_screenshot("31-from-files")
    yield from press_until("latentman.run_set_up", lambda: set_up.state.value == "running")
    yield from wait_for_set_up("the installation from files")
    yield from wait_for_backend()
    yield from press_until("latentman.stop_backend", lambda: not get_connection().running)


def wait_for_backend() -> Steps:
    """Wait until a backend is connected."""
    yield from wait_until(lambda: get_connection().connected or get_connection().error, "the backend")
    assert get_connection().connected, get_connection().error


def show_preferences_page() -> Generator[float | None, None, Place]:
    """The extension's preferences in a window of their own, as from the menu *Edit*; returns their place."""
    manager, preferences = get_window_manager(), bpy.context.preferences
    assert preferences is not None
    with bpy.context.temp_override(window=manager.windows[0]):
        bpy.ops.screen.userpref_show()
    yield from wait_until(lambda: len(manager.windows) > 1, "the preferences")
    window = manager.windows[-1]
    area = window.screen.areas[0]
    preferences.active_section, manager.addon_search = "ADDONS", "LatentMan"
    with bpy.context.temp_override(window=window, area=area):
        bpy.ops.preferences.addon_expand(module=KEY)
    yield from wait_seconds(2)
    return find_place(area, "WINDOW", window)


def move(place: Place) -> Steps:
    """Move the packages to another folder, from where the backend starts, too."""
    target = get_arguments()[1] / "elsewhere"
    target.mkdir()
    yield from press("latentman.move_backend", place)
    yield from choose_folder(target, "31-moving")
    yield from wait_for_set_up("the move")
    environment = find_environment()
    assert environment is not None and Path(environment.python).is_relative_to(target), environment
    yield from take_screenshot("31-moved")
    yield from press_until("latentman.start_backend", lambda: get_connection().running)
    yield from wait_for_backend()
    yield from press_until("latentman.stop_backend", lambda: not get_connection().running)


@contextmanager
def serve_elsewhere() -> Iterator[str]:
    """A backend that is another user's; gives the line that it prints for who pairs."""
    out = get_arguments()[1]
    # a backend that is announced in this user's folder would be taken for the user's own
    folders = {"LATENTMAN_CONFIG": str(out / "other-config"), "LATENTMAN_DATA": str(out / "other-data")}
    environment = os.environ | folders
    package = Path(sys.modules[KEY].__file__ or "").parent
    launch = [str(find_environment().python), str(package / "backend" / "launch.py"), "serve", "--pair"]
    with (out / "other-backend.log").open("w") as log:
        process = subprocess.Popen(
            [*launch, "--endpoint", "tcp://127.0.0.1:0", "--jobs", str(out / "other-jobs")],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            assert process.stdout is not None
            yield next(line.strip() for line in process.stdout if line.startswith("latentman://"))
        finally:
            process.terminate()
            process.wait()


def pair(place: Place) -> Steps:
    """*Pair...* with the line on the clipboard."""
    with serve_elsewhere() as text:
        get_window_manager().clipboard = text
        x, y = yield from press("latentman.pair_backend", place)
        yield from take_screenshot("31-pairing")
        yield from confirm(place, x, y)
        yield from wait_for_backend()
        yield from take_screenshot("31-paired")
        yield from press_until("latentman.stop_backend", lambda: not get_connection().running)


def remove(place: Place) -> Steps:
    """*Remove* asks, and then the packages are gone."""
    folder = Path(find_environment().python).parents[1]
    yield from press("latentman.remove_backend", place)
    yield from take_screenshot("31-asked")
    yield from press_key("ESC", place.window)
    assert not get_set_up().busy and folder.is_dir()
    yield from press("latentman.remove_backend", place)
    yield from press_key("RET", place.window)
    yield from wait_until(lambda: get_set_up().result, "the removal")
    yield from wait_for_set_up("the removal")
    assert find_environment() is None and not folder.exists()
    yield from take_screenshot("31-removed")
