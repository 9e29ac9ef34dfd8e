"""Runs inside a real Blender window: goes through the panel by clicks, in the order of the work, then into trouble.

Each state is announced by writing ``<out>/<name>.request``; whoever watches takes a screenshot and writes
``<name>.done``. Started by ``tools.window_test``; ``LATENTMAN_WINDOW_PARTS`` names the parts to go through.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import bpy

from tools.window_hands import (
    KEY,
    Pulse,
    arguments,
    can_click,
    click,
    connection,
    picture,
    press_undo,
    run,
    scan,
    scroll,
    unfold,
    until,
    wait,
    window_and_view,
)

PROMPT = "a knight in red armour"
pulse = Pulse()


def settings():
    """The panel's settings; to be asked for again after every undo."""
    return bpy.context.scene.latentman


def start() -> Iterator[None]:
    """Install the extension, clear the scene, show the sidebar, start the backend by a real click, add a character."""
    package, _ = arguments()
    yield from wait(2)
    bpy.ops.extensions.package_install_files(filepath=package, repo="user_default", enable_on_install=True)
    for item in list(bpy.data.objects):
        bpy.data.objects.remove(item)
    scene = bpy.context.scene
    scene.render.fps, scene.frame_start, scene.frame_end = 20, 1, 4
    _, area, region = window_and_view()
    area.spaces.active.show_region_ui = True
    yield from wait(2)
    region.active_panel_category = "LatentMan"
    yield from picture("1-installed")
    # the button at the end of the sidebar's first row
    yield from scan(0.70, lambda: connection().running)
    pulse.during = "starting the backend"
    yield from picture("1-starting")
    yield from until(lambda: connection().connected or connection().error, "the backend")
    assert connection().connected, connection().error
    click("latentman.add_mannequin")
    yield from picture("2-mannequin")


def panel() -> Iterator[None]:
    """The animator's way through the panel."""
    scene = bpy.context.scene
    scene.latentman.motion.text = "a person bows"
    pulse.during = "making a motion"
    click("latentman.make_motion")
    yield from until(lambda: connection().motion_task.done, "the motion")
    assert connection().motion_task.succeeded, connection().motion_task.error
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
    assert settings().character.animation_data.action.name == f"{used} smooth"
    with bpy.context.temp_override(window=window_and_view()[0]):
        bpy.ops.ed.undo()
    assert settings().character.animation_data.action.name == used
    click("latentman.add_camera")
    bpy.context.scene.frame_set(3)
    yield from picture("3-motion")
    settings().steps = 8
    settings().prompt = PROMPT
    pulse.during = "preview"
    click("latentman.preview_frame")
    yield from until(lambda: connection().shot_task.done, "the preview")
    assert connection().shot_task.succeeded, connection().shot_task.error
    yield from scroll(40)
    yield from picture("4-preview")
    pulse.during = "generating"
    click("latentman.generate")
    yield from until(lambda: connection().shot_task.stage == "denoising", "the first step")
    yield from picture("5-generating")
    yield from until(lambda: connection().shot_task.done, "the frames")
    assert connection().shot_task.succeeded, connection().shot_task.error
    pulse.during = "results"
    assert len(settings().results) == 1
    click("latentman.to_sequencer")
    # the box has grown
    yield from scroll(40)
    yield from picture("6-result")
    click("latentman.as_material")
    pulse.during = "Blender compiles the material"
    space = window_and_view()[1].spaces.active
    space.shading.type, space.region_3d.view_perspective, space.overlay.show_overlays = "MATERIAL", "CAMERA", False
    # in software this takes most of a minute, and newer versions draw nothing meanwhile
    yield from wait(40)
    yield from picture("6-as-material")
    space.shading.type, space.region_3d.view_perspective, space.overlay.show_overlays = "SOLID", "PERSP", True
    pulse.during = "results"
    area = max((a for a in window_and_view()[0].screen.areas if a.type != "VIEW_3D"), key=lambda a: a.width * a.height)
    before, area.type = area.type, "SEQUENCE_EDITOR"
    yield from picture("7-sequencer")
    area.type = before
    yield from scroll(-40)


