"""Motion from words through a real backend: Actions, what is kept, takes, the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import bpy
import numpy as np
import pytest

from latentman.blender_addon import properties
from latentman.blender_addon.command_line import wait_until
from latentman.blender_addon.compat import get_fcurves
from latentman.blender_addon.motion import inpainting
from latentman.blender_addon.motion.key_options import KeyOptions
from latentman.blender_addon.motion.layouts import humanml_to_joints
from latentman.blender_addon.motion.readers import BUNDLED, read
from latentman.blender_addon.motion.rotations import forward_kinematics
from latentman.blender_addon.operators import generate, motion_text, polls
from latentman.blender_addon.rigging.action_reading import read_body_motion
from latentman.blender_addon.rigging.keyframes import apply_motion
from latentman.blender_addon.tasks.motion import MotionTask
from latentman.shared.cycles import compute_headings, turn_quaternions
from latentman.shared.motion import Motion, MotionError
from latentman.shared.motion_request import Kept, MotionRequest
from latentman.shared.skeleton import JOINT_INDEX, SMPL_PARENTS
from tests.blender_addon.conftest import BACKEND_PYTHON

pytestmark = pytest.mark.usefixtures("registered_operators")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def window(connection, character, monkeypatch):
    """The panel's settings with a connected backend behind the buttons; quick motions."""
    for module in (motion_text, generate, polls):
        monkeypatch.setattr(module, "connection", connection)
    settings = properties.get_settings(bpy.context)
    settings.character = character
    settings.motion.text, settings.motion.seconds, settings.motion.seed = "a person bows", 2.0, 4
    return settings


def _made(connection) -> MotionTask:
    assert wait_until(connection, lambda: connection.motion_task.done, 200) and not connection.motion_task.error, (
        connection.motion_task.error
    )
    return connection.motion_task


def test_every_variant_is_an_action_that_knows_where_it_came_from(window, connection, character):
    window.motion.variants = 2
    assert bpy.ops.latentman.make_motion() == {"FINISHED"}
    assert connection.busy and not bpy.ops.latentman.make_motion.poll(), "one at a time"
    actions = _made(connection).actions
    assert [a.name for a in actions] == ["a person bows (1)", "a person bows (2)"]
    assert character.animation_data.action == actions[0], "the first one is in use"
    for action in actions:
        assert action["latentman_text"] == "a person bows" and action["latentman_seed"] == 4
        assert "starter" in action["latentman_source"] and action["latentman_fps"] == 20
        assert tuple(action.frame_range) == (1, 40)
    poses = [np.array([curve.evaluate(20) for curve in get_fcurves(action)]) for action in actions]
    assert np.abs(poses[0] - poses[1]).max() > 1e-3
    assert bpy.ops.latentman.step_take() == {"FINISHED"} and character.animation_data.action == actions[1]
    assert bpy.ops.latentman.step_take() == {"FINISHED"} and character.animation_data.action == actions[0]
    bpy.context.scene.frame_set(20)
    moved = character.pose.bones["Left_shoulder" if "Left_shoulder" in character.pose.bones else "left_shoulder"]
    assert moved.matrix_basis != moved.matrix_basis.inverted()


def test_selected_frames_stay_and_the_rest_is_made(window, connection, character):
    action = apply_motion(character, read(BUNDLED).get_motion(3).crop(0, 80), 1, 20.0)
    rig, before, _ = read_body_motion(character, action)
    kept = set(range(1, 9)) | set(range(73, 81))
    for curve in get_fcurves(action):
        for key in curve.keyframe_points:
            key.select_control_point = round(key.co.x) in kept
    assert motion_text.find_selected_frames(action) == kept
    assert bpy.ops.latentman.remake_motion(keep="FRAMES") == {"FINISHED"}
    made = _made(connection).actions[0]
    assert made != action and character.animation_data.action == made and action.users, "the old one is kept"
    assert tuple(made.frame_range) == tuple(action.frame_range)
    _, after, _ = read_body_motion(character, made)
    joints = [forward_kinematics(m.local_rotations, rig.joints, m.pelvis, SMPL_PARENTS) for m in (before, after)]
    off = np.linalg.norm(joints[0] - joints[1], axis=-1).max(1)
    assert off[[frame - 1 for frame in kept]].max() < 1e-3 and off[25:55].max() > 0.05
    step = np.linalg.norm(np.diff(joints[1], axis=0), axis=-1).max(1)
    assert step.max() < 0.25, "no jump from what is made to what is kept"


