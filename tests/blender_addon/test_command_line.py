"""The command line with what people give it: files, names, ranges, folders and signals; its exit codes and JSON lines."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import bpy
import msgspec
import pytest

from latentman.blender_addon import command_line
from latentman.blender_addon.camera_framing import frame_character
from latentman.blender_addon.character.body_model import MANNEQUIN, load
from latentman.blender_addon.commands import passes
from latentman.blender_addon.compat import get_strips
from latentman.blender_addon.motion.readers import BUNDLED, read
from latentman.blender_addon.passes.render import PassRender
from latentman.blender_addon.passes.render_set import get_bodies
from latentman.blender_addon.rigging.characters import add_character
from latentman.blender_addon.rigging.keyframes import apply_motion
from latentman.shared import console
from latentman.shared.events import AnyEvent
from latentman.shared.interrupts import SignalWatch
from latentman.shared.shot import MAX_FRAMES, ShotError
from tests.checkout import ROOT

BACKEND_PYTHON = os.environ.get("LATENTMAN_PYTHON", sys.executable)


def _make_shot():
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.render.fps, scene.frame_end = 20, 6
    armature = add_character(bpy.context, load(MANNEQUIN), "Mannequin")
    apply_motion(armature, read(BUNDLED).get_motion(0), 1, 20.0)
    frame_character(bpy.context, scene, get_bodies(armature))
    return scene


def save_shot(folder):
    """A file with a walking mannequin and a camera."""
    _make_shot()
    path = folder / "shot.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(path), copy=True)
    return path


@pytest.fixture(scope="module")
def blend(tmp_path_factory):
    return save_shot(tmp_path_factory.mktemp("shot"))


@pytest.fixture
def shot(blend):
    """The same file, open."""
    bpy.ops.wm.open_mainfile(filepath=str(blend))
    return bpy.context.scene


def _start(*arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "latentman.blender_addon", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "LATENTMAN_PYTHON": BACKEND_PYTHON, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _run(*arguments, **environment):
    """(exit code, events of standard output, standard error) of a process."""
    process = _start(*arguments, **environment)
    out, errors = process.communicate(timeout=200)
    return process.returncode, [json.loads(line) for line in out.splitlines() if line.startswith("{")], errors


def _call(capsys, *arguments):
    """(exit code, events) of the command in this process, for the open file."""
    capsys.readouterr()
    code = command_line.main([*map(str, arguments), "--json"])
    return code, [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]


def _passes(capsys, out, *more):
    return _call(capsys, "passes", "--size", "32x32", "--frames", "2", "--out", out, *more)


# -- files ------------------------------------------------------------------------------------------------------------------


def _damage(kind, blend, folder):
    path, data = folder / "damaged.blend", blend.read_bytes()
    if kind == "folder":
        path.mkdir()
    elif kind == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif kind == "text":
        path.write_text("a letter")
    elif kind == "header":
        path.write_bytes(data[:12] + bytes(5000))
    elif kind == "empty":
        path.write_bytes(b"")
    return path


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cut", "text", "empty", "missing"])
def test_a_file_that_cannot_be_opened_is_a_sentence(blend, tmp_path, kind):
    path = _damage(kind, blend, tmp_path)
    code, events, errors = _run(path, "passes", "--out", tmp_path / "out", "--json")
    assert code == 2 and [e["event"] for e in events] == ["failed"] and "Traceback" not in errors
    assert events[0]["code"] == "file" and "cannot be opened" in events[0]["message"] and str(path) in events[0]["message"]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["missing", "folder", "no program"])
def test_a_python_that_cannot_be_run_is_a_sentence(shot, tmp_path, capsys, monkeypatch, kind):
    python = tmp_path / "python"
    if kind == "folder":
        python.mkdir()
    elif kind == "no program":
        python.write_text("no program")
        python.chmod(0o755)
    monkeypatch.setenv("LATENTMAN_PYTHON", str(python))
    for arguments in (
        ("generate", "--prompt", "x", "--out", tmp_path / "a"),
        ("motion", "a person walks", "--out", tmp_path / "b.npz"),
    ):
        code, events = _call(capsys, *arguments)
        assert code == 2 and [e["event"] for e in events] == ["failed"]
        assert events[0]["code"] == "backend" and str(python) in events[0]["message"] and "choose another" in events[0]["message"]


def test_arguments_that_are_wrong_are_said_to_programs_too(capsys, tmp_path):
    for arguments in (
        ("generate", "--prompt", "x", "--preset", "nope", "--out", tmp_path),
        ("generate", "--prompt", "x", "--nope", "--out", tmp_path),
        ("passes", "--size", "4x4", "--out", tmp_path),
        ("motion", "a person walks"),
        ("passes",),
    ):
        code, events = _call(capsys, *arguments)
        assert code == 2 and [(e["event"], e["code"]) for e in events] == [("failed", "arguments")], arguments
    assert command_line.main(["passes"]) == 2 and not capsys.readouterr().out


# -- frames -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["1-2000000", "1-9999999999999999999999", "-99999999999", "1-10001", "1-6000,1-6000", "0-1048574"])
def test_a_range_that_is_too_long_is_refused_before_it_is_made(text):
    with pytest.raises(ShotError, match=r"There is no frame|it needs 1 to 10000"):
        console.parse_frames(text)


@pytest.mark.parametrize("text", ["", "a", "1-", "1-2:0", "3-1:-1", "1,,2", "1:2:3", "9" * 5000])
def test_what_is_no_range_is_refused(text):
    with pytest.raises(ShotError, match=r"not a frame range|There is no frame") as caught:
        console.parse_frames(text)
    assert len(str(caught.value)) < 200


def test_ranges_are_read():
    assert console.parse_frames("1-3, 7 ,10-20:5") == (1, 2, 3, 7, 10, 15, 20)
    assert console.parse_frames("-3--1,5-4,0") == (-3, -2, -1, 0)
    assert len(console.parse_frames(f"1-{MAX_FRAMES}")) == MAX_FRAMES


def test_a_scene_that_is_too_long_is_refused(shot, tmp_path, capsys):
    shot.frame_end = 1_000_000
    code, events = _call(capsys, "passes", "--out", tmp_path)
    assert code == 2 and events[-1]["code"] == "frames" and "1000000 frames" in events[-1]["message"]


# -- scenes, layers, cameras, characters ------------------------------------------------------------------------------------


def test_a_scene_and_a_view_layer_are_chosen_by_name(shot, tmp_path, capsys):
    empty = bpy.data.scenes.new("Empty")
    bare = shot.view_layers.new("Bare")
    for child in bare.layer_collection.children:
        child.exclude = True
    other = bpy.data.scenes.new("Далеко")
    for one in shot.objects:
        other.collection.objects.link(one)
    other.camera = shot.camera
    before = bpy.context.scene, bpy.context.view_layer
    code, events = _passes(capsys, tmp_path / "a", "--scene", "Далеко", "--view-layer", "ViewLayer")
    assert code == 0, events
    code, events = _passes(capsys, tmp_path / "b", "--scene", empty.name)
    assert code == 2 and events[-1]["code"] == "character"
    for more, words in (
        (("--scene", "Nope"), "no scene 'Nope'.*'Scene'.*'Далеко'"),
        (("--view-layer", "Nope"), "no view layer 'Nope' in the scene 'Scene'.*'ViewLayer', 'Bare'"),
        (("--scene", "Далеко", "--view-layer", "Bare"), "no view layer 'Bare' in the scene 'Далеко'"),
    ):
        for arguments in (
            ("passes", "--out", tmp_path / "c"),
            ("generate", "--prompt", "x", "--out", tmp_path / "c"),
            ("motion", "a person walks", "--out", tmp_path / "c.npz"),
        ):
            code, events = _call(capsys, *arguments, *more)
            assert code == 2 and events[-1]["code"] == "scene" and re.search(words, events[-1]["message"]), events
    assert not (tmp_path / "c").exists()
    assert (bpy.context.scene, bpy.context.view_layer) == before


@pytest.mark.parametrize("several", [False, True])
def test_files_that_were_saved_in_edit_mode_are_rendered(shot, tmp_path, capsys, several):
    bpy.ops.object.select_all(action="DESELECT")
    bpy.ops.mesh.primitive_cube_add(size=0.5, location=(0.6, 0, 0.3))
    cubes = [bpy.context.object]
    if several:
        bpy.ops.curve.primitive_bezier_circle_add(location=(-0.6, 0, 0.3))
        bpy.ops.mesh.primitive_cube_add(size=0.3, location=(-0.6, 0, 0.3))
        cubes.append(bpy.context.object)
    for cube in cubes:
        cube.select_set(True)
    bpy.ops.object.mode_set(mode="EDIT")
    bpy.ops.mesh.primitive_cone_add(location=(0.8, 0, 1))
    code, events = _passes(capsys, tmp_path, "--subjects", "scene")
    assert code == 0, events
    assert all(cube.mode == "OBJECT" for cube in cubes)
    # what was added while it was edited counts
    assert sum(len(cube.data.vertices) for cube in cubes) > 8 * len(cubes)


def test_markers_bind_cameras_where_the_scene_has_none(shot, tmp_path, capsys):
    from latentman.shared import passes_folder

    first = shot.camera
    second = first.copy()
    second.location.x += 0.7
    shot.collection.objects.link(second)
    for frame, camera in ((5, second), (3, first)):
        shot.timeline_markers.new(f"at {frame}", frame=frame).camera = camera
    shot.timeline_markers.new("bare", frame=4)
    # binding one has set it
    shot.camera = None
    assert _call(capsys, "passes", "--size", "32x32", "--frames", "1,3,4,5,6", "--out", tmp_path)[0] == 0
    assert shot.camera is None
    cameras = [one.world_to_camera for one in passes_folder.PassesFolder(tmp_path).manifest.cameras]
    assert cameras[0] == cameras[1] == cameras[2] != cameras[3] == cameras[4]
    shot.timeline_markers.clear()
    code, events = _call(capsys, "passes", "--out", tmp_path)
    assert code == 2 and "no camera" in events[-1]["message"]


def _save_hero(blend, folder):
    """A file whose collection 'Hero' holds the character, as a studio's asset files are."""
    bpy.ops.wm.open_mainfile(filepath=str(blend))
    scene, hero = bpy.context.scene, bpy.data.collections.new("Hero")
    scene.collection.children.link(hero)
    for one in list(scene.collection.objects):
        if one.type != "CAMERA":
            hero.objects.link(one)
            scene.collection.objects.unlink(one)
    bpy.ops.wm.save_as_mainfile(filepath=str(folder / "hero.blend"), copy=True)
    return folder / "hero.blend"