def folded() -> Iterator[None]:
    """What is folded away: all settings of a shot, and its techniques."""
    pulse.during = "sub-panels"
    settings().prompt = PROMPT
    unfold("AdvancedPanel")
    yield from scroll(6)
    yield from picture("8-advanced")
    unfold("AdvancedPanel", "TechniquesPanel")
    yield from scroll(6)
    yield from picture("8-techniques")
    settings().techniques.fusion.use = "ON"
    settings().techniques.background.use = "OFF"
    yield from picture("8-techniques-changed")
    yield from scroll(12)
    yield from picture("8-techniques-end")
    method = settings().method()
    assert method is not None and method.fusion is not None and method.background is None
    settings().techniques.fusion.use = settings().techniques.background.use = "PRESET"
    unfold()
    yield from scroll(-40)


def diagnostics() -> Iterator[None]:
    """The two buttons for bug reports, by real clicks where Blender finds them."""
    manager, out = bpy.context.window_manager, arguments()[1]
    settings().prompt = PROMPT
    manager.clipboard = ""
    pulse.during = "copying diagnostics"
    yield from scan(0.35, lambda: bool(manager.clipboard))
    text = manager.clipboard
    (out / "diagnostics.txt").write_text(text)
    yield from picture("9-diagnostics")
    assert bpy.app.version_string in text and sys.modules[KEY + ".shared.version"].VERSION in text, "no versions in the report"
    for private in (str(Path.home()), PROMPT, "a person bows"):
        assert private not in text, f"{private!r} is in the report"
    # the desktop's command is one of window_test's, which writes down what it is asked to show; above is Stop
    shown = out / "shown.txt"
    yield from scan(0.83, shown.exists, begin=62)
    yield from picture("9-log-folder")
    folder = Path(shown.read_text().strip())
    assert folder == sys.modules[KEY + ".shared.folders"].log_folder()
    assert any(folder.glob("blender-*.log")), f"no log of Blender's in {folder}"


def _needs(frames: int, seed: int, steps: int = 8) -> None:
    """A shot that nobody has made yet."""
    scene = bpy.context.scene
    if scene.camera is None:
        click("latentman.use_clip")
        click("latentman.add_camera")
        scene = bpy.context.scene
    scene.frame_start, scene.frame_end = 1, frames
    chosen = scene.latentman
    chosen.prompt, chosen.seed, chosen.steps, chosen.only_changed = PROMPT, seed, steps, False


def _is_free() -> None:
    assert not connection().busy, "the panel is still busy"
    assert can_click("latentman.generate"), "Generate is greyed out"


def cancel() -> Iterator[None]:
    """Cancel while passes are rendered, and while it denoises; the panel is free and Generate works after each."""
    yield from scroll(40)
    for n, (name, frames, reached) in enumerate(
        (
            ("passes", 60, lambda shot: shot.stage == "rendering passes" and shot.fraction > 0.1),
            ("denoising", 4, lambda shot: shot.stage == "denoising" and shot.fraction > 0.1),
        )
    ):
        _needs(frames, seed=100 + n, steps=20)
        pulse.during = f"until cancelled in {name}"
        click("latentman.generate")
        shot = connection().shot_task
        yield from until(lambda shot=shot, reached=reached: shot.done or reached(shot), name)
        yield from picture(f"10-working-{name}")
        assert not shot.done, f"{name} were over before Cancel: {shot.error}"
        click("latentman.cancel")
        yield from picture(f"10-cancelling-{name}")
        pulse.during = f"cancelling in {name}"
        yield from until(lambda shot=shot: shot.done, "the end of the cancelled shot")
        assert shot.cancelled, f"{shot.state}: {shot.error}"
        yield from picture(f"10-cancelled-{name}")
        _is_free()
    yield from _generates("after cancelling", seed=110)
    yield from scroll(-40)


def _generates(during: str, seed: int) -> Iterator[None]:
    _needs(2, seed)
    pulse.during = during
    click("latentman.generate")
    yield from until(lambda: connection().shot_task.done, f"frames {during}")
    assert connection().shot_task.succeeded, f"{during}: {connection().shot_task.error}"
    _is_free()


