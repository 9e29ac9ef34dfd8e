"""Runs inside a real Blender window: goes through the panel by clicks, first as an animator works, then through failures.

Each state is announced by writing ``<out>/<name>.request``; whoever watches takes a screenshot and writes
``<name>.done``. Started by ``tools.window_test``; ``LATENTMAN_WINDOW_PARTS`` names the parts to go through.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bpy

from tools.window_actions import (
    KEY,
    Steps,
    click,
    click_down_column,
    get_arguments,
    get_connection,
    get_window_and_view,
    get_window_manager,
    open_panels,
    press_ctrl_z,
    run,
    scroll,
    take_screenshot,
    wait_seconds,
    wait_until,
)
from tools.window_assets import use_assets
from tools.window_dress import use_costumes
from tools.window_first_clip import make_first_clip
from tools.window_meanwhile import do_meanwhile, quit_meanwhile
from tools.window_models import use_models
from tools.window_names import FIRST_CLIP, QUIT, SET_UP, STUDIO
from tools.window_other_models import use_studio
from tools.window_queue import use_queue
from tools.window_sequencer import use_sequencer
from tools.window_set_up import use_set_up
from tools.window_shots import (
    PROMPT,
    check_panel_is_free,
    find_layout,
    generate,
    get_current_scene,
    get_settings,
    is_in_stage,
    monitor,
    press_ctrl_z_and_wait,
    set_up_shot,
    wait_for_shot,
)


def get_preferences() -> bpy.types.Preferences:
    """The user's preferences, which are those of the test."""
    preferences = bpy.context.preferences
    assert preferences is not None
    return preferences


def get_view(area: bpy.types.Area) -> bpy.types.SpaceView3D:
    """The 3D view that an area shows."""
    space = area.spaces.active
    assert isinstance(space, bpy.types.SpaceView3D)
    return space


def start() -> Steps:
    """Install the extension, clear the scene, show the sidebar, start the backend by a real click, add a character."""
    package, _ = get_arguments()
    yield from wait_seconds(2)
    bpy.ops.extensions.package_install_files(filepath=package, repo="user_default", enable_on_install=True)
    monitor.watch(get_connection(), "process_events", "the extension's timer")
    for panel in sys.modules[KEY + ".blender_addon.panels"].CLASSES:
        monitor.watch(panel, "draw", "the extension's panels")
    # a backend that somebody runs on this machine is not to be in the way
    preferences: Any = get_preferences().addons[KEY].preferences
    preferences.endpoint = f"127.0.0.1:{sys.modules[KEY + '.shared.endpoint'].free_port()}"
    for item in list(bpy.data.objects):
        bpy.data.objects.remove(item)
    scene = get_current_scene()
    scene.render.fps, scene.frame_start, scene.frame_end = 20, 1, 4
    _, area, region = get_window_and_view()
    get_view(area).show_region_ui = True
    yield from wait_seconds(2)
    region.active_panel_category = "LatentMan"  # type: ignore[assignment]  # it depends on the add-ons
    yield from take_screenshot("1-installed")
    # the button at the end of the sidebar's first row
    yield from click_down_column(0.70, lambda: get_connection().running)
    monitor.phase = "starting the backend"
    yield from take_screenshot("1-starting")
    yield from wait_until(lambda: get_connection().connected or get_connection().error, "the backend")
    assert get_connection().connected, get_connection().error
    click("latentman.add_mannequin")
    yield from take_screenshot("2-mannequin")


