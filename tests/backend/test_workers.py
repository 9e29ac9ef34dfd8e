"""Shots that several workers make: the same frames as by one process, whatever happens to the workers."""

from __future__ import annotations

import json
import threading
from contextlib import closing
from dataclasses import replace

import msgspec
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from latentman.backend.jobs.look_making import make_look  # noqa: E402
from latentman.backend.jobs.runner import ModelCache, RunCallbacks, run  # noqa: E402
from latentman.backend.jobs.store import JobStore  # noqa: E402
from latentman.backend.tasks.resources import make_resources  # noqa: E402
from latentman.backend.tasks.turns import FairTurns  # noqa: E402
from latentman.backend.video.memory import BatchBudget  # noqa: E402
from latentman.backend.video.run_context import Interrupted  # noqa: E402
from latentman.backend.workers import shot  # noqa: E402
from latentman.backend.workers.pool import WorkerLost, WorkerPool  # noqa: E402
from latentman.backend.workers.queue import MOST_TRIES, UnitQueue  # noqa: E402
from latentman.backend.workers.shot import LOST, make_look_pooled, run_pooled  # noqa: E402
from latentman.backend.workers.units import FrameMade, FrameUnit, KeyUnit, LookMade, Moved, Saved  # noqa: E402
from latentman.shared import messages  # noqa: E402
from latentman.shared.passes import FramePasses  # noqa: E402
from latentman.shared.schedule import PromptKey, Schedule  # noqa: E402
from latentman.shared.shot import Fusion, Keyframes, Method, ShotError  # noqa: E402
from tests import samples  # noqa: E402
from tests.backend.local_workers import LocalWorker  # noqa: E402
from tests.backend.wire import RunningServer  # noqa: E402

FRAMES = 9
#: two key frames at most, and batches that a shot of this length has several of
METHOD = Method(
    shared_noise=True,
    cross_frame_attention=True,
    background=None,
    fusion=Fusion(full_steps=1),
    keyframes=Keyframes(count=2, strength=0.5),
    matching="surface",
)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    """Three frames go through the networks at a time."""
    monkeypatch.setattr("latentman.backend.video.memory.MAX_BATCH_FRAMES", 3)
    assert BatchBudget.within(99).frames == 3


@pytest.fixture(scope="module")
def passes():
    return samples.passes(FRAMES, shift=1)


@pytest.fixture(scope="module")
def request_(tiny):
    return samples.request(FRAMES, model=tiny, method=METHOD)


@pytest.fixture(scope="module")
def alone(tiny, request_, passes, tmp_path_factory):
    """The shot's frames by one process, and its report."""
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr("latentman.backend.video.memory.MAX_BATCH_FRAMES", 3)
    job = JobStore(tmp_path_factory.mktemp("alone")).open(request_, passes)
    report = run(job, ModelCache(), RunCallbacks())
    monkeypatch.undo()
    return np.stack(list(job.images())), report


def make_pool(*workers, more=LocalWorker) -> WorkerPool:
    return WorkerPool(workers or (LocalWorker(), LocalWorker()), more)


def make(store, request, passes, pool, callbacks=None):
    job = store.open(request, passes)
    return job, run_pooled(job, pool, callbacks or RunCallbacks())


def read(job):
    return np.stack(list(job.images()))


def test_two_workers_make_the_frames_of_one(tmp_path, alone, request_, passes):
    told, stages = [], []
    workers = LocalWorker(), LocalWorker()
    with closing(make_pool(*workers)) as pool:
        callbacks = RunCallbacks(lambda *moved: stages.append(moved), told.append)
        job, report = make(JobStore(tmp_path), request_, passes, pool, callbacks)
    assert np.array_equal(read(job), alone[0])
    assert sorted(told) == list(range(FRAMES)), "each frame is told of once"
    units = [unit for worker in workers for unit in worker.units]
    assert sum(isinstance(unit, KeyUnit) for unit in units) == 1
    rows = sorted(row for unit in units if isinstance(unit, FrameUnit) for row in unit.rows)
    assert len(rows) == len(set(rows)) == FRAMES - len(job.look().keyframes)
    assert ("frames", len(rows), len(rows)) in stages
    for name in ("settings", "method", "consistency", "frames", "textures", "job"):
        assert report[name] == alone[1][name], name
    assert {"denoising", "decoding", "measuring"} <= set(report["seconds"])
    assert not (job.folder / "latents.npz").exists() and job.report() == json.loads(json.dumps(report))


