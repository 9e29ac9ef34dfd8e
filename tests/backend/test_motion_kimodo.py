"""Kimodo as a motion source, with a stand-in for its command that runs as a process of its own and is as strict."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

torch = pytest.importorskip("torch")

from latentman.backend.motion.kimodo import command, constraints, skeleton, source  # noqa: E402
from latentman.backend.motion.registry import load  # noqa: E402
from latentman.shared import messages  # noqa: E402
from latentman.shared.motion import MotionError  # noqa: E402
from latentman.shared.motion_request import Kept, MotionRequest  # noqa: E402
from latentman.shared.skeleton import JOINT_INDEX, SMPL_PARENTS, SMPL_REST_JOINTS  # noqa: E402
from latentman.shared.vectors import normalise  # noqa: E402
from tests.backend import stand_in_kimodo as stand_in  # noqa: E402
from tests.backend.wire import RunningServer  # noqa: E402
from tools.limbs import SIDED_LIMBS  # noqa: E402

SCRIPT = Path(stand_in.__file__)
CPU = torch.device("cpu")
REST = np.array(SMPL_REST_JOINTS)
LIMBS = (*SIDED_LIMBS, ("neck", "head"))


@pytest.fixture
def kimodo(monkeypatch, tmp_path):
    """The stand-in as the command; where it writes down what it was asked."""
    monkeypatch.setenv(command.ENVIRONMENT, f"{sys.executable} {SCRIPT}")
    monkeypatch.setenv("KIMODO_STAND_IN_RECORD", str(tmp_path / "asked.json"))
    return tmp_path / "asked.json"


def _ignore(step: int, of: int) -> None:
    pass


def _whole(rotations: np.ndarray) -> np.ndarray:
    """Global rotations of SMPL's local ones, joint by joint."""
    out = Rotation.from_quat(rotations[..., [1, 2, 3, 0]].reshape(-1, 4)).as_matrix().reshape(*rotations.shape[:2], 3, 3)
    for joint, parent in enumerate(SMPL_PARENTS):
        if parent >= 0:
            out[:, joint] = out[:, parent] @ out[:, joint]
    return out


def _limb_angles(rotations: np.ndarray, positions: np.ndarray, names: list[str]) -> np.ndarray:
    """Degrees between where SMPL's limbs point with local rotations (F, 24, 4) and those of a skeleton's positions (F, J, 3)."""
    whole, out = _whole(rotations), []
    for a, b in LIMBS:
        now = whole[:, JOINT_INDEX[a]] @ normalise(REST[JOINT_INDEX[b]] - REST[JOINT_INDEX[a]])
        there = normalise(positions[:, names.index(skeleton.SOMA_OF[b])] - positions[:, names.index(skeleton.SOMA_OF[a])])
        out.append(np.degrees(np.arccos(np.clip((now * there).sum(-1), -1, 1))))
    return np.array(out)


def test_the_skeleton_is_somas():
    assert list(skeleton.SOMA_77) == stand_in.NAMES and list(skeleton.SOMA_30) == stand_in.SMALL
    assert [skeleton.find_parent(name) or None for name in stand_in.NAMES] == [bone[1] for bone in stand_in.BONES]


@pytest.mark.parametrize("words", ["a person walks", "a person walks like the old version"])
def test_joints_and_rotations_arrive_without_loss(kimodo, words):
    seen = []
    made = load("kimodo", CPU).make(MotionRequest(words, 2.0, 5, 2, steps=7), None, lambda step, of: seen.append((step, of)))
    assert (
        made.vectors is None and made.joints.shape == (2, 60, 22, 3) and made.rotations.shape == (2, 60, 24, 4) and made.fps == 30
    )
    asked = json.loads(kimodo.read_text())
    assert asked["meta"]["seed"] == 5 and asked["meta"]["num_samples"] == 2 and asked["meta"]["diffusion_steps"] == 7
    assert asked["constraints"] == [] and seen[-1] == (7, 7) and sorted(seen) == seen
    assert not np.allclose(made.joints[0], made.joints[1])
    for n in range(2):
        local, root = stand_in.perform(60, [], np.random.default_rng([5, n]))
        positions, whole = stand_in.pose(local, root)
        own = [stand_in.NAMES.index(name) for name in skeleton.SOMA_OF.values()]
        joints = [JOINT_INDEX[name] for name in skeleton.SOMA_OF]
        assert np.abs(made.joints[n][:, joints] - positions[:, own]).max() < 1e-5
        assert _limb_angles(made.rotations[n].astype(float), positions, stand_in.NAMES).max() < 0.05
        # twists, which positions do not show: the wrists' rotations are the file's own
        for side in ("left", "right"):
            hand = whole[:, stand_in.NAMES.index(f"{side.title()}Hand")]
            assert np.abs(_whole(made.rotations[n].astype(float))[:, JOINT_INDEX[f"{side}_wrist"]] - hand).max() < 1e-3