def use_panel() -> Steps:
    """Go through the panel as an animator does."""
    scene = get_current_scene()
    get_settings().motion.text = "a person bows"
    monitor.phase = "making a motion"
    click("latentman.make_motion")
    yield from wait_until(lambda: get_connection().motion_task.done, "the motion")
    assert get_connection().motion_task.succeeded, get_connection().motion_task.error
    assert get_settings().character.animation_data.action.name == "a person bows"
    scene.frame_set(20)
    yield from take_screenshot("3-from-words")
    click("latentman.use_clip")
    click("latentman.guess_bones")
    click("latentman.find_plants")
    assert len(get_settings().plants) > 2
    open_panels("RigPanel")
    yield from take_screenshot("3-bones-unfolded")
    open_panels("KeyingPanel", "EditMotionPanel")
    yield from take_screenshot("3-motion-unfolded")
    open_panels()
    used = get_settings().character.animation_data.action.name
    click("latentman.smooth_motion")
    assert get_settings().character.animation_data.action.name == f"{used} smooth"
    with bpy.context.temp_override(window=get_window_and_view()[0]):
        bpy.ops.ed.undo()
    assert get_settings().character.animation_data.action.name == used
    click("latentman.frame_character")
    get_current_scene().frame_set(3)
    yield from take_screenshot("3-motion")
    get_settings().steps = 8
    get_settings().prompt = PROMPT
    monitor.phase = "preview"
    click("latentman.preview_frame")
    yield from wait_until(lambda: get_connection().shot_task.done, "the preview")
    assert get_connection().shot_task.succeeded, get_connection().shot_task.error
    yield from scroll(40)
    yield from take_screenshot("4-preview")
    monitor.phase = "generating"
    count = len(get_settings().results)
    # Make Motion may have given the scene the motion's range
    yield from play_meanwhile()
    get_current_scene().frame_start, get_current_scene().frame_end = 1, 4
    monitor.phase = "generating"
    click("latentman.generate")
    yield from wait_until(lambda: get_connection().shot_task.stage == "denoising", "the first step")
    yield from take_screenshot("5-generating")
    yield from wait_until(lambda: get_connection().shot_task.done, "the frames")
    assert get_connection().shot_task.succeeded, get_connection().shot_task.error
    monitor.phase = "results"
    assert len(get_settings().results) == count + 1
    click("latentman.to_sequencer")
    # the box has grown
    yield from scroll(40)
    yield from take_screenshot("6-result")
    click("latentman.as_material")
    monitor.phase = "Blender compiles the material"
    space = get_view(get_window_and_view()[1])
    assert space.region_3d is not None
    space.shading.type, space.region_3d.view_perspective, space.overlay.show_overlays = "MATERIAL", "CAMERA", False
    # in software this takes a minute and more, and newer versions draw nothing meanwhile
    yield from wait_seconds(100)
    yield from take_screenshot("6-as-material")
    space.shading.type, space.region_3d.view_perspective, space.overlay.show_overlays = "SOLID", "PERSP", True
    monitor.phase = "results"
    area = max((a for a in get_window_and_view()[0].screen.areas if a.type != "VIEW_3D"), key=lambda a: a.width * a.height)
    before, area.type = area.type, "SEQUENCE_EDITOR"
    yield from take_screenshot("7-sequencer")
    area.type = before
    yield from scroll(-40)


def play_meanwhile() -> Steps:
    """Play the animation while passes of a longer shot are rendered: it goes on."""
    scene, seen = get_current_scene(), set()
    scene.frame_start, scene.frame_end = 1, 60
    click("latentman.generate")
    window, area, _ = get_window_and_view()
    monitor.phase = "playing while passes are rendered"
    with bpy.context.temp_override(window=window, area=area):
        bpy.ops.screen.animation_play()
    shot = get_connection().shot_task
    while not shot.done and shot.stage == "rendering passes":
        seen.add(scene.frame_current)
        yield None
    with bpy.context.temp_override(window=window, area=area):
        bpy.ops.screen.animation_cancel()
    if not shot.done:
        click("latentman.cancel")
        yield from wait_until(lambda: shot.done, "the longer shot to be cancelled")
    assert shot.cancelled, shot.error
    assert len(seen) > 3, f"only the frames {sorted(seen)} were shown while passes were rendered"


def use_source() -> Steps:
    """Another armature's motion is taken over, and a doubtful bone map is asked about."""
    click("latentman.use_clip")
    source = get_settings().character
    click("latentman.add_mannequin")
    character = get_settings().character
    assert character is not source and get_settings().find_action() is None
    get_settings().source = source
    click("latentman.guess_bones", owner="SOURCE")
    get_settings().show_source_bones = True
    get_settings().motion.loop = True
    click("latentman.use_armature")
    assert get_settings().find_action() is not None
    get_current_scene().frame_set(12)
    yield from take_screenshot("14-source")
    get_settings().show_source_bones = False
    bones = character.data.bones
    for old, new in (("left_knee", "spare"), ("left_ankle", "left_knee"), ("spare", "left_ankle")):
        bones[old].name = new
    click("latentman.guess_bones")
    assert character["latentman_bone_doubts"], "no bone is doubtful"
    open_panels("RigPanel")
    yield from scroll(2)
    yield from take_screenshot("14-doubtful-bones")
    click("latentman.confirm_bones")
    assert "latentman_bone_doubts" not in character
    yield from take_screenshot("14-confirmed-bones")
    open_panels()
    yield from scroll(-40)


