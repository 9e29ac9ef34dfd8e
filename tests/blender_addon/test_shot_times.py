"""How long a shot may take, how long it still takes, and what is remembered of those before."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from types import SimpleNamespace

import bpy
import pytest

from latentman.blender_addon import shot_times
from latentman.blender_addon.shot_progress import SPANS, ShotProgress
from latentman.blender_addon.time_estimate import (
    LEAST_SECONDS,
    Estimate,
    Job,
    Run,
    TimeLeft,
    estimate,
    write_duration,
    write_estimate,
    write_time_left,
)
from latentman.blender_addon.time_history import MAX_BYTES, MOST, MOST_OF_A_KIND, TimeHistory, get_history_path, join_run, read_runs
from latentman.shared.picture_size import Crop
from latentman.shared.shot import make_request
from latentman.shared.task import TaskState

KIND = ("cpu", "starter", "surface", 256, 256, 20)
#: what a frame beyond the key frames costs: a twentieth of the steps, and what is beside them
SHARE = 0.15


def _run(frames: int, seconds: float, kind=KIND) -> Run:
    return Run(*kind, frames, seconds)


@pytest.mark.parametrize(
    ("job", "runs", "expected"),
    [
        (Job(*KIND, 48), [], None),
        (Job(*KIND, 8), [_run(4, 60)], Estimate(120, False)),
        # beyond the key frames a frame costs less, and from a short shot a long one is told roughly
        (Job(*KIND, 48), [_run(8, 60)], Estimate(60 * (8 + 40 * SHARE) / 8, True)),
        (Job(*KIND, 108), [_run(58, 180)], Estimate(180 * (8 + 100 * SHARE) / (8 + 50 * SHARE), False)),
        (
            Job("cpu", "starter", "per_frame", *KIND[3:], 96),
            [_run(8, 40, ("cpu", "starter", "per_frame", *KIND[3:]))],
            Estimate(480, True),
        ),
        # the run with nearly as many frames, of equal ones the newest
        (Job(*KIND, 98), [_run(2, 40), _run(88, 240), _run(4, 60)], Estimate(240 * (8 + 90 * SHARE) / (8 + 80 * SHARE), False)),
        (Job(*KIND, 10), [_run(10, 40), _run(10, 20)], Estimate(20, False)),
        # another size, other steps: roughly
        (Job("cpu", "starter", "surface", 512, 256, 20, 10), [_run(10, 40)], Estimate(80, True)),
        (Job("cpu", "starter", "surface", 256, 256, 10, 10), [_run(10, 40)], Estimate(20, True)),
        (
            Job(*KIND, 10),
            [_run(1000, 10), _run(10, 400, ("cpu", "starter", "surface", 512, 512, 20))],
            Estimate(10 * (8 + 2 * SHARE) / (8 + 992 * SHARE), False),
        ),
        # another device, model or preset tells nothing
        (Job("cuda", *KIND[1:], 10), [_run(10, 40)], None),
        (Job("cpu", "sd15", *KIND[2:], 10), [_run(10, 40)], None),
        (Job("cpu", "starter", "per_frame", *KIND[3:], 10), [_run(10, 40)], None),
        # what a damaged file may hold
        (Job(*KIND, 10), [_run(0, 40), _run(-1, 4), _run(10, math.inf), _run(10, -5), _run(10, 0)], None),
        (Job("cpu", "starter", "surface", 0, 256, 20, 10), [_run(10, 40)], None),
    ],
)
def test_an_estimate_comes_from_the_run_that_is_most_like_it(job, runs, expected):
    found = estimate(job, runs)
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        assert found.seconds == pytest.approx(expected.seconds) and found.is_rough is expected.is_rough


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "a few seconds"), (12, "10 s"), (57.4, "55 s"), (58, "1 min"), (89, "1 min"), (150, "2 min"), (3540, "59 min"),
     (3600, "1 h"), (3599, "1 h"), (7900, "2 h 10 min"), (86400, "24 h")],
)  # fmt: skip
def test_times_are_rounded_words(seconds, words):
    assert write_duration(seconds) == words
    assert write_time_left(seconds) == f"{words} left" and write_time_left(None) == ""


def test_without_history_no_number_is_shown():
    words = write_estimate(None)
    assert not any(letter.isdigit() for letter in words)
    assert write_estimate(Estimate(240, False)) == "about 4 min" and write_estimate(Estimate(240, True)) == "roughly 4 min"
    assert shot_times.write_question(96, None) == ("", "") == shot_times.write_question(96, Estimate(100, False))
    title, message = shot_times.write_question(96, Estimate(1500, True))
    assert title == "Generate 96 frames?" and "roughly 25 min" in message


@pytest.mark.parametrize("expected", [None, 100.0, 20.0, 1000.0])
def test_the_time_left_is_hidden_until_it_is_known_smooth_and_never_negative(expected):
    left, shown = TimeLeft(50.0, expected), []
    for tick in range(1001):
        now = 50.0 + tick / 10
        left.update(now, tick / 1000)
        shown.append(left.get(now))
    assert all(one is None for one in shown[: int(10 * LEAST_SECONDS)]) and shown[400] is not None
    known = [one for one in shown if one is not None]
    assert min(known) >= 0 and max(abs(a - b) for a, b in pairwise(known)) < max(6.0, 0.05 * (expected or 0))
    if expected in (None, 100.0):
        assert all(abs(one - (100 - n / 10)) < 12 for n, one in enumerate(shown) if one is not None)
    assert shown[1000] < 12 and left.get(10_000.0) == 0.0


def test_a_clock_that_goes_back_and_work_that_stands_still_do_no_harm():
    left = TimeLeft(0.0)
    for now, fraction in ((10, 0.5), (5, 0.5), (20, 0.4), (1000, 0.4), (1001, 2.0), (1002, -1.0)):
        left.update(now, fraction)
        assert (left.get(now) or 0) >= 0


def test_one_bar_for_the_whole_shot_that_never_goes_back():
    clock = [0.0]
    progress = ShotProgress(10, clock=lambda: clock[0])
    assert progress.describe("rendering passes") == "rendering passes · 10 frames"
    seen = []
    steps = [
        ("waiting for 1 before it", 0.0, 0),
        *((stage, part / 4, 0) for stage in SPANS for part in range(5) if stage != "frames"),
    ]
    steps[-5:-5] = [("frames", n / 10, n) for n in range(11)]
    for stage, fraction, arrived in [*steps, ("denoising", 0.1, 10)]:
        clock[0] += 1
        progress.update(stage, fraction, arrived)
        seen.append(progress.fraction)
    assert seen == sorted(seen) and seen[0] == 0 and seen[-1] == 1.0 and len(set(seen)) > 25
    assert "frame 10/10" in progress.describe("frames") and "left" in progress.describe("frames")
    assert progress.describe("cancelling") == "cancelling"


# -- the file


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """A data folder of the test's own, which does not exist yet."""
    monkeypatch.setenv("LATENTMAN_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def test_times_are_kept_bounded_and_joined_with_those_of_another_blender(folder):
    first, second = TimeHistory(), TimeHistory()
    assert first.list_runs() == second.list_runs() == []
    first.add(_run(10, 20))
    second.add(_run(20, 40))
    assert TimeHistory().list_runs() == [_run(10, 20), _run(20, 40)] == second.list_runs()
    for n in range(2 * MOST_OF_A_KIND):
        first.add(_run(n + 1, 1.0))
    assert len(first.list_runs()) == MOST_OF_A_KIND and first.list_runs()[-1].frames == 2 * MOST_OF_A_KIND
    assert [path.name for path in folder.iterdir()] == ["times.json"]
    runs: list[Run] = []
    for n in range(MOST + 50):
        runs = join_run(runs, _run(1, 1.0, ("cpu", f"model {n}", "surface", 256, 256, 20)))
    assert len(runs) == MOST and runs[-1].model == f"model {MOST + 49}"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"runs": [1]}',
        b'{"runs": [{"device": "cpu"}]}',
        b"\xff\xfe",
        b"[" * 100_000,
        b" " * (MAX_BYTES + 1),
        None,
    ],
)
def test_a_damaged_file_is_no_history_and_is_replaced(folder, content):
    folder.mkdir()
    path = get_history_path()
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    assert read_runs(path) == []
    history = TimeHistory()
    history.add(_run(10, 20))
    assert history.list_runs() == [_run(10, 20)]
    if content is not None:
        assert json.loads(path.read_text())["runs"][0]["frames"] == 10