@pytest.mark.parametrize("keep", ["LEGS", "PATH"])
def test_the_upper_body_or_everything_on_a_path_is_made(window, connection, character, keep):
    action = apply_motion(character, read(BUNDLED).get_motion(0).crop(0, 50), 1, 20.0)
    rig, before, _ = read_body_motion(character, action)
    window.motion.text = "a person waves with the right hand"
    assert bpy.ops.latentman.remake_motion(keep=keep) == {"FINISHED"}
    _, after, _ = read_body_motion(character, _made(connection).actions[0])
    joints = [forward_kinematics(m.local_rotations, rig.joints, m.pelvis, SMPL_PARENTS) for m in (before, after)]
    off = np.linalg.norm(joints[0] - joints[1], axis=-1)
    assert np.abs(before.pelvis[:, [0, 2]] - after.pelvis[:, [0, 2]]).max() < 1e-3
    legs = off[:, [4, 5, 7, 8, 10, 11]].max()
    assert off[:, [20, 21]].max() > 0.05 and (legs < 1e-3) == (keep == "LEGS")


def test_bad_input_is_a_sentence(window, connection, character):
    window.motion.text = "  "
    with pytest.raises(RuntimeError, match="text is empty"):
        bpy.ops.latentman.make_motion()
    window.motion.text, window.motion.model = "a person walks", "/nowhere"
    assert bpy.ops.latentman.make_motion() == {"FINISHED"}
    assert wait_until(connection, lambda: connection.motion_task.done, 60)
    assert "no motion model '/nowhere'" in connection.motion_task.error and connection.error == connection.motion_task.error
    action = apply_motion(character, read(BUNDLED).get_motion(0), 1, 20.0)
    for curve in get_fcurves(action):
        for key in curve.keyframe_points:
            key.select_control_point = False
    with pytest.raises(RuntimeError, match="No keyframe is selected"):
        bpy.ops.latentman.remake_motion(keep="FRAMES")


def test_cancelling_leaves_the_character_alone(window, connection, character):
    window.motion.seconds, window.motion.variants = 30.0, 8
    before = len(bpy.data.actions)
    assert bpy.ops.latentman.make_motion() == {"FINISHED"}
    assert wait_until(connection, lambda: connection.motion_task.fraction > 0 or connection.motion_task.done, 60)
    assert bpy.ops.latentman.cancel() == {"FINISHED"}
    assert wait_until(connection, lambda: connection.motion_task.done, 60)
    assert connection.motion_task.cancelled and len(bpy.data.actions) == before and not connection.busy


def test_what_is_made_meets_the_kept_frames(rng):
    """A motion that was rotated and shifted comes back to the kept frames, and changes only smoothly between them."""
    joints = read(BUNDLED).get_motion(0).joints[:60]
    parts = np.zeros((60, 3), bool)
    parts[[0, 1, 40, 41]] = True
    angle = 0.8 + np.linspace(0, 0.5, 60)
    about = np.repeat(joints[:1, 0], 60, 0)
    made = (
        inpainting._rotate_about_vertical(joints, angle, about)
        + np.linspace(0, 0.6, 60)[:, None, None] * [1, 0, 0.5]
        + [3, 0.1, -2]
    )
    kept = Kept(joints.astype(np.float32), parts)
    found = inpainting.align_to_kept(Motion(made, 20.0, "test"), kept).joints
    assert np.abs(found[[0, 1, 40, 41]] - joints[[0, 1, 40, 41]]).max() < 0.01
    assert np.linalg.norm(np.diff(found, axis=0), axis=-1).max() < np.linalg.norm(np.diff(joints, axis=0), axis=-1).max() + 0.05
    with pytest.raises(MotionError, match="Every frame"):
        inpainting.select_kept(None, joints[0], 20.0, inpainting.KeepSelection("FRAMES", np.ones(5, bool)))


def test_a_motion_at_another_rate_meets_the_kept_frames_with_its_rotations():
    joints = read(BUNDLED).get_motion(0).joints[:60]
    parts = np.zeros((60, 3), bool)
    parts[[0, 59]] = True
    at = np.linspace(0, 59, 90)
    made = inpainting._rotate_about_vertical(inpainting.sample_joints(joints, at), np.full(90, 1.1), np.zeros((90, 3))) + [2, 0, 1]
    rotations = np.zeros((90, 24, 4))
    rotations[..., 0] = 1.0
    rotations[:, 0] = turn_quaternions(rotations[:, 0], compute_headings(made))
    found = inpainting.align_to_kept(Motion(made, 30.0, "test", rotations=rotations), Kept(joints.astype(np.float32), parts))
    assert found.fps == 30 and np.abs(found.joints[[0, -1]] - joints[[0, 59]]).max() < 0.01
    w, y = found.rotations[:, 0, 0], found.rotations[:, 0, 2]
    assert np.abs(np.angle(np.exp(1j * (2 * np.arctan2(y, w) - compute_headings(found.joints))))).max() < 0.02


