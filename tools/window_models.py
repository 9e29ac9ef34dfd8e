"""The part of the window's test about the box *Models*, by real clicks, with a hub on loopback: a gated model, a token, *Get*,
*Cancel*, *Use*, *Remove*."""

from __future__ import annotations

import sys
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
from tools.window_buttons import (
    Place,
    confirm,
    find_button,
    get_sidebar,
    press,
    press_at,
    press_key,
    press_until,
    type_text,
)
from tools.window_names import NAME, TOKEN
from tools.window_shots import get_settings, monitor

#: pixels from the mouse, which a dialog has a little below its title, down to the one field
DOWN_TO_FIELD = 17


def get_book() -> Any:
    """The library as the window knows it."""
    return sys.modules[f"{KEY}.blender_addon.library_book"].book


def find_item() -> Any:
    """The model of the hub."""
    return get_book().find(NAME)


def is_idle() -> bool:
    """Whether nothing is got or changed, and the list is of now."""
    task = get_connection().library_task
    return (task is None or task.done) and get_book().is_listed


def use_models() -> Steps:
    """The whole of it."""
    monitor.phase = "the box Models"
    open_panels("ModelsPanel")
    sidebar = get_sidebar()
    library: Any = get_window_manager().latentman_library  # type: ignore[attr-defined]
    yield from find_button("latentman.list_models", sidebar)
    yield from wait_until(lambda: library.rows and find_item() is not None, "the library")
    library.search = "hyper-sd sd 1.5"
    choose(library)
    yield from wait_seconds(1)
    yield from take_screenshot("32-offline")
    yield from press_until("latentman.allow_online", is_online)
    yield from wait_until(lambda: get_connection().connected, "the backend that may go online")
    yield from wait_until(lambda: get_book().is_listed and library.rows and is_chosen(), "the model to be chosen again")
    yield from press("latentman.get_model", sidebar)
    yield from wait_until(lambda: get_book().error, "the hub's refusal")
    assert get_book().error_code == "gated", (get_book().error_code, get_book().error)
    yield from wait_seconds(1)
    yield from take_screenshot("32-gated")
    yield from give_token(sidebar)
    yield from get_it(sidebar)
    yield from press_until("latentman.use_model", is_used)
    yield from take_screenshot("32-used")
    yield from press_until("latentman.remove_part", lambda: not is_used())
    x, y = yield from press("latentman.remove_model", sidebar)
    yield from take_screenshot("32-remove")
    yield from confirm(sidebar, x, y)
    yield from wait_until(lambda: is_idle() and not find_item().is_here, "the model to be removed")
    yield from take_screenshot("32-removed")
    open_panels()


def choose(library: Any) -> None:
    """Have it chosen in the list."""
    library.active = next(n for n, item in enumerate(get_book().items) if item.name == NAME)


def is_chosen() -> bool:
    """Whether it is chosen in the list."""
    item = sys.modules[f"{KEY}.blender_addon.model_library"].find_active_item()
    return item is not None and item.name == NAME


def is_used() -> bool:
    """Whether the panel's model has a LoRA."""
    return "lora" in get_settings().model


def is_online() -> bool:
    """Whether Blender lets extensions use the internet."""
    return bool(sys.modules[f"{KEY}.blender_addon.online"].is_online())


def give_token(sidebar: Place) -> Steps:
    """Type the token into its dialog."""
    x, y = yield from press("latentman.give_token", sidebar)
    yield from take_screenshot("32-token")
    yield from press_at(sidebar, x, y - DOWN_TO_FIELD)
    yield from type_text(TOKEN)
    yield from take_screenshot("32-token-typed")
    # the first ends typing
    yield from press_key("RET")
    yield from confirm(sidebar, x, y)
    yield from wait_until(lambda: get_book().sentence or get_book().error, "the token to be kept")
    assert not get_book().error, get_book().error


def get_it(sidebar: Place) -> Steps:
    """Get it, cancel, and get the rest."""
    yield from press("latentman.get_model", sidebar)
    yield from wait_until(lambda: "/s" in get_connection().library_task.stage or is_idle(), "the download")
    yield from take_screenshot("32-getting")
    yield from press("latentman.cancel_library", sidebar)
    yield from wait_until(is_idle, "the cancelled download")
    assert not find_item().is_here
    yield from press("latentman.get_model", sidebar)
    yield from wait_until(lambda: is_idle() and (find_item().is_here or get_book().error), "the download")
    assert find_item().is_here, get_book().error
    yield from take_screenshot("32-here")
