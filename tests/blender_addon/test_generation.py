"""The loop through a real backend process over real sockets, and everything that can go wrong in it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import bpy
import numpy as np
import pytest

from latentman.blender_addon import client as client_module
from latentman.blender_addon.client import BackendClient, ConnectionLost
from latentman.blender_addon.command_line import wait_until
from latentman.blender_addon.tasks.shot import ShotTask
from latentman.shared import messages
from latentman.shared.console import check_writable
from latentman.shared.endpoint import EndpointError, free_port, normalise_endpoint
from latentman.shared.manifest import FrameEntry
from latentman.shared.shot import ShotError
from tests import samples

ROOT = Path(__file__).resolve().parents[2]


def _generation(connection, character, out, request, **options):
    task = ShotTask(bpy.context, character, request, connection.client, out, folder_per_job=False, **options)
    return connection.add(task)


def _run(connection, generation, seconds=180):
    assert wait_until(connection, lambda: generation.done, seconds)
    return generation


def _pixels(path):
    image = bpy.data.images.load(str(path), check_existing=False)
    out = np.empty(image.size[0] * image.size[1] * 4, np.float32)
    image.pixels.foreach_get(out)
    bpy.data.images.remove(image)
    return out


def test_frames_come_back_and_are_remembered(connection, shot_scene, character, tmp_path):
    received = []
    request = samples.request(3)
    first = _run(
        connection,
        _generation(connection, character, tmp_path / "out", request, on_message=received.append, keep_passes=tmp_path / "passes"),
    )
    assert first.error == "" and first.succeeded
    assert sorted(p.name for p in (tmp_path / "out").glob("*.png")) == ["0001.png", "0002.png", "0003.png"]
    steps = [(m.step, m.steps) for m in received if isinstance(m, messages.Progress) and m.stage == "denoising"]
    assert steps == [(1, 2), (2, 2)]
    assert {"hmse", "background_mse"} <= set(first.report["consistency"])
    assert np.std(_pixels(tmp_path / "out" / "0001.png")) > 0.02

    received.clear()
    again = _run(connection, _generation(connection, character, tmp_path / "again", request, on_message=received.append))
    assert again.succeeded and not [m for m in received if isinstance(m, messages.Progress) and m.stage == "denoising"]
    assert (_pixels(tmp_path / "again" / "0002.png") == _pixels(tmp_path / "out" / "0002.png")).all()

    backend = subprocess.run(
        [
            os.environ.get("LATENTMAN_PYTHON", sys.executable),
            "-m",
            "latentman.backend",
            "generate",
            str(tmp_path / "passes"),
            "--prompt",
            request.text.prompt,
            "--steps",
            "2",
            "--seed",
            "4",
            "--preset",
            request.preset,
            "--guidance-scale",
            str(request.sampling.guidance_scale),
            "--out",
            str(tmp_path / "folder"),
            "--json",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert backend.returncode == 0, backend.stdout + backend.stderr
    assert (_pixels(tmp_path / "folder" / "0002.png") == _pixels(tmp_path / "out" / "0002.png")).all()


def test_cancel_takes_effect_within_a_step(connection, shot_scene, character, tmp_path):
    received = []
    generation = _generation(connection, character, tmp_path, samples.request(2, steps=400), on_message=received.append)

    def step_count():
        return max((m.step for m in received if isinstance(m, messages.Progress) and m.stage == "denoising"), default=0)

    wait_until(connection, lambda: step_count() >= 2, 120)
    generation.cancel()
    reached = step_count()
    _run(connection, generation)
    assert generation.cancelled and not generation.error
    # messages already on their way when cancel was pressed may still arrive
    assert step_count() <= reached + 30 and step_count() < 400


@pytest.mark.slow
def test_a_killed_backend_is_said_and_the_job_goes_on(own_connection, shot_scene, character, tmp_path):
    connection, received = own_connection, []
    request = samples.request(2, steps=60)
    generation = _generation(connection, character, tmp_path / "out", request, on_message=received.append)

    def steps():
        return [m.step for m in received if isinstance(m, messages.Progress) and m.stage == "denoising"]

    wait_until(connection, lambda: len(steps()) > 5, 120)
    os.kill(connection.process.pid, signal.SIGKILL)
    _run(connection, generation)
    assert "backend stopped" in generation.error and not connection.running

    connection.start(os.environ.get("LATENTMAN_PYTHON", sys.executable), f"127.0.0.1:{free_port()}", tmp_path / "jobs")
    wait_until(connection, lambda: connection.connected or bool(connection.error), 120)
    received.clear()
    again = _run(connection, _generation(connection, character, tmp_path / "out", request, on_message=received.append))
    assert again.succeeded and steps()[0] > 1


def test_a_size_the_model_cannot_do_names_the_nearest(connection, shot_scene, character, tmp_path):
    generation = _run(connection, _generation(connection, character, tmp_path, samples.request(1, size=100)))
    assert "nearest size is 96x96" in generation.error


def _answer(connection, seconds=30):
    """The next message that is not just progress."""
    while True:
        message = connection.client.events.get(timeout=seconds).message
        if not isinstance(message, (messages.Progress, messages.Ping)):
            return message


def test_the_backend_refuses_what_does_not_fit(connection):
    """Each refusal names the piece of work it is about, and the backend goes on."""
    request, passes = samples.request(), samples.passes()
    for message, code in (
        (messages.SubmitShot(ticket="b", request=samples.request(prompt="")), "prompt"),
        (messages.SubmitShot(ticket="m", request=samples.request(model="/nowhere")), "model"),
        (messages.Finished(ticket="x", report={}), "malformed"),
    ):
        connection.client.send(message)
        answer = _answer(connection)
        assert isinstance(answer, messages.Failed) and answer.code == code and answer.message.endswith(".")
        assert answer.ticket == ("" if code == "malformed" else message.ticket)
    entry = FrameEntry()
    for ticket, arrays, index in (
        ("nan", {**passes.select([0]).arrays(), "depth": passes.depth[:1] * np.float32("nan")}, 0),
        ("short", {"depth": passes.depth[:1]}, 0),
        ("shape", passes.arrays(), 0),
        ("unasked", passes.select([0]).arrays(), 99),
    ):
        connection.client.send(messages.SubmitShot(ticket=ticket, request=request))
        assert _answer(connection) == messages.PassesWanted(ticket=ticket, index=0)
        connection.client.send(messages.SendPasses(ticket=ticket, index=index, entry=entry), arrays)
        answer = _answer(connection)
        while not isinstance(answer, messages.Failed):
            assert isinstance(answer, messages.PassesWanted)
            answer = _answer(connection)
        assert (answer.code, answer.ticket) == ("passes", ticket) and answer.message.endswith(".")


def test_scene_without_camera_or_prompt(connection, empty_scene, character, tmp_path):
    with pytest.raises(ShotError, match="no camera"):
        _generation(connection, character, tmp_path, samples.request())
    with pytest.raises(ShotError, match="prompt is empty"):
        _generation(connection, character, tmp_path, samples.request(prompt=" "))
    (tmp_path / "file").write_text("")
    with pytest.raises(ShotError, match="cannot be written"):
        check_writable(tmp_path / "file" / "sub")


def test_nobody_answers(monkeypatch):
    monkeypatch.setattr(client_module, "CONNECT_SECONDS", 0.5)
    client = BackendClient(f"127.0.0.1:{free_port()}")
    event = client.events.get(timeout=20)
    assert isinstance(event, ConnectionLost) and "No backend answers" in event.reason
    client.close()


def test_a_backend_of_another_version_is_named(connection):
    connection._on_welcome(messages.Welcome(version="0.0.1", device="cpu", models=()))
    assert "version 0.0.1" in connection.error and not connection.running


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("localhost:5000", "tcp://127.0.0.1:5000"),
        ("tcp://127.0.0.1:5000", "tcp://127.0.0.1:5000"),
        ("http://box:5000/", "tcp://box:5000"),
        ("5000", "tcp://127.0.0.1:5000"),
        (" box ", "tcp://box:48573"),
    ],
)
def test_every_usual_form_of_an_address(text, address):
    assert normalise_endpoint(text) == address


@pytest.mark.parametrize("text", ["", "box:port", "box:99999", "a b:1", "tcp://"])
def test_what_is_no_address(text):
    with pytest.raises(EndpointError, match="write it like"):
        normalise_endpoint(text)


def test_command_line_exit_codes(shot_scene, tmp_path):
    path = tmp_path / "shot.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(path), copy=True)

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "latentman.blender_addon", str(path), "generate", *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )

    os.environ.setdefault("LATENTMAN_PYTHON", sys.executable)
    good = run(
        "--prompt",
        "a robot on a stage",
        "--frames",
        "2-3",
        "--steps",
        "1",
        "--size",
        "64x64",
        "--out",
        str(tmp_path / "out"),
        "--json",
        "--preset",
        "cross_frame",
    )
    assert good.returncode == 0, good.stdout + good.stderr
    # Blender itself may greet; once the command speaks, every line is JSON
    events = [json.loads(line) for line in good.stdout[good.stdout.index("{") :].strip().splitlines()]
    assert events[-1]["event"] == "done" and {e["event"] for e in events} >= {"progress", "frame", "finished"}
    assert {p.name for p in (tmp_path / "out").glob("*.png")} == {"0002.png", "0003.png"}
    wrong = run("--prompt", "x", "--frames", "a-b", "--out", str(tmp_path / "out"))
    assert wrong.returncode == 2 and "not a frame range" in wrong.stdout


@pytest.fixture
def panel(connection, shot_scene, character, tmp_path, monkeypatch):
    """The panel's settings, small and quick, with operators that work on the test's connection."""
    from latentman.blender_addon import operators, properties
    from latentman.blender_addon.operators import generate, polls

    operators.register()
    for module in (generate, polls):
        monkeypatch.setattr(module, "connection", connection)
    settings = properties.get_settings(bpy.context)
    settings.character, settings.output = character, str(tmp_path)
    settings.width = settings.height = 64
    settings.use_scene_range, settings.frame_start = False, 1
    yield settings
    operators.unregister()


def _generated(connection):
    assert bpy.ops.latentman.generate() == {"FINISHED"}
    assert wait_until(connection, lambda: connection.shot_task.done, 200) and connection.shot_task.succeeded, (
        connection.shot_task.error
    )
    return connection.shot_task


def test_the_look_goes_onto_the_character_and_onto_no_other(connection, character, panel):
    from latentman.blender_addon.character.body_model import MANNEQUIN, load
    from latentman.blender_addon.passes.render_set import get_bodies
    from latentman.blender_addon.rigging.characters import add_character

    panel.steps, panel.preset, panel.frame_end = 1, "cross_frame", 2
    assert not bpy.ops.latentman.as_material.poll()
    made = _generated(connection)
    assert (made.folder / "look" / "texture_1.png").exists()
    (body,) = get_bodies(character)
    before = list(body.data.materials)
    assert bpy.ops.latentman.as_material() == {"FINISHED"}
    material = body.material_slots[0].material
    assert material.name.startswith("Look: ") and [one for one in body.data.materials if one] == before
    image = next(node.image for node in material.node_tree.nodes if node.type == "TEX_IMAGE")
    pixels = np.array(image.pixels[:]).reshape(*image.size, 4)
    assert 0 < (pixels[..., 3] > 0.5).mean() < 1
    panel.character = add_character(bpy.context, load(MANNEQUIN), "Other")
    with pytest.raises(RuntimeError, match="belongs to 'Mannequin'"):
        bpy.ops.latentman.as_material()
    panel.character = character
    (made.folder / "look" / "texture_1.png").unlink()
    with pytest.raises(RuntimeError, match="generate the shot again"):
        bpy.ops.latentman.as_material()


def test_a_tweak_makes_only_what_changed_and_a_kept_look_outlives_the_prompt(connection, character, panel):
    panel.steps, panel.preset, panel.frame_end = 3, "surface", 4

    def make():
        return _generated(connection).report["frames"]

    def raise_an_arm(frame):
        bone = character.pose.bones["left_shoulder"]
        for near in (frame - 1, frame + 1, frame):
            bpy.context.scene.frame_set(near)
            if near == frame:
                bone.rotation_quaternion = (0.8, 0.6, 0.0, 0.0)
            bone.keyframe_insert("rotation_quaternion", frame=near)

    assert not bpy.ops.latentman.keep_look.poll() and not bpy.ops.latentman.new_look.poll()
    assert make() == {"made": 4, "kept": 0}
    raise_an_arm(3)
    assert make() == {"made": 1, "kept": 3} and connection.shot_task.request.look
    panel.only_changed = False
    assert make() == {"made": 4, "kept": 0} and not connection.shot_task.request.look
    assert bpy.ops.latentman.keep_look() == {"FINISHED"}
    kept = panel.results[panel.active_result].job
    assert character.latentman_look == kept and character.latentman_look_prompt == panel.prompt
    panel.prompt = "a robot on a stage"
    assert make() == {"made": 4, "kept": 0} and connection.shot_task.request.look == kept
    panel.preset = "latentman"
    with pytest.raises(RuntimeError, match="cannot keep a look"):
        bpy.ops.latentman.generate()
    assert bpy.ops.latentman.new_look() == {"FINISHED"} and not character.latentman_look
    character.latentman_look = "f" * 24
    panel.preset = "surface"
    assert bpy.ops.latentman.generate() == {"FINISHED"}
    assert wait_until(connection, lambda: connection.shot_task.done, 60)
    assert "does not have the kept look" in connection.shot_task.error


@pytest.mark.slow
def test_only_frames_that_are_told_something_else_are_made_again(connection, character, panel):
    from latentman.blender_addon.prompt_keys import write_prompt_keys

    panel.steps, panel.preset, panel.frame_end = 1, "surface", 3
    write_prompt_keys(panel, [(2, "a robot on a stage")])

    def make():
        return _generated(connection).report["frames"]["made"]

    assert make() == 3
    write_prompt_keys(panel, [(3, "a robot on a stage"), (60, "a knight")])
    assert make() == 1, "the second, which is under the first prompt now"
    # the strength reaches 1, which all frames had, at the second frame
    panel.control_scale = 0.2
    bpy.context.scene.keyframe_insert("latentman.control_scale", frame=1)
    panel.control_scale = 1.0
    bpy.context.scene.keyframe_insert("latentman.control_scale", frame=2)
    assert make() == 1
    panel.preset = "latentman"
    with pytest.raises(RuntimeError, match="carries each frame's picture on"):
        bpy.ops.latentman.generate()
