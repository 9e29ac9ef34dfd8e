"""Passes that several Blenders share: the same as those of one, bit for bit, whatever happens to these."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import bpy
import numpy as np
import pytest

from latentman.blender_addon import command_line
from latentman.blender_addon.client import Event
from latentman.blender_addon.commands.scene import find_character
from latentman.blender_addon.passes import pooled_render
from latentman.blender_addon.passes.frame_queue import MOST_WAITING, FrameQueue
from latentman.blender_addon.passes.pooled_render import PooledPassRender
from latentman.blender_addon.passes.process_count import choose_process_count
from latentman.blender_addon.passes.second_blender import find_said_of_scripts
from latentman.blender_addon.tasks.shot import ShotTask
from latentman.shared import passes_folder
from latentman.shared.manifest import split_manifest
from latentman.shared.messages import PassesWanted
from latentman.shared.shot import make_request
from tests.blender_addon.any_scene import add_box, add_camera, add_character
from tests.checkout import ROOT

GIB = 1 << 30
#: large enough for small copies of their own
FRAMES, SIZE = "1-7", "264x200"


def make_scene():
    """A character that bends, and a crate that is shown from the fourth frame on."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.frame_end, scene.camera = 7, add_camera()
    scene.unit_settings.scale_length = 0.37
    add_character()
    crate = add_box("Crate", (0.6, 0.4, 0.3), (0.4, 0.4, 0.4))
    for frame, hidden in ((1, True), (4, False)):
        crate.hide_render = hidden
        crate.keyframe_insert("hide_render", frame=frame)
    add_box("Box", (-0.6, 0.4, 0.3), (0.4, 0.4, 0.4))
    return scene


@pytest.fixture(scope="module")
def blend(tmp_path_factory):
    make_scene()
    path = tmp_path_factory.mktemp("shared") / "shot.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(path), copy=True)
    return path


@pytest.fixture
def scene(blend):
    bpy.ops.wm.open_mainfile(filepath=str(blend))
    return bpy.context.scene


def call(capsys, *arguments):
    """(exit code, events) of the command in this process, for the open file."""
    capsys.readouterr()
    code = command_line.main(["passes", "--size", SIZE, *map(str, arguments), "--json"])
    return code, [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]


