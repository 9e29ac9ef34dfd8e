"""Finds and presses buttons in a real Blender window as a user does: the mouse goes over a region until the button is under it.

Blender tells what is under the mouse: an operator as its *Copy Python Command* has it, such as ``latentman.generate()``, or a
field by its data path as *Copy Data Path* has it. So nothing here knows where a button is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import bpy

from tools.window_actions import (
    QUICK,
    Steps,
    get_window_and_view,
    get_window_manager,
    take_screenshot,
    wait_seconds,
    wait_until,
)

#: steps at whose end a place in the window is known
Found = Generator[float | None, None, tuple[int, int]]
Search = Generator[float | None, None, tuple[int, int] | None]
#: pixels from one line that is looked at to the next, less than a button is high
STEP = 18
#: shares of a region's width: where most buttons are, and all others
ACROSS = ((0.3, 0.7, 0.83), (0.45, 0.5, 0.12, 0.77, 0.9))
#: where buttons were last, relative to the region
_known: dict[str, tuple[int, int]] = {}
#: pixels from the mouse up to the title of the dialog that a button opens
UP_TO_TITLE = 25
#: how long a button that has moved may have been missed
MOVED_SECONDS = 15.0
#: turns of the wheel from one look at a long region to the next, and to its end
TURNS, MOST_TURNS = 8, 48
#: pixels at a region's side that are no button
FROM_SIDE = 4


@dataclass(frozen=True)
class Place:
    """Where buttons are looked for. Not to be kept while a file is opened."""

    window: Any
    area: Any
    region: Any

    def override(self) -> Any:
        """Blender's context here."""
        return bpy.context.temp_override(window=self.window, area=self.area, region=self.region)


def find_place(area: Any, kind: str, window: Any = None) -> Place:
    """The region of a kind in an area, of the first window where none is named."""
    return Place(window or get_window_manager().windows[0], area, next(region for region in area.regions if region.type == kind))


def get_sidebar() -> Place:
    """The 3D viewport's sidebar."""
    return Place(*get_window_and_view())


def read_button(place: Place) -> str:
    """What is under the mouse: an operator's call, a field's data path, or nothing."""
    manager = get_window_manager()
    ui: Any = bpy.ops.ui
    with place.override():
        for read in (ui.copy_python_command_button, ui.copy_data_path_button):
            if read.poll():
                before, manager.clipboard = manager.clipboard, ""
                read()
                found, manager.clipboard = manager.clipboard, before
                return found.removeprefix("bpy.ops.").strip()
    return ""


#: where the mouse was moved to last: a simulated key tells Blender where the mouse is
_mouse = [0, 0]


def move_mouse(place: Place, x: int, y: int) -> None:
    """Have the mouse at window coordinates."""
    _mouse[:] = x, y
    place.window.event_simulate("MOUSEMOVE", "NOTHING", x=x, y=y)


def look_at(place: Place, x: int, y: int) -> Generator[float | None, None, str]:
    """Have the mouse at a point, and wait until Blender tells what is there for sure."""
    move_mouse(place, x, y)
    yield from wait_seconds(0.2)
    return read_button(place)


def look_for(what: str, place: Place, columns: tuple[float, ...], seen: set[str]) -> Search:
    """Go down columns of what a region shows now, first where the button was last; returns where it is, or None.
    Whatever is found is ``seen``."""
    region = place.region
    ends = range(region.height - 6, 4, -STEP)
    points = [(region.x + round(region.width * across), region.y + y) for across in columns for y in ends]
    last = points[0]
    if what in _known:
        points.insert(0, (region.x + _known[what][0], region.y + _known[what][1]))
    for point in points:
        move_mouse(place, *point)
        yield QUICK
        found = read_button(place)
        seen.add(found)
        if found.startswith(what):
            # what is read may still be about the point before
            for x, y in (last, point):
                if (yield from look_at(place, x, y)).startswith(what):
                    _known[what] = x - region.x, y - region.y
                    return x, y
        last = point
    return None


