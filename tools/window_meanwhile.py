"""The part of the window's test about what users do while frames are made: other scenes, workspaces and windows are looked at, the
file is saved, opened again and left for another one, motions are imported and taken back."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from tools.window_actions import (
    KEY,
    Steps,
    click,
    get_arguments,
    get_connection,
    get_window_and_view,
    get_window_manager,
    press_ctrl_z,
    scroll,
    take_screenshot,
    wait_seconds,
    wait_until,
)
from tools.window_names import BACKEND_FILE
from tools.window_shots import (
    check_panel_is_free,
    find_layout,
    get_current_scene,
    get_settings,
    is_in_stage,
    monitor,
    set_up_shot,
    wait_for_shot,
)

SEED, STEPS = 1000, 12
OTHER = "Elsewhere"


def begin_shot(seed: int, stage: str, frames: int = 4) -> Steps:
    """Begin a shot, and wait until it is in a stage."""
    # where passes are looked at, what comes after them is of no interest
    set_up_shot(frames, seed, STEPS if stage == "denoising" else 1)
    monitor.phase = f"a shot until {stage}"
    click("latentman.generate")
    shot = get_connection().shot_task
    yield from wait_for_shot(shot, is_in_stage(stage, 0.1), stage)
    assert not shot.done, f"{stage} was over too soon: {shot.state} {shot.error}"


def end_shot(seed: int, scene: str) -> Steps:
    """Wait for the end of the shot, whose result is then in the scene that it was begun in, and in no other."""
    shot = get_connection().shot_task
    yield from wait_for_shot(shot, lambda shot: False, "the end of the shot")
    assert shot.succeeded, shot.error
    yield from wait_seconds(1)
    for found in bpy.data.scenes:
        own: Any = found
        assert (found.name == scene) == (seed in {result.seed for result in own.latentman.results}), found.name


def look_elsewhere() -> Steps:
    """Another scene while passes are rendered, another workspace while it denoises, and back."""
    window = get_window_and_view()[0]
    before, workspace = window.scene, window.workspace
    for n, stage in enumerate(("rendering passes", "denoising")):
        yield from begin_shot(SEED + n, stage, 16 if n == 0 else 4)
        if n == 0:
            window.scene = bpy.data.scenes.new(OTHER)
            yield from wait_seconds(3)
            yield from take_screenshot("34-other-scene")
            # a scene without a character has a panel, too
            yield from scroll(40)
            yield from take_screenshot("34-other-scene-below")
            yield from scroll(-40)
        else:
            window.workspace = bpy.data.workspaces["Scripting"]
            yield from wait_seconds(2)
            window.scene = bpy.data.scenes[OTHER]
            yield from wait_seconds(2)
            bpy.data.scenes.remove(bpy.data.scenes[OTHER])
            yield from wait_seconds(2)
            yield from take_screenshot("34-other-workspace")
        yield from end_shot(SEED + n, before.name)
        window.workspace, window.scene = workspace, before
        yield from wait_seconds(2)
    yield from take_screenshot("34-back")
    check_panel_is_free()


def use_two_windows() -> Steps:
    """A second main window, with the panel in it, and the first one closed while a shot is made in it."""
    manager = get_window_manager()
    yield from begin_shot(SEED + 2, "rendering passes", 16)
    with bpy.context.temp_override(window=manager.windows[0]):
        bpy.ops.wm.window_new_main()
    yield from wait_seconds(3)
    assert len(manager.windows) == 2
    (request := get_arguments()[1] / "34-second-window.request").touch()
    yield from wait_until(request.with_suffix(".done").exists, "a screenshot of the second window")
    with bpy.context.temp_override(window=manager.windows[0]):
        bpy.ops.wm.window_close()
    yield from wait_seconds(2)
    assert len(manager.windows) == 1
    yield from end_shot(SEED + 2, get_current_scene().name)
    _, area, region = get_window_and_view()
    area.spaces.active.show_region_ui = True  # type: ignore[union-attr]
    yield from wait_seconds(2)
    region.active_panel_category = "LatentMan"  # type: ignore[assignment]  # it depends on the add-ons
    yield from take_screenshot("34-first-window-closed")
    check_panel_is_free()


def save_and_open() -> Steps:
    """The file is saved while passes are rendered, opened again while it denoises, and left for another one."""
    path, other = (str(get_arguments()[1] / f"{name}.blend") for name in ("meanwhile", "other"))
    scene = get_current_scene().name
    bpy.ops.wm.save_as_mainfile(filepath=other, copy=True)
    yield from begin_shot(SEED + 3, "rendering passes", 16)
    bpy.ops.wm.save_as_mainfile(filepath=path)
    yield from end_shot(SEED + 3, scene)
    bpy.ops.wm.save_mainfile()
    yield from begin_shot(SEED + 4, "denoising")
    yield from open_file(path)
    yield from take_screenshot("34-opened")
    yield from end_shot(SEED + 4, scene)
    bpy.ops.wm.save_mainfile()
    yield from begin_shot(SEED + 5, "denoising")
    yield from open_file(other)
    shot = get_connection().shot_task
    yield from wait_for_shot(shot, lambda shot: False, "the end of the shot of a file that is closed")
    yield from take_screenshot("34-other-file")
    assert SEED + 5 not in {result.seed for result in get_settings().results}
    yield from open_file(path)
    yield from take_screenshot("34-opened-again")
    assert shot.succeeded == (SEED + 5 in {result.seed for result in get_settings().results}), (shot.state, shot.error)
    # while passes are rendered they are lost with the file, which is said
    yield from begin_shot(SEED + 6, "rendering passes", 60)
    yield from open_file(path)
    shot = get_connection().shot_task
    yield from wait_for_shot(shot, lambda shot: False, "the end of the shot whose passes were not ready")
    yield from take_screenshot("34-passes-lost")
    (get_arguments()[1] / "passes-lost.txt").write_text(f"{shot.state.name}: {shot.error}\n")
    check_panel_is_free()


def open_file(path: str) -> Steps:
    """Open a file in the first window."""
    with bpy.context.temp_override(window=get_window_manager().windows[0]):
        bpy.ops.wm.open_mainfile(filepath=path)
    yield from wait_seconds(3)
    get_window_manager().windows[0].workspace = find_layout()


def write_motion() -> Path:
    """A motion of some frames as HumanML3D's joints, standing."""
    armature: Any = get_settings().character
    path = get_arguments()[1] / "raised.npy"
    heads = {bone.name: armature.matrix_world @ bone.head_local for bone in armature.data.bones}
    skeleton = sys.modules[f"{KEY}.shared.skeleton"]
    names = skeleton.SMPL_JOINTS[: skeleton.HUMANML_JOINT_COUNT]
    joints = np.array([[heads[name].x, heads[name].z, -heads[name].y] for name in names], np.float32)
    frames = np.repeat(joints[None], 24, 0)
    frames[:, :, 0] += np.linspace(0, 1, 24, dtype=np.float32)[:, None]
    np.save(path, frames)
    return path