def _add_instance(collection):
    scene = bpy.context.scene
    instance = bpy.data.objects.new("Hero instance", None)
    instance.instance_type, instance.instance_collection = "COLLECTION", collection
    scene.collection.objects.link(instance)
    scene.camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    scene.collection.objects.link(scene.camera)
    return instance


def test_an_instance_of_a_linked_character_needs_an_override(blend, tmp_path, capsys):
    asset = _save_hero(blend, tmp_path)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    with bpy.data.libraries.load(str(asset), link=True) as (_, wanted):
        wanted.collections = ["Hero"]
    instance = _add_instance(wanted.collections[0])
    for arguments in (
        ("passes", "--out", tmp_path / "a"),
        ("passes", "--out", tmp_path / "a", "--character", instance.name),
        ("generate", "--prompt", "x", "--out", tmp_path / "a"),
        ("motion", "a person walks", "--save", tmp_path / "b.blend"),
    ):
        code, events = _call(capsys, *arguments)
        assert code == 2 and "library override" in events[-1]["message"] and "Hero instance" in events[-1]["message"], events


def test_an_instance_of_the_file_s_own_character_is_made_real(blend, tmp_path, capsys):
    bpy.ops.wm.open_mainfile(filepath=str(_save_hero(blend, tmp_path)))
    scene, hero = bpy.context.scene, bpy.data.collections["Hero"]
    scene.collection.children.unlink(hero)
    _add_instance(hero)
    code, events = _passes(capsys, tmp_path / "a")
    assert code == 2 and "Make Instances Real" in events[-1]["message"]
    # a character that is there itself is no worse for an instance beside it
    scene.collection.children.link(hero)
    scene.camera.location, scene.camera.rotation_euler = (0, -4, 1), (1.57, 0, 0)
    assert _passes(capsys, tmp_path / "a")[0] == 0


