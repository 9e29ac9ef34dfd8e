"""Copy Diagnostics and the log folder, without a backend."""

from __future__ import annotations

import logging

import bpy
import pytest

from latentman.blender_addon import diagnostics, preferences, properties, registration
from latentman.blender_addon.connection import connection
from latentman.blender_addon.operators.backend import DIAGNOSTICS
from latentman.shared import logs
from latentman.shared.folders import LOG_ENVIRONMENT
from latentman.shared.redaction import PROMPT

pytestmark = pytest.mark.usefixtures("registered_operators")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A log folder of the test's own."""
    monkeypatch.setenv(LOG_ENVIRONMENT, str(tmp_path / "logs"))
    return tmp_path / "logs"


def test_the_diagnostics_are_one_text_without_prompts(empty_scene, folder, monkeypatch):
    settings = properties.get_settings(bpy.context)
    settings.prompt = "a purple walrus"
    path = logs.start(logs.BLENDER)
    logs.get_logger("latentman.test").info("no strips for a purple walrus in %s", folder)
    monkeypatch.setattr(connection, "error", "The backend did not start: exit code 3.")
    try:
        assert bpy.ops.latentman.copy_diagnostics() == {"FINISHED"}
    finally:
        logs.stop()
    text = (folder / DIAGNOSTICS).read_text(encoding="utf-8")
    assert "walrus" not in text and f"no strips for {PROMPT} in" in text
    for expected in (bpy.app.version_string, "graphics", "exit code 3", "not running", "free", f"== Log: blender, {path.name} =="):
        assert expected in text, expected


def test_no_clipboard_and_no_folder_is_an_error(empty_scene, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(LOG_ENVIRONMENT, str(tmp_path / "file" / "logs"))
    for operator in (bpy.ops.latentman.copy_diagnostics, bpy.ops.latentman.open_log_folder):
        with pytest.raises(RuntimeError, match="cannot be"):
            operator()


def test_the_log_folder_is_made_before_it_is_shown(empty_scene, folder):
    assert bpy.ops.latentman.open_log_folder() == {"FINISHED"} and folder.is_dir()


def test_every_prompt_of_the_file_is_known(empty_scene):
    settings = properties.get_settings(bpy.context)
    settings.prompt, settings.background_prompt = "zebra crossing", "yellow wall"
    cube = bpy.data.objects.new("dressed", None)
    cube.latentman_look_prompt = "a blue coat"
    bpy.data.actions.new("take")["latentman_text"] = "a man waves"
    assert {"zebra crossing", "yellow wall", "a blue coat", "a man waves"} <= set(diagnostics._find_prompts())


def test_the_extension_logs_while_it_is_on(empty_scene, folder, monkeypatch):
    monkeypatch.setattr(registration, "PARTS", ())
    before = logging.getLogger("latentman").handlers[:]
    registration.register()
    registration.unregister()
    (log,) = folder.glob("blender-*.log")
    assert bpy.app.version_string in log.read_text() and logging.getLogger("latentman").handlers == before


def test_an_extension_that_cannot_be_switched_on_leaves_its_traceback(empty_scene, folder, monkeypatch):
    class Broken:
        @staticmethod
        def register():
            raise RuntimeError("no such class")

    monkeypatch.setattr(registration, "PARTS", (Broken,))
    with pytest.raises(RuntimeError):
        registration.register()
    (log,) = folder.glob("blender-*.log")
    assert "RuntimeError: no such class" in log.read_text() and not logging.getLogger("latentman").handlers


def test_preferences_offer_both_buttons():
    drawn = []

    class Layout:
        def operator(self, name, **_):
            drawn.append(name)

        def __getattr__(self, _):
            # rows, boxes and columns draw into the same list; labels and properties draw nothing
            return lambda *_, **__: self

    class Preferences:
        layout, endpoint, backend_folder, build = Layout(), "127.0.0.1:1", "", "AUTO"

    preferences.LatentManPreferences.draw(Preferences(), bpy.context)
    assert drawn[-2:] == ["latentman.copy_diagnostics", "latentman.open_log_folder"] and "latentman.plan_set_up" in drawn
