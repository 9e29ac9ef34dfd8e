"""The connection and its tasks: every state, and unexpected exceptions."""

from __future__ import annotations

import logging

import bpy
import pytest

from latentman.blender_addon import connection as connection_module
from latentman.blender_addon.client import ConnectionLost, Event
from latentman.blender_addon.command_line import wait_until
from latentman.blender_addon.connection import TIMER_SECONDS, Connection, ConnectionState, on_timer
from latentman.blender_addon.passes.render import PassRender
from latentman.blender_addon.tasks.shot import ShotTask
from latentman.blender_addon.tasks.task import Task
from latentman.shared import logs, messages
from latentman.shared.task import TaskState
from tests import samples


class _SilentClient:
    """Takes messages and never answers."""

    waiting_bytes = 0

    def __init__(self):
        self.sent = []

    def send(self, message, arrays=None):
        self.sent.append(message)


class _Work(Task):
    def __init__(self, client, error=None):
        super().__init__(client, "working")
        self._error, self._submitted = error, True

    @property
    def busy(self):
        return not self.done

    def _step(self):
        super()._step()
        if self._error:
            raise self._error


def _event(message):
    return Event(message, {})


def test_a_shot_is_cancelled_before_the_backend_hears_of_it(connection, shot_scene, character, tmp_path):
    shot_scene.frame_set(5)
    task = connection.add(ShotTask(bpy.context, character, samples.request(4), connection.client, tmp_path, folder_per_job=False))
    assert connection.busy and task.state is TaskState.PREPARING
    task.cancel()
    assert task.cancelled and not connection.busy and shot_scene.frame_current == 5


def test_a_shot_is_cancelled_between_its_submission_and_its_acceptance(connection, shared_backend, shot_scene, character, tmp_path):
    """Nothing is generated afterwards, and the scene is as it was."""
    shot_scene.frame_set(5)
    task = connection.add(ShotTask(bpy.context, character, samples.request(4), connection.client, tmp_path, folder_per_job=False))
    assert wait_until(connection, lambda: task._submitted, 60) and not task.job
    task.cancel()
    assert task.state is TaskState.CANCELLING and task.stage == "cancelling"
    assert wait_until(connection, lambda: task.done, 30) and task.cancelled and not task.error
    assert shot_scene.frame_current == 5 and not connection.busy
    assert [path for path in shared_backend.jobs.glob("*") if path.name not in ("incoming", "in_use")] == []
    after = connection.add(
        ShotTask(bpy.context, character, samples.request(1), connection.client, tmp_path / "b", folder_per_job=False)
    )
    assert wait_until(connection, lambda: after.done, 120) and after.succeeded, after.error


def test_done_callbacks_are_called_once_whatever_they_do(caplog):
    received = []

    def fail(task):
        raise ZeroDivisionError("a callback")

    task = _Work(_SilentClient())
    for callback in (fail, received.append):
        task.add_done_callback(callback)
    with caplog.at_level(logging.ERROR):
        task.receive(_event(messages.Cancelled(ticket=task.ticket)))
        task.step()
    assert task.cancelled and received == [task] and "a callback" in task.error and "a callback failed" in caplog.text
    task.fail("too late")
    assert task.cancelled and received == [task]
    task.add_done_callback(received.append)
    assert received == [task, task], "a callback that is added late is called at once"


@pytest.mark.parametrize("error", [ZeroDivisionError("nobody foresaw it"), OSError("the disk"), KeyError("x")])
def test_an_exception_ends_a_task_with_a_sentence_and_its_traceback_goes_to_the_log(caplog, error):
    client = _SilentClient()
    task = _Work(client, error)
    with caplog.at_level(logging.ERROR):
        task.step()
    assert task.state is TaskState.FAILED and str(error).strip("'") in task.error
    assert any(record.exc_info for record in caplog.records)
    assert [type(message) for message in client.sent] == [messages.Cancel], "the backend is told to stop"


def test_the_timer_outlives_every_exception(monkeypatch, caplog):
    def explode():
        raise ZeroDivisionError("in the timer")

    monkeypatch.setattr(connection_module.connection, "process_events", explode)
    with caplog.at_level(logging.ERROR):
        assert on_timer() == TIMER_SECONDS
    assert "in the timer" in connection_module.connection.error and any(record.exc_info for record in caplog.records)
    connection_module.connection.error = ""


def test_one_task_that_fails_leaves_the_others_at_work(monkeypatch):
    connection = Connection()
    broken, whole = _Work(_SilentClient(), ZeroDivisionError()), _Work(_SilentClient())
    connection.add(broken)
    connection.add(whole)
    connection.process_events()
    assert broken.state is TaskState.FAILED and not whole.done and connection.error == broken.error