def test_the_frame_between_two_frames_is_kept(shot, tmp_path, capsys):
    shot.frame_set(4, subframe=0.5)
    arm = bpy.data.objects["Mannequin"].pose.bones["left_shoulder"]
    arm.rotation_quaternion = (0.8, 0.6, 0, 0)
    assert _passes(capsys, tmp_path)[0] == 0
    frame_character(bpy.context, shot, get_bodies(bpy.data.objects["Mannequin"]))
    assert (shot.frame_current, shot.frame_subframe) == (4, 0.5)
    assert tuple(arm.rotation_quaternion) == pytest.approx((0.8, 0.6, 0, 0))


# -- Cycles, scripts, folders -----------------------------------------------------------------------------------------------


def test_cycles_is_switched_on_for_the_render(shot, tmp_path, capsys):
    import addon_utils

    addon_utils.disable("cycles")
    try:
        code, events = _passes(capsys, tmp_path)
        assert code == 0 and [e["code"] for e in events if e["event"] == "warning"] == ["engine"]
        assert not hasattr(bpy.types.Scene, "cycles")
        with pytest.raises(ShotError, match="switch on Cycles"):
            PassRender(bpy.context, bpy.data.objects["Mannequin"], (1,), 32, 32)
    finally:
        addon_utils.enable("cycles")
    assert not any(e["event"] == "warning" for e in _passes(capsys, tmp_path)[1])


