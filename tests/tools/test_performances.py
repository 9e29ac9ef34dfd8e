"""The procedural performer: bodies that hold together, feet that stand, sentences that say what is done; and the starter motion
model that learnt from it."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from latentman.backend.motion.registry import STARTER, load  # noqa: E402
from latentman.blender_addon.motion.foot_contacts import compute_skating_ratio  # noqa: E402
from latentman.blender_addon.motion.layouts import humanml_to_joints  # noqa: E402
from latentman.shared.motion_request import MotionRequest  # noqa: E402
from latentman.shared.skeleton import HUMANML_BONE_LENGTHS, SMPL_PARENTS  # noqa: E402
from tools.motions.actions import MOVE_CHOICES, SIDES, is_held_out, list_moves  # noqa: E402
from tools.motions.library import make_performance  # noqa: E402
from tools.motions.sentences import COUNT_PHRASES, PACE_PHRASES, write_clause  # noqa: E402
from tools.starter_motion import classifier  # noqa: E402


@pytest.mark.parametrize("action", list(MOVE_CHOICES))
def test_every_action_is_a_living_body(action):
    for seed in range(3):
        joints = make_performance(seed, action=action).joints
        assert joints.shape[1:] == (22, 3) and 20 <= len(joints) <= 197 and np.isfinite(joints).all()
        bones = np.linalg.norm(joints[:, 1:] - joints[:, SMPL_PARENTS[1:22]], axis=-1)
        assert np.abs(bones - HUMANML_BONE_LENGTHS[1:]).max() < 2e-3, "bones keep their lengths"
        assert joints[..., 1].min() > -0.005 and compute_skating_ratio(joints, 20.0) < 0.35
        assert np.linalg.norm(np.diff(joints, axis=0), axis=-1).max() < 0.75, "nothing jumps"


def _ends(action, direction, **more):
    out = []
    for seed in range(400):
        p = make_performance(seed, action=action)
        move = p.moves[0]
        if move.direction == direction and all(getattr(move, k) == v for k, v in more.items()):
            out.append(p.joints[-1, 0] - p.joints[0, 0])
    assert out
    return np.mean(out, 0)


@pytest.mark.slow
def test_directions_and_sides_are_what_they_say():
    assert _ends("walk", "forward")[2] > 1 and _ends("walk", "backward")[2] < -0.8
    assert _ends("walk", "left")[0] > 0.4 and _ends("walk", "right")[0] < -0.4
    for n, side in enumerate(SIDES):
        hands, feet = [], []
        for seed in range(60):
            for action, joint, into in (("wave", 20, hands), ("kick", 10, feet)):
                p = make_performance(seed, action=action)
                if p.moves[0].side == side:
                    into.append(p.joints[:, joint + n, 1].max() - p.joints[:, joint + 1 - n, 1].max())
        assert min(hands) > 0.3 and min(feet) > 0.2, side


def test_more_blows_are_more_blows():
    for count in (1, 2, 3):
        found = [
            p.joints
            for p in (make_performance(seed, action="kick") for seed in range(120))
            if p.moves[0].count == count and p.moves[0].side == "left"
        ]
        for joints in found[:4]:
            high = joints[:, 10, 1] > 0.35
            assert (np.diff(high.astype(int)) == 1).sum() == count


def test_sentences_say_what_is_done():
    generator = np.random.default_rng(0)
    for action in MOVE_CHOICES:
        for move in list_moves(action):
            text = write_clause(move, generator)
            assert not move.side or move.side in text
            assert move.pace == "" or any(word in text for word in PACE_PHRASES[move.pace])
            assert move.count not in COUNT_PHRASES or any(word in text for word in COUNT_PHRASES[move.count])
            assert move.direction != "backward" or "backward" in text


def test_held_out_moves_are_never_trained_on():
    seen = {make_performance(seed).moves for seed in range(60)}
    assert not any(is_held_out(moves) for moves in seen)
    assert all(is_held_out(make_performance(seed, from_held_out=True, action="walk").moves) for seed in range(3))
    with pytest.raises(ValueError, match="held out"):
        make_performance(0, from_held_out=True, action="clap" if not any(is_held_out((m,)) for m in list_moves("clap")) else "run")


@pytest.fixture(scope="module")
def starter():
    """The shipped motion model."""
    return load("starter", torch.device("cpu"))


def test_the_starter_is_small_and_follows_words(starter):
    assert sum(f.stat().st_size for f in STARTER.rglob("*") if f.is_file()) < 8e6
    made = {
        text: humanml_to_joints(starter.make(MotionRequest(text, 3.0, 2), None, lambda step, of: None).vectors[0])
        for text in ("a person bows", "a person squats", "a person raises nothing and qqq zzz")
    }
    assert all(joints.shape == (60, 22, 3) and np.isfinite(joints).all() for joints in made.values())
    assert made["a person squats"][:, 0, 1].min() < made["a person bows"][:, 0, 1].min() - 0.1, "who squats goes down"
    lean = {text: (joints[:, 15, 2] - joints[:, 0, 2]).max() for text, joints in made.items()}
    assert lean["a person bows"] > 0.3, "who bows leans forward"


@pytest.mark.slow
def test_the_classifier_tells_performances_apart():
    vectors, moves = classifier.make_examples(34, 5)
    judge = classifier.train(34, 40, 5)
    right = classifier.score(judge, vectors, moves)
    assert (
        right.shape == (34, 3)
        and right[:, 0].mean() > 0.3
        and np.isnan(right[moves.index(next(m for m in moves if not m.side)), 2])
    )
    assert classifier.score(judge, vectors[::-1], moves)[:, 0].mean() < right[:, 0].mean()


@pytest.mark.slow
def test_motion_sources_are_compared(tmp_path, capsys):
    import json

    from latentman.backend.__main__ import main
    from latentman.blender_addon.motion.readers import BUNDLED, read
    from latentman.blender_addon.reference_shots.motion_metrics import (
        compute_bone_deviation,
        compute_jitter,
        compute_penetration,
    )

    t = np.arange(60) / 20
    line = np.zeros((60, 22, 3)) + np.arange(22)[None, :, None] * 0.1
    line[..., 0] += (t**3)[:, None]
    assert compute_jitter(line) == pytest.approx(6.0, rel=1e-6) and compute_bone_deviation(line) == pytest.approx(0, abs=1e-9)
    line[..., 1] += 0.008 - line[..., 1].min()
    assert compute_penetration(line) == pytest.approx(10.0)
    out, other = tmp_path / "motions.json", tmp_path / "other.npy"
    np.save(other, read(BUNDLED).get_motion(3).joints)
    assert (
        main(
            [
                "evaluate",
                "--suite",
                "motion",
                "--frames",
                "2",
                "--steps",
                "1",
                "--variants",
                "cross_frame",
                "--motion",
                str(other),
                "--out",
                str(tmp_path / "runs"),
                "--json",
                str(out),
            ]
        )
        == 0
    )
    found = json.loads(out.read_text())
    assert set(found["motions"]) == set(found["hmse"]) == {"performance", "starter", "other"}
    assert all(row["bone_deviation_mm"] < 40 for row in found["motions"].values()) and found["variants"]["cross_frame"]["hmse"] > 0
    assert main(["evaluate", "--suite", "motion", "--motion", str(tmp_path / "absent.npz"), "--out", str(tmp_path / "runs")]) == 2
    assert "absent.npz" in capsys.readouterr().err