def _read_pose(character, frame):
    """Where the ends of all bones are in the world, and the root's place on the ground."""
    bpy.context.scene.frame_set(frame)
    bpy.context.view_layer.update()
    tails = np.array([character.matrix_world @ bone.tail for bone in character.pose.bones])
    return tails, np.array((character.matrix_world @ character.pose.bones[0].head)[:2])


@pytest.mark.parametrize("in_place", [False, True])
def test_a_loop_begins_again_where_it_ends(window, connection, character, in_place):
    window.motion.text, window.motion.loop, window.motion.in_place = "a person walks forward", True, in_place
    window.keying.foot_lock = "hard"
    assert bpy.ops.latentman.make_motion() == {"FINISHED"}
    (action,) = _made(connection).actions
    start, end = map(int, action.frame_range)
    (first, here), (last, there), (before, _), (after, _) = (
        _read_pose(character, frame) for frame in (start, end, end - 1, start + 1)
    )
    moved = np.append(there - here, 0.0)
    assert np.abs(last - moved - first).max() < 2e-3, "the last pose is the first one"
    assert (np.linalg.norm(moved) < 1e-4) == in_place
    steps = [np.linalg.norm(_read_pose(character, f + 1)[0] - _read_pose(character, f)[0], axis=1).max() for f in range(start, end)]
    seam = np.linalg.norm((after - first) - (last - before), axis=1).max()
    assert seam < 1.5 * max(steps), "and goes on from there"
    window.keying.foot_lock = "off"
    window.motion.loop = window.motion.in_place = False


def test_kept_parts_say_where_the_body_goes(window, connection, character):
    action = apply_motion(character, read(BUNDLED).get_motion(0).crop(0, 50), 1, 20.0)
    window.motion.loop = window.motion.in_place = True
    _, before, _ = read_body_motion(character, action)
    assert bpy.ops.latentman.remake_motion(keep="PATH") == {"FINISHED"}
    task = _made(connection)
    assert not task.request.loop and not task.request.in_place
    _, after, _ = read_body_motion(character, task.actions[0])
    assert np.abs(before.pelvis[:, [0, 2]] - after.pelvis[:, [0, 2]]).max() < 1e-3
    window.motion.loop = window.motion.in_place = False


def test_unknown_words_are_said_in_the_panel(window, connection):
    window.motion.text = "juggling fire on a unicycle"
    assert bpy.ops.latentman.make_motion() == {"FINISHED"}
    (warning,) = _made(connection).warnings
    assert "'unicycle'" in warning and "it knows walking" in warning


@pytest.fixture
def kimodo(monkeypatch, tmp_path):
    """A stand-in for Kimodo's command, which the backend of this test finds."""
    stand_in = ROOT / "tests" / "backend" / "stand_in_kimodo.py"
    monkeypatch.setenv("LATENTMAN_KIMODO", f"{BACKEND_PYTHON} {stand_in}")
    monkeypatch.setenv("KIMODO_STAND_IN_RECORD", str(tmp_path / "asked.json"))
    return tmp_path / "asked.json"


@pytest.fixture
def kimodo_window(kimodo, own_connection, window, monkeypatch):
    """The panel's settings with a backend behind the buttons that finds the stand-in."""
    for module in (motion_text, generate, polls):
        monkeypatch.setattr(module, "connection", own_connection)
    return window


LIMBS = (("hip", "knee"), ("knee", "ankle"), ("ankle", "foot"), ("collar", "shoulder"), ("shoulder", "elbow"), ("elbow", "wrist"))


