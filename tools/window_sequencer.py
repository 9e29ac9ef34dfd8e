"""The part of the window's test about the sequencer's sidebar and about removing results, by real clicks."""

from __future__ import annotations

import sys
from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import Any

from tools.window_actions import (
    KEY,
    Steps,
    get_connection,
    get_window_manager,
    open_panels,
    take_screenshot,
    wait_seconds,
    wait_until,
)
from tools.window_buttons import Place, confirm, find_place, get_sidebar, press, press_at, press_key, press_until
from tools.window_shots import check_panel_is_free, find_layout, generate, get_current_scene, get_settings, monitor, wait_for_shot

#: seeds of the two versions
FIRST, SECOND = 700, 701
#: pixels from the mouse, which a dialog has a little below its title, down to the switch *Files, Too*
DOWN_TO_FILES = 33


def show_sidebar() -> Generator[float | None, None, Place]:
    """The sequencer's sidebar with our tab, as wide as it opens; returns its place."""
    window = get_window_manager().windows[0]
    # the workspace may still be changing
    yield from wait_seconds(2)
    areas: list[Any] = [area for area in window.screen.areas if area.type == "SEQUENCE_EDITOR"]
    area = max((a for a in areas if a.spaces.active.view_type != "PREVIEW"), key=lambda a: a.width * a.height)
    area.spaces.active.show_region_ui = True
    yield from wait_seconds(2)
    place = find_place(area, "UI", window)
    place.region.active_panel_category = "LatentMan"
    yield from wait_seconds(1)
    return place


def has_sequencer() -> bool:
    """Whether the window shows a sequencer."""
    return any(area.type == "SEQUENCE_EDITOR" for area in get_window_manager().windows[0].screen.areas)


def get_strip() -> Any:
    """The active strip."""
    strip = get_current_scene().sequence_editor.active_strip  # type: ignore[union-attr]
    assert strip is not None
    return strip


def read_ticket() -> str:
    """The task of the result that the strip shows."""
    return sys.modules[f"{KEY}.blender_addon.chosen_result"].find_strip_result(get_strip()).ticket


def use_sequencer() -> Steps:
    """A strip's versions, the shot made again, its prompt; then results are removed, with and without their files."""
    yield from generate("the first version", FIRST, steps=2)
    yield from generate("the second version", SECOND, steps=2)
    monitor.phase = "the sequencer's sidebar"
    # pressed by hand, it shows a workspace with a sequencer
    yield from press_until("latentman.to_sequencer()", has_sequencer)
    assert get_current_scene().sequence_editor is not None
    get_window_manager().windows[0].workspace = find_layout()
    yield from wait_seconds(2)
    yield from press_until("latentman.show_in_sequencer", has_sequencer)
    place = yield from show_sidebar()
    yield from take_screenshot("30-strip")
    tickets = {result.seed: result.ticket for result in get_settings().results}
    assert read_ticket() == tickets[SECOND]
    yield from press_until(f'latentman.strip_version(ticket="{tickets[FIRST]}"', lambda: read_ticket() == tickets[FIRST], place)
    yield from take_screenshot("30-other-version")
    yield from undo_there(place)
    assert read_ticket() == tickets[SECOND], "Ctrl+Z does not bring the version back"
    yield from press_until("latentman.copy_prompt", lambda: get_window_manager().clipboard == get_settings().prompt, place)
    yield from make_again(place)
    get_window_manager().windows[0].workspace = find_layout()
    yield from wait_seconds(2)
    yield from remove_results()


def undo_there(place: Place) -> Steps:
    """Ctrl+Z with the mouse over the sequencer."""
    window = next(region for region in place.area.regions if region.type == "WINDOW")
    yield from press_at(place, window.x + window.width // 2, window.y + 12)
    yield from press_key("Z", ctrl=True)
    yield from wait_seconds(2)


def has_other_task(before: Any) -> bool:
    """Whether another shot has been started than the one of before."""
    return get_connection().shot_task is not before


def make_again(place: Place) -> Steps:
    """*Make Again* from the sequencer, as it was and with another seed."""
    task = get_connection().shot_task
    for button, seeds in (("latentman.make_again()", {FIRST, SECOND}), ("latentman.make_again(new_seed=True)", None)):
        before = len(get_settings().results)
        monitor.phase = button
        yield from press_until(button, partial(has_other_task, task), place)
        task = get_connection().shot_task
        yield from take_screenshot(f"30-making-{'another' if seeds is None else 'again'}")
        yield from wait_for_shot(task, lambda shot: False, "the shot that is made again")
        assert task.succeeded, task.error
        yield from wait_seconds(1)
        # repeats do not pile up
        assert len(get_settings().results) == before + (seeds is None), [result.seed for result in get_settings().results]
    yield from take_screenshot("30-made-again")


def remove_results() -> Steps:
    """The dialog of *Remove*: nothing on Esc, the entry alone, then the files, too."""
    open_panels()
    results = get_settings().results
    count, folder = len(results), find_folder()
    yield from press("latentman.remove_result()", get_sidebar())
    yield from take_screenshot("30-asked")
    yield from press_key("ESC")
    assert len(results) == count and any(folder.glob("*.png"))
    x, y = yield from press("latentman.remove_result()")
    yield from confirm(get_sidebar(), x, y)
    yield from wait_until(lambda: len(get_settings().results) == count - 1, "the result to be removed")
    assert any(folder.glob("*.png")), "the files went with the entry"
    yield from remove_files(count - 1)
    yield from take_screenshot("30-removed")
    check_panel_is_free()


def find_folder() -> Path:
    """The folder of the chosen result's frames."""
    return sys.modules[f"{KEY}.blender_addon.paths"].get_result_folder(get_settings().find_active_result())


def remove_files(count: int) -> Steps:
    """Tick *Files, Too*, see what it says, and confirm."""
    folder = find_folder()
    assert any(folder.glob("*.png"))
    sidebar = get_sidebar()
    x, y = yield from press("latentman.remove_result()", sidebar)
    yield from press_at(sidebar, x, y - DOWN_TO_FILES)
    yield from take_screenshot("30-asked-for-files")
    yield from confirm(sidebar, x, y)
    yield from wait_until(lambda: len(get_settings().results) == count - 1, "the result to be removed with its files")
    assert not any(folder.glob("*.png")), list(folder.iterdir())
