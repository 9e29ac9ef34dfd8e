"""The part of the window's test about costumes, by real clicks: the prompt is completed, the character dressed, the costume worn,
painted on, and taken off."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import bpy

from tools.window_actions import (
    KEY,
    Steps,
    get_arguments,
    get_connection,
    get_window_and_view,
    open_panels,
    press_ctrl_z,
    scroll,
    take_screenshot,
    wait_seconds,
    wait_until,
)
from tools.window_buttons import confirm, get_sidebar, press, press_key, press_until
from tools.window_shots import check_panel_is_free, get_settings, monitor, set_up_shot, wait_for_shot

#: says nothing of shoes, hair and place
OPEN_PROMPT = "a man in a red shirt and blue jeans"
SEED, STEPS = 800, 4


def get_worn() -> str:
    """The costume that the character wears, as its path; nothing where it wears none."""
    kept: Any = sys.modules[f"{KEY}.blender_addon.properties"].get_kept_look(get_settings().character)
    return str(kept[0]) if sys.modules[f"{KEY}.shared.costume_files"].is_costume(kept[0]) else ""


def find_image() -> bpy.types.Image:
    """The image of the character's material."""
    image = next((image for image in bpy.data.images if Path(image.filepath).name.startswith("texture_")), None)
    assert image is not None, bpy.data.images.keys()
    return image


def complete_prompt() -> Steps:
    """*Complete Prompt* adds words, and Ctrl+Z takes them back."""
    get_settings().prompt = OPEN_PROMPT
    with bpy.context.temp_override(window=get_window_and_view()[0]):
        # as when it is typed
        bpy.ops.ed.undo_push(message="Prompt")
    yield from wait_seconds(1)
    yield from press("latentman.complete_prompt", picture="31-open-prompt")
    completed = get_settings().prompt
    said = set(OPEN_PROMPT.replace(",", "").split())
    assert completed != OPEN_PROMPT and said <= set(completed.replace(",", "").split()), completed
    yield from take_screenshot("31-completed-prompt")
    press_ctrl_z()
    yield from wait_until(lambda: get_settings().prompt == OPEN_PROMPT, "the words to be taken back")
    yield from press_until("latentman.complete_prompt", lambda: get_settings().prompt == completed)


def dress() -> Steps:
    """*Dress*: nothing on Esc; with the dialog's own settings it ends with a turntable that is worn."""
    sidebar = get_sidebar()
    yield from press("latentman.dress", sidebar)
    yield from take_screenshot("31-asked")
    yield from press_key("ESC")
    assert not get_connection().busy
    before = len(get_settings().results)
    monitor.phase = "dressing"
    task = get_connection().shot_task
    x, y = yield from press("latentman.dress", sidebar)
    yield from confirm(sidebar, x, y)
    yield from wait_until(lambda: get_connection().shot_task is not task, "the dressing to begin")
    task = get_connection().shot_task
    yield from take_screenshot("31-dressing")
    yield from wait_for_shot(task, lambda shot: shot.stage == "denoising" and shot.fraction > 0.3, "denoising")
    yield from take_screenshot("31-denoising")
    yield from wait_for_shot(task, lambda shot: False, "the costume")
    assert task.succeeded, task.error
    yield from wait_seconds(1)
    assert len(get_settings().results) == before + 1 and get_worn(), get_worn()
    yield from take_screenshot("31-dressed")
    yield from scroll(40)
    yield from take_screenshot("31-dressed-results")
    yield from scroll(-40)


def wear() -> Steps:
    """*As Material* shows it, paint comes back in a frame, *New Look* takes it off, and Ctrl+Z puts it on again."""
    space: Any = get_window_and_view()[1].spaces.active
    yield from press("latentman.as_material")
    space.shading.type = "MATERIAL"
    # in software this takes a minute and more, and newer versions draw nothing meanwhile
    yield from wait_seconds(100)
    yield from take_screenshot("31-as-material")
    space.shading.type = "SOLID"
    image = find_image()
    width, height = image.size
    pixels: Any = image.pixels
    pixels.foreach_set([0.0, 1.0, 0.0, 1.0] * (width * height))
    image.update()
    yield from wait_seconds(1)
    monitor.phase = "a shot in the costume"
    set_up_shot(2, SEED, STEPS)
    task = get_connection().shot_task
    yield from press_until("latentman.generate()", lambda: get_connection().shot_task is not task)
    task = get_connection().shot_task
    yield from wait_for_shot(task, lambda shot: False, "the shot in the costume")
    assert task.succeeded, task.error
    yield from scroll(40)
    yield from take_screenshot("31-painted")
    yield from scroll(-40)
    worn = get_worn()
    yield from press_until("latentman.new_look", lambda: not get_worn())
    yield from take_screenshot("31-taken-off")
    press_ctrl_z()
    yield from wait_until(lambda: get_worn() == worn, "the costume to be put on again")
    check_panel_is_free()


def use_costumes() -> Steps:
    """Complete a prompt, dress the character, wear what was made."""
    open_panels()
    set_up_shot(2, SEED, STEPS)
    yield from complete_prompt()
    yield from dress()
    yield from wear()
    (get_arguments()[1] / "costume.txt").write_text(get_worn())