def read_all(folder):
    """The bytes of every file in a folder, by name."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def expected(blend, tmp_path_factory):
    """What one Blender renders of all that there is."""
    bpy.ops.wm.open_mainfile(filepath=str(blend))
    out = tmp_path_factory.mktemp("one") / "passes"
    arguments = ("--frames", FRAMES, "--size", SIZE, "--subjects", "scene", "--motion", "--shadow", "--out", str(out))
    assert command_line.main(["passes", *arguments]) == 0
    return read_all(out)


WHOLE = ("--frames", FRAMES, "--subjects", "scene", "--motion", "--shadow")


def test_they_write_the_same_files(scene, expected, tmp_path, capsys):
    code, events = call(capsys, *WHOLE, "--processes", "2", "--out", tmp_path / "two")
    assert code == 0, events[-1]
    found = read_all(tmp_path / "two")
    assert found.keys() == expected.keys() and "overview/0007.exr" in found
    assert [name for name in found if found[name] != expected[name]] == []
    assert "2 Blenders share the frames." in [one.get("message") for one in events if one["event"] == "warning"]
    steps = [one["step"] for one in events if one.get("stage") == "rendering passes"]
    assert steps == [1, 2, 3, 4, 5, 6, 7] and events[-1]["event"] == "done"
    assert not list(bpy.data.scenes)[1:]


def test_frames_of_one_that_is_killed_are_rendered_by_the_other(scene, expected, tmp_path, capsys, monkeypatch):
    tell, killed = PooledPassRender._tell, []

    def kill_one(self, member, message):
        # some frames are there, and it has others before it
        if "index" in message and self._has_seen_character and not killed:
            killed.append(member.number)
            member.second.process.kill()
            member.second.process.wait()
        return tell(self, member, message)

    monkeypatch.setattr(PooledPassRender, "_tell", kill_one)
    code, events = call(capsys, *WHOLE, "--processes", "2", "--out", tmp_path / "out")
    assert code == 0 and killed, events[-1]
    assert read_all(tmp_path / "out") == expected
    warnings = " ".join(one["message"] for one in events if one["event"] == "warning")
    assert "One of the Blenders has ended early; the other renders its frames." in warnings


def test_where_all_are_killed_this_one_renders(scene, expected, tmp_path, capsys, monkeypatch):
    share, tell = PooledPassRender._share, PooledPassRender._tell

    def kill(self, number):
        self._members[number].second.process.kill()
        self._members[number].second.process.wait()

    def kill_first(self, left):
        share(self, left)
        if 0 in self._members:
            kill(self, 0)

    def kill_last(self, member, message):
        # with the frame that it is to hear of, when it has rendered others
        if "index" in message and self._has_seen_character and member.second.process.poll() is None:
            kill(self, member.number)
        return tell(self, member, message)

    monkeypatch.setattr(PooledPassRender, "_share", kill_first)
    monkeypatch.setattr(PooledPassRender, "_tell", kill_last)
    code, events = call(capsys, *WHOLE, "--processes", "2", "--out", tmp_path / "out")
    assert code == 0, events[-1]
    assert read_all(tmp_path / "out") == expected
    assert "this one renders the frames that are left" in " ".join(one.get("message", "") for one in events)


def test_a_frame_that_ends_one_after_the_other_is_refused(scene, tmp_path, capsys, monkeypatch):
    hear, start, started = PooledPassRender._hear, PooledPassRender._start_member, []

    def note_start(self, number, copy):
        start(self, number, copy)
        started.append(self._members[number].second.process)

    monkeypatch.setattr(PooledPassRender, "_start_member", note_start)

    def kill_whoever_has_the_third(self):
        hear(self)
        for member in self._members.values():
            if member.asked and member.asked[0] == (False, 2):
                member.second.process.kill()

    monkeypatch.setattr(PooledPassRender, "_hear", kill_whoever_has_the_third)
    code, events = call(capsys, "--frames", FRAMES, "--processes", "3", "--out", tmp_path / "out")
    assert code == 1 and events[-1]["code"] == "passes" and "Frame 3 has ended 2 Blenders" in events[-1]["message"]
    assert not (tmp_path / "out" / "passes.json").exists()
    assert all(one.poll() is not None for one in started) and len(started) == 3


@pytest.mark.parametrize("kind", ["simulation", "script"])
def test_a_shot_whose_frames_depend_on_one_another_is_rendered_by_one(scene, tmp_path, capsys, monkeypatch, kind):
    if kind == "simulation":
        bpy.data.objects["Box"].modifiers.new("Cloth", "CLOTH")
    else:
        monkeypatch.setattr(pooled_render.PassRender, "explain_why_here", lambda self: "its frames depend on the scene itself")
    monkeypatch.setattr(PooledPassRender, "_start_member", lambda *_: pytest.fail("another Blender was started"))
    code, events = call(capsys, "--frames", "1-2", "--subjects", "scene", "--processes", "auto", "--out", tmp_path / "out")
    assert code == 0, events[-1]
    said = [one["message"] for one in events if one["event"] == "warning" and one["code"] == "processes"]
    assert len(said) == 1 and said[0].startswith("One Blender renders the frames: ")
    assert sorted(read_all(tmp_path / "out"))[-1] == "passes.json"


def test_parts_are_the_whole_shot(scene, expected, tmp_path, capsys):
    out, common = tmp_path / "parts", ("--subjects", "scene", "--motion", "--shadow", "--part-of", FRAMES)
    for part in ("5-7", "1-4"):
        code, events = call(capsys, *common, "--frames", part, "--out", out)
        assert code == 0, events[-1]
    found = read_all(out)
    whole = {name: data for name, data in expected.items() if name != "passes.json"}
    assert {name: data for name, data in found.items() if name.endswith(".exr")} == whole
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole" / "passes.json").write_bytes(expected["passes.json"])
    assert passes_folder.PassesFolder(out).manifest == passes_folder.PassesFolder(tmp_path / "whole").manifest
    for arguments, code, words in (
        (("--frames", "1-2", "--out", out), "folder", "rendered in parts"),
        (("--frames", "1-2", "--part-of", FRAMES, "--out", tmp_path / "whole"), "folder", "of a whole shot"),
        (("--frames", "6-9", "--part-of", FRAMES, "--out", out), "frames", "Frame 8 is not in the shot 1-7"),
        (("--frames", "1-2", "--part-of", "x", "--out", out), "frames", "is not a frame range"),
    ):
        found_code, events = call(capsys, *arguments)
        assert found_code == 2 and events[-1]["code"] == code and words in events[-1]["message"], events[-1]
    assert read_all(out) == found


class _Sink:
    """Takes what a shot sends."""

    waiting_bytes = 0

    def __init__(self):
        self.sent = []

    def send(self, message, arrays=None):
        self.sent.append((message, arrays))


@pytest.mark.parametrize(
    ("lamp", "subjects"),
    [
        (True, "character"),
        *(pytest.param(*one, marks=pytest.mark.slow) for one in ((True, "characters"), (True, "scene"), (False, "character"))),
    ],
)
def test_a_farm_renders_what_the_panel_does(scene, tmp_path, capsys, lamp, subjects):
    """Shadows among it: parts with the farm's arguments hold the passes that a shot of the panel sends."""
    if lamp:
        bpy.ops.object.light_add(type="SUN", location=(2, -2, 5), rotation=(0.5, 0.4, 0))
    for part in ("3", "1-2"):
        common = ("--subjects", subjects, "--plain-shadow", "--part-of", "1-3", "--frames", part, "--out", tmp_path / "farm")
        code, events = call(capsys, *common)
        assert code == 0, events[-1]
    width, height = map(int, SIZE.split("x"))
    request = make_request("a man", tuple(range(1, 4)), 24.0, width=width, height=height, preset="surface")
    sink = _Sink()
    character = find_character(scene, None)
    task = ShotTask(bpy.context, character, request, sink, tmp_path / "out", folder_per_job=False, scope=subjects.upper())
    for overview in (True, False):
        for index in range(3):
            task.receive(Event(PassesWanted(ticket=task.ticket, index=index, overview=overview), {}))
    while not task.done and len(sink.sent) < 7:
        task.step()
    assert not task.error
    farm = passes_folder.PassesFolder(tmp_path / "farm")
    (submitted, _), *sent = sink.sent
    header, entries = split_manifest(farm.manifest, 3)
    assert header == submitted.header
    for message, arrays in sent:
        found = (farm.overview if message.overview else farm.frame)(message.index).arrays()
        assert found.keys() == arrays.keys()
        assert ("shadow" in arrays) == (lamp and subjects != "scene" and not message.overview)
        for name, array in arrays.items():
            assert np.array_equal(found[name], array), name
        assert message.overview or entries[message.index].camera == message.entry.camera
        if "shadow" in arrays:
            assert arrays["shadow"].max() > 0.1, "it is seen"


