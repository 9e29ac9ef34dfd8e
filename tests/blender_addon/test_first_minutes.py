"""Names of shapes, the words of a motion before it is made, its range, errors where the work is, and *Cancel* at once."""

from __future__ import annotations

from types import SimpleNamespace

import bpy
import numpy as np
import pytest

from latentman.blender_addon import panels, properties, results_panel
from latentman.blender_addon.character.shape_names import MANNEQUIN_SHAPES, MANNEQUIN_VERTICES, name_shape
from latentman.blender_addon.connection import Connection, connection
from latentman.blender_addon.error_places import ErrorBoard, Place
from latentman.blender_addon.motion_words import add_sentence, explain_words, list_new
from latentman.blender_addon.passes.render_set import get_bodies
from latentman.blender_addon.scene_range import find_other_range
from latentman.blender_addon.tasks.task import Task
from latentman.shared import messages, vocabulary
from latentman.shared.task import TaskState

pytestmark = pytest.mark.usefixtures("registered_operators")


class Drawn:
    """Stands in for a layout and remembers what is drawn."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.operators: list[str] = []
        self.menus: list[str] = []

    def label(self, text="", **_) -> None:
        self.texts.append(text)

    def prop(self, owner, name, text=None, **_) -> None:
        self.texts.append(str(text))

    def operator(self, name, text="", **_):
        self.operators.append(name)
        self.texts.append(text)
        return SimpleNamespace()

    def menu(self, name, **_) -> None:
        self.menus.append(name)

    def panel_prop(self, *_):
        return self, None

    def __getattr__(self, _):
        return lambda *_, **__: self


def _draw(panel) -> Drawn:
    drawn = Drawn()
    context = SimpleNamespace(
        scene=bpy.context.scene,
        screen=None,
        active_object=None,
        evaluated_depsgraph_get=bpy.context.evaluated_depsgraph_get,
        region=SimpleNamespace(width=2000),
        preferences=SimpleNamespace(system=SimpleNamespace(ui_scale=1.0)),
    )
    panel.draw(SimpleNamespace(layout=drawn), context)
    return drawn


@pytest.fixture
def settings(character):
    """The scene's settings with the mannequin as the character."""
    settings = properties.get_settings(bpy.context)
    settings.character = character
    yield settings
    connection.errors.dismiss()


# -- shapes


def _measure(model, points):
    """What the names claim: metres, and litres for the weight."""
    joints, bones = model.regress_joints(points), model.weights.argmax(1)
    a, b, c = (points[model.faces[:, n]] for n in range(3))
    spread = {name: np.ptp(points[np.isin(bones, numbers)], 0) for name, numbers in
              {"trunk": [3], "pelvis": [0], "arm": [18], "chest": [6, 9], "head": [15]}.items()}  # fmt: skip
    return {
        "Height": np.ptp(points[:, 1]),
        "Weight": np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6 * spread["trunk"][0],
        "Legs": joints[1, 1] - joints[7, 1],
        "Torso": joints[12, 1] - joints[0, 1],
        "Arms": joints[16, 0] - joints[20, 0],
        "Shoulders": joints[16, 0] - joints[17, 0],
        "Hips": joints[1, 0] - joints[2, 0],
        "Muscles": spread["arm"][1] * spread["chest"][2],
        "Belly": spread["trunk"][2],
        "Head": spread["head"].prod(),
    }


@pytest.mark.parametrize("number", range(len(MANNEQUIN_SHAPES)))
def test_a_shape_changes_most_what_its_name_says(body_model, number):
    """Of all the sliders but the one for the whole body it is the one that changes this measure most."""
    name = MANNEQUIN_SHAPES[number][0]
    before = _measure(body_model, body_model.v_template)[name]
    changes = [
        abs(_measure(body_model, body_model.v_template + body_model.shapedirs[..., n])[name] / before - 1) for n in range(10)
    ]
    assert changes[number] > 0.02 and (number == 0 or changes[number] == max(changes[1:]))
    assert name_shape(f"Shape{number:03d}", len(body_model.v_template)) == name


@pytest.mark.parametrize(
    ("key", "vertices"), [("Shape000", 6890), ("Shape010", MANNEQUIN_VERTICES), ("Shape", MANNEQUIN_VERTICES), ("ShapeX", 1)]
)
def test_what_is_not_known_keeps_its_number(key, vertices):
    assert name_shape(key, vertices) == key


