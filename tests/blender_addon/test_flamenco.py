"""The job type for Flamenco: what it compiles, and that the compiled tasks make a shot."""

from __future__ import annotations

import json
import os
import re
import sys

import bpy
import pytest

from latentman.blender_addon.farm.shots import write_shots
from latentman.blender_addon.properties import get_scene_settings
from latentman.shared.shot import PRESETS
from tests.blender_addon import flamenco_stand_in as stand_in
from tests.blender_addon.test_command_line import BACKEND_PYTHON, save_shot
from tests.checkout import ROOT

#: the tasks of ``SETTINGS``, for where no engine can compile them
STORED = ROOT / "tests" / "blender_addon" / "data" / "flamenco_tasks.json"
SETTINGS = {
    "shots": "1-6",
    "prompt": "a man in a red shirt",
    "negative_prompt": "rain",
    "model": "starter",
    "preset": "surface",
    "seed": 3,
    "size": "64x64",
    "subjects": "character",
    "passes_chunk": 4,
    "frames_chunk": 3,
    "output": "{job}",
    "frames_task_type": "misc",
    "more": "--steps 2 --keyframes-count 2",
    "blendfile": "{file}",
    "scene": "Scene",
}


@pytest.fixture(scope="module")
def engine():
    return pytest.importorskip("dukpy", reason="no JavaScript engine is installed; pip install dukpy")


def compile_shots(engine, shots, **settings):
    return stand_in.compile_job(engine, {**SETTINGS, "shots": shots, **settings})


def get_value(arguments, option):
    """What an option is given as, in either form."""
    joined = [one.partition("=")[2] for one in arguments if one.startswith(f"{option}=")]
    return joined[0] if joined else arguments[arguments.index(option) + 1]


def test_the_script_is_understood_by_old_engines():
    """The Manager's engine knows ECMAScript 5.1 and parts of 6."""
    code = re.sub(r'//[^\n]*|"(?:\\.|[^"\\])*"', "", stand_in.SCRIPT.read_text(encoding="utf-8"))
    assert not re.findall(r"\b(?:let|const|class|async|await|import|export)\b|\bfor\s*\([^;)]*\bof\b|=>|`|\.\.\.|\?\?|\?\.", code)
    assert re.search(r"^var JOB_TYPE = \{", code, re.M) and re.search(r"^function compileJob\(job\) \{", code, re.M)


def test_its_settings_are_what_the_manager_knows(engine):
    job_type = stand_in.read_job_type(engine)
    assert job_type["label"] == "LatentMan"
    known = {"key", "type", "subtype", "required", "default", "eval", "evalInfo", "description", "visible", "choices", "propargs"}
    for one in job_type["settings"]:
        assert set(one) <= known and one["type"] in ("string", "int32", "float", "bool"), one
        assert one.get("visible", "visible") in ("visible", "hidden", "submission", "web"), one
        assert one["description"].strip() and not one["description"].endswith("."), one
    assert {one["key"] for one in job_type["settings"]} == set(SETTINGS)
    preset = next(one for one in job_type["settings"] if one["key"] == "preset")
    assert set(preset["choices"]) == {name for name, one in PRESETS.items() if one.method.keyframes is not None}


def test_its_settings_come_from_the_scene(engine, shot_scene):
    panel = get_scene_settings(shot_scene)
    panel.prompt, panel.negative_prompt, panel.seed = "a knight", "rain", 7
    found = {}
    for one in stand_in.read_job_type(engine)["settings"]:
        if "eval" in one and one["key"] != "output":
            found[one["key"]] = eval(one["eval"], {"C": bpy.context, "bpy": bpy})
    assert found == {
        "shots": "1-24", "prompt": "a knight", "negative_prompt": "rain", "model": "starter", "seed": 7, "scene": shot_scene.name
    }  # fmt: skip


def test_marked_shots_become_shots_of_the_job(engine, shot_scene):
    for name, frame in (("close/up", 1), ("wide", 9)):
        shot_scene.timeline_markers.new(name, frame=frame).camera = shot_scene.camera
    text = write_shots(shot_scene)
    assert text == "close_up: 1-8; wide: 9-24"
    tasks = compile_shots(engine, text)
    names = [one["name"] for one in tasks]
    assert names[:5] == [
        "close_up: passes 1-4", "close_up: passes 5-8", "close_up: look", "close_up: frames 1-3", "close_up: frames 4-6"
    ]  # fmt: skip
    assert names[-1] == "put together" and "wide: frames 24" in names
    shot_scene.timeline_markers.clear()
    shot_scene.frame_step = 2
    assert write_shots(shot_scene) == "1-24:2"