def use_folded_panels() -> Steps:
    """Open the sub-panels that are folded: all settings of a shot, and its techniques."""
    monitor.phase = "sub-panels"
    get_settings().prompt = PROMPT
    open_panels("ModelsPanel")
    yield from scroll(6)
    yield from wait_seconds(3)
    yield from take_screenshot("8-models")
    open_panels("AdvancedPanel")
    yield from scroll(6)
    yield from take_screenshot("8-advanced")
    open_panels("AdvancedPanel", "TechniquesPanel")
    yield from scroll(6)
    yield from take_screenshot("8-techniques")
    get_settings().techniques.fusion.use = "ON"
    get_settings().techniques.background.use = "OFF"
    yield from take_screenshot("8-techniques-changed")
    yield from scroll(12)
    yield from take_screenshot("8-techniques-end")
    method = get_settings().make_method()
    assert method is not None and method.fusion is not None and method.background is None
    get_settings().techniques.fusion.use = get_settings().techniques.background.use = "PRESET"
    open_panels()
    yield from scroll(-40)


def copy_diagnostics() -> Steps:
    """Use the two buttons for bug reports, by real clicks."""
    manager, out = get_window_manager(), get_arguments()[1]
    get_settings().prompt = PROMPT
    manager.clipboard = ""
    monitor.phase = "copying diagnostics"
    yield from click_down_column(0.35, lambda: bool(manager.clipboard))
    text = manager.clipboard
    (out / "diagnostics.txt").write_text(text)
    yield from take_screenshot("9-diagnostics")
    assert bpy.app.version_string in text and sys.modules[KEY + ".shared.version"].VERSION in text, "no versions in the report"
    for private in (str(Path.home()), PROMPT, "a person bows"):
        assert private not in text, f"{private!r} is in the report"
    # the desktop's command is one of window_test's, which writes down what it is asked to show; above is Stop
    shown = out / "shown.txt"
    yield from click_down_column(0.83, shown.exists, begin=62)
    yield from take_screenshot("9-log-folder")
    folder = Path(shown.read_text().strip())
    assert folder == sys.modules[KEY + ".shared.folders"].log_folder()
    assert any(folder.glob("blender-*.log")), f"no log of Blender's in {folder}"


def cancel_shots() -> Steps:
    """Cancel while passes are rendered, and while it denoises; the panel is free and Generate works after each."""
    yield from scroll(40)
    for n, (name, frames, stage) in enumerate((("passes", 60, "rendering passes"), ("denoising", 4, "denoising"))):
        set_up_shot(frames, seed=100 + n, steps=20)
        monitor.phase = f"until cancelled in {name}"
        click("latentman.generate")
        shot = get_connection().shot_task
        yield from wait_for_shot(shot, is_in_stage(stage, 0.1), name)
        yield from take_screenshot(f"10-working-{name}")
        assert not shot.done, f"{name} were over before Cancel: {shot.error}"
        click("latentman.cancel")
        yield from take_screenshot(f"10-cancelling-{name}")
        monitor.phase = f"cancelling in {name}"
        yield from wait_for_shot(shot, lambda shot: False, "the end of the cancelled shot")
        assert shot.cancelled, f"{shot.state}: {shot.error}"
        yield from take_screenshot(f"10-cancelled-{name}")
        check_panel_is_free()
    yield from generate("after cancelling", seed=110)
    yield from scroll(-40)