def import_and_undo() -> Steps:
    """A motion is imported while a shot is made: Ctrl+Z takes back the import alone, and Ctrl+Shift+Z brings it back."""
    yield from begin_shot(SEED + 7, "denoising")
    actions = set(bpy.data.actions.keys())
    used = get_settings().character.animation_data.action.name
    click("latentman.import_motion", filepath=str(write_motion()))
    imported = get_settings().character.animation_data.action.name
    assert imported not in actions, imported
    yield from wait_seconds(1)
    press_ctrl_z()
    yield from wait_seconds(2)
    assert get_settings().character.animation_data.action.name == used, get_settings().character.animation_data.action.name
    with bpy.context.temp_override(window=get_window_and_view()[0]):
        bpy.ops.ed.redo()
    yield from wait_seconds(1)
    assert get_settings().character.animation_data.action.name == imported
    yield from end_shot(SEED + 7, get_current_scene().name)
    press_ctrl_z()
    yield from wait_seconds(2)
    (get_arguments()[1] / "undone.txt").write_text(
        f"{get_settings().character.animation_data.action.name}: {[result.seed for result in get_settings().results]}\n"
    )
    yield from take_screenshot("34-undone")
    check_panel_is_free()


def do_meanwhile() -> Steps:
    """The whole of it."""
    yield from look_elsewhere()
    yield from use_two_windows()
    yield from import_and_undo()
    yield from save_and_open()


def quit_meanwhile() -> Steps:
    """Blender is quit while a shot is made, as by its menu; ``window_test`` looks afterwards whether the backend is gone."""
    yield from begin_shot(SEED + 8, "denoising")
    out = get_arguments()[1]
    (out / BACKEND_FILE).write_text(str(get_connection().process.pid))
    (out / "outcome.txt").write_text("passed")
    bpy.ops.wm.quit_blender()
    yield from wait_seconds(60)
    raise AssertionError("Blender did not quit")