@pytest.mark.parametrize("value", ["0", "x", "-1", "65", ""])
def test_what_is_no_number_of_blenders_is_refused(scene, tmp_path, capsys, value):
    code, events = call(capsys, "--out", tmp_path / "out", f"--processes={value}")
    assert code == 2 and events[-1]["code"] == "arguments" and "give 1 to 64, or auto" in events[-1]["message"]


@pytest.mark.parametrize("seed", range(20))
def test_frames_come_in_order_whoever_is_quick_slow_or_ends(seed):
    rng, total = random.Random(seed), 60
    count = rng.randint(2, 7)
    queue, taken = FrameQueue(), {n: [] for n in range(count)}
    speeds = [rng.choice((1, 1, 20)) for _ in range(count)]
    for index in range(total):
        queue.add((False, index))
    found, most, finished = [], 0, 0
    while len(found) < total:
        for n, frames in taken.items():
            while len(frames) < 2 and (wanted := queue.take(set(range(n, total, count)), len(taken))) is not None:
                frames.append(wanted)
        busy = [n for n, frames in taken.items() if frames]
        assert busy, "nobody has anything to do"
        n = rng.choices(busy, [speeds[one] for one in busy])[0]
        if len(taken) > 1 and rng.random() < 0.04:
            queue.give_back(taken.pop(n))
        else:
            wanted = taken[n].pop(0)
            queue.finish(wanted, -wanted[1])
            finished += 1
        while (ready := queue.pop_ready(False)) is not None:
            found.append(ready)
        most = max(most, finished - len(found))
        assert not queue.is_next_ready()
    assert found == [(n, -n) for n in range(total)] and queue.take(range(total), 2) is None
    assert most <= MOST_WAITING * count + 2 * count, "frames pile up that wait for an earlier one"