def test_the_panel_shows_the_names(settings):
    texts = _draw(panels.RigPanel).texts
    assert [text for text in texts if text in dict(MANNEQUIN_SHAPES)] == [name for name, _ in MANNEQUIN_SHAPES]


# -- words


def test_every_sentence_of_the_menu_is_known_and_every_action_has_some():
    menu = Drawn()
    panels.ActionMenu.draw(SimpleNamespace(layout=menu), bpy.context)
    sentences = [one for group in vocabulary.SENTENCES.values() for one in group]
    assert len(menu.operators) == len(sentences) == len(set(sentences))
    for sentence in sentences:
        assert vocabulary.read_sentence(sentence).text == sentence and not vocabulary.explain_text(sentence)
    # what is listed for people is what the menu has
    for verb in vocabulary.ACTIONS.replace(" and ", ", ").split(", "):
        assert any(sentence.split()[2][:3] == verb[:3] for sentence in sentences), verb


@pytest.mark.parametrize("text", ["", "a person w", "a person walks | a person b", "x |", "A dog r", "jumps, then cl", "42 ", "ü"])
def test_completions_begin_with_what_is_typed_and_are_known(text):
    for found in vocabulary.complete_text(text):
        assert found.startswith(text) and found != ""
        new = found[len(text.rpartition("|")[0]) :].lstrip("| ")
        word = new.split()[-1].lower()
        assert word in vocabulary.VERBS | vocabulary.OTHERS
    assert bool(vocabulary.complete_text(text)) == (text not in ("42 ", "ü"))


def test_unknown_words_are_said_before_anything_is_made(settings):
    settings.motion.text = "a person juggles"
    drawn = _draw(panels.MotionPanel)
    assert any("does not know 'juggles'" in text for text in drawn.texts) and "LATENTMAN_MT_actions" in drawn.menus
    settings.motion.text = "a person walks"
    assert not any("does not know" in text for text in _draw(panels.MotionPanel).texts)
    settings.motion.text, settings.motion.model = "a person juggles", "/some/mdm"
    drawn = _draw(panels.MotionPanel)
    assert not any("does not know" in text for text in drawn.texts) and not drawn.menus
    assert explain_words("") == () and list_new(["a", "b"], ["a"]) == ["b"]


def test_an_action_is_chosen_or_added(settings):
    assert bpy.ops.latentman.choose_action(sentence="a person bows") == {"FINISHED"} and settings.motion.text == "a person bows"
    bpy.ops.latentman.choose_action(sentence="a person claps", add=True)
    assert settings.motion.text == "a person bows | a person claps"
    assert add_sentence("", "x") == "x" == add_sentence(" | ", "x") and add_sentence("a |", "x") == "a | x"


def test_the_scene_takes_the_motions_range_on_request(settings, character, empty_scene, capfd):
    assert find_other_range(empty_scene, character) is None and "use_motion_range" not in str(_draw(panels.MotionPanel).operators)
    bpy.ops.latentman.use_clip()
    span = tuple(int(one) for one in character.animation_data.action.frame_range)
    other = bpy.data.objects.new("Ball", None)
    empty_scene.collection.objects.link(other)
    for frame in (-5, 400):
        other.keyframe_insert("location", frame=frame)
    empty_scene.frame_start, empty_scene.frame_end = 1, 400
    assert any(f"({span[0]} to {span[1]})" in text for text in _draw(panels.MotionPanel).texts)
    assert bpy.ops.latentman.use_motion_range() == {"FINISHED"}
    assert (empty_scene.frame_start, empty_scene.frame_end) == span and "animated from -5 to 400" in capfd.readouterr().out
    with pytest.raises(RuntimeError, match="has the motion's range already"):
        bpy.ops.latentman.use_motion_range()


# -- errors


def test_one_sentence_for_each_place():
    board = ErrorBoard()
    assert board.last == "" == board.find(Place.SHOT)
    board.show(Place.SHOT, "no camera")
    board.show(Place.MOTION, "no words")
    assert board.find(Place.SHOT) == "no camera" and board.last == "no words"
    board.show(Place.SHOT, "no frames")
    board.dismiss(Place.SHOT)
    assert not board.find(Place.SHOT) and board.last == "no words"
    # the backend's end is said once
    board.show(Place.SHOT, "it stopped")
    board.show(Place.BACKEND, "it stopped")
    assert board.find(Place.BACKEND) == "it stopped" and not board.find(Place.SHOT)
    board.dismiss()
    assert board.last == ""


