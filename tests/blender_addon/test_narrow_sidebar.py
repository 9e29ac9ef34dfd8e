"""A narrow sidebar, or large letters: buttons with words stand below each other."""

from __future__ import annotations

from types import SimpleNamespace

import bpy
import pytest

from latentman.blender_addon import panels, properties, results_panel

pytestmark = pytest.mark.usefixtures("registered_operators")

PANELS = (panels.CharacterPanel, panels.MotionPanel, panels.LookPanel, panels.GeneratePanel, results_panel.ResultPanel)


class _Row:
    """Stands in for a layout: how many buttons with words of their own each row has."""

    def __init__(self, rows: list[list[str]], is_row: bool = False) -> None:
        self._rows, self._is_row = rows, is_row
        self.words: list[str] = []
        if is_row:
            rows.append(self.words)

    def row(self, **_):
        return _Row(self._rows, True)

    def column(self, **_):
        return _Row(self._rows)

    def operator(self, name, *_, text=None, **__):
        if text != "":
            self.words.append(name)
        return SimpleNamespace()

    operator_menu_enum = operator

    def panel_prop(self, *_):
        return self, None

    def __getattr__(self, _):
        return lambda *_, **__: self


@pytest.fixture
def settings(character):
    settings = properties.get_settings(bpy.context)
    settings.character = character
    result = settings.results.add()
    result.prompt, result.folder, result.count, result.total = "a knight", "//", 2, 2
    return settings


def _draw(width: int, scale: float) -> list[list[str]]:
    rows: list[list[str]] = []
    context = SimpleNamespace(
        scene=bpy.context.scene,
        screen=None,
        active_object=None,
        evaluated_depsgraph_get=bpy.context.evaluated_depsgraph_get,
        region=SimpleNamespace(width=width),
        preferences=SimpleNamespace(system=SimpleNamespace(ui_scale=scale)),
    )
    for panel in PANELS:
        panel.draw(SimpleNamespace(layout=_Row(rows)), context)
    return [row for row in rows if len(row) > 1]


@pytest.mark.parametrize(("width", "scale", "narrow"), [(283, 1.0, False), (190, 1.0, True), (420, 1.5, False), (283, 1.5, True)])
def test_words_stand_below_each_other(settings, width, scale, narrow):
    beside = _draw(width, scale)
    if narrow:
        assert not beside
    else:
        assert ["latentman.preview_frame", "latentman.generate"] in beside and len(beside) > 4