def test_tasks_wait_for_what_they_need(engine):
    tasks = compile_shots(engine, "close: 1-8; wide @ Street: 9-14:2")
    by_name = {one["name"]: one for one in tasks}
    waits = {one["name"]: [tasks[n]["name"] for n in one["dependencies"]] for one in tasks}
    assert all(n < place for place, one in enumerate(tasks) for n in one["dependencies"])
    assert waits["close: look"] == ["close: passes 1-4", "close: passes 5-8"] and waits["close: passes 1-4"] == []
    assert waits["close: frames 7-8"] == ["close: look"] and waits["wide: frames 9-13:2"] == ["wide: look"]
    assert waits["put together"] == [name for name in waits if ": frames" in name]
    assert {name: one["type"] for name, one in by_name.items() if one["type"] == "misc"}.keys() == {
        name for name in by_name if ": look" in name or ": frames" in name
    }
    arguments = by_name["wide: passes 9-13:2"]["commands"][0]["parameters"]["args"]
    assert get_value(arguments, "--scene") == "Street" and get_value(arguments, "--part-of") == "9-14:2"
    assert get_value(by_name["close: passes 1-4"]["commands"][0]["parameters"]["args"], "--scene") == "Scene"
    look = by_name["close: look"]["commands"][0]["parameters"]["args"]
    assert look[-3:] == ["2", "--keyframes-count", "2"] and get_value(look, "--seed") == "3"
    last = by_name["put together"]["commands"][0]["parameters"]["args"]
    assert last[2:5] == ["assemble", "{job}/close/frames", "{job}/wide/frames"] and not any("--frames" in one for one in last)


@pytest.mark.parametrize(
    ("shots", "words"),
    [
        ("", "no shots"),
        ("x", "not a frame range"),
        ("9-1", "not a frame range"),
        ("1-9:0", "not a frame range"),
        ("a: 1-2; a: 3-4", "called 'a'"),
        ("a: 1-2; A: 3-4", "called 'A'"),
        ("1-2; a: 3-4", "has no name"),
        ("..: 1-2", "no name of a folder"),
    ],
)
def test_what_is_no_job_is_refused(engine, shots, words):
    with pytest.raises(engine.JSRuntimeError, match=words):
        compile_shots(engine, shots)


def test_words_keep_their_blanks(engine):
    look = next(
        one for one in compile_shots(engine, "1", prompt="-a 'b' \"c\"", more="--a 'b c' --d=\"e f\"") if one["name"] == "look"
    )
    arguments = look["commands"][0]["parameters"]["args"]
    assert "--prompt=-a 'b' \"c\"" in arguments and arguments[-3:] == ["--a", "b c", "--d=e f"]


def test_the_stored_tasks_are_the_compiled_ones(engine):
    compiled = stand_in.compile_job(engine, SETTINGS)
    if os.environ.get("LATENTMAN_WRITE_TASKS"):
        STORED.write_text(json.dumps(compiled, indent=1) + "\n")
    assert json.loads(STORED.read_text()) == compiled


@pytest.fixture(scope="module")
def run_job(tmp_path_factory):
    """Runs tasks of the stored job by their numbers; returns (exit code, output) of each."""
    folder = tmp_path_factory.mktemp("flamenco")
    program, blend = stand_in.write_blender(folder), save_shot(folder)
    variables = {"blender": str(program), "blenderArgs": "-b -y", "job": str(folder / "job"), "file": str(blend)}
    tasks = [stand_in.Task(**one) for one in json.loads(STORED.read_text())]
    patch = pytest.MonkeyPatch()
    patch.setenv("LATENTMAN_PYTHON", BACKEND_PYTHON)
    yield folder / "job", tasks, lambda number: stand_in.run_task(tasks[number], variables, ROOT)
    patch.undo()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for Blender is a script with a first line that names its program")
def test_the_tasks_make_a_shot(run_job):
    folder, tasks, run = run_job
    assert [one.name for one in tasks] == ["passes 1-4", "passes 5-6", "look", "frames 1-3", "frames 4-6", "put together"]
    # what is not there yet is a sentence, and the farm says that the task failed
    code, out = run(2)
    assert code == 2 and "give a folder of saved passes" in out and "Traceback" not in out
    for number in (1, 0, 2, 4):
        code, out = run(number)
        assert code == 0, out
    code, out = run(5)
    assert code == 2 and "3 of 6 frames are missing" in out and "1-3" in out
    for number in (3, 5):
        code, out = run(number)
        assert code == 0, out
    frames = {path.name: path.read_bytes() for path in (folder / "frames").glob("*.png")}
    assert sorted(frames) == [f"{n:04d}.png" for n in range(1, 7)]
    for name in ("frames/movie.mp4", "sequence.blend", "report.json", "report.html", "shot.look", "passes/passes_0005-0006.json"):
        assert (folder / name).stat().st_size > 0, name
    # a farm may give any of them again
    for number in (1, 3, 5):
        assert run(number)[0] == 0
    assert {path.name: path.read_bytes() for path in (folder / "frames").glob("*.png")} == frames
    report = json.loads((folder / "report.json").read_text())["shots"][0]
    assert report["frames"] == [1, 2, 3, 4, 5, 6] and report["parts"] == 2 and report["settings"]
