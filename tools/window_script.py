"""Runs inside a real Blender window: goes through the panel by clicks, in the order of the work.

Each state is announced by writing ``<out>/<name>.request``; whoever watches takes a screenshot and writes
``<name>.done``. Started by ``tools.window_test`` with ``blender --python``; arguments after ``--``: zip, output folder.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import bpy

ZIP, OUT = sys.argv[sys.argv.index("--") + 1 :][:2]
KEY, TICK, PATIENCE = "bl_ext.user_default.latentman", 0.3, 240.0


def window_and_view():
    """The window and its 3D viewport."""
    window = bpy.context.window_manager.windows[0]
    area = max((a for a in window.screen.areas if a.type == "VIEW_3D"), key=lambda a: a.width * a.height)
    return window, area, next(r for r in area.regions if r.type == "UI")


def click(operator: str) -> None:
    """Do what the panel's button does: same context, same invocation, same poll."""
    window, area, region = window_and_view()
    module, name = operator.split(".")
    with bpy.context.temp_override(window=window, area=area, region=region):
        function = getattr(getattr(bpy.ops, module), name)
        assert function.poll(), f"{operator} is greyed out"
        # with an undo step, as a button makes one
        result = function("EXEC_DEFAULT", True)
    assert result == {"FINISHED"}, f"{operator}: {result}"


def mouse(x: int, y: int) -> None:
    """A real left click at window coordinates."""
    window = window_and_view()[0]
    window.event_simulate("MOUSEMOVE", "NOTHING", x=x, y=y)
    window.event_simulate("LEFTMOUSE", "PRESS", x=x, y=y)
    window.event_simulate("LEFTMOUSE", "RELEASE", x=x, y=y)


def unfold(*names: str) -> None:
    """Show these sub-panels open and all others closed, as if the user had clicked their headers."""
    panels = sys.modules[KEY + ".blender_addon.panels"]
    for cls in panels.CLASSES:
        if getattr(cls, "bl_parent_id", None):
            bpy.utils.unregister_class(cls)
            # Blender remembers by identifier which panels are folded
            cls.bl_idname = cls.bl_idname.removesuffix("_open") + ("_open" if cls.__name__ in names else "")
            cls.bl_options = set() if cls.__name__ in names else {"DEFAULT_CLOSED"}
            bpy.utils.register_class(cls)


def picture(name: str) -> Iterator[None]:
    """Wait until a screenshot of this state is taken."""
    for area in window_and_view()[0].screen.areas:
        area.tag_redraw()
    yield from wait(1.5)
    (Path(OUT) / f"{name}.request").touch()
    yield from until(lambda: (Path(OUT) / f"{name}.done").exists(), f"a screenshot of {name}")


def wait(seconds: float) -> Iterator[None]:
    """Let the window live for a while."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield


def until(condition, what: str) -> Iterator[None]:
    """Wait for a condition, but not for ever."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"waited too long for {what}"
        yield


def steps() -> Iterator[None]:
    """The animator's way through the panel."""
    yield from wait(2)
    bpy.ops.extensions.package_install_files(filepath=ZIP, repo="user_default", enable_on_install=True)
    connection = sys.modules[KEY + ".blender_addon.connection"].connection
    for item in list(bpy.data.objects):
        bpy.data.objects.remove(item)
    scene = bpy.context.scene
    scene.render.fps, scene.frame_start, scene.frame_end = 20, 1, 4
    _, area, region = window_and_view()
    area.spaces.active.show_region_ui = True
    yield from wait(2)
    region.active_panel_category = "LatentMan"
    yield from picture("1-installed")

    # a real click on the first row of the sidebar, found by scanning down its column until the button answers; in a
    # chroot the backend runs outside, so there the click is on Connect at the row's end
    across = 0.95 if os.environ.get("LATENTMAN_WINDOW_CONNECT") else 0.70
    region = window_and_view()[2]
    for y in range(region.y + region.height - 30, region.y + region.height - 130, -8):
        if connection.running:
            break
        mouse(region.x + round(region.width * across), y)
        yield from wait(0.4)
    if not connection.running:
        click("latentman.connect_backend" if os.environ.get("LATENTMAN_WINDOW_CONNECT") else "latentman.start_backend")
    yield from until(lambda: connection.connected or connection.error, "the backend")
    assert connection.connected, connection.error
    click("latentman.add_mannequin")
    yield from picture("2-mannequin")
    scene.latentman.motion.text = "a person bows"
    click("latentman.make_motion")
    yield from until(lambda: connection.motion.done, "the motion")
    assert connection.motion.succeeded, connection.motion.error
    assert scene.latentman.character.animation_data.action.name == "a person bows"
    scene.frame_set(20)
    yield from picture("3-from-words")
    click("latentman.use_clip")
    click("latentman.guess_bones")
    click("latentman.find_plants")
    assert len(scene.latentman.plants) > 2
    unfold("RigPanel")
    yield from picture("3-bones-unfolded")
    unfold("KeyingPanel", "EditMotionPanel")
    yield from picture("3-motion-unfolded")
    unfold()
    used = scene.latentman.character.animation_data.action.name
    click("latentman.smooth_motion")
    assert bpy.context.scene.latentman.character.animation_data.action.name == f"{used} smooth"
    with bpy.context.temp_override(window=window_and_view()[0]):
        bpy.ops.ed.undo()
    scene = bpy.context.scene
    assert scene.latentman.character.animation_data.action.name == used
    click("latentman.add_camera")
    scene.frame_set(3)
    yield from picture("3-motion")
    scene.latentman.steps = 8
    click("latentman.preview_frame")
    yield from until(lambda: connection.shot.done, "the preview")
    assert connection.shot.succeeded, connection.shot.error
    yield from picture("4-preview")
    click("latentman.generate")
    yield from until(lambda: connection.shot.stage == "denoising", "the first step")
    yield from picture("5-generating")
    yield from until(lambda: connection.shot.done, "the frames")
    assert connection.shot.succeeded, connection.shot.error
    click("latentman.to_sequencer")
    yield from picture("6-result")
    small = min((a for a in window_and_view()[0].screen.areas if a.type != "VIEW_3D"), key=lambda a: -a.width * a.height)
    small.type = "SEQUENCE_EDITOR"
    yield from picture("7-sequencer")
    assert len(scene.latentman.results) == 1
    click("latentman.stop_backend")


_work = steps()


def tick() -> float | None:
    """One step a tick; the outcome goes to ``outcome.txt``."""
    try:
        next(_work)
        return TICK
    except StopIteration:
        outcome = "passed"
    except BaseException:
        outcome = traceback.format_exc()
    (Path(OUT) / "outcome.txt").write_text(outcome)
    module = sys.modules.get(KEY + ".blender_addon.connection")
    if module:
        module.connection.stop()
    bpy.ops.wm.quit_blender()
    return None


bpy.app.timers.register(tick, first_interval=2.0)
