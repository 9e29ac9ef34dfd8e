"""The animator's work: what arrives survives undo, and whatever happens to the scene while a shot runs ends in a sentence."""

from __future__ import annotations

import bpy
import numpy as np
import pytest

from latentman.blender_addon import connection as connection_module
from latentman.blender_addon import moving, properties, undo_steps
from latentman.blender_addon.client import Event
from latentman.blender_addon.command_line import wait_until
from latentman.blender_addon.connection import Connection
from latentman.blender_addon.operators import generate, motion_text, polls
from latentman.blender_addon.passes import capture, render
from latentman.blender_addon.passes.render_set import get_bodies
from latentman.blender_addon.rigging.characters import add_character
from latentman.blender_addon.tasks.shot import ShotTask
from latentman.shared import messages
from latentman.shared.task import TaskState
from tests import samples

pytestmark = pytest.mark.usefixtures("registered_parts")


class _SilentClient:
    """Takes messages and never answers."""

    waiting_bytes = 0

    def __init__(self):
        self.sent = []

    def send(self, message, arrays=None):
        self.sent.append(message)


@pytest.fixture
def window(connection, shot_scene, character, monkeypatch, tmp_path):
    """The panel's settings with a connected backend behind the buttons; small shots and quick motions."""
    monkeypatch.setenv("LATENTMAN_DATA", str(tmp_path / "data"))
    for module in (motion_text, generate, polls):
        monkeypatch.setattr(module, "connection", connection)
    settings = properties.get_settings(bpy.context)
    settings.character = character
    settings.prompt, settings.width, settings.height, settings.steps = "a knight", 64, 64, 2
    settings.use_scene_range, settings.frame_start, settings.frame_end = False, 1, 2
    settings.motion.text, settings.motion.seconds = "a person bows", 2.0
    bpy.ops.mesh.primitive_cube_add(size=0.1, location=(5, 5, 5))
    bpy.context.object.name = "Prop"
    bpy.ops.ed.undo_push(message="before")
    return settings


def _settings():
    return properties.get_settings(bpy.context)


def _generate(connection):
    assert bpy.ops.latentman.generate() == {"FINISHED"}
    assert wait_until(connection, lambda: connection.shot_task.done, 300) and connection.shot_task.succeeded, (
        connection.shot_task.error
    )


def _make_motion(connection):
    assert bpy.ops.latentman.make_motion() == {"FINISHED"}
    assert wait_until(connection, lambda: connection.motion_task.done, 300) and connection.motion_task.succeeded, (
        connection.motion_task.error
    )


def _move_prop():
    bpy.data.objects["Prop"].location.x += 1.0
    bpy.ops.ed.undo_push(message="Move")


def test_a_result_and_a_motion_have_undo_steps_of_their_own(window, connection):
    actions = len(bpy.data.actions)
    _generate(connection)
    _make_motion(connection)
    _move_prop()
    assert bpy.ops.ed.undo() == {"FINISHED"}
    assert bpy.data.objects["Prop"].location.x == 5.0 and len(_settings().results) == 1
    made = [action for action in bpy.data.actions if action.name.startswith("a person bows")]
    assert len(made) == 1 and _settings().character.animation_data.action == made[0]
    assert bpy.ops.ed.undo() == {"FINISHED"}
    assert len(bpy.data.actions) == actions and len(_settings().results) == 1, "the next one takes the motion alone"
    assert bpy.ops.ed.undo() == {"FINISHED"} and not _settings().results and bpy.data.objects["Prop"].location.x == 5.0
    for _ in range(3):
        assert bpy.ops.ed.redo() == {"FINISHED"}
    assert len(_settings().results) == 1 and bpy.data.objects["Prop"].location.x == 6.0
    assert _settings().character.animation_data.action.name.startswith("a person bows")
    assert connection.motion_task.has_all_actions


def test_all_variants_are_one_undo_step(window, connection):
    window.motion.variants, window.motion.loop = 3, True
    actions, before = len(bpy.data.actions), _settings().character.animation_data.action.name
    bpy.ops.ed.undo_push(message="three takes")
    _make_motion(connection)
    names = {f"a person bows ({n})" for n in (1, 2, 3)}
    assert names <= {action.name for action in bpy.data.actions} and len(bpy.data.actions) == actions + 3
    assert bpy.ops.ed.undo() == {"FINISHED"}
    assert len(bpy.data.actions) == actions and _settings().character.animation_data.action.name == before
    assert bpy.ops.ed.redo() == {"FINISHED"}
    assert names <= {action.name for action in bpy.data.actions} and connection.motion_task.has_all_actions
    assert _settings().character.animation_data.action.name == "a person bows (1)"