def _save_drivers(blend, folder, expressions):
    bpy.ops.wm.open_mainfile(filepath=str(blend))
    armature = bpy.data.objects["Mannequin"]
    material = bpy.data.materials.new("Skin")
    material.use_nodes = True
    owners = (
        (armature, "location", 0),
        (armature.pose.bones["head"], "scale", 1),
        (material.node_tree.nodes[0].inputs[0], "default_value", 0),
    )
    for (owner, path, index), expression in zip(owners, expressions, strict=False):
        driver = owner.driver_add(path, index).driver
        driver.type, driver.expression = "SCRIPTED", expression
    bpy.ops.object.select_all(action="DESELECT")
    get_bodies(armature)[0].data.materials.append(material)
    bpy.ops.wm.save_as_mainfile(filepath=str(folder / "driven.blend"), copy=True)
    return folder / "driven.blend"


def test_scripted_drivers_are_warned_of_or_run(blend, tmp_path):
    from latentman.shared import passes_folder

    path = _save_drivers(blend, tmp_path, ("0.4 + len(str(frame)) * 0.0", "max(1, len([frame]))"))
    still, moved = tmp_path / "still", tmp_path / "moved"
    arguments = ("passes", "--size", "32x32", "--frames", "2", "--out")
    code, events, _ = _run(path, *arguments, still, "--json")
    warnings = [e for e in events if e["event"] == "warning"]
    assert code == 0 and [e["code"] for e in warnings] == ["scripts"]
    assert "Mannequin: location" in warnings[0]["message"] and "--enable-scripts" in warnings[0]["message"]
    code, events, errors = _run(path, *arguments, moved, "--enable-scripts")
    assert code == 0 and "driver" not in errors.lower()
    points = [passes_folder.PassesFolder(folder).manifest.people[0].keypoints[0][1] for folder in (still, moved)]
    assert abs(points[0][0] - points[1][0]) > 1
    people = _start(path, *arguments, still)
    out, errors = people.communicate(timeout=100)
    assert "Scripts are off" in errors and "Scripts are off" not in out


def test_simple_and_broken_drivers_are_told_apart(blend, tmp_path, capsys):
    bpy.ops.wm.open_mainfile(filepath=str(_save_drivers(blend, tmp_path, ("frame * 0.001 + sin(frame)", "max(1, 0)"))))
    assert not [e for e in _passes(capsys, tmp_path / "a")[1] if e["event"] == "warning"]
    bpy.ops.wm.open_mainfile(filepath=str(_save_drivers(blend, tmp_path, ("no_such_name(3)",))), use_scripts=True)
    (warning,) = [e for e in _passes(capsys, tmp_path / "a")[1] if e["event"] == "warning"]
    assert "correct their expressions" in warning["message"]


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "latentman", str(folder)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no disk can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)