@pytest.mark.parametrize("preset", ["per_frame", "cross_frame"])
def test_methods_without_key_frames_are_made_by_one_worker(tmp_path, tiny, passes, preset):
    request = samples.request(4, model=tiny, preset=preset)
    first = passes.select(range(4))
    one = JobStore(tmp_path / "one").open(request, first)
    run(one, ModelCache(), RunCallbacks())
    with closing(make_pool()) as pool:
        job, _ = make(JobStore(tmp_path / "two"), request, first, pool)
    assert np.array_equal(read(job), read(one))


def test_prompts_that_change_are_made_under_each_look(tmp_path, request_, passes):
    schedule = Schedule(prompts=(PromptKey(1, "a woman in a green dress"), PromptKey(6, "a man in a blue coat")), prompt_blend=2)
    request = msgspec.structs.replace(request_, schedule=schedule)
    one = JobStore(tmp_path / "one").open(request, passes)
    run(one, ModelCache(), RunCallbacks())
    with closing(make_pool()) as pool:
        job, _ = make(JobStore(tmp_path / "two"), request, passes, pool)
    assert np.array_equal(read(job), read(one))


def test_a_kept_look_is_kept_and_only_what_changed_is_made(tmp_path, request_, passes):
    arrays = {name: array.copy() for name, array in passes.arrays().items()}
    for name, array in arrays.items():
        array[4] = passes.arrays()[name][5]
    tweaked, frames = FramePasses(**arrays), {}
    for count in (0, 2):
        store = JobStore(tmp_path / str(count))
        first = store.open(request_, passes)
        run(first, ModelCache(), RunCallbacks())
        again = store.open(msgspec.structs.replace(request_, look=first.name), tweaked)
        if count:
            with closing(make_pool()) as pool:
                report = run_pooled(again, pool, RunCallbacks())
        else:
            report = run(again, ModelCache(), RunCallbacks())
        assert report["frames"] == {"made": 1, "kept": FRAMES - 1}
        frames[count] = read(again)
    assert np.array_equal(frames[0], frames[2])


def test_a_part_of_a_shot_is_made_from_its_look(tmp_path, request_, passes):
    store = JobStore(tmp_path)
    with closing(make_pool()) as pool:
        look, report = make_look_pooled(store.open(request_, passes), pool, RunCallbacks())
        assert report["shot"] == FRAMES and report["device"] == "cpu"
        plain = JobStore(tmp_path / "plain")
        same, _ = make_look(plain.open(request_, passes), ModelCache(), RunCallbacks())
        assert look == same
        from latentman.shared.look_file import decode_look_file

        rows = [1, 2, 4, 5, 7]
        request = msgspec.structs.replace(
            request_, frames=tuple(request_.frames[row] for row in rows), look=decode_look_file(look).name
        )
        found = []
        for folder, make_frames in (
            ("a", lambda job: run_pooled(job, pool, RunCallbacks())),
            ("b", lambda job: run(job, ModelCache(), RunCallbacks())),
        ):
            job = JobStore(tmp_path / folder).open(request, passes.select(rows), look=look)
            make_frames(job)
            found.append(read(job))
    assert np.array_equal(*found)


@pytest.mark.parametrize("when", ["keys", "first", "last"])
def test_a_worker_that_dies_loses_nothing_but_what_it_held(tmp_path, alone, request_, passes, when):
    died = threading.Event()

    def dies(event, frames):
        if died.is_set():
            return False
        if {
            "keys": isinstance(event, Moved) and event.stage == "denoising",
            "first": isinstance(event, FrameMade) and frames == 0,
            "last": isinstance(event, FrameMade) and frames == 2,
        }[when]:
            died.set()
        return died.is_set()

    told, made = [], []

    def begin():
        made.append(LocalWorker())
        return made[-1]

    workers = LocalWorker(dies), LocalWorker(dies)
    with closing(make_pool(*workers, more=begin)) as pool:
        job, report = make(JobStore(tmp_path), request_, passes, pool, RunCallbacks(frame_stored=told.append))
    assert report["warnings"].count(LOST) == 1, "it is said, once"
    assert died.is_set() and np.array_equal(read(job), alone[0])
    assert sorted(told) == list(range(FRAMES))
    held = [unit for worker in (*workers, *made) for unit in worker.units]
    twice = len(held) - len({(type(unit), getattr(unit, "rows", ())) for unit in held})
    assert twice == 1, "the unit that it held, and no other"