def test_a_preview_survives_the_undo_of_what_comes_later(window, connection):
    assert bpy.ops.latentman.preview_frame() == {"FINISHED"}
    assert wait_until(connection, lambda: connection.shot_task.done, 300) and connection.shot_task.succeeded
    _move_prop()
    assert bpy.ops.ed.undo() == {"FINISHED"} and generate.PREVIEW_IMAGE in bpy.data.images


def test_what_arrives_while_a_mesh_is_edited_is_put_back_by_undo(window, connection):
    """The undo steps of Edit Mode do not hold it."""
    assert bpy.ops.latentman.generate() == {"FINISHED"}
    assert wait_until(connection, lambda: connection.shot_task._sent_count == 2, 300)
    bpy.context.view_layer.objects.active = bpy.data.objects["Prop"]
    bpy.ops.object.mode_set(mode="EDIT")
    bpy.ops.ed.undo_push(message="Enter Edit Mode")
    assert wait_until(connection, lambda: connection.shot_task.done, 300) and not connection.shot_task.error
    _make_motion(connection)
    assert len(_settings().results) == 1
    bpy.ops.mesh.select_all(action="SELECT")
    bpy.ops.transform.translate(value=(1, 0, 0))
    bpy.ops.ed.undo_push(message="Move Vertices")
    while bpy.context.mode != "OBJECT":
        assert bpy.ops.ed.undo() == {"FINISHED"}
    assert len(_settings().results) == 1 and connection.motion_task.has_all_actions
    undo_steps.push_waiting()
    assert undo_steps._waiting and bpy.ops.ed.redo.poll(), "what can be redone is not lost"
    assert bpy.ops.ed.redo() == {"FINISHED"} and bpy.context.mode == "EDIT_MESH" and connection.motion_task.has_all_actions
    bpy.ops.object.mode_set(mode="OBJECT")
    _move_prop()
    undo_steps.push_waiting()
    assert not undo_steps._waiting
    _move_prop()
    assert bpy.ops.ed.undo() == {"FINISHED"} and len(_settings().results) == 1


def _start_shot(character, tmp_path, stage, frames=4, scope="CHARACTER"):
    """A shot that is measuring, or has rendered one frame of several that the backend wants."""
    connection, client = Connection(), _SilentClient()
    task = connection.add(
        ShotTask(bpy.context, character, samples.request(frames), client, tmp_path, folder_per_job=False, scope=scope)
    )
    task.step()
    if stage == "rendering":
        while not task._submitted:
            task.step()
        for index in range(frames):
            task.receive(Event(messages.PassesWanted(ticket=task.ticket, index=index), {}))
        task.step()
        assert isinstance(client.sent[-1], messages.SendPasses) and task.busy
    return connection, client, task


def _go_on(client, task):
    """Advance a shot until its passes are sent, or it ends."""
    for _ in range(60):
        if task._submitted and not any(task._requested.values()) and not task._inbox:
            for index in range(len(task.request.frames)):
                if index not in [m.index for m in client.sent if isinstance(m, messages.SendPasses)]:
                    task.receive(Event(messages.PassesWanted(ticket=task.ticket, index=index), {}))
        if not task.busy:
            return
        task.step()


@pytest.fixture
def slow(monkeypatch):
    """Every step renders one frame."""
    monkeypatch.setattr(render, "SLICE_SECONDS", 0.0)


STAGES = pytest.mark.parametrize("stage", ["measuring", "rendering"])


@pytest.mark.parametrize("scope", ["CHARACTER", "SCENE"])
@STAGES
def test_a_shot_goes_on_through_undo_and_redo(slow, shot_scene, character, tmp_path, stage, scope):
    bpy.ops.mesh.primitive_cube_add(size=0.4, location=(0, 1, 0.5))
    bpy.ops.ed.undo_push(message="before")
    shot_scene.frame_end, character.location.z = 11, 0.01
    bpy.ops.ed.undo_push(message="moved")
    connection, client, task = _start_shot(character, tmp_path, stage, scope=scope)
    assert bpy.ops.ed.undo() == {"FINISHED"}
    task.step()
    assert bpy.ops.ed.redo() == {"FINISHED"}
    _go_on(client, task)
    assert not task.done and task._sent_count == 4, task.error
    assert bpy.context.scene.render.engine != "CYCLES" and not bpy.data.materials.get("LatentMan Passes")
    task.cancel()
    assert connection.busy, "the backend has yet to answer"
    task.receive(Event(messages.Cancelled(ticket=task.ticket), {}))
    task.step()
    assert task.cancelled and not connection.busy