def test_scripts_run_in_the_others_where_they_run_here():
    for arguments, otherwise, runs in (
        (["blender", "-b", "a.blend"], False, False),
        (["blender", "-b", "a.blend"], True, True),
        (["blender", "-b", "-y", "a.blend"], False, True),
        (["blender", "-b", "-y", "-Y", "a.blend"], True, False),
        (["-m", "a.blend", "passes", "--enable-scripts"], False, True),
    ):
        assert find_said_of_scripts(arguments, otherwise) == runs


def test_how_many_there_are():
    for asked, frames, cores, free, count, words in (
        (None, 240, 8, 64 * GIB, 8, "8 Blenders share the frames (auto: 8 processor cores)."),
        (None, 240, 8, 7 * GIB, 3, "3 Blenders share the frames (auto: 7.0 GiB of free memory, 1.0 GiB for each)."),
        (None, 240, 8, GIB, 1, "One Blender renders the frames (auto: 1.0 GiB of free memory, 1.0 GiB for each)."),
        (None, 9, 8, None, 2, "2 Blenders share the frames (auto: 9 frames)."),
        (None, 2, 8, None, 1, "One Blender renders the frames (auto: 2 frames)."),
        (5, 3, 1, None, 3, "3 Blenders share the frames."),
    ):
        chosen = choose_process_count(asked, frames, cores, free, GIB)
        assert (chosen.count, chosen.sentence, chosen.doubt) == (count, words, "")
    doubt = choose_process_count(6, 240, 8, 4 * GIB, GIB)
    assert doubt.count == 6 and "6 Blenders take about 6.0 GiB" in doubt.doubt and "4.0 GiB are free" in doubt.doubt


def _wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def _is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_others_end_with_the_one_that_has_started_them(blend, tmp_path, number):
    arguments = (str(blend), "passes", *WHOLE, "--frames", "1-400", "--processes", "2", "--out", str(tmp_path / "out"), "--json")
    process = subprocess.Popen(
        [sys.executable, "-m", "latentman.blender_addon", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    events, others = [], []
    for line in process.stdout:
        if line.startswith("{"):
            events.append(json.loads(line))
        if not others and '"rendering' in line:
            out = subprocess.run(
                ["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True, check=True
            ).stdout
            others = [pid for pid in out.split() if _is_running(pid)]
            process.send_signal(number)
    code = process.wait(60)
    assert len(others) == 2 and _wait_for(lambda: not any(map(_is_running, others)))
    if number == signal.SIGTERM:
        assert code == 143 and events[-1]["event"] == "interrupted"


@pytest.mark.slow
def test_frames_are_made_of_what_they_share(scene, shared_backend, tmp_path, capsys):
    made = {}
    for processes in ("1", "2"):
        out = tmp_path / processes
        arguments = (
            "--prompt",
            "a man",
            "--frames",
            "1-4",
            "--steps",
            "2",
            "--size",
            "128x96",
            "--endpoint",
            shared_backend.endpoint,
        )
        code = command_line.main(
            ["generate", *arguments, "--processes", processes, "--save-passes", str(out / "p"), "--out", str(out)]
        )
        assert code == 0
        made[processes] = {name: data for name, data in read_all(out).items() if not name.startswith("report")}
    assert made["1"] == made["2"] and "0004.png" in made["1"] and "p/0004.exr" in made["1"]