def test_a_sentence_goes_when_what_it_says_is_mended():
    board, broken = ErrorBoard(), [True]
    board.show(Place.SHOT, "no camera", lambda: broken[0])
    board.show(Place.MOTION, "no words")
    assert not board.drop_mended() and board.find(Place.SHOT)
    broken[0] = False
    assert board.drop_mended() and not board.find(Place.SHOT) and board.find(Place.MOTION) == "no words"
    # a later sentence without a check does not inherit the one before
    board.show(Place.SHOT, "no camera", lambda: False)
    board.show(Place.SHOT, "no frames")
    assert not board.drop_mended() and board.find(Place.SHOT) == "no frames"


@pytest.mark.parametrize("fault", ["camera", "prompt", "edit mode", "character"])
def test_the_shots_error_goes_when_the_scene_is_mended(shot_scene, settings, character, monkeypatch, fault):
    from latentman.blender_addon.operators import generate, polls
    from latentman.shared.model_profile import ModelProfile

    own = Connection()
    own.get_client = _Client
    own.state, own.redraw = type(own.state).CONNECTED, lambda **_: None
    own.ask_profile = lambda *_: ModelProfile()
    for module in (generate, polls):
        monkeypatch.setattr(module, "connection", own)
    settings.width = settings.height = 64
    camera, (body,) = shot_scene.camera, get_bodies(character)
    bpy.context.view_layer.objects.active = body
    if fault == "camera":
        shot_scene.camera = None
    elif fault == "prompt":
        settings.prompt = " "
    elif fault == "edit mode":
        bpy.ops.object.mode_set(mode="EDIT")
    else:
        settings.character = bpy.data.objects.new("Bones", bpy.data.armatures.new("Bones"))
    with pytest.raises(RuntimeError):
        bpy.ops.latentman.generate()
    sentence = own.errors.find(Place.SHOT)
    assert sentence and not own.errors.drop_mended() and own.errors.find(Place.SHOT) == sentence
    if fault == "edit mode":
        bpy.ops.object.mode_set(mode="OBJECT")
    shot_scene.camera, settings.prompt, settings.character = camera, "a knight", character
    own._drop_mended_errors()
    assert not own.errors.find(Place.SHOT)


@pytest.mark.parametrize(
    ("place", "panel"),
    [(Place.MOTION, panels.MotionPanel), (Place.SHOT, panels.GeneratePanel), (Place.RESULT, results_panel.ResultPanel)],
)
def test_an_error_stands_in_its_box_until_it_is_dismissed(settings, place, panel):
    connection.errors.show(place, "It went wrong; do better.")
    for other in (panels.MotionPanel, panels.GeneratePanel, results_panel.ResultPanel):
        drawn = _draw(other)
        assert ("It went wrong; do better." in drawn.texts) == (other is panel) == ("latentman.dismiss_error" in drawn.operators)
    assert bpy.ops.latentman.dismiss_error(place=place.name) == {"FINISHED"}
    assert "It went wrong; do better." not in _draw(panel).texts


class _Client:
    def __init__(self) -> None:
        self.sent: list[object] = []

    def send(self, message, arrays=None) -> None:
        self.sent.append(message)


class _Work(Task):
    def __init__(self) -> None:
        super().__init__(_Client(), "working")
        self._submitted = True


def test_the_next_try_takes_the_error_away_and_a_cancelled_one_says_so_at_once():
    own, redrawn = Connection(), []
    own.redraw = lambda **_: redrawn.append([task.stage for task in own._tasks.values()])
    task = own.add(_Work())
    task.fail("It broke.")
    own.errors.show(Place.MOTION, "Another thing.")
    assert own.errors.find(Place.BACKEND) == "It broke." and own.error == "Another thing."
    task = own.add(_Work())
    assert not own.errors.find(Place.BACKEND) and own.errors.find(Place.MOTION)
    own.cancel_tasks()
    assert task.state is TaskState.CANCELLING and redrawn[-1] == ["cancelling"] and own.find_working_task() is task
    assert isinstance(task._client.sent[-1], messages.Cancel)
    own.cancel_tasks()
    assert len(task._client.sent) == 1