def turn_wheel(place: Place, turns: int) -> Steps:
    """Turn the wheel over a region: down, or up for a negative number. At its side: a list in the middle would turn by itself."""
    region = place.region
    x, y = region.x + FROM_SIDE, region.y + region.height // 2
    move_mouse(place, x, y)
    for _ in range(abs(turns)):
        place.window.event_simulate("WHEELDOWNMOUSE" if turns > 0 else "WHEELUPMOUSE", "PRESS", x=x, y=y)
        yield QUICK
    yield from wait_seconds(0.5)


def find_button(what: str, place: Place | None = None, across: float | None = None) -> Found:
    """Look for a button whose call or path begins with ``what``, here and then all over the region, first ``across`` of its width
    where that is known; returns its (x, y)."""
    place, seen = place or get_sidebar(), set[str]()
    for columns in ACROSS if across is None else ((across,), *ACROSS):
        for turns in range(0, MOST_TURNS + 1, TURNS):
            found = yield from look_for(what, place, columns, seen)
            if found is not None:
                return found
            yield from turn_wheel(place, TURNS if turns else -MOST_TURNS)
    raise AssertionError(f"there is no button {what} among {sorted(seen)}")


def find_top(what: str, place: Place) -> Found:
    """The highest pixel of a button, at the x where it was found."""
    x, y = yield from find_button(what, place)
    while (yield from look_at(place, x, y + 2)).startswith(what):
        y += 2
    return x, y


def press_at(place: Place, x: int, y: int) -> Steps:
    """A real click, slow enough for what is under the mouse to take notice of it."""
    move_mouse(place, x, y)
    yield from wait_seconds(0.1)
    for value in ("PRESS", "RELEASE"):
        place.window.event_simulate("LEFTMOUSE", value, x=x, y=y)
        yield from wait_seconds(0.1)


def press(what: str, place: Place | None = None, picture: str = "", across: float | None = None) -> Found:
    """Find a button and click it; with a ``picture``, after a screenshot with the mouse over it. Returns where it is."""
    place = place or get_sidebar()
    while True:
        x, y = yield from find_button(what, place, across)
        # boxes may grow while they are looked at
        yield from wait_seconds(0.5)
        if (yield from look_at(place, x, y)).startswith(what):
            break
    if picture:
        yield from take_screenshot(picture)
    yield from press_at(place, x, y)
    yield from wait_seconds(0.5)
    return x, y


def press_until(what: str, reached: Callable[[], object], place: Place | None = None, across: float | None = None) -> Steps:
    """Click a button, and wait for what it does; once more, where the boxes have moved and the click went to what came under the
    mouse."""
    place = place or get_sidebar()
    x, y = yield from press(what, place, across=across)
    end = time.monotonic() + MOVED_SECONDS
    while not reached() and time.monotonic() < end:
        yield None
    if not reached() and not (yield from look_at(place, x, y)).startswith(what):
        yield from press(what, place, across=across)
    yield from wait_until(reached, f"what {what} does")


def press_key(key: str, window: Any = None, **held: bool) -> Steps:
    """A real key, with ``ctrl``, ``shift`` or ``alt`` held, where the mouse is."""
    window, (x, y) = window or get_window_manager().windows[0], _mouse
    for value in ("PRESS", "RELEASE"):
        window.event_simulate(key, value, x=x, y=y, **held)
        yield from wait_seconds(0.1)
    yield from wait_seconds(0.5)


def confirm(place: Place, x: int, y: int) -> Steps:
    """Enter in the dialog of a button that was pressed at a point, with the mouse over its title: over a field or a switch the key
    would go there."""
    move_mouse(place, x, y + UP_TO_TITLE)
    yield from wait_seconds(0.3)
    yield from press_key("RET", place.window)


def type_text(text: str, window: Any = None) -> Steps:
    """Type lower-case letters, figures and underscores, where a field is being edited."""
    window, (x, y) = window or get_window_manager().windows[0], _mouse
    keys = ("ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE", "MINUS")
    names = dict(zip("0123456789_", keys, strict=True))
    for letter in text:
        window.event_simulate(names.get(letter, letter.upper()), "PRESS", unicode=letter, x=x, y=y)
        window.event_simulate(names.get(letter, letter.upper()), "RELEASE", x=x, y=y)
        yield QUICK
