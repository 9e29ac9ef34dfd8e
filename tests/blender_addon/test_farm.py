"""A shot on a farm: its look is made once from the .blend file, and parts of it come out as in one run."""

from __future__ import annotations

import json

import bpy
import pytest

from latentman.blender_addon import command_line
from latentman.blender_addon.passes.render import PassRender
from latentman.shared.look_file import read_look_file
from tests.blender_addon.test_command_line import _make_shot

FRAMES = "1-6"
SHOT = ("--prompt", "a man in a red shirt", "--steps", "2", "--keyframes-count", "2", "--keyframes-least-gain", "0")


@pytest.fixture(scope="module")
def farm(tmp_path_factory, shared_backend):
    """(folder, address): a file whose frames are large enough for small copies, in other units, and its look."""
    folder = tmp_path_factory.mktemp("farm")
    scene = _make_shot()
    scene.unit_settings.scale_length = 0.37
    # of this size the model makes more than is wanted, which is cropped
    scene.render.resolution_x, scene.render.resolution_y = 300, 156
    bpy.ops.wm.save_as_mainfile(filepath=str(folder / "shot.blend"), copy=True)
    arguments = ("--frames", FRAMES, "--size", "300x156", "--endpoint", shared_backend.endpoint, "--json")
    assert command_line.main(["look", *SHOT, *arguments, "--out", str(folder / "shot.look")]) == 0
    return folder, shared_backend.endpoint


@pytest.fixture
def shot(farm):
    """The file, open."""
    bpy.ops.wm.open_mainfile(filepath=str(farm[0] / "shot.blend"))
    return bpy.context.scene


def generate(farm, capsys, out, *arguments):
    """(exit code, events) of a part."""
    capsys.readouterr()
    folder, endpoint = farm
    look = () if "--look" in arguments else ("--look", str(folder / "shot.look"))
    code = command_line.main(["generate", *look, "--out", str(out), "--endpoint", endpoint, *map(str, arguments), "--json"])
    return code, [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]


def read_all(folder):
    return {int(path.stem): path.read_bytes() for path in folder.glob("*.png")}


def test_the_look_says_of_which_shot_it_is(farm):
    description = read_look_file(farm[0] / "shot.look").description
    assert description.request.frames == (1, 2, 3, 4, 5, 6) and len(description.keyframes) == 2
    assert (description.request.width, description.request.height) == (320, 160)
    assert description.scene.subjects == "character" and description.scene.character == "Mannequin"
    assert (description.scene.crop.width, description.scene.crop.height) == (300, 156)
    assert description.header.near == pytest.approx(description.scene.near * 0.37)


@pytest.mark.slow
def test_parts_are_the_same_as_the_whole_shot(farm, shot, tmp_path, capsys):
    code, events = generate(farm, capsys, tmp_path / "whole", "--frames", FRAMES)
    assert code == 0, events[-1]
    whole = read_all(tmp_path / "whole")
    assert sorted(whole) == [1, 2, 3, 4, 5, 6]
    for part in ("4-6", "1", "2,3"):
        assert generate(farm, capsys, tmp_path / "parts", "--frames", part)[0] == 0
    assert read_all(tmp_path / "parts") == whole
    assert generate(farm, capsys, tmp_path / "parts", "--frames", "3-4")[0] == 0, "and once more"
    assert read_all(tmp_path / "parts") == whole
    assert len(list((tmp_path / "parts").glob("report_*.json"))) == 4


@pytest.mark.slow
def test_a_part_in_which_nobody_is_seen_is_made(farm, shot, tmp_path, capsys):
    """The character may enter later in the shot, if it was so when the look was made."""
    armature = bpy.data.objects["Mannequin"]
    for frame, away in ((1, 100.0), (3, 100.0), (4, 0.0)):
        armature.location.x = away
        armature.keyframe_insert("location", index=0, frame=frame)
    look = tmp_path / "late.look"
    arguments = ("--frames", FRAMES, "--size", "128x64", "--endpoint", farm[1], "--json")
    assert command_line.main(["look", *SHOT, *arguments, "--out", str(look)]) == 0
    for part in ("1-6", "2"):
        code, events = generate(farm, capsys, tmp_path / part, "--look", look, "--frames", part)
        assert code == 0, events[-1]
    assert read_all(tmp_path / "2") == {2: read_all(tmp_path / "1-6")[2]}


def test_what_does_not_belong_to_the_look_is_refused_before_any_pass(farm, shot, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(PassRender, "render_slice", lambda *_: pytest.fail("passes were rendered"))
    for arguments, code, words in (
        (("--frames", "6-8"), "look", "frames 1-6, and frame 7 is none of them"),
        (("--frames", "2", "--size", "300x160"), "look", "made for frames of 300x156, and 300x160 are asked for"),
        (("--frames", "2", "--subjects", "scene"), "look", "--subjects character"),
        (("--frames", "2", "--character", "nobody"), "character", "no object 'nobody'"),
        (("--frames", "2", "--steps", "3"), "look", "another steps"),
        (("--frames", "2", "--model", "nope"), "model", "no model 'nope'"),
        (("--frames", "2", "--look", tmp_path / "no.look"), "look", "cannot be read"),
        (("--frames", "2", "--look", farm[0] / "shot.blend"), "look", "it is no archive"),
        (("--frames", "2,2"), "frames", "twice"),
        (("--frames", "0"), "look", "frame 0 is none of them"),
    ):
        found, events = generate(farm, capsys, tmp_path / "out", *arguments)
        assert found == 2 and (events[-1]["event"], events[-1]["code"]) == ("failed", code), (arguments, events[-1])
        assert words in events[-1]["message"], events[-1]


def test_a_shot_that_has_changed_is_refused(farm, shot, tmp_path, capsys):
    shot.camera.location.x += 0.5
    code, events = generate(farm, capsys, tmp_path / "out", "--frames", "2-3")
    assert code == 2 and "Frame 2 does not show what it showed" in events[-1]["message"]
    assert not list((tmp_path / "out").glob("*.png"))


def test_a_look_needs_what_a_shot_needs(farm, shot, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(PassRender, "render_slice", lambda *_: pytest.fail("passes were rendered"))
    (tmp_path / "file").write_text("in the way")
    cases = [
        (("--preset", "latentman"), "preset", "use surface or surface_fast"),
        (("--frames", "3-1"), "frames", "is empty"),
        (("--model", "nope"), "model", "no model 'nope'"),
        (("--out", tmp_path), "disk", "is a folder"),
        (("--out", tmp_path / "file" / "a.look"), "disk", "cannot be written"),
        (("--size", "0x0", "--prompt", " "), "prompt", "is empty"),
    ]
    for arguments, code, words in cases:
        capsys.readouterr()
        given = ("look", "--prompt", "x", "--frames", "1-2", "--size", "64x64", "--out", tmp_path / "a.look", "--endpoint", farm[1])
        assert command_line.main([*map(str, (*given, *arguments)), "--json"]) == 2
        event = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert (event["event"], event["code"]) == ("failed", code) and words in event["message"], event
    bpy.data.objects.remove(shot.camera)
    for command in (
        ("look", "--prompt", "x", "--out", tmp_path / "a.look"),
        ("generate", "--prompt", "x", "--out", tmp_path / "out"),
    ):
        capsys.readouterr()
        # no backend is asked for it
        assert command_line.main([*map(str, command), "--endpoint", "127.0.0.1:9", "--json"]) == 2
        assert "no camera" in json.loads(capsys.readouterr().out.splitlines()[-1])["message"]
