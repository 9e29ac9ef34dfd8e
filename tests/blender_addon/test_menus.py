"""Entries in Blender's own menus."""

from __future__ import annotations

import bpy
import pytest

from latentman.blender_addon import menus


class _Layout:
    """Notes what is drawn."""

    def __init__(self):
        self.drawn, self.operator_context = [], ""

    def operator(self, name, **_):
        self.drawn.append(name)

    def menu(self, name, **_):
        self.drawn.append(name)

    def separator(self):
        self.drawn.append("")


class _Menu:
    def __init__(self):
        self.layout = _Layout()


@pytest.fixture
def registered(registered_operators):
    """The menus as they are while the extension is switched on."""
    menus.register()
    yield
    menus.unregister()


def _is_operator(name: str) -> bool:
    module, function = name.split(".")
    try:
        getattr(getattr(bpy.ops, module), function).get_rna_type()
    except KeyError:
        return False
    return True


def test_every_entry_is_an_operator_or_a_menu(registered):
    found = []
    for _, draw in menus.ADDED:
        menu = _Menu()
        draw(menu, bpy.context)
        found += menu.layout.drawn
    for cls in (menus.ObjectMenu, menus.StripMenu):
        assert hasattr(bpy.types, cls.bl_idname) and cls.bl_idname in found
    for entries in (menus.OBJECT, menus.STRIP):
        layout = _Layout()
        menus.draw_entries(layout, entries)
        assert layout.operator_context == "INVOKE_DEFAULT", "a menu's entry asks as its button does"
        found += layout.drawn
    names = [name for name in found if name.startswith("latentman.")]
    assert len(names) > 25 and all(map(_is_operator, names)), [name for name in names if not _is_operator(name)]


def test_blenders_menus_are_as_they_were_afterwards(registered_operators):
    def count():
        return {name: len(getattr(bpy.types, name)._dyn_ui_initialize()) for name, _ in menus.ADDED}

    before = count()
    menus.register()
    assert all(after == before[name] + 1 for name, after in count().items())
    menus.unregister()
    assert count() == before