def test_sentences_are_prompts_and_long_ones_are_cut(kimodo):
    request = MotionRequest("a person walks. Slowly | a person sits down", 15.0, steps=3, guidance_scale=3.5)
    made = load("kimodo", CPU).make(request, None, _ignore)
    asked = json.loads(kimodo.read_text())["meta"]
    assert asked["texts"] == ["a person walks. Slowly", "a person sits down"] and made.joints.shape[1] == 450
    assert asked["cfg"] == {"enabled": True, "text_weight": 3.5, "constraint_weight": 2.0}
    made = load("kimodo", CPU).make(MotionRequest("a person walks", 25.0, steps=2), None, _ignore)
    asked = json.loads(kimodo.read_text())["meta"]
    assert asked["texts"] == ["a person walks"] * 3 and made.joints.shape[1] == 750 and "3 passages" in made.warnings[0]
    for seconds in np.linspace(0.5, 40, 60):
        counts = source.split_prompts(["a", "b"], round(seconds * 30))[1]
        assert sum(counts) == round(seconds * 30) and [int((c + 0.5) / 30 * 30) for c in counts] == counts and max(counts) <= 300


def _kept(mode: str, angle: float = 0.7) -> Kept:
    """A walk of 60 frames that begins somewhere and faces elsewhere."""
    local, root = stand_in.perform(90, [], np.random.default_rng(9))
    positions, whole = stand_in.pose(local, root)
    joints, rotations = skeleton.to_body(positions[:, :], whole)
    at = np.round(np.arange(60) * 1.5).astype(int)
    joints, rotations = joints[at], rotations[at]
    turn = Rotation.from_euler("Y", angle)
    joints = turn.apply(joints.reshape(-1, 3)).reshape(joints.shape) + [3.0, 0, -2.0]
    first = turn * Rotation.from_quat(rotations[:, 0, [1, 2, 3, 0]])
    rotations[:, 0] = first.as_quat()[:, [3, 0, 1, 2]]
    parts = np.zeros((60, 3), bool)
    if mode == "poses":
        parts[[0, 1, 30, 59]] = True
    else:
        parts[:, 0], parts[:, 1] = True, mode == "legs"
    return Kept(joints.astype(np.float32), parts, rotations.astype(np.float32))


def test_poses_that_are_kept_become_full_body_constraints(kimodo):
    kept = _kept("poses")
    made = load("kimodo", CPU).make(MotionRequest("a person walks", 3.0, steps=2), kept, _ignore)
    (asked,) = json.loads(kimodo.read_text())["constraints"]
    assert asked["type"] == "fullbody" and len(asked["frame_indices"]) < 20 and {0, 45, 88} <= set(asked["frame_indices"])
    assert np.abs(np.array(asked["root_positions"][0])[[0, 2]]).max() < 1e-6, "it begins at the origin"
    positions, _ = stand_in.pose(stand_in.read_local(asked), np.array(asked["root_positions"]))
    facing = positions[0, stand_in.NAMES.index("LeftLeg")] - positions[0, stand_in.NAMES.index("RightLeg")]
    assert abs(facing[2]) < 1e-5 and facing[0] > 0, "and faces +Z"
    # on the stand-in's body, whose T-pose is not exactly SOMA's, and back where the motion was
    for frame in (0, 30, 59):
        there = made.joints[0, min(round(frame * 1.5), 89)]
        for a, b in LIMBS:
            wanted, found = (normalise(j[JOINT_INDEX[b]] - j[JOINT_INDEX[a]]) for j in (kept.joints[frame], there))
            assert np.degrees(np.arccos(np.clip(wanted @ found, -1, 1))) < 3.0, (frame, a)
        assert np.linalg.norm((there - kept.joints[frame])[0]) < 0.03