def undo_during_shots() -> Steps:
    """Undo while a shot runs, by the operator and by Ctrl+Z, early and late: the shot ends with frames or a sentence."""

    def run_undo_operator() -> None:
        with bpy.context.temp_override(window=get_window_and_view()[0]):
            bpy.ops.ed.undo()

    out = get_arguments()[1]
    outcomes: list[str] = []
    for n, (name, take_back) in enumerate((("operator", run_undo_operator), ("keys", press_ctrl_z))):
        for stage, frames in (("measuring", 60), ("rendering passes", 60), ("denoising", 4)):
            set_up_shot(frames, seed=200 + 10 * n + len(outcomes), steps=8 if stage == "denoising" else 1)
            # something to take back
            click("latentman.find_plants")
            click("latentman.smooth_motion")
            monitor.phase = f"undo by {name} in {stage}"
            click("latentman.generate")
            shot = get_connection().shot_task
            if stage != "measuring":
                yield from wait_for_shot(shot, is_in_stage(stage, 0), stage)
            assert not shot.done, f"{stage} was over before the undo: {shot.error}"
            for _ in range(2):
                take_back()
                yield from wait_seconds(0.7)
            (out / "undo.txt").write_text("\n".join([*outcomes, f"{name} in {stage}: at work"]) + "\n")
            if stage == "rendering passes":
                # let it render for a while, then cancel
                yield from wait_for_shot(shot, lambda shot: shot.fraction > 0.7 or shot.stage != "rendering passes", "more passes")
                if not shot.done:
                    click("latentman.cancel")
            elif stage == "measuring":
                yield from wait_for_shot(shot, lambda shot: shot.fraction > 0.2, "the first passes")
                if not shot.done:
                    click("latentman.cancel")
            yield from wait_for_shot(shot, lambda shot: False, "the end of the shot")
            outcomes.append(f"{name} in {stage}: {shot.state.name}, {len(shot.frames)} frames, {shot.error!r}")
            (out / "undo.txt").write_text("\n".join(outcomes) + "\n")
            assert shot.succeeded or shot.cancelled or shot.error, outcomes[-1]
            check_panel_is_free()
    yield from take_screenshot("11-after-undo")
    yield from generate("after undo", seed=290)
    assert len(bpy.data.scenes) == 1, [scene.name for scene in bpy.data.scenes]


def _move_prop() -> None:
    """Move an object that has nothing to do with the shot, with an undo step."""
    window, area, _ = get_window_and_view()
    bpy.context.view_layer.objects.active = bpy.data.objects["Prop"]  # type: ignore[union-attr]
    for found in get_current_scene().objects:
        found.select_set(found.name == "Prop")
    region = next(r for r in area.regions if r.type == "WINDOW")
    with bpy.context.temp_override(window=window, area=area, region=region):
        assert bpy.ops.transform.translate("EXEC_DEFAULT", True, value=(1, 0, 0)) == {"FINISHED"}


def undo_after_arrivals() -> Steps:
    """A result and a motion arrive, something is moved: Ctrl+Z takes back only the move, then only the motion."""
    window, area, _ = get_window_and_view()
    set_up_shot(2, seed=250)
    with bpy.context.temp_override(window=window, area=area):
        bpy.ops.mesh.primitive_cube_add("EXEC_DEFAULT", True, size=0.2, location=(3, 3, 0))
        bpy.data.objects["Cube"].name = "Prop"
        bpy.ops.ed.undo_push(message="Rename")
    before = len(get_settings().results)
    yield from generate("a result arrives", seed=251)
    get_settings().motion.text = "a person waves"
    click("latentman.make_motion")
    yield from wait_until(lambda: get_connection().motion_task.done, "the motion")
    assert get_connection().motion_task.succeeded, get_connection().motion_task.error

    def describe() -> tuple[float, int, bool]:
        action = bpy.data.actions.get("a person waves")
        return round(bpy.data.objects["Prop"].location.x, 3), len(get_settings().results) - before, action is not None

    seen: list[tuple[float, int, bool]] = []
    for expected in ((3.0, 1, True), (3.0, 1, False), (3.0, 0, False)):
        if not seen:
            _move_prop()
            assert describe() == (4.0, 1, True), describe()
        yield from press_ctrl_z_and_wait()
        seen.append(describe())
        (get_arguments()[1] / "arrivals.txt").write_text("\n".join(map(str, seen)) + "\n")
        assert seen[-1] == expected, seen
    with bpy.context.temp_override(window=window):
        bpy.ops.ed.redo()
        bpy.ops.ed.redo()
    assert describe() == (3.0, 1, True), describe()
    yield from take_screenshot("11-after-arrivals")
    # in Edit Mode, whose undo steps do not hold what arrives
    bpy.context.view_layer.objects.active = bpy.data.objects["Prop"]  # type: ignore[union-attr]
    with bpy.context.temp_override(window=window, area=area):
        bpy.ops.object.mode_set("EXEC_DEFAULT", True, mode="EDIT")
    get_settings().motion.text = "a person jumps"
    click("latentman.make_motion")
    yield from wait_until(lambda: get_connection().motion_task.done, "the motion in Edit Mode")
    assert get_connection().motion_task.succeeded, get_connection().motion_task.error
    for _ in range(2):
        yield from press_ctrl_z_and_wait()
        assert "a person jumps" in bpy.data.actions, bpy.data.actions.keys()
    if bpy.data.objects["Prop"].mode == "EDIT":
        with bpy.context.temp_override(window=window, area=area):
            bpy.ops.object.mode_set("EXEC_DEFAULT", True, mode="OBJECT")
    yield from wait_seconds(1)
    _move_prop()
    yield from press_ctrl_z_and_wait()
    assert "a person jumps" in bpy.data.actions, bpy.data.actions.keys()
    check_panel_is_free()