def test_a_full_temporary_folder_costs_only_time(blend, tmp_path, small_disk):
    """Frames that cannot be kept there are evaluated again."""
    out = tmp_path / "out"
    small = ("--size", "256x256", "--frames", "2", "--out", out, "--json")
    code, events, errors = _run(blend, "passes", *small, TMPDIR=str(small_disk))
    assert code == 0 and events[-1]["event"] == "done" and "Traceback" not in errors, (events, errors)
    assert list(out.glob("*.exr")) and not list(small_disk.iterdir())


def test_a_full_folder_for_the_passes_is_a_sentence(shot, tmp_path, small_disk, capsys):
    code, events = _call(capsys, "passes", "--size", "256x256", "--frames", "2", "--out", small_disk)
    assert code == 1 and (events[-1]["event"], events[-1]["code"]) == ("failed", "disk")
    assert not list(small_disk.glob("*.exr"))


def test_a_folder_that_cannot_be_written_is_wrong_input(shot, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    code, events = _passes(capsys, tmp_path / "file" / "out")
    assert code == 2 and events[-1]["code"] == "disk"


@pytest.mark.parametrize(
    ("failure", "named"), [(KeyError("x"), "internal"), (MemoryError(), "memory"), (OSError(28, "No space left on device"), "disk")]
)
def test_what_nobody_foresaw_is_a_line_too(shot, tmp_path, capsys, monkeypatch, failure, named):
    def fail(*_):
        raise failure

    monkeypatch.setattr(passes, "find_character", fail)
    code, events = _passes(capsys, tmp_path)
    assert code == 1 and (events[-1]["event"], events[-1]["code"]) == ("failed", named)


def test_an_output_that_is_closed_or_ascii_ends_nothing(tmp_path):
    class Closed:
        encoding = "utf-8"

        def write(self, text):
            raise BrokenPipeError

        def flush(self):
            raise BrokenPipeError

    for as_json in (True, False):
        out = console.Console(as_json, Closed())
        out.show_progress("rendering", 1, 2)
        out.emit("done", message="done")
    with (tmp_path / "out").open("w", encoding="ascii") as stream:
        console.Console(False, stream).emit("done", message="Кукла ist fertig")
    assert "ist fertig" in (tmp_path / "out").read_text()


# -- what the backend refuses before passes are rendered --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (("--model", "nope"), "model", "no model 'nope'"),
        (("--model", "/no/base|/no/controlnet"), "model", "/no/base"),
        (("--plugin", "nope"), "plugin", "no technique 'nope'"),
        (("--reference", "/no/hero.png"), "reference", "no reference picture /no/hero.png"),
        (("--reference", "//no hero.png"), "reference", "no hero.png"),
        # a picture that is one, for a model that cannot look at it
        (("--reference", str(ROOT / "docs" / "images" / "starter.png")), "reference", "starter|ip=FILE"),
        (("--reference", str(ROOT / "README.md")), "reference", "no picture that can be read"),
    ],
)
def test_what_is_not_possible_is_found_before_any_pass(shot, tmp_path, capsys, monkeypatch, backend, more, code, words):
    monkeypatch.setattr(PassRender, "render_slice", lambda *_: pytest.fail("passes were rendered"))
    size = () if "--size" in more else ("--size", "64x64")
    arguments = ("generate", "--prompt", "x", "--frames", "1-3", "--out", tmp_path, "--endpoint", backend, *size, *more)
    exit_code, events = _call(capsys, *arguments)
    assert exit_code == 2 and (events[-1]["event"], events[-1]["code"]) == ("failed", code) and words in events[-1]["message"]
    assert not any(e.get("stage") == "rendering passes" for e in events)


def _mark(scene, cameras):
    """A marker on every second frame that binds a camera."""
    for n, name in enumerate(cameras):
        camera = scene.camera.copy()
        camera.name = name
        scene.collection.objects.link(camera)
        scene.timeline_markers.new(f"{name} shot", frame=1 + 2 * n).camera = camera


