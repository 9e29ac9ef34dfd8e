"""The job store, the server's refusals and the command line."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

pytest.importorskip("torch")

from latentman.backend.admission import RefusedToBind, check_endpoint
from latentman.backend.jobs.job import Job
from latentman.backend.jobs.requests import read_request
from latentman.backend.jobs.runner import ModelCache
from latentman.backend.jobs.store import JobStore
from latentman.backend.models.devices import choose_device, name_numbers
from latentman.backend.video.run_context import Checkpoint
from latentman.backend.video.source import load_clip
from latentman.shared.load_options import LoadOptions
from latentman.shared.manifest import FrameEntry, PassesHeader
from latentman.shared.overview import shrink_passes
from latentman.shared.shot import ShotError, check_request
from tests import samples

ROOT = Path(__file__).resolve().parents[2]


def test_equal_requests_are_one_job(tmp_path):
    store = JobStore(tmp_path)
    job = store.open(samples.request(), samples.passes())
    assert store.open(samples.request(), samples.passes()).name == job.name
    assert store.open(samples.request(seed=5), samples.passes()).name != job.name
    assert store.open(samples.request(), samples.passes(shift=3)).name != job.name
    assert (load_clip(job.passes(), range(3)).rest_position == samples.passes().rest_position).all()


def test_other_numbers_make_another_job(tmp_path):
    cpu = choose_device("cpu")
    asked = [{}, {"dtype": "float32"}, {"dtype": "bfloat16"}, {"weights": "8bit"}, {"dtype": "bfloat16", "weights": "8bit"}]
    numbers = [name_numbers(LoadOptions(**options), cpu) for options in asked]
    assert numbers == ["", "", "bfloat16", "8bit", "bfloat16 8bit"]
    # what only changes where and how quickly
    assert not name_numbers(LoadOptions(device="cpu", compile=True, offload="on"), cpu)
    jobs = [JobStore(tmp_path, one).open(samples.request(), samples.passes()) for one in numbers]
    assert jobs[0].name == jobs[1].name and len({job.name for job in jobs}) == 4
    # frames that are unchanged otherwise are not copied from one to the other
    assert jobs[0].has_same_settings(jobs[1]) and not any(jobs[0].has_same_settings(job) for job in jobs[2:])
    assert ModelCache(LoadOptions(device="cpu", dtype="float16")).numbers == "float16"


def test_frames_and_latents_survive(tmp_path, rng):
    job = JobStore(tmp_path).open(samples.request(), samples.passes())
    image = rng.integers(0, 255, (64, 64, 3)).astype(np.uint8)
    assert job.list_finished_frames() == [] and job.load_checkpoint() is None
    job.write_frame(1, image)
    job.save_checkpoint(Checkpoint(4, np.ones((3, 4, 8, 8), np.float32), np.ones((4, 4, 8, 8), np.float32)))
    again = JobStore(tmp_path).open(samples.request(), samples.passes())
    assert again.list_finished_frames() == [1] and (again.read_frame(1) == image).all()
    found = again.load_checkpoint()
    assert found.step == 4 and found.latents.shape == (3, 4, 8, 8) and found.trajectory.shape == (4, 4, 8, 8)
    (job.folder / "latents.npz").write_bytes(b"half")
    assert again.load_checkpoint() is None
    job.store_report({"a": 1})
    assert again.report() == {"a": 1} and not (job.folder / "latents.npz").exists()


def test_a_preset_that_changed_is_another_job(tmp_path, monkeypatch):
    from latentman.shared import shot

    store, request = JobStore(tmp_path), samples.request(preset="surface")
    before = store.open(request, samples.passes()).name
    (store.root / before / "look.npz").write_bytes(b"")
    wearing = msgspec.structs.replace(request, look=before)
    assert store.open(wearing, samples.passes()).has_same_settings(Job(store.root / before, request))
    monkeypatch.setitem(shot.METHODS, "surface", shot.METHODS["surface_fast"])
    assert store.open(request, samples.passes()).name != before
    # the look may still be worn, but frames are not taken over
    after = store.open(wearing, samples.passes())
    assert after.parent().name == before and not after.has_same_settings(after.parent())


def test_what_was_made_with_a_former_preset_can_be_read(tmp_path):
    store, request = JobStore(tmp_path), samples.request(preset="surface_quality")
    found = read_request(store.open(request, samples.passes()).folder / "request.json")
    assert found.preset == request.preset and found.get_method().keyframes is None
    with pytest.raises(ShotError, match="'surface_quality' is no longer there; use 'surface' instead"):
        check_request(request)


def test_a_model_whose_files_changed_is_another_job(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model_index.json").write_text("{}")
    store, request = JobStore(tmp_path / "jobs"), samples.request(preset="surface", model=str(folder))
    before = store.open(request, samples.passes())
    (before.folder / "look.npz").write_bytes(b"")
    wearing = msgspec.structs.replace(request, look=before.name)
    assert store.open(request, samples.passes()).name == before.name
    assert store.open(wearing, samples.passes()).has_same_settings(before)
    (folder / "model_index.json").write_text('{"trained": "further"}')
    assert store.open(request, samples.passes()).name != before.name
    # the look may still be worn, but frames are not taken over
    after = store.open(wearing, samples.passes())
    assert after.parent().name == before.name and not after.has_same_settings(before)


def test_unused_jobs_are_removed_and_looks_that_are_kept_stay(tmp_path, capsys):
    from latentman.backend.__main__ import main

    store = JobStore(tmp_path)
    look, unused = (store.open(samples.request(seed=seed), samples.passes()) for seed in (1, 2))
    (look.folder / "look.npz").write_bytes(b"")
    wearing = store.open(samples.request(preset="surface", look=look.name), samples.passes())
    (tmp_path / "else").mkdir()
    for job in (look, unused):
        for path in job.folder.rglob("*"):
            os.utime(path, (0, 0))
    assert main(["jobs", "--jobs", str(tmp_path)]) == 0
    listed = capsys.readouterr().out
    assert all(job.name in listed for job in (look, unused, wearing)) and "3 jobs" in listed and "unfinished" in listed
    assert main(["jobs", "--jobs", str(tmp_path), "--remove-unused", "30"]) == 0
    assert "1 of 3 jobs removed" in capsys.readouterr().out
    assert look.folder.exists() and wearing.folder.exists() and not unused.folder.exists() and (tmp_path / "else").exists()
    for path in wearing.folder.rglob("*"):
        os.utime(path, (0, 0))
    store.open(samples.request(seed=1), samples.passes())
    assert main(["jobs", "--jobs", str(tmp_path), "--remove-unused", "1"]) == 0
    assert look.folder.exists() and not wearing.folder.exists(), "a job that was asked for again is in use"
    assert main(["jobs", "--jobs", str(tmp_path), "--remove-unused", "-1"]) == 2
    assert main(["jobs", "--jobs", str(tmp_path / "nowhere")]) == 0 and "0 jobs" in capsys.readouterr().out


def test_only_loopback_without_a_list_of_clients():
    for address in ("tcp://127.0.0.1:5", "tcp://[::1]:5", "tcp://localhost:5"):
        check_endpoint(address, has_clients=False)
    for address in ("tcp://0.0.0.0:5", "tcp://*:5", "tcp://192.168.1.2:5"):
        with pytest.raises(RefusedToBind, match="--clients"):
            check_endpoint(address, has_clients=False)
        check_endpoint(address, has_clients=True)


def _backend(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "latentman.backend", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )


def test_a_used_address_is_said_in_a_sentence():
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        answer = _backend("serve", "--endpoint", f"tcp://127.0.0.1:{taken.getsockname()[1]}")
    assert answer.returncode == 2 and "cannot be used" in answer.stderr and "Traceback" not in answer.stderr


@pytest.mark.slow
def test_command_line_answers(tmp_path):
    assert _backend("serve", "--endpoint", "tcp://0.0.0.0:0").returncode == 2
    doctor = _backend("doctor")
    assert doctor.returncode == 0 and "starter model" in doctor.stdout
    missing = _backend("generate", str(tmp_path), "--prompt", "x", "--out", str(tmp_path / "out"), "--json")
    assert missing.returncode == 2 and '"code": "passes"' in missing.stdout


def test_large_shots_are_named_by_their_overview_and_told_apart_by_all_their_passes(tmp_path):
    store, request = JobStore(tmp_path), samples.request(3, 272, preset="surface")
    passes = samples.passes(3, 272)
    first = store.open(request, passes)
    assert store.open(request, passes).name == first.name
    assert (first.folder / "passes" / "overview" / "0001.exr").exists()
    # a place that no pixel of the small copies shows
    other = samples.passes(3, 272)
    other.uv[2, 1, 1] += 0.5
    second = store.open(request, other)
    assert second.name != first.name and store.open(request, other).name == second.name
    assert (load_clip(second.passes(), range(3)).uv == other.uv).all()
    assert (load_clip(first.passes(), range(3)).uv == passes.uv).all(), "the first job is as it was"
    assert not any((tmp_path / "incoming").iterdir())


@pytest.mark.parametrize("size", [64, 272])
def test_passes_that_were_lost_or_damaged_are_mended_by_sending_them_again(tmp_path, size):
    store, request, passes = JobStore(tmp_path), samples.request(3, size, preset="surface"), samples.passes(3, size)
    folder = store.open(request, passes).folder / "passes"
    (folder / "0001.exr").write_bytes(b"half a file")
    (folder / "0002.exr").unlink()
    (folder / "0003.json").unlink()
    (folder / "passes.json").unlink()
    again = store.open(request, passes)
    assert again.folder / "passes" == folder and (load_clip(again.passes(), range(3)).rest_position == passes.rest_position).all()
    assert (folder / "passes.json").exists()


def test_passes_that_stop_coming_leave_nothing_behind_and_whoever_waits_is_told(tmp_path):
    store, request, passes = JobStore(tmp_path), samples.request(3), samples.passes(3)
    intake = store.receive(request, PassesHeader())
    assert [intake.choose_next() for _ in range(4)] == [(0, False), (1, False), (2, False), None]
    intake.add(1, passes.select([1]), FrameEntry())
    with pytest.raises(ShotError, match="without being asked"):
        intake.add(1, passes.select([1]), FrameEntry())
    with pytest.raises(ShotError, match="without being asked"):
        intake.add(7, passes.select([1]), FrameEntry())
    intake.fail("The passes stopped coming.")
    assert intake.job is None and not any((tmp_path / "incoming").iterdir())

    large = samples.request(3, 272, preset="surface")
    intake = store.receive(large, PassesHeader())
    wide = samples.passes(3, 272)
    while intake.job is None:
        index, overview = intake.choose_next()
        intake.add(index, shrink_passes(wide.select([index])), FrameEntry(), overview=overview)
    source, heard = intake.job.passes(), []

    def wait():
        try:
            source.frame(2)
        except ShotError as error:
            heard.append(str(error))

    waiting = threading.Thread(target=wait)
    waiting.start()
    end = time.monotonic() + 60
    while source.urgent() != [2]:
        assert time.monotonic() < end
    assert intake.choose_next() == (2, False), "what is waited for comes first"
    assert intake.choose_next() == (0, False)
    intake.fail("The passes stopped coming.")
    waiting.join(30)
    assert heard == ["The passes stopped coming."]
    # sent to their end they make the same job
    assert store.open(large, wide).name == intake.job.name


def test_requests_stored_by_the_first_version_are_read(tmp_path):
    old = {
        "prompt": "a man", "width": 64, "height": 64, "frames": [1, 2], "fps": 20.0, "negative_prompt": "dark", "seed": 4,
        "model": "starter", "preset": "surface", "steps": 7, "guidance_scale": 3.0, "control_scale": 1.0,
        "method": {"matching": "surface", "fusion": {"full_steps": 2}, "keys": {"count": 3}}, "scheduler": "euler",
        "background_prompt": "", "manifest": None, "look": "", "look_optional": False,
    }  # fmt: skip
    path = tmp_path / "request.json"
    path.write_bytes(msgspec.json.encode(old))
    found = read_request(path)
    assert found.text.prompt == "a man" and found.text.negative_prompt == "dark" and found.frames == (1, 2)
    assert (found.sampling.steps, found.sampling.seed, found.sampling.scheduler) == (7, 4, "euler")
    assert found.method.keyframes.count == 3 and found.method.fusion.full_steps == 2
    path.write_bytes(msgspec.json.encode({"prompt": 4}))
    with pytest.raises(msgspec.MsgspecError):
        read_request(path)
