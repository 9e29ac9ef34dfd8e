"""What the built-in model says of words that it does not know, and loops and motions in place."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from latentman.backend.__main__ import main  # noqa: E402
from latentman.backend.motion.features import encode  # noqa: E402
from latentman.backend.motion.registry import load  # noqa: E402
from latentman.blender_addon.motion.layouts import humanml_to_joints  # noqa: E402
from latentman.shared import cycles, messages, vocabulary  # noqa: E402
from latentman.shared.made_motion import MadeMotion  # noqa: E402
from latentman.shared.motion import MotionError  # noqa: E402
from latentman.shared.motion_request import MotionRequest, frame_count, split_sentences  # noqa: E402
from tests.backend.wire import RunningServer  # noqa: E402


def _explain(text: str) -> str:
    return " ".join(vocabulary.explain_readings([vocabulary.read_sentence(part) for part in split_sentences(MotionRequest(text))]))


def test_what_it_has_learnt_from_goes_to_it_as_it_is():
    from tools.motions.library import make_performance

    words = set()
    for seed in range(400):
        for caption in make_performance(seed).captions:
            reading = vocabulary.read_sentence(caption)
            assert (reading.text, reading.unknown, reading.has_action) == (caption, (), True)
            assert not vocabulary.explain_readings([reading])
            words |= {word.strip(".,").lower() for word in caption.split()}
    assert words <= vocabulary.VERBS | vocabulary.OTHERS


@pytest.mark.parametrize(
    "text, read",
    [
        ("A girl was jogging and then she sat down", "A woman jogs and then person sits down"),
        ("someone walked forward", "someone walks forward"),
        ("a person is hopping on the left foot", "a person hops on the left foot"),
        ("He sprints ahead, leaping twice!", "person runs ahead, leaps twice!"),
        ("a man squatted", "a man squats"),
        ("the boy’s arm waves", "the man arm waves"),
        ("walk", "walks"),
        ("a person tossed a ball", "a person throws a ball"),
    ],
)
def test_other_forms_and_synonyms_become_known_words(text, read):
    assert vocabulary.read_sentence(text).text == read and not _explain(text)


@pytest.mark.parametrize(
    "text, parts",
    [
        (
            "juggling fire on a unicycle",
            ("'juggling', 'fire', 'unicycle'", "no action that it knows in the text", "it knows walking, "),
        ),
        ("ein Mann läuft schnell", ("'läuft'", "reads English only")),
        ("un hombre camina rápido", ("'hombre'", "reads English only")),
        ("人が歩く", ("reads English only", "it knows walking")),
        ("человек идёт", ("reads English only",)),
        ("asdf qwer zxcv", ("'asdf', 'qwer', 'zxcv'", "no action")),
        ("a person moonwalks backwards", ("'moonwalks'", "no action")),
        ("a person walks and yodels", ("does not know 'yodels' and leaves that out", "marching, and forward")),
        ("a person walks 4 times", ("'4'",)),
        ("a person slowly", ("finds no action that it knows",)),
        ("a person walks | a person somersaults", ("'somersaults'", "no action that it knows in 'a person'")),
        ("a person runs without walking", ("does not understand 'without'",)),
        ("she doesn't jump", ("does not understand 'doesn't'",)),
        ("a person never bows", ("'never'",)),
        ("a person walks while waving", ("one thing after the other; 'while' has no effect",)),
    ],
)
def test_what_it_does_not_know_is_said_with_what_it_does(text, parts):
    said = _explain(text)
    assert all(part in said for part in parts), said


@pytest.mark.parametrize("text", ["!!!", "... ?", "123", "a person walks | ?!", "—"])
def test_no_words_are_refused(text):
    with pytest.raises(MotionError, match="no words; describe"):
        frame_count(MotionRequest(text))


def test_new_lines_separate_sentences_too():
    assert split_sentences(MotionRequest("a person walks\na person sits\r\n\n| a person bows")) == [
        "a person walks",
        "a person sits",
        "a person bows",
    ]


@pytest.mark.parametrize(
    "text, english",
    [
        ("a person walks forward", True),
        ("walks in a circle", True),
        ("jumping jacks", True),
        ("a naïve dancer at a café", True),
        ("ein Mann geht", False),
        ("un homme marche avec une femme", False),
        ("el hombre camina", False),
        ("人が歩く", False),
        ("человек идёт", False),
    ],
)
def test_other_languages_are_told_from_english(text, english):
    assert vocabulary.seems_english(text) is english


def test_it_is_said_over_the_wire_and_on_the_command_line(tmp_path, capsys):
    server = RunningServer(tmp_path / "jobs")
    try:
        client = server.connect()
        client.send(messages.MakeMotion(ticket="j", request=MotionRequest("juggling fire on a unicycle", 1.0, steps=2)))
        message, _ = client.wait_for(messages.MotionMade, "j")
        assert "'juggling', 'fire', 'unicycle'" in message.warnings[0]
        client.send(messages.MakeMotion(ticket="w", request=MotionRequest("She strolls!", 1.0, steps=2)))
        assert client.wait_for(messages.MotionMade, "w")[0].warnings == ()
    finally:
        server.close()
    arguments = ["motion", "a person yodels", "--seconds", "1", "--steps", "2", "--out", str(tmp_path / "a.npz")]
    assert main(arguments) == 0 and "does not know 'yodels'" in capsys.readouterr().out
    assert main([*arguments, "--json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [e["event"] for e in events if e["event"] != "progress"] == ["warning", "done"] and events[0]["event"] == "progress"
    assert main(["motion", "a", "--model", "/nowhere", "--out", str(tmp_path / "a.npz"), "--json"]) == 2
    assert "no motion model" in json.loads(capsys.readouterr().out)["message"]


def test_long_motions_and_texts_are_said_to_be():
    starter = load("starter", torch.device("cpu"))
    made = starter.make(MotionRequest("a person walks", 11.0, steps=1), None, lambda step, of: None)
    assert "at most 9.8 seconds at a time; this was made in 2 passages" in made.warnings[0]
    made = starter.make(MotionRequest("a person walks forward " * 17 + "then jumps", 2.0, steps=1), None, lambda step, of: None)
    assert "its end was left out ('" in made.warnings[0] and "walks forward" in made.warnings[0]


def _seam(vectors: np.ndarray) -> tuple[float, float, float]:
    """Largest way of a joint, in the body's own axes, between last and first frame; the same from one frame to the next at most;
    and how far at most a joint is from where it was about to go when the motion begins again."""
    pose = vectors[:, 4:67].reshape(len(vectors), 21, 3)
    pose = np.concatenate([vectors[:, None, [3, 3, 3]] * [0, 1, 0], pose], 1)
    step = np.linalg.norm(np.diff(pose, axis=0), axis=-1).max()
    gap = np.linalg.norm(pose[-1] - pose[0], axis=-1).max()
    # the last frame is the first one of the next round
    before, after = pose[-1] - pose[-2], pose[1] - pose[0]
    return gap, step, np.linalg.norm(after - before, axis=-1).max()


@pytest.mark.parametrize("text", ["a person walks forward", "a person waves with the right hand"])
def test_a_loop_ends_as_it_begins_and_goes_on_smoothly(text):
    starter = load("starter", torch.device("cpu"))
    seen = []
    made = starter.make(MotionRequest(text, 3.0, 2, 2, loop=True), None, lambda step, of: seen.append((step, of)))
    plain = starter.make(MotionRequest(text, 3.0, 2, 2), None, lambda step, of: None)
    assert made.vectors.shape == plain.vectors.shape == (2, 60, 263) and seen[-1] == (100, 100)
    for row, other in zip(made.vectors, plain.vectors, strict=True):
        gap, step, jerk = _seam(row)
        assert gap < 1e-6 and jerk < 2 * step and step < 1.5 * _seam(other)[1]
        joints = humanml_to_joints(row)
        turned = cycles.compute_headings(joints)
        assert abs(turned[-1] - turned[0]) < np.radians(3)
        travelled = np.linalg.norm((joints[-1, 0] - joints[0, 0])[[0, 2]])
        assert ("walks" in text) == (travelled > 1.0)
    # it is no freezing: the last second still moves
    walk = made.vectors[0]
    assert np.abs(np.diff(walk[-20:, 4:67], axis=0)).max() > 0.3 * np.abs(np.diff(walk[:40, 4:67], axis=0)).max()


def _walk_in_a_bend(frames: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Joints (1, F, 22, 3) that walk on an arc with swinging legs, and rotations (1, F, 24, 4) that turn with them."""
    from tools.motions.library import make_performance

    joints = next(p.joints for p in (make_performance(seed, action="walk") for seed in range(50)) if len(p.joints) >= frames)[
        :frames
    ]
    angle = np.linspace(0, 0.9, frames)
    bent = cycles.rotate_about_vertical(joints - joints[:, :1] * [1, 0, 1], angle)
    steps = cycles.rotate_about_vertical(np.diff(joints[:, :1] * [1, 0, 1], axis=0), angle[1:])
    joints = (bent + np.concatenate([np.zeros((1, 1, 3)), np.cumsum(steps, 0)]))[None]
    rotations = np.zeros((1, frames, 24, 4), np.float32)
    rotations[..., 0] = 1
    heading = cycles.compute_headings(joints)
    rotations[:, :, 0] = cycles.turn_quaternions(rotations[:, :, 0], heading)
    return joints.astype(np.float32), rotations