def test_frames_that_kill_every_worker_are_given_up(tmp_path, request_, passes):
    deadly = lambda event, frames: isinstance(event, FrameMade)  # noqa: E731
    sentence = f"{MOST_TRIES} workers ended while they made the same frames"
    with (
        closing(make_pool(LocalWorker(deadly), more=lambda: LocalWorker(deadly))) as pool,
        pytest.raises(ShotError, match=sentence),
    ):
        make(JobStore(tmp_path), request_, passes, pool)


def test_a_pool_without_workers_says_so(tmp_path, request_, passes):
    def refuse():
        raise WorkerLost("no machine")

    with closing(make_pool(LocalWorker(lambda event, frames: True), more=refuse)) as pool:
        for _ in range(2):
            with pytest.raises(ShotError, match="No worker is left"):
                make(JobStore(tmp_path), request_, passes, pool)


def test_a_stopped_shot_ends_within_a_step_and_goes_on_as_it_was(tmp_path, alone, request_, passes, monkeypatch):
    store, told, asked, late = JobStore(tmp_path), [], threading.Event(), []
    wait, patience = shot.wait, shot.PATIENCE_SECONDS

    def note_late(orders, timeout, *when):
        found = wait(orders, timeout, *when)
        late.extend(found.not_done if timeout == patience else ())
        return found

    monkeypatch.setattr(shot, "wait", note_late)

    def hear(index):
        told.append(index)
        if len(told) == 3:
            # until the shot knows that it is to stop
            assert asked.wait(60)

    def should_stop():
        if len(told) >= 3:
            asked.set()
        return asked.is_set()

    with closing(make_pool()) as pool:
        with pytest.raises(Interrupted):
            make(store, request_, passes, pool, RunCallbacks(frame_stored=hear, should_stop=should_stop))
        assert len(told) < FRAMES and not late, "a unit that nobody makes any more is waited for"
        told.clear()
        job, _ = make(store, request_, passes, pool, RunCallbacks(frame_stored=told.append))
    assert np.array_equal(read(job), alone[0])
    assert sorted(told) == list(range(FRAMES))


@pytest.mark.parametrize("during", ["keys", "frames"])
def test_nothing_is_heard_of_a_shot_that_is_over(tmp_path, request_, passes, monkeypatch, during):
    """A worker that does not end in time goes on, and its frames and checkpoints go nowhere."""
    monkeypatch.setattr("latentman.backend.workers.shot.PATIENCE_SECONDS", 0.0)
    held, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def hold(event, frames):
        if isinstance(event, FrameMade) if during == "frames" else isinstance(event, (Moved, Saved, LookMade)):
            held.set()
            assert go_on.wait(60)
        return False

    class DeafWorker(LocalWorker):
        def run(self, unit):
            running = super().run(unit)
            running.stop = lambda: None
            events = running.iter_events

            def iter_events():
                try:
                    yield from events()
                finally:
                    ended.set()

            running.iter_events = iter_events
            return running

    heard = []
    callbacks = RunCallbacks(
        lambda *moved: heard.append(moved), heard.append, should_stop=held.is_set, draft=lambda *drafted: heard.append(drafted)
    )
    with closing(make_pool(DeafWorker(hold))) as pool:
        with pytest.raises(Interrupted):
            make(JobStore(tmp_path), request_, passes, pool, callbacks)
        heard.clear()
        files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        go_on.set()
        assert ended.wait(60)
    assert heard == []
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == files


def test_what_is_wrong_is_said_once(tmp_path, request_, passes, monkeypatch):
    with closing(make_pool()) as pool:
        monkeypatch.setattr("latentman.backend.workers.maker.identify", lambda name: "other files")
        with pytest.raises(ShotError, match="has other files of the model"):
            make(JobStore(tmp_path), request_, passes, pool)
        monkeypatch.undo()


