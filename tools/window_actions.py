"""What scripts do inside a real Blender window: clicks, keys, waiting, screenshots, and watching for stalls.

Whatever waits is a generator, which a timer advances, so that the window stays responsive meanwhile.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bpy

#: work that is done step by step: what it yields are the seconds until the next one, None for a tick
Steps = Iterator[float | None]
KEY, TICK, PATIENCE = "bl_ext.user_default.latentman", 0.3, float(os.environ.get("LATENTMAN_WINDOW_PATIENCE", "400"))
#: seconds until the next step, for work that asks for it
QUICK = 0.02


def get_arguments() -> tuple[str, Path]:
    """The extension's zip and the output folder: what follows ``--`` on the command line."""
    package, out = sys.argv[sys.argv.index("--") + 1 :][:2]
    return package, Path(out)


def get_connection() -> Any:
    """The installed extension's connection."""
    return sys.modules[KEY + ".blender_addon.connection"].connection


def get_window_manager() -> bpy.types.WindowManager:
    """Blender's window manager."""
    manager = bpy.context.window_manager
    assert manager is not None, "Blender runs in a window"
    return manager


def get_window_and_view() -> tuple[bpy.types.Window, bpy.types.Area, bpy.types.Region]:
    """The window, its 3D viewport, and the sidebar in it."""
    window = get_window_manager().windows[0]
    area = max((a for a in window.screen.areas if a.type == "VIEW_3D"), key=lambda a: a.width * a.height)
    return window, area, next(r for r in area.regions if r.type == "UI")


def click(operator: str, **properties: Any) -> None:
    """Run an operator as the panel's button does: in the same context, by the same invocation, after the same poll."""
    window, area, region = get_window_and_view()
    module, name = operator.split(".")
    with bpy.context.temp_override(window=window, area=area, region=region):
        function = getattr(getattr(bpy.ops, module), name)
        assert function.poll(), f"{operator} is greyed out"
        # with an undo step, as a button makes one
        result = function("EXEC_DEFAULT", True, **properties)
    assert result == {"FINISHED"}, f"{operator}: {result}"


def can_click(operator: str) -> bool:
    """Whether the panel's button is not greyed out."""
    window, area, region = get_window_and_view()
    module, name = operator.split(".")
    with bpy.context.temp_override(window=window, area=area, region=region):
        return bool(getattr(getattr(bpy.ops, module), name).poll())


def click_at(x: int, y: int) -> None:
    """A real left click at window coordinates."""
    window = get_window_and_view()[0]
    window.event_simulate("MOUSEMOVE", "NOTHING", x=x, y=y)
    window.event_simulate("LEFTMOUSE", "PRESS", x=x, y=y)
    window.event_simulate("LEFTMOUSE", "RELEASE", x=x, y=y)


def press_ctrl_z() -> None:
    """A real Ctrl+Z with the mouse over the viewport."""
    window, area, _ = get_window_and_view()
    x, y = area.x + area.width // 3, area.y + area.height // 2
    window.event_simulate("MOUSEMOVE", "NOTHING", x=x, y=y)
    window.event_simulate("Z", "PRESS", x=x, y=y, ctrl=True)
    window.event_simulate("Z", "RELEASE", x=x, y=y, ctrl=True)


def click_down_column(across: float, reached: Callable[[], bool], begin: int = 30, end: int = 190) -> Steps:
    """Click down a column of the sidebar, ``across`` of its width, until a button there has done its work.

    ``begin`` and ``end`` are pixels from its top.
    """
    region = get_window_and_view()[2]
    for y in range(region.y + region.height - begin, region.y + region.height - end, -8):
        if reached():
            return
        click_at(region.x + round(region.width * across), y)
        yield from wait_seconds(0.4)
    assert reached(), f"no button at {across} of the sidebar's width answered"


def open_panels(*names: str) -> None:
    """Show these sub-panels open and all others closed, as if the user had clicked their headers."""
    panels = sys.modules[KEY + ".blender_addon.panels"]
    children = [cls for cls in panels.CLASSES if getattr(cls, "bl_parent_id", None)]
    for cls in reversed(children):
        bpy.utils.unregister_class(cls)
    plain = {cls: cls.bl_idname.removesuffix("_open") for cls in children}
    # Blender remembers by identifier which panels are folded
    now = {plain[cls]: plain[cls] + ("_open" if cls.__name__ in names else "") for cls in children}
    for cls in children:
        cls.bl_idname = now[plain[cls]]
        parent = cls.bl_parent_id.removesuffix("_open")
        cls.bl_parent_id = now.get(parent, parent)
        cls.bl_options = set() if cls.__name__ in names else {"DEFAULT_CLOSED"}
        bpy.utils.register_class(cls)