def test_joints_and_rotations_are_looped_together():
    joints, rotations = _walk_in_a_bend()
    made, turned = cycles.close_loop(MadeMotion(None, (), joints, rotations, 30.0))
    heading = cycles.compute_headings(joints)[0]
    assert turned == pytest.approx(abs(heading[-1] - heading[0]), abs=1e-5) and turned > 0.5
    new = cycles.compute_headings(made.joints)[0]
    assert abs(new[-1] - new[0]) < 1e-5
    first, last = (made.joints[0, n] - made.joints[0, n, :1] * [1, 0, 1] for n in (0, -1))
    assert np.abs(first - last).max() < 1e-5 and np.abs(made.rotations[0, 0] - made.rotations[0, -1]).max() < 1e-5
    # the root's rotation still faces where the joints do
    w, y = made.rotations[0, :, 0, 0], made.rotations[0, :, 0, 2]
    assert np.abs(np.angle(np.exp(1j * (2 * np.arctan2(y, w) - new)))).max() < 0.05
    way, before = (np.linalg.norm(np.diff(j[0, :, 0, [0, 2]], axis=1), axis=0).sum() for j in (made.joints, joints))
    assert way == pytest.approx(before, rel=1e-4), "the way over the ground is as long as it was"


def test_vectors_and_joints_stay_in_place():
    joints, rotations = _walk_in_a_bend()
    held = cycles.put_in_place(MadeMotion(None, (), joints, rotations, 20.0))
    assert np.abs(held.joints[:, :, 0, [0, 2]] - joints[:, :1, 0, [0, 2]]).max() < 1e-6
    assert np.array_equal(held.joints[..., 1], joints[..., 1]) and held.rotations is rotations
    vectors = encode(joints[0].astype(float), floor=0.0)[None]
    still = cycles.put_in_place(MadeMotion(vectors)).vectors[0]
    found, plain = humanml_to_joints(still), humanml_to_joints(vectors[0])
    assert np.abs(found[:, 0, [0, 2]] - found[:1, 0, [0, 2]]).max() < 1e-9
    assert np.abs((found - found[:, :1]) - (plain - plain[:, :1])).max() < 1e-6

    # the joints' velocities say the same as their positions, as they did before
    def wrong(rows, positions):
        speed = np.linalg.norm(rows[:-1, 193:259].reshape(-1, 22, 3), axis=-1)
        return np.abs(speed - np.linalg.norm(np.diff(positions, axis=0), axis=-1)).max()

    assert wrong(still, found) < wrong(vectors[0], plain) + 2e-3


def test_in_place_and_loop_on_the_command_line(tmp_path):
    out = tmp_path / "a.npz"
    assert main(["motion", "a person walks", "--seconds", "2", "--loop", "--in-place", "--out", str(out)]) == 0
    with np.load(out) as data:
        joints = humanml_to_joints(data["vectors"][0])
    assert np.abs(joints[:, 0, [0, 2]] - joints[0, 0, [0, 2]]).max() < 1e-6 and np.abs(joints[-1] - joints[0]).max() < 0.06