@pytest.mark.parametrize("mode", ["legs", "path"])
def test_a_path_is_kept_everywhere_and_feet_now_and_then(kimodo, mode):
    kept = _kept(mode)
    made = load("kimodo", CPU).make(MotionRequest("a person walks", 3.0, steps=2), kept, _ignore)
    asked = json.loads(kimodo.read_text())["constraints"]
    assert [one["type"] for one in asked] == (["root2d", "left-foot", "right-foot"] if mode == "legs" else ["root2d"])
    assert asked[0]["frame_indices"] == list(range(90)) and np.allclose(asked[0]["global_root_heading"][0], [1, 0], atol=1e-6)
    assert all(len(one["frame_indices"]) < 20 for one in asked[1:])
    at = np.minimum(np.arange(90) / 1.5, 59)
    wanted = np.stack([np.interp(at, np.arange(60), kept.joints[:, 0, axis]) for axis in (0, 2)], 1)
    assert np.linalg.norm(made.joints[0][:, 0, [0, 2]] - wanted, axis=1).max() < 0.05
    across = made.joints[0][0, 1] - made.joints[0][0, 2]
    assert np.degrees(abs(np.arctan2(-across[2], across[0]) - 0.7)) < 1


def test_many_kept_frames_are_thinned_and_ends_stay():
    kept = np.zeros(300, bool)
    kept[10:60] = kept[200:260] = True
    found = constraints.choose_frames(kept)
    assert len(found) == 19 and {10, 59, 200, 259} <= set(found) and kept[found].all()
    scattered = np.zeros(300, bool)
    scattered[::3] = True
    assert len(constraints.choose_frames(scattered)) == 19
    with pytest.raises(MotionError, match="rotations"):
        load("kimodo", CPU)  # loading asks nothing
        constraints.make_constraints(
            Kept(_kept("poses").joints, _kept("poses").parts), 90, skeleton.SOMA, constraints.place(_kept("poses"), skeleton.SOMA)
        )


@pytest.mark.parametrize(
    "words, sentence",
    [
        ("oom", "ran out of memory"),
        ("gated", "need a login.*hf auth login"),
        ("robot", "a robot's motion; choose a checkpoint for people"),
        ("mute", "killed, most likely because memory ran out"),
    ],
)
def test_its_failures_are_one_sentence(kimodo, words, sentence):
    with pytest.raises(MotionError, match=sentence) as caught:
        load("kimodo", CPU).make(MotionRequest(words, 1.0, steps=4), None, _ignore)
    assert "\n" not in str(caught.value)


#: starts a process of its own, says who both are, and neither ends
STUBBORN = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("Will generate motions", flush=True)
print(f"\\r 1/4 [00:00<00:00] {os.getpid()} {child.pid}", end="", flush=True)
time.sleep(600)
"""


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _wait_for_ends(pids: list[int]) -> bool:
    """Whether processes that were killed are gone: the system takes a moment for those that are nobody's children any more."""
    for _ in range(200):
        if not any(map(_is_running, pids)):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked for in /proc")
def test_it_is_ended_with_the_work_and_when_it_hangs(kimodo, tmp_path, monkeypatch):
    class Enough(Exception):
        pass

    started: list[int] = []
    read = command._Progress.read

    def listen(self, piece):
        if "1/4" in piece:
            started[:] = map(int, piece.split("] ")[1].split())
        read(self, piece)

    monkeypatch.setattr(command._Progress, "read", listen)

    def stop(step: int, of: int) -> None:
        if step >= 1 and len(started) == 2:
            raise Enough

    with pytest.raises(Enough):
        command.run_command([sys.executable, "-c", STUBBORN], tmp_path, 4, 1, stop)
    assert len(started) == 2 and _wait_for_ends(started)
    with pytest.raises(MotionError, match="said nothing"):
        command.run_command([sys.executable, "-c", STUBBORN], tmp_path, 4, 1, _ignore, silent=0.5)
    assert _wait_for_ends(started)