def test_marked_shots_go_into_folders_of_their_own(shot, tmp_path, capsys, backend):
    _mark(shot, ("Wide", "Near/Far"))
    shot.frame_end = 3
    strips = get_strips(shot)
    # what cannot be made is no reason to make nothing
    lonely = bpy.data.scenes.new("Lonely")
    strips.new_scene("Nobody", lonely, 1, 50)
    other = bpy.data.scenes.new("Other")
    for one in shot.objects:
        other.collection.objects.link(one)
    strip = strips.new_scene("Cut", other, 2, 100)
    strip.scene_camera, strip.frame_final_end = shot.objects["Wide"], 101
    arguments = ("generate", "--marked", "--prompt", "a knight", "--size", "64x64", "--steps", 2, "--endpoint", backend)
    code, events = _call(capsys, *arguments, "--out", tmp_path / "film")
    assert code == 2, events[-1]
    assert bpy.context.scene == shot and other.camera is None
    told = [one for one in events if one["event"] == "shot"]
    assert [(one["name"], one["state"], one["frames"], one["camera"]) for one in told] == [
        ("Wide shot", "running", 2, "Wide"),
        ("Wide shot", "done", 2, "Wide"),
        ("Near/Far shot", "running", 1, "Near/Far"),
        ("Near/Far shot", "done", 1, "Near/Far"),
        ("Cut", "running", 1, "Wide"),
        ("Cut", "done", 1, "Wide"),
    ]
    for event in events:
        msgspec.convert(event, AnyEvent)
    assert sorted(str(path.relative_to(tmp_path / "film")) for path in tmp_path.glob("film/*/*.png")) == [
        "Cut/0001.png",
        "Near_Far shot/0003.png",
        "Wide shot/0001.png",
        "Wide shot/0002.png",
    ]
    assert events[-1]["message"].startswith("3 of 4 done, 1 failed;") and events[-1]["code"] == "camera"
    assert any(one["event"] == "warning" and one["message"].startswith("'Nobody' is left out:") for one in events)
    table = (tmp_path / "film" / "shots.txt").read_text().splitlines()
    assert len(table) == 5 and "failed: There is no camera in the scene" in table[3]
    # again: everything is there, and people read the table
    lonely.sequence_editor_clear()
    strips.remove(next(one for one in strips if one.name == "Nobody"))
    assert command_line.main([*map(str, arguments), "--out", str(tmp_path / "film")]) == 0
    said = capsys.readouterr().out
    assert "\nShot " in said and f"3 of 3 done; {tmp_path / 'film' / 'shots.txt'} says more." in said


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        ((), "marked", "There are no marked shots: bind cameras to markers"),
        (("--frames", "1-3"), "frames", "leave --frames out"),
        (("--scene", "Nowhere"), "scene", "There is no scene 'Nowhere'"),
        (("--prompt", " "), "prompt", "The prompt is empty"),
        (("--character", "Nobody"), "character", "There is no object 'Nobody'"),
    ],
)
def test_marked_shots_that_cannot_be_made_are_wrong_input(shot, tmp_path, capsys, monkeypatch, more, code, words):
    monkeypatch.setenv("LATENTMAN_PYTHON", str(tmp_path / "no python"))
    if more:
        _mark(shot, ("Wide",))
    exit_code, events = _call(capsys, "generate", "--marked", "--prompt", "x", "--out", tmp_path / "film", *more)
    assert (
        exit_code == 2 and [(one["event"], one["code"]) for one in events] == [("failed", code)] and words in events[0]["message"]
    )


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("generate", "--prompt", "x", "--out", ""), "arguments", "cannot be empty"),
        (("generate", "--prompt", "x", "--out", "a\0b"), "arguments", "cannot be empty"),
        (("generate", "--prompt", "x", "--out", "FILE"), "disk", "cannot be written"),
        (("generate", "--prompt", "x", "--out", "a" * 300), "disk", "cannot be written"),
        (("generate", "--prompt", "x", "--save-passes", "FILE", "--out", "OUT"), "disk", "cannot be written"),
        (("generate", "--prompt", "x", "--size", "100000x100000", "--out", "OUT"), "arguments", "out of range"),
        (("generate", "--prompt", "x", "--look", "a" * 5000, "--out", "OUT"), "look", "no look"),
        (("generate", "--prompt", "x", "--look", "a\0b", "--out", "OUT"), "look", "cannot be read"),
        (("generate", "--prompt", "x", "--look", "/dev/zero", "--out", "OUT"), "look", "not a regular file"),
        (("generate", "--prompt", "x", "--endpoint", "nonsense:::", "--out", "OUT"), "backend", "not the address"),
        (("generate", "--prompt", "\udcff", "--out", "OUT"), "arguments", "no text has"),
        (("passes", "--size", "0x64", "--out", ""), "arguments", "cannot be empty"),
        (("motion", "a person walks", "--out", "FOLDER"), "disk", "is a folder"),
        (("motion", "a person walks", "--save", "FOLDER"), "disk", "is a folder"),
        (("motion", "", "--out", "OUT"), "motion", "is empty"),
    ],
)
def test_wrong_words_and_places_are_found_before_a_backend_is_asked(shot, tmp_path, capsys, monkeypatch, arguments, code, words):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LATENTMAN_PYTHON", str(tmp_path / "no python"))
    places = {"FILE": tmp_path / "file", "FOLDER": tmp_path, "OUT": tmp_path / "out"}
    found, events = _call(capsys, *(places.get(word, word) for word in arguments))
    assert found == 2 and [(one["event"], one["code"]) for one in events] == [("failed", code)], events
    assert words in events[0]["message"] and not list(tmp_path.glob("*.exr"))