def kill_backend() -> Steps:
    """Kill the backend while it denoises: the panel says so and names the log, and Start works again."""
    set_up_shot(4, seed=300, steps=20)
    monitor.phase = "until the backend is killed"
    click("latentman.generate")
    shot = get_connection().shot_task
    yield from wait_for_shot(shot, is_in_stage("denoising", 0.1), "denoising")
    assert not shot.done, shot.error
    os.kill(get_connection().process.pid, signal.SIGKILL)
    monitor.phase = "the backend is killed"
    yield from wait_until(lambda: get_connection().error, "a sentence")
    yield from take_screenshot("12-killed")
    (get_arguments()[1] / "killed.txt").write_text(f"{get_connection().error}\n{shot.state.name}: {shot.error}\n")
    log = get_connection().error.rpartition(" is in ")[2]
    assert Path(log).is_file(), get_connection().error
    assert shot.done and not get_connection().busy
    click("latentman.start_backend")
    yield from wait_until(lambda: get_connection().connected or get_connection().error, "the backend again")
    assert get_connection().connected, get_connection().error
    yield from generate("after a kill", seed=310)
    yield from take_screenshot("12-generated-again")


def fetch_again() -> Steps:
    """The frames of a result are deleted, and *Fetch Again* brings them back; nothing is made for it."""
    yield from generate("frames to lose", seed=330)
    result = get_settings().find_active_result()
    folder = Path(result.folder)
    before = {path.name: path.read_bytes() for path in folder.glob("*.png")}
    assert len(before) >= 2, list(folder.iterdir())
    shutil.rmtree(folder)
    yield from scroll(40)
    yield from take_screenshot("13-frames-lost")
    monitor.phase = "fetching"
    click("latentman.fetch_result")
    yield from wait_until(lambda: get_connection().fetch_task.done, "the frames")
    assert get_connection().fetch_task.succeeded, get_connection().error
    assert {path.name: path.read_bytes() for path in folder.glob("*.png")} == before
    yield from take_screenshot("13-fetched-again")
    yield from scroll(-40)
    check_panel_is_free()


def look_at_history() -> Steps:
    """Two versions of a shot: watched while one is made, played, compared, put into the sequencer, removed and brought back."""
    yield from scroll(40)
    set_up_shot(4, seed=500)
    monitor.phase = "a shot that is watched"
    click("latentman.generate")
    shot = get_connection().shot_task
    yield from wait_for_shot(shot, is_in_stage("denoising", 0.3), "denoising")
    yield from take_screenshot("17-drafts")
    click("latentman.watch")
    yield from wait_seconds(2)
    # the watching window is in front; without a window manager nothing brings the other one back
    assert len(get_window_manager().windows) == 2
    (request := get_arguments()[1] / "17-watched.request").touch()
    yield from wait_until(request.with_suffix(".done").exists, "a screenshot of what is watched")
    with bpy.context.temp_override(window=get_window_manager().windows[-1]):
        bpy.ops.wm.window_close()
    yield from wait_until(lambda: shot.done, "the watched frames")
    assert shot.succeeded, shot.error
    yield from take_screenshot("17-done")
    yield from generate("another version", seed=501)
    assert len(get_settings().results) >= 2
    monitor.phase = "looking at results"
    click("latentman.star_result")
    click("latentman.play_result")
    yield from wait_seconds(2)
    yield from take_screenshot("17-played")
    viewer = sys.modules[KEY + ".blender_addon.viewer"].get_options()
    others = [n for n, one in enumerate(get_settings().results) if one != get_settings().find_active_result()]
    click("latentman.compare_results", other=str(others[-1]))
    viewer.flicker = False
    yield from take_screenshot("17-compared")
    viewer.flicker = True
    yield from take_screenshot("17-flicker")
    click("latentman.close_viewer")
    click("latentman.to_sequencer")
    workspace = find_layout()
    yield from take_screenshot("17-sequencer")
    get_window_manager().windows[0].workspace = workspace
    yield from wait_seconds(2)
    count = len(get_settings().results)
    click("latentman.remove_result")
    assert len(get_settings().results) == count - 1
    yield from take_screenshot("17-removed")
    yield from press_ctrl_z_and_wait()
    assert len(get_settings().results) == count, "Ctrl+Z does not bring the result back"
    yield from scroll(-40)
    check_panel_is_free()