def _remove_body(character):
    for body in get_bodies(character):
        bpy.data.objects.remove(body)


def _delete_character(character):
    bpy.ops.object.select_all(action="DESELECT")
    character.select_set(True)
    bpy.ops.object.delete()


def _change_mesh(character):
    mesh = get_bodies(character)[0].data
    mesh.clear_geometry()
    mesh.from_pydata([(0, 0, 0), (1, 0, 0), (0, 1, 0)], [], [(0, 1, 2)])


def _edit_body(character):
    bpy.context.view_layer.objects.active = get_bodies(character)[0]
    bpy.ops.object.mode_set(mode="EDIT")


def _remove_scene(character):
    bpy.data.scenes.new("Other")
    bpy.data.scenes.remove(bpy.context.scene)


CHANGES = {
    "the scene is removed": (_remove_scene, "was closed or deleted"),
    "another file is begun": (lambda character: bpy.ops.wm.read_homefile(use_factory_startup=True), "was closed or deleted"),
    "the body is removed": (_remove_body, "was deleted"),
    "the character is deleted": (_delete_character, "was deleted"),
    "the mesh is replaced": (_change_mesh, "was changed meanwhile"),
    "the body is edited": (_edit_body, "Edit Mode"),
    "the camera is removed": (lambda character: bpy.data.objects.remove(bpy.context.scene.camera), "camera"),
    "the view layer is renamed": (lambda character: setattr(bpy.context.view_layer, "name", "Other"), "view layer"),
}


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
@STAGES
def test_a_change_of_the_scene_ends_a_shot_with_a_sentence(slow, shot_scene, character, tmp_path, stage, change):
    connection, client, task = _start_shot(character, tmp_path, stage)
    make, sentence = CHANGES[change]
    make(character)
    _go_on(client, task)
    if stage == "rendering" and "camera" in change:
        assert not task.done and task._sent_count == 4, "what it saw is known by then"
        return
    assert task.state is TaskState.FAILED and sentence in task.error and "unexpectedly" not in task.error, task.error
    assert not connection.busy and connection.error == task.error
    assert not bpy.data.materials.get("LatentMan Passes")
    if bpy.context.mode == "EDIT_MESH":
        bpy.ops.object.mode_set(mode="OBJECT")


@STAGES
def test_an_object_that_is_renamed_or_another_scene_do_not_stop_a_shot(slow, shot_scene, character, tmp_path, stage):
    """A new object even takes the old name."""
    _, client, task = _start_shot(character, tmp_path, stage)
    character.name, shot_scene.name = "Renamed", "Renamed"
    bpy.data.objects.new("Mannequin", None)
    other = bpy.data.scenes.new("Scene")
    if bpy.context.window is not None:
        bpy.context.window.scene = other
    _go_on(client, task)
    assert not task.done and task._sent_count == 4, task.error
    if bpy.context.window is not None:
        assert bpy.context.window.scene == other
        bpy.context.window.scene = shot_scene


@STAGES
def test_scrubbing_and_unkeyed_poses_stay(slow, shot_scene, character, tmp_path, stage):
    """The renderer gives back the frame that it found, and poses that have no keyframes yet."""
    cube = bpy.data.objects.new("Animated", None)
    shot_scene.collection.objects.link(cube)
    cube.keyframe_insert("location", frame=1)
    _, _, task = _start_shot(character, tmp_path, stage)
    bone = character.pose.bones["left_shoulder" if "left_shoulder" in character.pose.bones else "Left_shoulder"]
    for frame in (9, 3):
        shot_scene.frame_set(frame, subframe=0.25)
        cube.location.x, bone.rotation_quaternion = frame, (0.6, 0.8, 0.0, 0.0)
        task.step()
        assert shot_scene.frame_current == frame and shot_scene.frame_subframe == 0.25
        assert cube.location.x == frame and np.allclose(bone.rotation_quaternion, (0.6, 0.8, 0.0, 0.0))
        bpy.context.view_layer.update()
        assert np.allclose(bone.rotation_quaternion, (0.6, 0.8, 0.0, 0.0)), "nor does a later evaluation take it away"
    shot_scene.frame_set(7)
    task.cancel()
    assert shot_scene.frame_current == 7


def test_a_render_that_was_stopped_is_not_taken_for_the_frame_before(slow, shot_scene, character, tmp_path, monkeypatch):
    """Esc while Blender renders: the file of the frame before is still there."""
    _, _, task = _start_shot(character, tmp_path, "rendering")
    monkeypatch.setattr(capture, "bpy", _WithoutRender())
    task.step()
    assert task.state is TaskState.FAILED and "stopped" in task.error


