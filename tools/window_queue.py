"""The part of the window's test about the queue: shots of two scenes, ordered, paused, cancelled, undone under, saved, reopened."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import bpy

from tools.window_actions import (
    KEY,
    Steps,
    get_arguments,
    get_connection,
    get_window_and_view,
    get_window_manager,
    open_panels,
    scroll,
    take_screenshot,
    wait_seconds,
    wait_until,
)
from tools.window_buttons import TURNS, find_top, get_sidebar, press, press_at, press_until, turn_wheel
from tools.window_shots import check_panel_is_free, get_current_scene, get_settings, monitor, press_ctrl_z_and_wait, set_up_shot

#: seeds of the shots as they are queued; the fourth is of the second scene
FIRST, SECOND, THIRD, OTHER = 600, 601, 602, 603
#: the states of shots that nothing is done for any more
ENDS = ("done", "failed", "cancelled", "partial")
#: the object that the user moves meanwhile
PROP = "Prop"
#: pixels between two rows of a list, and from the top of the button beside it into the first
ROW, INTO_LIST = 20, 15
#: pixels at a region's lower edge that are no row: there it is resized
FROM_EDGE = 30


def get_module(name: str) -> Any:
    """A module of the installed extension's queue."""
    return sys.modules[f"{KEY}.blender_addon.queue.{name}"]


def list_rows() -> Any:
    """The queue's rows, in order."""
    return get_module("book").book.queue.rows


def list_seeds() -> list[int]:
    """The seeds of the queue's rows, in order."""
    return [row.shot.request.sampling.seed for row in list_rows()]


def ends_with(seed: int) -> bool:
    """Whether a shot is the last one of the queue."""
    return list_seeds()[-1:] == [seed]


def is_order(seeds: list[int]) -> bool:
    """Whether the shots are in this order."""
    return list_seeds() == seeds


def get_states() -> dict[int, str]:
    """seed -> what has become of the shot."""
    return {row.shot.request.sampling.seed: row.state.value for row in list_rows()}


def is_running(seed: int) -> bool:
    """Whether a shot is being made, and denoises already."""
    task = get_module("runner").runner.current_task
    return get_states()[seed] == "running" and task is not None and task.stage == "denoising" and task.fraction > 0.2


def wait_for_state(seed: int, reached: Callable[[], object], what: str) -> Steps:
    """Wait until a shot has reached something; fails where it has ended otherwise."""
    yield from wait_until(lambda: reached() or get_states()[seed] in ENDS, what)
    assert reached(), [(row.state.value, row.message) for row in list_rows()]