def undo() -> Iterator[None]:
    """An undo while a shot runs: by the operator and by Ctrl+Z, early and late; the shot ends with frames or a sentence."""

    def operator() -> None:
        with bpy.context.temp_override(window=window_and_view()[0]):
            bpy.ops.ed.undo()

    out = arguments()[1]
    told = []
    for n, (name, take_back) in enumerate((("operator", operator), ("keys", press_undo))):
        for stage, frames in (("measuring", 60), ("rendering passes", 60), ("denoising", 4)):
            _needs(frames, seed=200 + 10 * n + len(told), steps=8 if stage == "denoising" else 1)
            # something to take back
            click("latentman.find_plants")
            click("latentman.smooth_motion")
            pulse.during = f"undo by {name} in {stage}"
            click("latentman.generate")
            shot = connection().shot_task
            if stage != "measuring":
                yield from until(lambda shot=shot, stage=stage: shot.done or (shot.stage == stage and shot.fraction > 0), stage)
            assert not shot.done, f"{stage} was over before the undo: {shot.error}"
            for _ in range(2):
                take_back()
                yield from wait(0.7)
            (out / "undo.txt").write_text("\n".join([*told, f"{name} in {stage}: at work"]) + "\n")
            if stage == "rendering passes":
                # rendering goes on for a while, then it is enough
                yield from until(
                    lambda shot=shot, stage=stage: shot.done or shot.fraction > 0.7 or shot.stage != stage, "more passes"
                )
                if not shot.done:
                    click("latentman.cancel")
            elif stage == "measuring":
                yield from until(lambda shot=shot: shot.done or shot.fraction > 0.2, "the first passes")
                if not shot.done:
                    click("latentman.cancel")
            yield from until(lambda shot=shot: shot.done, "the end of the shot")
            told.append(f"{name} in {stage}: {shot.state.name}, {len(shot.frames)} frames, {shot.error!r}")
            (out / "undo.txt").write_text("\n".join(told) + "\n")
            assert shot.succeeded or shot.cancelled or shot.error, told[-1]
            _is_free()
    yield from picture("11-after-undo")
    yield from _generates("after undo", seed=290)
    assert len(bpy.data.scenes) == 1, [scene.name for scene in bpy.data.scenes]


def killed() -> Iterator[None]:
    """The backend is killed while it denoises: the panel says so, names the log, and Start works again."""
    _needs(4, seed=300, steps=20)
    pulse.during = "until the backend is killed"
    click("latentman.generate")
    shot = connection().shot_task
    yield from until(lambda: shot.done or (shot.stage == "denoising" and shot.fraction > 0.1), "denoising")
    assert not shot.done, shot.error
    os.kill(connection().process.pid, signal.SIGKILL)
    pulse.during = "the backend is killed"
    yield from until(lambda: connection().error, "a sentence")
    yield from picture("12-killed")
    (arguments()[1] / "killed.txt").write_text(f"{connection().error}\n{shot.state.name}: {shot.error}\n")
    log = connection().error.rpartition(" is in ")[2]
    assert Path(log).is_file(), connection().error
    assert shot.done and not connection().busy
    click("latentman.start_backend")
    yield from until(lambda: connection().connected or connection().error, "the backend again")
    assert connection().connected, connection().error
    yield from _generates("after a kill", seed=310)
    yield from picture("12-generated-again")


def save() -> Iterator[None]:
    """The file for ``window_commands``."""
    _needs(3, seed=400)
    bpy.ops.wm.save_as_mainfile(filepath=str(arguments()[1] / "shot.blend"), copy=True)
    click("latentman.stop_backend")
    yield


PARTS: dict[str, Callable[[], Iterator[None]]] = {
    part.__name__: part for part in (panel, folded, diagnostics, cancel, undo, killed, save)
}


def work() -> Iterator[None]:
    """The chosen parts, one after the other."""
    chosen = os.environ.get("LATENTMAN_WINDOW_PARTS", "").split() or list(PARTS)
    try:
        yield from start()
        for name in chosen:
            print(f"part {name}", flush=True)
            yield from PARTS[name]()
    except Exception:
        yield from picture("failed")
        raise
    finally:
        (arguments()[1] / "pulse.txt").write_text(pulse.report())


def main() -> None:
    """Begin once the window is there."""
    run(work())
