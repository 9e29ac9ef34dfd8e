"""The part of the window's test about models of other kinds, by real clicks: a folder of them is added, a motion module is dropped
out of the file browser, a LoRA is used for a transformer, and what a Wan VACE sees and is shown of a look is chosen."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from tools.window_actions import (
    KEY,
    Steps,
    get_connection,
    get_window_and_view,
    get_window_manager,
    open_panels,
    press_ctrl_z,
    scroll,
    take_screenshot,
    wait_seconds,
    wait_until,
)
from tools.window_assets import drag, find_region
from tools.window_buttons import Place, confirm, find_button, get_sidebar, press, press_key, press_until
from tools.window_models import get_book, is_idle
from tools.window_names import CLIPS, CONTROL, LORA, LORA_WORD, MODULE, STUDIO_VARIABLE, TRANSFORMER
from tools.window_set_up import choose_folder
from tools.window_shots import check_panel_is_free, get_settings, monitor, set_up_shot, wait_for_shot

SEED, STEPS, SIDE = 900, 2, 64
#: pixels from the left and the top of the file browser's list to its first row
FIRST_FILE = (60, 46)
STARTER = "starter"
#: shares of the sidebar's width: the buttons of a row of two, and what stands at its end
LEFT, RIGHT, BESIDE = 0.3, 0.7, 0.83


def get_folder() -> Path:
    """The folder of the models."""
    return Path(os.environ[STUDIO_VARIABLE])


def get_library() -> Any:
    """The list as the window has it."""
    return get_window_manager().latentman_library  # type: ignore[attr-defined]


def is_listed(name: str) -> bool:
    """Whether the list has a file or folder of the studio."""
    return is_idle() and any(Path(item.path).name == name for item in get_book().items)


def find_item() -> Any:
    """The entry that is chosen in the list."""
    return sys.modules[f"{KEY}.blender_addon.model_library"].find_active_item()


def choose(name: str) -> Steps:
    """Have a file or folder of the studio chosen in the list."""
    library = get_library()
    library.search = name.partition(".")[0]
    yield from wait_until(lambda: len(library.rows) == len(get_book().items), "the list's rows")
    library.active = next(n for n, item in enumerate(get_book().items) if Path(item.path).name == name)
    yield from wait_seconds(1)
    item = find_item()
    assert item is not None and Path(item.path).name == name and not item.problem, item


def has(*parts: str) -> bool:
    """Whether the panel's model has exactly these parts, the base first, each by the end of what is written for it."""
    written = get_settings().model.split("|")
    return len(written) == len(parts) and all(one.endswith(part) for one, part in zip(written, parts, strict=True))


def use(name: str, *parts: str) -> Steps:
    """*Use* of a file or folder of the studio, after which the model has these parts."""
    yield from choose(name)
    yield from press_until("latentman.use_model", lambda: has(*parts), across=LEFT)


def take_part_out(*parts: str) -> Steps:
    """The X beside the model's first part, after which it has these parts."""
    yield from press_until("latentman.remove_part", lambda: has(*parts), across=BESIDE)


def make_shot(name: str, seed: int) -> Steps:
    """Generate two small frames by a click; with pictures while the model's boxes are open and of the results."""
    set_up_shot(2, seed, STEPS)
    settings = get_settings()
    settings.use_scene_aspect, settings.width, settings.height = False, SIDE, SIDE
    monitor.phase = f"a shot with {name}"
    before = get_connection().shot_task
    yield from press_until("latentman.generate()", lambda: get_connection().shot_task is not before, across=RIGHT)
    task = get_connection().shot_task
    yield from wait_for_shot(task, lambda shot: False, f"the shot with {name}")
    yield from scroll(60)
    yield from take_screenshot(f"33-{name}-result")
    yield from scroll(-60)
    assert task.succeeded, task.error
    check_panel_is_free()


def add_folder() -> Steps:
    """*Add Folder*, which lists what is in it."""
    yield from press("latentman.add_models", across=LEFT)
    yield from choose_folder(get_folder(), "33-folder")
    yield from wait_until(lambda: is_listed(MODULE) or get_book().error, "the folder")
    assert not get_book().error, get_book().error
    for name in (TRANSFORMER, CONTROL, LORA, CLIPS):
        assert is_listed(name), [item.path for item in get_book().items]