def test_a_motion_model_that_does_not_exist_is_wrong_input(shot, tmp_path, capsys, backend):
    code, events = _call(capsys, "motion", "a person walks", "--model", "nope", "--out", tmp_path / "a.npz", "--endpoint", backend)
    assert code == 2 and "no motion model 'nope'" in events[-1]["message"]


@pytest.fixture
def backend(shared_backend):
    """The address of a backend that is running."""
    return shared_backend.endpoint


# -- signals ----------------------------------------------------------------------------------------------------------------


def _list_children(pid):
    found = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(one.split()[0]) for one in found.stdout.splitlines() if "launch.py" in one]


def _is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _interrupt(process, moment, number, group):
    """Send a signal at a moment: when there is a backend, or at a line with some words. Returns its children of then."""
    if moment == "backend":
        while not _list_children(process.pid) and process.poll() is None:
            time.sleep(0.05)
    else:
        for line in process.stdout:
            if moment in line:
                break
    children = _list_children(process.pid)
    (os.killpg if group else os.kill)(process.pid, number)
    return children


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize(
    ("command", "moment", "number", "group"),
    [
        ("passes", "rendering passes", signal.SIGINT, False),
        ("passes", "measuring", signal.SIGTERM, False),
        # a terminal's Ctrl-C reaches the backend as well
        ("generate", "backend", signal.SIGINT, True),
        ("generate", "backend", signal.SIGTERM, False),
        ("generate", "rendering passes", signal.SIGINT, False),
        ("generate", "denoising", signal.SIGINT, True),
        pytest.param("generate", "decoding", signal.SIGTERM, False, marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_the_command_and_its_backend(blend, tmp_path, command, moment, number, group):
    more = ["--frames", "1-200"]
    if command == "generate":
        more = ["--prompt", f"{moment} {tmp_path}", "--steps", "30", "--preset", "per_frame", "--frames", "1-3"]
    process = _start(blend, command, "--size", "32x32", "--out", tmp_path / "out", "--json", *more)
    children = _interrupt(process, moment, number, group)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number, (out[-500:], errors)
    last = json.loads(out.strip().splitlines()[-1])
    assert last["event"] == "interrupted" and last["signal"] == number.name and "Traceback" not in errors
    assert len(children) == (command == "generate") and not any(map(_is_running, children))


def test_the_handlers_are_given_back():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with SignalWatch() as watch:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert watch.requested and watch.exit_code == 143
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