def scroll(lines: int) -> Steps:
    """Turn the mouse wheel over the sidebar: down, or up for a negative number."""
    window, _, region = get_window_and_view()
    x, y = region.x + region.width // 2, region.y + region.height // 2
    window.event_simulate("MOUSEMOVE", "NOTHING", x=x, y=y)
    for _ in range(abs(lines)):
        window.event_simulate("WHEELDOWNMOUSE" if lines > 0 else "WHEELUPMOUSE", "PRESS", x=x, y=y)
        yield from wait_seconds(0.1)


def take_screenshot(name: str) -> Steps:
    """Wait until a screenshot of this state is taken."""
    out = get_arguments()[1]
    # a workspace for films has no viewport
    for area in get_window_manager().windows[0].screen.areas:
        area.tag_redraw()
    yield from wait_seconds(1.5)
    (out / f"{name}.request").touch()
    yield from wait_until(lambda: (out / f"{name}.done").exists(), f"a screenshot of {name}")


def wait_seconds(seconds: float) -> Steps:
    """Let the window run for some seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield None


def wait_until(condition: Callable[[], object], what: str) -> Steps:
    """Wait for a condition, at most ``PATIENCE`` seconds."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"waited too long for {what}"
        yield None


class StallMonitor:
    """How long the window stood still: the longest times between two ticks of a quick timer, and what of it was the extension's.

    ``phase`` names what is going on; figures are kept for each name and written as text, to be read and not asserted.
    """

    def __init__(self) -> None:
        self.phase = "start"
        self.gaps: dict[str, list[float]] = {}
        #: by phase and by what the extension did: how long each call took
        self.calls: dict[str, dict[str, list[float]]] = {}
        self._last = time.monotonic()
        bpy.app.timers.register(self._tick, first_interval=0.05, persistent=True)

    def watch(self, owner: Any, name: str, what: str) -> None:
        """Take the time of every call of a function of the extension's from now on."""
        function = getattr(owner, name)

        def call(*arguments: Any) -> Any:
            begin = time.monotonic()
            try:
                return function(*arguments)
            finally:
                self.calls.setdefault(self.phase, {}).setdefault(what, []).append(time.monotonic() - begin)

        # Blender gives a drawing function as many arguments as it names
        setattr(owner, name, (lambda self, context: call(self, context)) if isinstance(owner, type) else call)

    def _tick(self) -> float:
        now = time.monotonic()
        self.gaps.setdefault(self.phase, []).append(now - self._last)
        self._last = now
        return 0.02

    def report(self) -> str:
        """A line for each phase: ticks, the three longest gaps in seconds."""
        lines = []
        for name, gaps in self.gaps.items():
            longest = " ".join(f"{gap:.2f}" for gap in sorted(gaps)[:-4:-1])
            lines.append(f"{name}: {len(gaps)} ticks in {sum(gaps):.0f} s, longest gaps {longest} s")
            for what, times in self.calls.get(name, {}).items():
                longest = " ".join(f"{seconds:.3f}" for seconds in sorted(times)[:-4:-1])
                lines.append(f"    {what}: {len(times)} calls, {sum(times):.2f} s in all, longest {longest} s")
        return "\n".join(lines) + "\n"


def run(work: Steps) -> None:
    """Advance the work by one step at every tick of a timer, after as many seconds as it yields; then write ``outcome.txt`` and
    quit Blender."""

    def tick() -> float | None:
        try:
            return next(work) or TICK
        except StopIteration:
            outcome = "passed"
        except BaseException:
            outcome = traceback.format_exc()
        (get_arguments()[1] / "outcome.txt").write_text(outcome)
        if KEY + ".blender_addon.connection" in sys.modules:
            get_connection().stop()
        bpy.ops.wm.quit_blender()
        return None

    # a file that is opened does not end it
    bpy.app.timers.register(tick, first_interval=2.0, persistent=True)
