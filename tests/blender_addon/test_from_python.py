"""What a script can do: every operator and argument is described, ``docs/python.md`` lists them, and the template works."""

from __future__ import annotations

import ast
import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import bpy
import pytest

from latentman.blender_addon import templates
from tests.blender_addon.test_command_line import blend as blend
from tests.checkout import ROOT
from tools import write_operators_page
from tools.write_operators_page import PAGE, list_arguments, list_operators

TEXT = PAGE.read_text(encoding="utf-8")
TEMPLATE = templates.FOLDER / "generate_many_files.py"


@pytest.fixture(scope="module", autouse=True)
def _operators(registered_operators):
    """The add-on's operators."""


def test_every_operator_and_every_argument_is_described():
    operators = list_operators()
    assert len(operators) > 50
    for operator in operators:
        assert operator.name and operator.description and operator.description != operator.name, operator.identifier
        for one in operator.properties:
            if one.identifier == "rna_type":
                continue
            assert one.description, f"{operator.identifier} does not say what {one.identifier} is"
            if one.type == "ENUM":
                assert all(item.name for item in one.enum_items)


def test_the_page_lists_every_operator_with_its_arguments():
    listed = {
        found[1]: set(re.findall(r"^\| `(\w+)` \|", found[0], re.M))
        for found in re.finditer(r"### (\w+)\n.*?(?=\n### |\Z)", TEXT, re.S)
    }
    assert listed == {
        operator.identifier.partition("_OT_")[2]: {one.identifier for one in list_arguments(operator)}
        for operator in list_operators()
    }


@pytest.mark.skipif(bpy.app.version[:2] != (4, 5), reason="the page is made with Blender 4.5")
def test_the_page_is_up_to_date():
    assert write_operators_page.format_page(TEXT) == TEXT, "run python -m tools.write_operators_page"


def test_every_call_of_the_page_is_python():
    calls = re.findall(r"```\n(bpy\.ops\..*?)\n```", TEXT)
    assert len(calls) == len(list_operators())
    for call in calls:
        (expression,) = ast.parse(call).body
        name = expression.value.func.attr
        known = {one.identifier for one in getattr(bpy.ops.latentman, name).get_rna_type().properties}
        assert {keyword.arg for keyword in expression.value.keywords} <= known


def test_the_example_of_the_page_works(empty_scene):
    example = re.search(r"```python\n(import bpy.*?)```", TEXT, re.S)[1]
    exec(compile(example, "docs/python.md", "exec"), {})
    settings = bpy.context.scene.latentman
    assert settings.prompt == "a knight in a forest" and settings.seed == 7 and settings.character.type == "ARMATURE"


# -- the template -------------------------------------------------------------------------------------------------------------


def test_the_menu_of_templates_has_it():
    drawn = []

    def operator(name, **options):
        drawn.append((name, options, SimpleNamespace()))
        return drawn[-1][2]

    templates.register()
    try:
        functions = bpy.types.TEXT_MT_templates_py.draw._draw_funcs
        (ours,) = [one for one in functions if one.__module__ == templates.__name__]
        ours(SimpleNamespace(layout=SimpleNamespace(separator=lambda: None, operator=operator)), bpy.context)
    finally:
        templates.unregister()
    assert not [one for one in bpy.types.TEXT_MT_templates_py.draw._draw_funcs if one.__module__ == templates.__name__]
    ((name, options, opening),) = drawn
    assert name == "text.open" and options["text"] == "LatentMan: Generate Many Files" and Path(opening.filepath) == TEMPLATE
    known = bpy.ops.text.open.get_rna_type().properties
    assert "internal" in known and "filepath" in known and opening.internal


def make_script(monkeypatch, **constants):
    """The names of the template with settings changed, as somebody would in the Text editor."""
    text = TEMPLATE.read_text(encoding="utf-8")
    for name, value in constants.items():
        text, count = re.subn(
            rf"^{name} = (?:\{{.*?^\}}|.*?)$", lambda _, name=name, value=value: f"{name} = {value!r}", text, flags=re.M | re.S
        )
        assert count == 1, name
    names = {"__name__": "__main__"}
    monkeypatch.chdir(ROOT)
    exec(compile(text, str(TEMPLATE), "exec"), names)
    return names


@pytest.mark.slow
def test_the_template_generates_the_files_of_a_folder(blend, tmp_path, monkeypatch, capsys):
    """As it is, with other settings: one file that works, one that is broken, one that has no such frames."""
    shots = tmp_path / "shots"
    shots.mkdir()
    for name in ("a", "c"):
        (shots / f"{name}.blend").write_bytes(blend.read_bytes())
    (shots / "b.blend").write_bytes(b"broken")
    before = {path.name: path.read_bytes() for path in shots.iterdir()}
    monkeypatch.setenv("LATENTMAN_PYTHON", os.environ.get("LATENTMAN_PYTHON", sys.executable))
    bpy.ops.wm.read_factory_settings(use_empty=True)
    make_script(
        monkeypatch,
        FILES=str(shots),
        OUT=str(tmp_path / "frames"),
        ARGUMENTS=["--prompt", "a knight", "--preset", "per_frame", "--steps", "1", "--size", "64x64", "--frames", "1-2"],
        MORE={"c": ["--frames", "9-1"]},
    )
    text = bpy.data.texts["LatentMan Batch"].as_string().splitlines()
    assert text[0].startswith("a.blend: done after ") and "2 frames in" in text[0]
    assert text[1].startswith("b.blend: failed ") and "cannot be opened" in text[1]
    assert text[2].startswith("c.blend: failed ") and "is empty" in text[2]
    assert text[3] == "1 of 3 files are done" and len(text) == 4
    assert {path.name for path in (tmp_path / "frames" / "a").glob("*.png")} == {"0001.png", "0002.png"}
    assert {path.name: path.read_bytes() for path in shots.iterdir()} == before, "the files are as they were"


def test_the_template_says_where_it_found_nothing(tmp_path, monkeypatch, capsys):
    bpy.ops.wm.read_factory_settings(use_empty=True)
    make_script(monkeypatch, FILES=str(tmp_path))
    assert f"There are no .blend files in {tmp_path}" in bpy.data.texts["LatentMan Batch"].as_string()


def test_the_template_runs_the_program_that_it_runs_in(tmp_path, monkeypatch, capsys):
    bpy.ops.wm.read_factory_settings(use_empty=True)
    names = make_script(monkeypatch, FILES=str(tmp_path))
    names["bpy"] = SimpleNamespace(app=SimpleNamespace(binary_path="/opt/blender"), path=bpy.path)
    command = names["make_command"](tmp_path / "shot_010.blend")
    assert command[:5] == ["/opt/blender", "-b", str(tmp_path / "shot_010.blend"), "--command", "latentman"]
    from latentman.blender_addon.command_line import make_parser

    args = make_parser().parse_args(command[5:])
    assert args.frames == "1-24" and args.json and args.prompt == "a knight in a forest"