def test_units_come_by_turn_and_what_was_lost_comes_first():
    queue, turns = UnitQueue(), FairTurns()
    first, second, urgent = turns.begin(b"a"), turns.begin(b"b"), turns.begin(b"a", 2)
    for turn, names in ((first, "ab"), (second, "cd"), (urgent, "e")):
        for name in names:
            queue.add(name, turn)
    taken = [queue.take() for _ in range(3)]
    assert [unit.payload for unit in taken] == ["e", "a", "b"]
    # a worker died over b: it comes before what nobody has begun, and after what is urgent
    assert queue.put_back(taken[2])
    queue.add("f", urgent)
    assert [queue.take().payload for _ in range(3)] == ["f", "b", "c"]
    assert queue.drop(second) == ["d"] and queue.take() is None
    for _ in range(MOST_TRIES - 1):
        assert queue.put_back(taken[2]) == (taken[2].tries < MOST_TRIES)
        if len(queue):
            queue.take()


def test_who_asks_for_much_does_not_keep_others_waiting():
    turns = FairTurns()
    many = [turns.begin(b"much") for _ in range(5)]
    turns.end(many[0])
    turns.end(many[1])
    # many[2] is being made
    one, urgent = turns.begin(b"little"), turns.begin(b"much", 1)
    assert sorted([*many[2:], one, urgent]) == [urgent, many[2], one, many[3], many[4]]
    again = turns.begin(b"little")
    assert many[3] < again < many[4]
    for turn in (*many, one, again, urgent, one):
        turns.end(turn)
    assert turns.begin(b"much").round == 0, "nobody is remembered for what is over"


class Workers:
    """What the service has instead of a Ray cluster: a pool of workers in this process."""

    def __init__(self, *workers) -> None:
        self.pool, self.closed = make_pool(*workers), threading.Event()

    def close(self) -> None:
        self.pool.close()
        self.closed.set()


@pytest.fixture
def serve_with(tmp_path):
    """Starts services with workers."""
    running = []

    def serve(*workers):
        cluster = Workers(*workers)
        running.append(RunningServer(tmp_path / "jobs", lambda jobs: replace(make_resources(jobs), cluster=cluster)))
        return running[-1], cluster

    yield serve
    for server in running:
        server.close()


def test_a_preview_goes_before_a_batch(serve_with, request_, passes, tiny):
    cluster = None

    def wait_for_preview(event, frames):
        """The first batch of frames is held until the preview waits for a worker."""
        batch = isinstance(worker.units[-1], FrameUnit) and worker.units[-1].work.request.frames[0] == 1
        while batch and not previewed.wait(0.05):
            if any(unit.turn.rank == -2 for unit in list(cluster.pool._queue._waiting)):
                break
        return False

    previewed = threading.Event()
    worker = LocalWorker(wait_for_preview)
    server, cluster = serve_with(worker)
    batch, preview = server.connect(), server.connect()
    batch.run_shot("batch", request_, passes, messages.FrameResult)
    short = samples.request(1, model=tiny, preset="per_frame", frames=(50,))
    preview.run_shot("preview", short, passes.select([3]), messages.Finished, priority=2)
    previewed.set()
    batch.send(messages.FrameTaken(ticket="batch"))
    batch.go_on("batch", passes, messages.Finished)
    order = [unit.work.request.frames[0] for unit in worker.units]
    assert order.index(50) < len(order) - 1, "the batch was not at its end"
    assert sorted(batch.frames("batch")) == list(range(FRAMES))
    server.close()
    assert cluster.closed.is_set()


def test_two_shots_are_made_at_the_same_time_and_one_is_cancelled(serve_with, request_, passes, tiny):
    server, _ = serve_with()
    one, other = server.connect(), server.connect()
    one.run_shot("one", request_, passes, messages.Accepted)
    other.run_shot("other", msgspec.structs.replace(request_, fps=30.0), passes, messages.FrameResult)
    other.send(messages.Cancel(ticket="other"))
    other.wait_for(messages.Cancelled, "other", 30)
    one.go_on("one", passes, messages.Finished)
    assert sorted(one.frames("one")) == list(range(FRAMES))


def test_a_look_comes_from_a_worker(serve_with, request_, passes):
    server, _ = serve_with()
    message, arrays = server.connect().run_shot("look", request_, passes, messages.Finished, only_look=True)
    assert arrays["look"].size and message.report["shot"] == FRAMES