# -- what a finished shot tells


def _task(**changes):
    request = make_request("x", (1, 2, 3, 4), 24.0, width=256, height=256, model="starter", steps=20)
    values = {
        "state": TaskState.FINISHED,
        "succeeded": True,
        "report": {"frames": {"made": 4, "kept": 0}},
        "request": request,
        "seconds": {"backend": 8.0},
        "stages": {"rendering passes", "loading the model", "denoising"},
        "came_early": False,
        "crop": None,
    }
    return SimpleNamespace(**values | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"succeeded": False},
        {"report": None},
        {"report": {}},
        {"report": {"frames": {"made": 2, "kept": 2}}},
        {"stages": {"rendering passes"}},
        {"stages": {"loading the model", "waiting for 1 before it"}},
        {"stages": {"loading the model", "downloading 2.1 GB"}},
        {"came_early": True},
        {"seconds": {}},
    ],
)
def test_a_shot_whose_time_says_nothing_is_not_kept(changes):
    assert shot_times.make_run(_task(), "cpu") == Run("cpu", "starter", "surface", 256, 256, 20, 4, 8.0)
    assert shot_times.make_run(_task(crop=Crop(0, 4, 256, 250)), "cpu").height == 250
    assert shot_times.make_run(_task(**changes), "cpu") is None and shot_times.make_run(_task(), "") is None


def test_the_panel_asks_the_history_of_its_own_settings(empty_scene, folder, monkeypatch):
    history = TimeHistory()
    monkeypatch.setattr(shot_times, "history", history)
    monkeypatch.setattr(shot_times, "connection", SimpleNamespace(device="cpu"))
    settings = bpy.context.scene.latentman
    settings.use_scene_aspect, settings.width, settings.height, settings.steps, settings.model = False, 256, 256, 20, "starter"
    assert shot_times.estimate_shot(settings, empty_scene, 24) is None
    history.add(_run(4, 30))
    assert shot_times.estimate_shot(settings, empty_scene, 8) == Estimate(60.0, False)
    settings.steps = 40
    assert shot_times.estimate_shot(settings, empty_scene, 8) == Estimate(120.0, True)
    settings.preset = "per_frame"
    assert shot_times.estimate_shot(settings, empty_scene, 24) is None