def _measure_limbs(character, joints, frames):
    """Degrees between a motion's limbs (F, 22, 3) and the posed bones in the world, (limbs, frames); Blender's Z is up."""
    out = []
    for frame, there in zip(frames, joints, strict=True):
        bpy.context.scene.frame_set(frame)
        heads = {b.name: np.array(character.matrix_world @ b.head) for b in character.pose.bones}
        row = []
        for side in ("left", "right"):
            for a, b in LIMBS:
                x, y, z = there[JOINT_INDEX[f"{side}_{b}"]] - there[JOINT_INDEX[f"{side}_{a}"]]
                bone = heads[f"{side}_{b}"] - heads[f"{side}_{a}"]
                cosine = np.dot(bone, [x, -z, y]) / np.linalg.norm(bone) / np.linalg.norm([x, y, z])
                row.append(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
        out.append(row)
    return np.array(out).T


@pytest.mark.slow
def test_kimodos_rotations_arrive_on_the_rig(kimodo_window, own_connection, character):
    window, connection = kimodo_window, own_connection
    window.motion.model, window.motion.text, window.motion.variants = "kimodo", "a person walks", 2
    window.motion.steps = 3
    bpy.context.scene.render.fps = 30
    assert bpy.ops.latentman.make_motion() == {"FINISHED"}
    task = _made(connection)
    assert [action.name for action in task.actions] == ["a person walks (1)", "a person walks (2)"]
    assert task.actions[0]["latentman_fps"] == 30 and tuple(task.actions[0].frame_range) == (1, 60)
    off = _measure_limbs(character, task.made.joints[0], range(1, 61))
    assert off.mean() < 1.5 and off.max() < 5, (off.mean(), off.max())
    window.motion.model, window.motion.variants, window.motion.steps = "starter", 1, 0


@pytest.mark.slow
@pytest.mark.parametrize("keep", ["FRAMES", "LEGS", "PATH"])
def test_what_is_kept_becomes_kimodos_constraints(kimodo, kimodo_window, own_connection, character, keep):
    window, connection = kimodo_window, own_connection
    action = apply_motion(character, read(BUNDLED).get_motion(0).crop(0, 50), 1, 20.0)
    for curve in get_fcurves(action):
        for key in curve.keyframe_points:
            key.select_control_point = round(key.co.x) in (1, 2, 25, 50)
    rig, before, _ = read_body_motion(character, action)
    window.motion.model, window.motion.text, window.motion.steps = "kimodo", "a person walks", 3
    assert bpy.ops.latentman.remake_motion(keep=keep) == {"FINISHED"}
    _, after, _ = read_body_motion(character, _made(connection).actions[0])
    kinds = [one["type"] for one in json.loads(kimodo.read_text())["constraints"]]
    assert kinds == {"FRAMES": ["fullbody"], "LEGS": ["root2d", "left-foot", "right-foot"], "PATH": ["root2d"]}[keep]
    joints = [forward_kinematics(m.local_rotations, rig.joints, m.pelvis, SMPL_PARENTS) for m in (before, after)]
    off = np.linalg.norm(joints[0] - joints[1], axis=-1)
    if keep == "FRAMES":
        assert off[[0, 1, 24, 49]].max() < 1e-3 and off[10:15].max() > 0.05
    else:
        assert np.abs(before.pelvis[:, [0, 2]] - after.pelvis[:, [0, 2]]).max() < 1e-3
        assert (off[:, [4, 5, 7, 8]].max() < 1e-3) == (keep == "LEGS")
    assert np.linalg.norm(np.diff(joints[1], axis=0), axis=-1).max() < 0.3
    window.motion.model, window.motion.steps = "starter", 0


def test_kimodo_that_is_not_there_is_a_sentence(monkeypatch, window, connection):
    window.motion.model = "kimodo:checkpoint=Kimodo-G1-RP-v1"
    assert bpy.ops.latentman.make_motion() == {"FINISHED"}
    assert wait_until(connection, lambda: connection.motion_task.done, 60)
    assert "moves a robot; choose a checkpoint for people" in connection.motion_task.error
    window.motion.model = "starter"


@pytest.mark.slow
def test_the_command_line_writes_vectors_and_a_keyed_copy(character, tmp_path):
    path, out, copy = tmp_path / "shot.blend", tmp_path / "motion.npz", tmp_path / "keyed.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(path), copy=True)

    def run(*arguments):
        command = [sys.executable, "-m", "latentman.blender_addon", str(path), "motion", *arguments]
        return subprocess.run(
            command,
            cwd=ROOT,
            check=False,
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ, "LATENTMAN_PYTHON": BACKEND_PYTHON},
        )

    good = run("a person bows", "--seconds", "2", "--variants", "2", "--out", str(out), "--save", str(copy), "--steps", "4")
    assert good.returncode == 0 and "2 motions of 40 frames" in good.stdout, good.stdout + good.stderr
    with np.load(out) as data:
        assert data["vectors"].shape == (2, 40, 263) and str(data["text"]) == "a person bows"
        first = humanml_to_joints(data["vectors"][0])
    assert np.allclose(read(out).get_motion(0).joints, first, atol=1e-5)
    bpy.ops.wm.open_mainfile(filepath=str(copy))
    assert {a.name for a in bpy.data.actions if "latentman_text" in a} == {"a person bows (1)", "a person bows (2)"}
    bad = run("a person bows", "--seconds", "60", "--out", str(out))
    assert bad.returncode == 2 and "choose 0.5 to 40" in bad.stderr
    assert run("a person bows").returncode == 2


def test_the_request_says_what_is_wrong_before_it_is_sent(connection, character):
    with pytest.raises(MotionError, match="out of range"):
        MotionTask(character, MotionRequest("a person bows", 0.0), connection.client, 1, 20.0, KeyOptions())