def test_where_it_is_found(monkeypatch, tmp_path):
    monkeypatch.delenv(command.ENVIRONMENT, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MotionError, match=r"not set up; install Kimodo.*LATENTMAN_KIMODO"):
        command.find_command()
    program = tmp_path / "kimodo_gen"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert command.find_command() == [str(program)]
    environment = tmp_path / "venv" / "bin"
    environment.mkdir(parents=True)
    monkeypatch.setenv(command.ENVIRONMENT, str(tmp_path / "venv"))
    with pytest.raises(MotionError, match="has no kimodo_gen in it"):
        command.find_command()
    (environment / "kimodo_gen").write_text("")
    assert command.find_command() == [str(environment / "kimodo_gen")]
    (environment / "python3").write_text("")
    monkeypatch.setenv(command.ENVIRONMENT, str(environment / "python3"))
    assert command.find_command() == [str(environment / "python3"), "-m", "kimodo.scripts.generate"]
    monkeypatch.setenv(command.ENVIRONMENT, "/nowhere/kimodo_gen")
    with pytest.raises(MotionError, match="no program '/nowhere/kimodo_gen'"):
        command.find_command()


@pytest.mark.parametrize(
    "name, sentence",
    [
        ("kimodo:checkpoint=--help", "no name of a Kimodo checkpoint"),
        ("kimodo:checkpoint=a b;c", "no name of a Kimodo checkpoint"),
        ("kimodo:checkpoint=Kimodo-G1-RP-v1", "moves a robot"),
        ("kimodo:speed=3", "does not know the setting 'speed'; it has checkpoint"),
    ],
)
def test_its_settings_are_checked(name, sentence):
    with pytest.raises(MotionError, match=sentence):
        load(name, CPU)


def test_damaged_files_are_one_sentence(tmp_path):
    local, root = stand_in.perform(30, [], np.random.default_rng(0))
    positions, whole = stand_in.pose(local, root)
    good = {"posed_joints": positions, "global_rot_mats": whole}
    for change, sentence in (
        ({"posed_joints": positions[:20]}, "expected"),
        ({"posed_joints": positions * np.nan}, "not numbers"),
        ({"global_rot_mats": whole * 2}, "rotations that are none"),
        ({"global_rot_mats": None}, "not its joints and rotations"),
    ):
        np.savez(tmp_path / "a.npz", **{k: v for k, v in (good | change).items() if v is not None})
        with pytest.raises(MotionError, match=sentence):
            source.read_motion(tmp_path / "a.npz", 30)
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04nothing")
    with pytest.raises(MotionError, match="cannot be read"):
        source.read_motion(tmp_path / "a.npz", 30)


def test_over_the_wire(kimodo, tmp_path):
    server = RunningServer(tmp_path / "jobs")
    try:
        client = server.connect()
        client.send(
            messages.MakeMotion(ticket="k", request=MotionRequest("a person walks", 1.0, variants=2, model="kimodo", steps=3))
        )
        message, arrays = client.wait_for(messages.MotionMade, "k")
        assert message.fps == 30 and arrays["joints"].shape == (2, 30, 22, 3) and arrays["rotations"].shape == (2, 30, 24, 4)
        client.send(messages.MakeMotion(ticket="h", request=MotionRequest("hang", 1.0, model="kimodo", steps=3)))
        client.wait_for(messages.Progress, "h")
        client.send(messages.Cancel(ticket="h"))
        client.wait_for(messages.Cancelled, "h", 30)
        kept = _kept("path")
        client.send(
            messages.MakeMotion(ticket="p", request=MotionRequest("a person walks", 3.0, model="kimodo", steps=3)),
            {"joints": kept.joints, "parts": kept.parts.astype(np.uint8), "rotations": kept.rotations},
        )
        client.wait_for(messages.MotionMade, "p")
        assert json.loads(kimodo.read_text())["constraints"][0]["type"] == "root2d"
    finally:
        server.close()


REAL = Path(os.environ.get("KIMODO_EXAMPLES", "/nowhere"))


@pytest.mark.skipif(not REAL.exists(), reason="KIMODO_EXAMPLES does not name Kimodo's folder of examples")
def test_its_own_examples():
    for file in REAL.rglob("motion.npz"):
        with np.load(file) as data:
            positions = data["posed_joints"]
        if positions.shape[1] in skeleton.SKELETONS:
            _, rotations = source.read_motion(file, len(positions))
            names = list(skeleton.SKELETONS[positions.shape[1]])
            assert _limb_angles(rotations, positions.astype(float), names).max() < 0.05