def test_a_lost_backend_ends_every_task_with_the_reason(connection):
    tasks = [connection.add(_Work(connection.client)) for _ in range(2)]
    connection.client.events.put(ConnectionLost("The backend stopped."))
    connection.process_events()
    assert all(task.state is TaskState.FAILED and task.error == "The backend stopped." for task in tasks)
    assert connection.state is ConnectionState.OFFLINE and connection.error == "The backend stopped."


def test_messages_reach_the_task_whose_ticket_they_carry(connection):
    first, second = (connection.add(_Work(connection.client)) for _ in range(2))
    progress = messages.Progress(ticket=second.ticket, state=TaskState.RUNNING, stage="denoising", step=1, steps=4)
    for message in (progress, messages.Cancelled(ticket="nobody's"), messages.Failed(code="x", message="No.", ticket=first.ticket)):
        connection.client.events.put(_event(message))
    connection.process_events()
    assert second.stage == "denoising" and second.fraction == 0.25 and second.state is TaskState.RUNNING
    assert first.state is TaskState.FAILED and first.error == "No." and connection.error == "No."
    connection.client.events.put(_event(messages.Failed(code="malformed", message="It makes no sense.")))
    connection.process_events()
    assert connection.error == "It makes no sense." and not second.done


def test_no_progress_ends_a_task_without_anyone_knowing(connection):
    for state in TaskState:
        task = connection.add(_Work(connection.client))
        progress = messages.Progress(ticket=task.ticket, state=state, stage="denoising", step=1, steps=4)
        connection.client.events.put(_event(progress))
        connection.process_events()
        assert not task.done and connection.busy and task.stage == "denoising", state
        task.fail("It took too long.")
        assert not connection.busy and connection.error == "It took too long."


@pytest.mark.parametrize("reason", ["", " \n"])
def test_an_end_without_a_reason_says_so(connection, reason):
    task = connection.add(_Work(connection.client))
    connection.client.events.put(_event(messages.Failed(code="x", message=reason, ticket=task.ticket)))
    connection.process_events()
    assert task.state is TaskState.FAILED and "no reason" in task.error and connection.error == task.error


def test_what_nobody_foresaw_names_the_log(tmp_path, monkeypatch):
    monkeypatch.setenv("LATENTMAN_LOGS", str(tmp_path))
    path = logs.start(logs.BLENDER)
    try:
        task = _Work(_SilentClient(), ZeroDivisionError("no frames"))
        task.step()
    finally:
        logs.stop()
    assert task.error.endswith(str(path)) and "ZeroDivisionError: no frames" in path.read_text()


def test_a_scene_that_cannot_be_restored_does_not_block_the_panel(caplog):
    class _Stuck(_Work):
        def _release(self):
            raise ReferenceError("the scene is gone")

    connection = Connection()
    task, received = connection.add(_Stuck(_SilentClient())), []
    task.add_done_callback(received.append)
    with caplog.at_level(logging.ERROR):
        task.fail("It broke.")
    assert received == [task] and not connection.busy and connection.error == "It broke." and "could not be restored" in caplog.text


def test_passes_that_are_asked_for_after_a_cancel_are_not_rendered(connection, shot_scene, character, tmp_path):
    task = connection.add(ShotTask(bpy.context, character, samples.request(4), connection.client, tmp_path, folder_per_job=False))
    assert wait_until(connection, lambda: task._submitted, 60)
    task.cancel()
    task.receive(_event(messages.PassesWanted(ticket=task.ticket, index=0)))
    task.step()
    assert not task.busy or task._inbox, "nothing is left to spin on"


def test_objects_keep_their_numbers_whichever_frame_is_rendered_first(shot_scene, character):
    """Two cubes, each seen in one frame only."""
    for n, x in enumerate((0.0, 3.0)):
        bpy.ops.mesh.primitive_cube_add(size=0.4, location=(x, -1.5, 0.5))
        bpy.context.object.name = f"Cube {n}"
        for frame in (1, 2):
            bpy.context.object.hide_render = frame != n + 1
            bpy.context.object.keyframe_insert("hide_render", frame=frame)
        bpy.context.object.hide_render = False
    orders = []
    for order in ([0, 1], [1, 0]):
        small = PassRender(bpy.context, character, (1, 2), 64, 64, scope="SCENE")
        list(small.measure())
        waiting = list(order)
        found = {}
        while waiting:
            for frame in small.render_slice(lambda waiting=waiting: waiting.pop(0) if waiting else None):
                found[frame.index] = {(entry.index, entry.name) for entry in frame.entry.surfaces}
        small.close()
        orders.append(found)
    assert orders[0] == orders[1] and all(orders[0].values())