def drop_module() -> Steps:
    """The motion module is dragged out of a file browser into the viewport: nothing on Esc, then as Blender's dialog offers it."""
    window, view, _ = get_window_and_view()
    area: Any = max((a for a in window.screen.areas if a.type != "VIEW_3D"), key=lambda a: a.width * a.height)
    before, area.ui_type = area.ui_type, "FILES"
    yield from wait_until(lambda: area.spaces.active.params is not None, "the file browser")
    params = area.spaces.active.params
    params.directory, params.filter_search, params.display_type = os.fsencode(get_folder()), Path(MODULE).stem, "LIST_VERTICAL"
    area.spaces.active.show_region_toolbar = False
    yield from wait_seconds(2)
    browser, viewport = find_region(area, "WINDOW"), find_region(view, "WINDOW")
    row = (browser.x + FIRST_FILE[0], browser.y + browser.height - FIRST_FILE[1])
    target = ((viewport.x + find_region(view, "UI").x) // 2, viewport.y + 350)
    place = Place(window, view, viewport)
    yield from drag(row, target, "33-dragging")
    yield from take_screenshot("33-dropped")
    yield from press_key("ESC")
    assert has(STARTER)
    yield from drag(row, target, "33-dragging")
    yield from confirm(place, *target)
    yield from wait_until(lambda: has(STARTER, MODULE), "the motion module in the model")
    assert f"motion={get_folder() / MODULE}" in get_settings().model
    press_ctrl_z()
    yield from wait_until(lambda: has(STARTER), "Ctrl+Z to take the dropped module out")
    area.ui_type = before
    yield from wait_seconds(1)


def use_module() -> Steps:
    """The motion module by *Use*, undone and done again, and a shot with it."""
    yield from use(MODULE, STARTER, MODULE)
    press_ctrl_z()
    yield from wait_until(lambda: has(STARTER), "Ctrl+Z to take the motion module out")
    yield from use(MODULE, STARTER, MODULE)
    yield from take_screenshot("33-motion-module")
    yield from make_shot("motion-module", SEED)
    yield from take_part_out(STARTER)


def use_transformer() -> Steps:
    """A transformer with its ControlNet and a LoRA, whose strength is a slider."""
    yield from use(TRANSFORMER, TRANSFORMER)
    yield from use(CONTROL, TRANSFORMER, f"{CONTROL}@1")
    yield from use(LORA, TRANSFORMER, f"{CONTROL}@1", f"{LORA}@1")
    assert find_item().words == (LORA_WORD,), find_item()
    yield from find_button("latentman.parts.strength_1", get_sidebar(), RIGHT)
    yield from take_screenshot("33-lora")
    yield from make_shot("lora", SEED + 1)


def choose_with_key(field: str, key: str, picture: str) -> Steps:
    """Choose in the menu of a field, with a picture of what it offers, by the key of the choice's letter."""
    yield from press(field, across=RIGHT)
    yield from take_screenshot(picture)
    yield from press_key(key)


def use_clips() -> Steps:
    """A Wan VACE: what it sees is a part of its name, and what it is shown of a look a setting."""
    for parts in ((TRANSFORMER, f"{LORA}@1"), (TRANSFORMER,)):
        yield from take_part_out(*parts)
    yield from use(CLIPS, CLIPS)
    get_settings().model += "|sees=depth_openpose"
    yield from take_screenshot("33-sees")
    yield from make_shot("sees", SEED + 2)
    yield from press("latentman.keep_look", across=RIGHT)
    open_panels("AdvancedPanel", "TechniquesPanel")
    yield from choose_with_key("latentman.techniques.fusion.use", "S", "33-fusion")
    assert get_settings().techniques.fusion.use == "ON"
    yield from choose_with_key("latentman.techniques.fusion.show_look", "B", "33-show-look")
    assert get_settings().techniques.fusion.show_look == "both", get_settings().techniques.fusion.show_look
    yield from take_screenshot("33-both")
    yield from make_shot("both", SEED + 3)
    open_panels("ModelsPanel")
    yield from take_part_out(CLIPS)
    yield from press_until("latentman.new_look", lambda: not get_settings().character.latentman_look, across=BESIDE)


def use_studio() -> Steps:
    """The whole of it."""
    monitor.phase = "models of other kinds"
    set_up_shot(2, SEED, STEPS)
    open_panels("ModelsPanel")
    yield from find_button("latentman.list_models", get_sidebar(), BESIDE)
    yield from wait_until(lambda: get_library().rows, "the library")
    before = get_settings().model
    get_settings().model = STARTER
    yield from add_folder()
    yield from drop_module()
    yield from use_module()
    yield from use_transformer()
    yield from use_clips()
    get_settings().model = before
    open_panels()