def show_preferences() -> Steps:
    """The extension's preferences, in a window area: where models run, and with which numbers."""
    window, area, _ = get_window_and_view()
    before = area.ui_type
    area.ui_type = "PREFERENCES"
    preferences: Any = get_preferences()
    preferences.active_section, get_window_manager().addon_search = "ADDONS", "LatentMan"
    with bpy.context.temp_override(window=window, area=area):
        bpy.ops.preferences.addon_expand(module=KEY)
    yield from wait_seconds(1)
    (out := get_arguments()[1] / "16-preferences.request").touch()
    yield from wait_until(out.with_suffix(".done").exists, "a screenshot of the preferences")
    area.ui_type = before
    yield from wait_seconds(1)


def _drag_sidebar(by: int) -> Steps:
    """Make the sidebar wider, or narrower for a negative number of pixels, by its edge, which is within some pixels of its side."""
    window, _, region = get_window_and_view()
    before, side, y = region.width, region.x, region.y + region.height // 2
    for x in (side + offset for offset in (0, 1, -1, 2, -2, 3, -3, *range(4, 11))):
        window.event_simulate("MOUSEMOVE", "NOTHING", x=x, y=y)
        yield from wait_seconds(0.5)
        window.event_simulate("LEFTMOUSE", "PRESS", x=x, y=y)
        for step in range(1, 9):
            yield from wait_seconds(0.1)
            window.event_simulate("MOUSEMOVE", "NOTHING", x=x - by * step // 8, y=y)
        window.event_simulate("LEFTMOUSE", "RELEASE", x=x - by, y=y)
        yield from wait_seconds(1)
        if (get_window_and_view()[2].width - before) * by > 0:
            return
    raise AssertionError(f"the sidebar stayed {before} pixels wide")


def _set_theme(name: str) -> None:
    """One of Blender's own themes."""
    found = next(path for folder in bpy.utils.preset_paths("interface_theme") for path in Path(folder).glob(f"{name}.xml"))
    bpy.ops.script.execute_preset(filepath=str(found), menu_idname="USERPREF_MT_interface_theme_presets")


def look_at_appearances() -> Steps:
    """The panel as others see it: with a light theme, large letters, a narrow sidebar, and in each language."""
    settings = get_settings()
    settings.motion.text, settings.prompt = "a person waves and juggles", PROMPT
    preferences: Any = get_preferences()
    view, out = preferences.view, get_arguments()[1]
    locales = {"German": ("de_DE", "de"), "Japanese": ("ja_JP", "ja"), "Chinese": ("zh_HANS", "zh_CN")}

    def show(name: str) -> Steps:
        yield from wait_seconds(1)
        yield from take_screenshot(f"18-{name}-top")
        yield from scroll(40)
        yield from take_screenshot(f"18-{name}-bottom")
        yield from scroll(-40)

    yield from show("plain")
    _set_theme("Blender_Light")
    yield from show("light")
    view.ui_scale = 1.5
    yield from show("large")
    view.ui_scale = 1.0
    # the sidebar's width follows
    yield from wait_seconds(2)
    yield from _drag_sidebar(-90)
    yield from show("narrow")
    yield from _drag_sidebar(200)
    for name, codes in locales.items():
        for code in codes:
            try:
                view.language = code
                break
            except TypeError:
                continue
        view.use_translate_interface = view.use_translate_tooltips = True
        (out / f"locale-{name}.txt").write_text(bpy.app.translations.locale)
        yield from show(name)
    view.language = "en_US"
    yield from wait_seconds(1)


def put_in_places() -> Steps:
    """A result as a movie and in the compositor, frames of another shape than the scene's, and a prop on a bone."""
    yield from generate("frames to be placed", seed=340)
    scene, settings = get_current_scene(), get_settings()
    monitor.phase = "placing"
    click("latentman.to_sequencer", kind="MOVIE")
    editor: Any = scene.sequence_editor
    strips = editor.strips if hasattr(editor, "strips") else editor.sequences
    assert "MOVIE" in [strip.type for strip in strips]
    click("latentman.to_compositor")
    owner: Any = scene
    tree = owner.compositing_node_group if hasattr(owner, "compositing_node_group") else owner.node_tree
    assert any(node.type == "IMAGE" for node in tree.nodes)
    area = max((a for a in get_window_and_view()[0].screen.areas if a.type != "VIEW_3D"), key=lambda a: a.width * a.height)
    before = area.ui_type
    for name, kind in (("movie", "SEQUENCE_EDITOR"), ("compositor", "CompositorNodeTree")):
        area.ui_type = kind
        yield from wait_seconds(1)
        yield from take_screenshot(f"15-{name}")
    area.ui_type = before
    settings.width, settings.height, settings.use_scene_aspect = 320, 240, False
    yield from scroll(40)
    yield from take_screenshot("15-other-shape")
    click("latentman.match_scene_size")
    assert (scene.render.resolution_x, scene.render.resolution_y) == (320, 240)
    mesh = bpy.data.meshes.new("Helmet")
    mesh.from_pydata([(0, 0, 0), (0.1, 0, 0), (0, 0.1, 0)], [], [(0, 1, 2)])
    prop = bpy.data.objects.new("Helmet", mesh)
    scene.collection.objects.link(prop)
    prop.parent, prop.parent_type, prop.parent_bone = settings.character, "BONE", "head"
    scene.view_layers[0].objects.active = prop
    yield from wait_seconds(1)
    yield from take_screenshot("15-prop")
    yield from scroll(-40)
    check_panel_is_free()


def save_file() -> Steps:
    """Save the file for ``window_commands``."""
    set_up_shot(3, seed=400)
    bpy.ops.wm.save_as_mainfile(filepath=str(get_arguments()[1] / "shot.blend"), copy=True)
    click("latentman.stop_backend")
    yield None


def quit_during_shot() -> Steps:
    """Blender is quit while frames are made."""
    yield from start()
    yield from quit_meanwhile()


#: the names that ``tools.window_test`` takes, in their order
PARTS: dict[str, Callable[[], Steps]] = {
    "panel": use_panel,
    "sources": use_source,
    "folded": use_folded_panels,
    "diagnostics": copy_diagnostics,
    "cancel": cancel_shots,
    "undo": undo_during_shots,
    "arrivals": undo_after_arrivals,
    "killed": kill_backend,
    "fetched": fetch_again,
    "placed": put_in_places,
    "history": look_at_history,
    "assets": use_assets,
    "preferences": show_preferences,
    "appearances": look_at_appearances,
    "meanwhile": do_meanwhile,
    "queue": use_queue,
    "sequencer": use_sequencer,
    "models": use_models,
    "costumes": use_costumes,
    STUDIO: use_studio,
    "save": save_file,
}
#: the parts that are run alone
ALONE: dict[str, Callable[[], Steps]] = {FIRST_CLIP: make_first_clip, SET_UP: use_set_up, QUIT: quit_during_shot}


def run_parts() -> Steps:
    """Run the chosen parts, one after the other."""
    # in 4.3 the studio's second drag out of the file browser begins beside the file
    chosen = os.environ.get("LATENTMAN_WINDOW_PARTS", "").split() or [name for name in PARTS if name != STUDIO]
    try:
        if chosen[0] in ALONE:
            assert len(chosen) == 1, f"{chosen[0]} is run alone"
            yield from ALONE[chosen[0]]()
            return
        yield from start()
        failures = []
        for name in chosen:
            print(f"part {name}", flush=True)
            try:
                yield from PARTS[name]()
            except Exception:
                # the parts that follow may say whether it is one fault or several
                failures.append(f"part {name}: {traceback.format_exc()}")
                yield from take_screenshot(f"failed-{name}")
                open_panels()
        assert not failures, "\n".join(failures)
    except Exception:
        yield from take_screenshot("failed")
        raise
    finally:
        (get_arguments()[1] / "pulse.txt").write_text(monitor.report())


def main() -> None:
    """Start the parts once the window is open."""
    run(run_parts())
