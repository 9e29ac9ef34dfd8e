"""What is said of every class, property and button of the extension, and the shortcuts that are offered."""

from __future__ import annotations

from types import SimpleNamespace

import bpy
import pytest

from latentman.blender_addon import menus, registration, shortcuts

#: classes that hold properties of our own
KINDS = ("Operator", "PropertyGroup", "AddonPreferences", "Panel", "Menu", "UIList", "FileHandler")
OWNERS = ("Scene", "Object", "WindowManager", "Action", "Armature")


@pytest.fixture(scope="module")
def _switched_on(_registered):
    """The extension as it is while it is switched on."""
    parts = [part for part in registration.PARTS if part.__name__.rpartition(".")[2] != "properties"]
    for part in parts:
        part.register()
    yield
    for part in reversed(parts):
        part.unregister()


pytestmark = pytest.mark.usefixtures("_switched_on")


def _iter_classes():
    waiting = [cls for kind in KINDS for cls in getattr(bpy.types, kind).__subclasses__()]
    while waiting:
        cls = waiting.pop()
        waiting += cls.__subclasses__()
        if cls.__module__.startswith("latentman.") and getattr(cls, "is_registered", False):
            yield cls


def _get_rna(cls):
    if not issubclass(cls, bpy.types.Operator):
        return cls.bl_rna
    module, name = cls.bl_idname.split(".")
    return getattr(getattr(bpy.ops, module), name).get_rna_type()


def _find_faults(name, description):
    """What is wrong with a label and its tooltip."""
    plain = description.strip().lower().rstrip(".")
    faults = [
        ("no name", not name.strip()),
        ("its name ends with a period", name.endswith(".") and not name.endswith("...")),
        ("no tooltip", not plain),
        ("its tooltip repeats the name", bool(plain) and plain == name.strip().lower().rstrip(".")),
        ("its tooltip ends with a period", description.strip().endswith(".")),
    ]
    return [fault for fault, is_so in faults if is_so]


def _iter_texts():
    """(where, name, description) of everything that the extension shows a tooltip of."""
    for cls in _iter_classes():
        rna = _get_rna(cls)
        where = getattr(cls, "bl_idname", cls.__name__)
        if issubclass(cls, bpy.types.Operator):
            yield where, rna.name, rna.description
        for one in rna.properties:
            inherited = rna.base is not None and one.identifier in rna.base.properties
            if (
                one.identifier == "rna_type"
                or (inherited and not issubclass(cls, bpy.types.Operator))
                or cls.__name__ == "SidebarPanel"
            ):
                continue
            yield from _iter_property(f"{where}.{one.identifier}", one)
    for owner in OWNERS:
        for one in getattr(bpy.types, owner).bl_rna.properties:
            if one.identifier.startswith("latentman"):
                yield from _iter_property(f"{owner}.{one.identifier}", one)


def _iter_property(where, one):
    yield where, one.name, one.description
    for item in one.enum_items if one.type == "ENUM" else ():
        yield f"{where}.{item.identifier}", item.name, item.description


def test_everything_has_a_tooltip_that_says_more_than_its_name():
    texts = list(_iter_texts())
    places = {where for where, *_ in texts}
    assert {"latentman.generate", "LatentManSettings.prompt", "Scene.latentman", "latentman.mark_pose.bones.ALL"} <= places
    assert len(texts) > 400
    found = [f"{where}: {', '.join(faults)}" for where, *said in texts if (faults := _find_faults(*said))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("name", "description", "fault"),
    [
        ("", "Says what", "no name"),
        ("Seed.", "Says what", "its name ends with a period"),
        ("Seed", " ", "no tooltip"),
        ("Keep Look", "Keep look.", "its tooltip repeats the name"),
        ("Seed", "Says what.", "its tooltip ends with a period"),
    ],
)
def test_a_bad_tooltip_is_found(name, description, fault):
    assert fault in _find_faults(name, description)
    assert not _find_faults("Open...", "Choose a file")


#: operators that need a place to be called from, which a search has not
HIDDEN = {"drop_motion", "drop_model", "choose_action", "load_preset", "load_values", "look_preset_add", "method_preset_add"}


def test_the_search_finds_every_main_operator():
    hidden = {
        cls.bl_idname.partition(".")[2]
        for cls in _iter_classes()
        if issubclass(cls, bpy.types.Operator) and "INTERNAL" in getattr(cls, "bl_options", ())
    }
    assert hidden == HIDDEN
    named = {entry[0] for entry in (*menus.OBJECT, *menus.STRIP) if entry is not None} | set(shortcuts.OFFERED)
    assert named >= {"generate", "cancel", "preview_frame", "play_result", "mark_take", "mark_pose"} and not named & hidden
    added = [name for name, _ in menus.ADDED]
    assert {"VIEW3D_MT_add", "VIEW3D_MT_object", "SEQUENCER_MT_add", "SEQUENCER_MT_strip"} <= set(added)
    assert all(hasattr(bpy.types, name) for name in added)


def _list_rows():
    keymap = bpy.context.window_manager.keyconfigs.addon.keymaps.get(shortcuts.KEYMAP)
    return [row for row in keymap.keymap_items if row.idname.startswith("latentman.")] if keymap else []


def test_shortcuts_are_offered_without_a_key():
    rows = _list_rows()
    assert [row.idname for row in rows] == [f"latentman.{name}" for name in shortcuts.OFFERED]
    assert all(row.type == "NONE" and not any((row.ctrl, row.alt, row.shift, row.oskey)) for row in rows)
    assert all(row.name and row.name != row.idname for row in rows), "each operator is there"
    shortcuts.unregister()
    assert not _list_rows()
    shortcuts.register()
    assert len(_list_rows()) == len(shortcuts.OFFERED)


def test_shortcuts_where_there_is_no_window(monkeypatch):
    shortcuts.unregister()
    for manager in (None, SimpleNamespace(keyconfigs=SimpleNamespace(addon=None))):
        monkeypatch.setattr(shortcuts.bpy, "context", SimpleNamespace(window_manager=manager), raising=False)
        shortcuts.register()
        monkeypatch.undo()
        assert not _list_rows()
        shortcuts.unregister()
    shortcuts.register()
