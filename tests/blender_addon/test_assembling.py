"""Finished frames put together: movie, file for the sequencer, report; and what cannot be."""

from __future__ import annotations

import json
import os
import sys

import bpy
import numpy as np
import pytest

from latentman.backend.pictures import encode_png
from latentman.blender_addon import command_line
from latentman.blender_addon.compat import get_strip_range, get_strips
from tests.oracles import blend_snapshot


def write_frames(folder, frames, size=(16, 16), channels=3):
    folder.mkdir(parents=True, exist_ok=True)
    for frame in frames:
        pixels = np.full((size[1], size[0], channels), 40 + frame, np.uint8)
        (folder / f"{frame:04d}.png").write_bytes(encode_png(pixels))


def write_part(folder, frames, **values):
    report = {
        "settings": {"text": {"prompt": "a <knight>"}, "fps": 12.5, "frames": list(frames)},
        "seconds": {"steps": 1.25},
        "warnings": ["the same"],
        "device": "cpu",
    }
    (folder / f"report_{min(frames):04d}-{max(frames):04d}.json").write_text(json.dumps(report | values))


def call(capsys, *arguments):
    capsys.readouterr()
    code = command_line.main(["assemble", *map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out.splitlines()[-1])


def test_a_shot_is_put_together(empty_scene, tmp_path, capsys):
    frames, out = tmp_path / "close" / "frames", tmp_path / "out"
    write_frames(frames, range(3, 9))
    write_part(frames, (3, 4, 5))
    write_part(frames, (6, 7, 8))
    before = blend_snapshot.take_snapshot()
    code, event = call(capsys, frames, "--frames", "3-8", "--out", out)
    assert code == 0 and event["event"] == "done" and event["out"] == str(out), event
    changes = blend_snapshot.diff(before, blend_snapshot.take_snapshot())
    # every render leaves that image
    changes = [line for line in changes if not line.startswith("images") and "system_bookmarks" not in line]
    assert not changes, changes[:20]
    assert sorted(path.name for path in out.iterdir()) == ["report.html", "report.json", "sequence.blend"]
    report = json.loads((out / "report.json").read_text())["shots"][0]
    assert report["name"] == "close" and report["frames"] == [3, 4, 5, 6, 7, 8] and report["parts"] == 2
    assert report["seconds"] == {"steps": 2.5} and report["warnings"] == ["the same"] and report["devices"] == ["cpu"]
    page = (out / "report.html").read_text()
    assert "a &lt;knight&gt;" in page and 'src="../close/frames/movie.mp4"' in page and "<td>3-8</td>" in page
    assert (frames / "movie.mp4").stat().st_size > 0
    # again, over what is there
    assert call(capsys, frames, "--out", out)[0] == 0
    bpy.ops.wm.open_mainfile(filepath=str(out / "sequence.blend"))
    scene = bpy.context.scene
    (strip,) = get_strips(scene)
    assert get_strip_range(strip) == (3, 9) and (scene.frame_start, scene.frame_end) == (3, 8)
    assert scene.render.fps / scene.render.fps_base == pytest.approx(12.5)
    folder = os.path.normpath(bpy.path.abspath(strip.directory))
    assert folder == str(frames) and [one.filename for one in strip.elements][:2] == ["0003.png", "0004.png"]


def test_shots_are_put_one_after_another(empty_scene, tmp_path, capsys):
    write_frames(tmp_path / "a", (1, 3, 5))
    write_frames(tmp_path / "b", range(7, 9), size=(33, 32), channels=4)
    code, event = call(capsys, tmp_path / "a", tmp_path / "b", "--out", tmp_path)
    assert code == 0, event
    assert (tmp_path / "a" / "movie.mp4").is_file() and (tmp_path / "b" / "movie.mov").is_file()
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "sequence.blend"))
    strips = sorted(get_strips(bpy.context.scene), key=lambda one: one.name)
    assert [(one.name, *get_strip_range(one)) for one in strips] == [("a", 1, 7), ("b", 7, 9)]


def test_what_cannot_be_put_together_is_a_sentence(empty_scene, tmp_path, capsys):
    good, bad, none = tmp_path / "good", tmp_path / "bad", tmp_path / "none"
    write_frames(good, range(1, 4))
    write_frames(bad, (1,))
    write_frames(bad, (2,), size=(8, 16))
    none.mkdir()
    cut = tmp_path / "cut"
    write_frames(cut, (1, 2))
    (cut / "0002.png").write_bytes((cut / "0002.png").read_bytes()[:40])
    for arguments, words in (
        ((good, "--frames", "1-6"), "3 of 6 frames are missing or damaged"),
        ((cut,), "1 of 2 frames is missing or damaged"),
        ((bad,), "has 16x16 pixels and frame 2 8x16"),
        ((none,), "no frames in"),
        ((tmp_path / "nowhere",), "no frames in"),
        ((good, cut, "--frames", "1"), "for one folder"),
        ((good, "--frames", "x"), "not a frame range"),
        ((good, "--scene", "nope"), "no scene 'nope'"),
    ):
        code, event = call(capsys, *arguments, "--out", tmp_path / "out")
        assert code == 2 and event["event"] == "failed" and words in event["message"], event
    assert not (tmp_path / "out" / "sequence.blend").exists()


def test_a_damaged_report_is_left_out(empty_scene, tmp_path, capsys):
    write_frames(tmp_path / "a", (1, 2))
    for name, text in (
        ("report.json", "[" * 100_000),
        ("report_0001-0002.json", '{"settings": [], "seconds": [1], "warnings": 3, "method": "x"}'),
    ):
        (tmp_path / "a" / name).write_text(text)
    code, event = call(capsys, tmp_path / "a", "--out", tmp_path / "out")
    assert code == 0, event


def test_a_command_of_the_backend_is_run(empty_scene, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("LATENTMAN_PYTHON", os.environ.get("LATENTMAN_PYTHON", sys.executable))
    assert command_line.main(["backend", "jobs", "--jobs", str(tmp_path / "jobs")]) == 0
    assert "0 jobs" in capfd.readouterr().out
    assert command_line.main(["backend", "jobs", "--jobs", str(tmp_path / "jobs"), "--remove-unused", "-1"]) == 2
    assert "number of days" in capfd.readouterr().err
    monkeypatch.setenv("LATENTMAN_PYTHON", str(tmp_path / "nowhere"))
    assert command_line.main(["backend", "jobs", "--json"]) == 2
    event = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert (event["event"], event["code"]) == ("failed", "backend") and "choose another Python" in event["message"]
