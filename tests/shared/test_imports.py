"""The rules about who may import what, read from the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.checkout import ROOT

#: Blender's module, and those of ours that import it
BLENDER = {
    "bpy",
    *(f"latentman.blender_addon.{name}" for name in ("rigging", "typed_access", "compat", "passes", "tasks", "operators")),
}
#: folder -> the parts that its files must not import
FORBIDDEN = {
    "shared": {"tools", "tests", "bpy", "torch", "latentman.backend", "latentman.blender_addon"},
    "backend": {"tools", "tests", "bpy", "latentman.blender_addon"},
    "blender_addon": {"tools", "tests", "torch", "latentman.backend"},
    "tools": {"tests"},
    # pure numpy, and nothing of the package that needs Blender
    "blender_addon/character": BLENDER,
    "blender_addon/motion": BLENDER,
    "blender_addon/reference_shots": BLENDER,
}
#: packages that come with the forbidden ones
ALIASES = {"mathutils": "bpy", "gpu": "bpy", "bmesh": "bpy", "bpy_extras": "bpy", "diffusers": "torch", "transformers": "torch"}


def find_imports(source: str, package: tuple[str, ...]) -> Iterator[str]:
    """The full names of all that a module of a package imports, wherever in it the statement stands, and those that it names in
    ``importlib.import_module("...")``."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*start, *filter(None, [node.module])])
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "import_module" and node.args:
            # the beginning of a name that is put together counts, too
            yield from (one.value for one in ast.walk(node.args[0]) if isinstance(one, ast.Constant) and isinstance(one.value, str))


def find_offences(source: str, package: tuple[str, ...], forbidden: set[str]) -> list[str]:
    """The imports of a module that are forbidden to it."""
    out = []
    for name in find_imports(source, package):
        head = name.split(".")[0]
        names = {name, ALIASES.get(head, head)}
        if any(one == ban or one.startswith(ban + ".") for one in names for ban in forbidden):
            out.append(name)
    return out


@pytest.mark.parametrize("folder", list(FORBIDDEN))
def test_nobody_imports_what_is_not_theirs(folder):
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files, "the folder has modules"
    offences = {}
    for path in files:
        parent = path.relative_to(ROOT).parent.parts
        package = parent if folder == "tools" else ("latentman", *parent)
        found = find_offences(path.read_text(encoding="utf-8"), package, FORBIDDEN[folder])
        if found:
            offences[str(path.relative_to(ROOT))] = found
    assert not offences


def test_everything_in_rigging_imports_bpy():
    files = [path for path in (ROOT / "blender_addon" / "rigging").glob("*.py") if path.name != "__init__.py"]
    assert files and all("bpy" in find_imports(path.read_text(encoding="utf-8"), ("latentman",)) for path in files)


def test_the_packages_own_module_imports_neither_side_at_once():
    body = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8")).body
    assert not [
        node for node in body if isinstance(node, ast.Import | ast.ImportFrom) and getattr(node, "module", "") != "__future__"
    ]


@pytest.mark.parametrize(
    "line",
    [
        "import tools.studies",
        "from tests import samples",
        "def f():\n    from ...blender_addon.passes import render",
        "from ... import blender_addon",
        "from latentman.blender_addon.timing import frame_rate",
        "import bpy.types",
        "if TYPE_CHECKING:\n    from mathutils import Vector",
        "import importlib\nimportlib.import_module(f'tools.studies.{name}')",
    ],
)
def test_a_broken_rule_is_found(line):
    assert find_offences(line, ("latentman", "backend", "metrics"), FORBIDDEN["backend"])


def test_relative_imports_are_resolved():
    found = set(find_imports((ROOT / "blender_addon/motion/channels.py").read_text(), ("latentman", "blender_addon", "motion")))
    assert {"latentman.blender_addon.character.rig.Rig", "latentman.shared.skeleton"} <= found | {
        name.rpartition(".")[0] for name in found
    }


def test_what_is_allowed_is_not_found():
    source = "import torch\nfrom ..video import look\nfrom ...shared import shot\nfrom .blender_addon import x\nimport toolsmith"
    assert not find_offences(source, ("latentman", "backend", "metrics"), FORBIDDEN["backend"])
