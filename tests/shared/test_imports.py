"""The rules in CONTRIBUTING about which folder may import what."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.checkout import ROOT

#: Blender's modules, and those of ours that import them
BLENDER = ("bpy", "mathutils", "blender_addon.rigging", "blender_addon.typed_access", "blender_addon.compat")


def _list_imports(path: Path) -> set[str]:
    """The modules that a file imports anywhere in its code, as absolute names; the package's own without ``latentman.``."""
    package = path.relative_to(ROOT).parent.parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *([node.module] if node.module else [])))
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return {name.removeprefix("latentman.") for name in found}


def _list_folder_imports(folder: str) -> dict[str, set[str]]:
    return {path.relative_to(ROOT).as_posix(): _list_imports(path) for path in sorted((ROOT / folder).rglob("*.py"))}


def _is_in(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        ("blender_addon/character", BLENDER),
        ("blender_addon/motion", BLENDER),
        ("blender_addon", ("torch", "backend")),
        ("backend", ("bpy", "blender_addon")),
        ("shared", ("bpy", "torch", "blender_addon", "backend", "tools")),
    ],
)
def test_a_folder_imports_only_what_it_may(folder, forbidden):
    imports = _list_folder_imports(folder)
    assert imports, "the folder has modules"
    wrong = {path: bad for path, names in imports.items() if (bad := {n for n in names for m in forbidden if _is_in(n, m)})}
    assert not wrong


def test_everything_in_rigging_imports_bpy():
    assert all(
        "bpy" in names for path, names in _list_folder_imports("blender_addon/rigging").items() if not path.endswith("__init__.py")
    )


def test_relative_imports_are_resolved():
    assert {"blender_addon.character.rig.Rig", "shared.skeleton"} <= _list_imports(ROOT / "blender_addon/motion/channels.py")
    assert "bpy" in _list_imports(ROOT / "blender_addon/rigging/ik.py")