def choose_row(place: int) -> Steps:
    """Click on a row of the list."""
    sidebar = get_sidebar()
    manager: Any = get_window_manager()
    # the button beside the list's first row
    _, top = yield from find_top("latentman.queue_remove", sidebar)
    y = top - INTO_LIST - ROW * place
    if y < sidebar.region.y + FROM_EDGE:
        yield from turn_wheel(sidebar, TURNS)
        _, top = yield from find_top("latentman.queue_remove", sidebar)
        y = top - INTO_LIST - ROW * place
    assert y >= sidebar.region.y + FROM_EDGE, f"row {place} of the queue is out of sight"
    yield from press_at(sidebar, sidebar.region.x + sidebar.region.width // 3, y)
    yield from wait_until(lambda: manager.latentman_queue.active == place, f"row {place} of the queue to be chosen")


def queue_shots() -> Steps:
    """Queue three shots of this scene and one of a copy of it, by clicks."""
    set_up_shot(2, FIRST, steps=2)
    window = get_window_and_view()[0]
    scene = window.scene
    for seed in (FIRST, SECOND, THIRD):
        get_settings().seed = seed
        yield from press_until("latentman.queue_add()", partial(ends_with, seed))
    with bpy.context.temp_override(window=window):
        bpy.ops.scene.new(type="FULL_COPY")
    yield from wait_seconds(1)
    other = window.scene
    assert other != scene and get_settings().character.name in other.objects
    other.name = "Other Scene"
    # slow enough to be cancelled
    get_settings().prompt, get_settings().seed, get_settings().steps = "a wizard in a blue robe", OTHER, 30
    yield from press_until("latentman.queue_add()", partial(ends_with, OTHER))
    window.scene = scene
    yield from wait_seconds(1)
    yield from take_screenshot("19-queued")


def move_prop() -> None:
    """Move an object, with an undo step."""
    window, area, _ = get_window_and_view()
    for found in get_current_scene().objects:
        found.select_set(found.name == PROP)
    region = next(one for one in area.regions if one.type == "WINDOW")
    with bpy.context.temp_override(window=window, area=area, region=region):
        assert bpy.ops.transform.translate("EXEC_DEFAULT", True, value=(1, 0, 0)) == {"FINISHED"}


def undo_moves() -> Steps:
    """Move an object twice and take it back twice, while a shot is being made."""
    scene = get_current_scene()
    scene.collection.objects.link(bpy.data.objects.new(PROP, None))
    with bpy.context.temp_override(window=get_window_and_view()[0]):
        bpy.ops.ed.undo_push(message="Add")
    for _ in range(2):
        move_prop()
    assert bpy.data.objects[PROP].location.x == 2
    for _ in range(2):
        yield from press_ctrl_z_and_wait()
    assert bpy.data.objects[PROP].location.x == 0, "Ctrl+Z took back something else"


def use_queue() -> Steps:
    """The whole of it."""
    open_panels("QueuePanel")
    yield from scroll(60)
    monitor.phase = "queueing"
    yield from queue_shots()
    # the upper one of the two arrows
    for wanted in ([FIRST, SECOND, OTHER, THIRD], [FIRST, OTHER, SECOND, THIRD]):
        yield from press_until("latentman.queue_move(", partial(is_order, wanted))
    yield from choose_row(2)
    yield from press_until("latentman.queue_pause_row", lambda: get_states()[SECOND] == "paused")
    yield from choose_row(1)
    yield from take_screenshot("19-ordered")
    monitor.phase = "the queue"
    yield from press("latentman.queue_start")
    yield from wait_until(lambda: is_running(FIRST) or get_states()[FIRST] in ENDS, "the first shot")
    yield from take_screenshot("19-first")
    yield from undo_moves()
    assert list_seeds() == [FIRST, OTHER, SECOND, THIRD], get_states()
    yield from wait_for_state(OTHER, lambda: is_running(OTHER), "the shot of the other scene")
    assert get_window_and_view()[0].scene.name != "Other Scene", "the window shows another scene"
    yield from press("latentman.queue_cancel()", picture="19-other")
    yield from wait_until(lambda: get_states()[OTHER] == "cancelled", "the end of the cancelled shot")
    yield from wait_until(lambda: get_states()[THIRD] not in ("waiting", "running"), "the last shot")
    assert get_states() == {FIRST: "done", OTHER: "cancelled", SECOND: "paused", THIRD: "done"}, get_states()
    yield from wait_until(lambda: not get_module("runner").runner.is_going, "the end of the queue")
    yield from take_screenshot("19-ended")
    yield from reopen()
    yield from make_rest()
    yield from show_table()


def reopen() -> Steps:
    """Save the file, and open it again: the queue is as it was, and so are the results."""
    path, before = str(get_arguments()[1] / "queue.blend"), (list_seeds(), get_states())
    bpy.ops.wm.save_as_mainfile(filepath=path)
    yield from wait_seconds(1)
    with bpy.context.temp_override(window=get_window_and_view()[0]):
        bpy.ops.wm.open_mainfile(filepath=path)
    yield from wait_seconds(3)
    assert (list_seeds(), get_states()) == before, (list_seeds(), get_states())
    assert {FIRST, THIRD} <= {result.seed for result in get_settings().results}
    yield from take_screenshot("19-reopened")


def make_rest() -> Steps:
    """The paused shot is resumed, and the cancelled one queued again, after the file was opened."""
    assert get_connection().connected, "the backend went with the file"
    yield from choose_row(2)
    yield from press_until("latentman.queue_pause_row", lambda: get_states()[SECOND] == "waiting")
    yield from choose_row(1)
    yield from press_until("latentman.queue_repeat", lambda: get_states()[OTHER] == "waiting")
    yield from press("latentman.queue_start")
    yield from wait_until(lambda: all(state in ENDS for state in get_states().values()), "the rest of the queue")
    assert set(get_states().values()) == {"done"}, [(row.state.value, row.message) for row in list_rows()]
    other: Any = bpy.data.scenes["Other Scene"]
    assert [result.seed for result in other.latentman.results if result.seed == OTHER], "the other scene has no result"


def show_table() -> Steps:
    """The table in the Text editor, and the finished rows cleared."""
    yield from press_until("latentman.queue_table", lambda: "LatentMan Queue" in bpy.data.texts)
    area: Any = max((a for a in get_window_and_view()[0].screen.areas if a.type != "VIEW_3D"), key=lambda a: a.width * a.height)
    before, area.ui_type = area.ui_type, "TEXT_EDITOR"
    area.spaces.active.text = bpy.data.texts["LatentMan Queue"]
    yield from take_screenshot("19-table")
    area.ui_type = before
    yield from press_until("latentman.queue_clear", lambda: not list_rows())
    yield from take_screenshot("19-cleared")
    open_panels()
    check_panel_is_free()