class _WithoutRender:
    """``bpy`` whose renders do nothing."""

    @property
    def ops(self):
        return self

    @property
    def render(self):
        return self if self._inner else _WithoutRender(inner=True)

    def __init__(self, *, inner=False):
        self._inner = inner

    def __call__(self, **_):
        return {"CANCELLED"}

    def __getattr__(self, name):
        return getattr(bpy, name)


def test_a_result_never_lands_in_another_file(window, connection, tmp_path):
    """Nor in a scene of the same name; it joins its own file when that is opened again."""
    path = str(tmp_path / "own.blend")
    bpy.ops.wm.save_as_mainfile(filepath=path)
    assert bpy.ops.latentman.generate() == {"FINISHED"}
    assert wait_until(connection, lambda: connection.shot_task._sent_count == 2, 300)
    bpy.ops.wm.read_homefile(use_factory_startup=True)
    assert wait_until(connection, lambda: connection.shot_task.done, 300)
    task = connection.shot_task
    assert task.succeeded and str(task.folder) in connection.error and len(list(task.folder.glob("*.png"))) == 2
    assert not any(properties.get_scene_settings(scene).results for scene in bpy.data.scenes)
    bpy.ops.wm.open_mainfile(filepath=path)
    assert len(_settings().results) == 1 and _settings().results[0].job == task.job
    bpy.ops.wm.open_mainfile(filepath=path)
    assert not _settings().results, "once"


def test_a_motion_never_lands_on_another_files_character(window, connection, body_model):
    window.motion.seconds, window.motion.variants = 10.0, 2
    assert bpy.ops.latentman.make_motion() == {"FINISHED"}
    bpy.ops.wm.read_factory_settings(use_empty=True)
    other = add_character(bpy.context, body_model, "Mannequin")
    assert wait_until(connection, lambda: connection.motion_task.done, 300)
    assert connection.motion_task.state is TaskState.FAILED and "make the motion again" in connection.error
    assert other.animation_data is None or other.animation_data.action is None
    assert not connection.busy and not len(bpy.data.actions)


def test_nothing_moves_under_the_users_hand(shot_scene, character, tmp_path, monkeypatch):
    """While the user drags something, no task touches the scene; then it goes on."""
    connection, client, task = _start_shot(character, tmp_path, "measuring")
    monkeypatch.setattr(undo_steps, "is_dragging", lambda: True)
    before = len(client.sent)
    task.receive(Event(messages.Cancelled(ticket=task.ticket), {}))
    connection.process_events()
    assert not task.done and len(client.sent) == before
    monkeypatch.setattr(undo_steps, "is_dragging", lambda: False)
    assert wait_until(connection, lambda: task._submitted or task.done, 60)


def test_handlers_survive_what_they_meet(monkeypatch, caplog, empty_scene):
    for module, name in ((moving, "_follow_moves"), (undo_steps, "_put_back_waiting")):
        monkeypatch.setattr(module, name, lambda: 1 / 0)
    before = len(bpy.app.handlers.undo_post)
    bpy.ops.ed.undo_push(message="a")
    bpy.ops.ed.undo_push(message="b")
    with caplog.at_level("ERROR"):
        assert bpy.ops.ed.undo() == {"FINISHED"}
    assert caplog.text.count("ZeroDivisionError") == 2 and len(bpy.app.handlers.undo_post) == before


def test_everything_of_ours_is_removed_even_when_one_thing_cannot_be():
    from latentman.blender_addon.passes.own_data import own_data

    class _Owner:
        def __init__(self):
            self.removed = []

        def remove(self, block):
            if block == "second":
                raise RuntimeError("in use")
            if block == "third":
                raise ReferenceError("undo has removed it")
            self.removed.append(block)

    owner = _Owner()
    with pytest.raises(RuntimeError, match="in use"), own_data() as data:
        for block in ("first", "second", "third", "fourth"):
            assert data.keep(owner, block) == block
    assert owner.removed == ["fourth", "first"]


def test_a_damaged_process_or_event_does_not_stop_the_timer(monkeypatch):
    class _Broken:
        running, client = False, None

        def poll_endpoint(self):
            raise ValueError("half a line")

    monkeypatch.setattr(connection_module.connection, "process", _Broken())
    for _ in range(3):
        assert connection_module.on_timer() == connection_module.TIMER_SECONDS
    assert "half a line" in connection_module.connection.error
    monkeypatch.setattr(connection_module.connection, "process", None)
    connection_module.connection.error = ""
