"""Takes a job through a pool of workers; the job's folder stays the one truth, as with one process."""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from ...shared.drafts import shrink
from ...shared.files import read_file
from ...shared.look_file import LookFile, LookScene
from ...shared.settings import with_settings
from ...shared.shot import ShotError
from ..jobs.dressing import Dressing
from ..jobs.job import REFERENCE, Job
from ..jobs.look_making import pack_look
from ..jobs.parts import PartPlan, plan_part
from ..jobs.passes import StoredPasses
from ..jobs.runner import RunCallbacks, choose_look, conclude, copy_unchanged, finish
from ..models.identity import identify
from ..models.prompts.named_loras import name_model
from ..pictures import decode_png
from ..video.look import Look
from ..video.pipeline import find_noise_cell_side
from ..video.run_context import Interrupted, RunContext
from .pool import Order, WorkerPool
from .source import pack_passes
from .units import Drafted, Event, FrameMade, FrameUnit, KeyUnit, LookMade, Moved, PackedPasses, Saved, ShotWork, Unit, UnitEnded

#: threads that read passes from the disk for units to come
READERS = 4
#: frames a batch of those that are made singly
SINGLE_FRAMES = 4
#: how often somebody who waits looks whether the shot should stop
LOOK_SECONDS = 0.1
#: how long a shot that is stopped waits for its workers, which end at their next step
PATIENCE_SECONDS = 30.0
#: what is said once, however many were lost
LOST = "A worker ended early, and others made its frames; the backend's log says why."
Kind = TypeVar("Kind", bound=Unit)


class PooledShot:
    """One job's way through the pool."""

    def __init__(self, job: Job, pool: WorkerPool, callbacks: RunCallbacks, priority: int = 0, owner: bytes = b"") -> None:
        """``priority`` puts the shot's units before those of others; the shots of each ``owner`` come in turn."""
        self._job, self._pool, self._callbacks = job, pool, callbacks
        self._turn = pool.begin_shot(priority, owner)
        self._source: StoredPasses = job.passes()
        #: held while something is kept and told of, so that nothing is once the shot is over
        self._lock = threading.RLock()
        self._orders: list[Order] = []
        self._over = False
        self._made: set[int] = set()
        self._device = ""
        self._context = RunContext(callbacks.progress, callbacks.should_stop)
        self._dressing: Dressing | None = None
        self._source.interrupt_with(self._context.check)

    def make(self, done: set[int]) -> dict[str, Any]:
        """Make the frames that are not ``done``, each told of as soon as it is stored, and give the job's report. Raises as
        ``jobs.runner.run``."""
        self._made = set(done)
        taken: set[int] = set()
        look_file = self._job.look_file()
        try:
            dressing = self._dressing = Dressing(self._job, self._source)
            dressing.complete_with(self._context)
            if look_file is not None:
                self._make_part(look_file)
            else:
                taken = self._make_whole(done)
        finally:
            self._end()
        return conclude(self._job, self._source, self._context, self._device, taken, dressing, has_textures=look_file is None)

    def make_keys(self, done: set[int]) -> RunContext:
        """Make what the look needs, and nothing else; what it ran in, with its seconds and its warnings."""
        self._made = set(done)
        try:
            self._order_keys(None, done, set())
        finally:
            self._end()
        return self._context

    def _end(self) -> None:
        """Stop what still runs. What its workers have by their next step is kept; of what comes later nobody hears, since the job
        may be another's by then."""
        self._pool.stop(self._turn)
        wait([order.done for order in self._orders], PATIENCE_SECONDS)
        with self._lock:
            self._over = True

    # -- what is ordered ----------------------------------------------------------------------------------------------

    def _make_whole(self, done: set[int]) -> set[int]:
        job = self._job
        parent = job.parent()
        taken = copy_unchanged(job, parent, self._source, done, self._callbacks) if parent else set()
        self._made |= taken
        end = self._order_keys(parent, done, taken)
        look = job.look()
        if look is None:
            missing = set(range(self._source.frame_count)) - self._made
            if missing:
                raise ShotError("worker", "A worker ended a shot before its frames were made; generate it again.")
            return taken
        rest = [n for n in range(self._source.frame_count) if n not in {*look.keyframes, *taken}]
        batches = [tuple(rest[n : n + end.batch_frames]) for n in range(0, len(rest), end.batch_frames)]
        # what is made already is part of its batch all the same: the last bits of a frame depend on the others there
        batches = [rows for rows in batches if not self._made.issuperset(rows)]
        self._order_frames(self._describe_work(), look, batches, find_noise_cell_side(self._source), lambda row: row, len(rest))
        return taken

    def _make_part(self, look_file: LookFile) -> None:
        plan: PartPlan = plan_part(self._job, look_file, self._source, self._context, self._made)
        for index, png in plan.finished:
            self._store(index, png)
        if not plan.rows:
            return
        description = look_file.description
        request = with_settings(description.request, {"model": self._job.request.sampling.model})
        work = replace(self._describe_work(), request=request, header=description.header)
        look = replace(Look.decode(look_file.look), keyframes=description.keyframes)
        batches = [tuple(plan.rows[n : n + SINGLE_FRAMES]) for n in range(0, len(plan.rows), SINGLE_FRAMES)]
        places = plan.places
        self._order_frames(work, look, batches, description.noise_cell_side, lambda row: places[row], len(plan.rows), singly=True)

    def _describe_work(self) -> ShotWork:
        job = self._job
        model = name_model(job.request.sampling.model, job.request.text)
        reference = read_file(job.folder / REFERENCE) if job.request.text.reference else b""
        return ShotWork(job.name, job.request, self._source.header, model, identify(model), reference)

    def _order_keys(self, parent: Job | None, done: set[int], foreign: set[int]) -> UnitEnded:
        job = self._job
        # checks that the picture is there
        job.read_reference()
        look, finalized, same_settings = choose_look(job, parent, done, self._dressing.worn if self._dressing is not None else None)
        unit = KeyUnit(
            self._describe_work(),
            b"" if look is None or finalized else look.encode(),
            finalized,
            same_settings,
            tuple(sorted(foreign)),
            tuple(sorted(done)),
            job.load_checkpoint(),
            self._callbacks.draft is not None,
            self._dressing.keyframes if self._dressing is not None else (),
        )
        fetch = lambda index, overview: pack_passes(self._source, index, overview=overview)  # noqa: E731
        self._callbacks.progress("waiting for a worker", 0, 1)
        order = self._submit(Order(unit, self._listen_to_keys, fetch, self._go_on))
        return self._await([order])[0]

    def _submit(self, order: Order) -> Order:
        self._orders = [before for before in self._orders if not before.done.done()] + [order]
        return self._pool.submit(order, self._turn)

    def _go_on(self, unit: Unit) -> Unit:
        """The key frames' unit from where denoising stands by now."""
        assert isinstance(unit, KeyUnit)
        return replace(self._tell_of_loss(unit), checkpoint=self._job.load_checkpoint())

    def _tell_of_loss(self, unit: Kind) -> Kind:
        """A unit whose worker has ended, which another makes."""
        self._context.add_warnings((LOST,))
        return unit

    def _order_frames(
        self,
        work: ShotWork,
        look: Look,
        batches: Sequence[tuple[int, ...]],
        noise_cell_side: float,
        find_index: Callable[[int], int],
        count: int,
        *,
        singly: bool = False,
    ) -> None:
        """Order batches of frames, a few more than there are workers at a time; ``find_index`` gives a row's index in the job."""
        data = np.frombuffer(look.encode(), np.uint8)
        look_hash = hashlib.blake2b(data.data, digest_size=16).hexdigest()
        finished = count - sum(len(rows) for rows in batches)

        def listen(event: Event) -> None:
            if isinstance(event, FrameMade):
                self._store(find_index(event.index), event.png)

        def refuse(index: int, overview: bool) -> PackedPasses:
            raise ShotError("passes", "The passes came with the frames; generate the shot again.")

        def read(rows: tuple[int, ...]) -> Order:
            passes = [pack_passes(self._source, find_index(row)) for row in rows]
            return Order(
                FrameUnit(work, data, look_hash, rows, noise_cell_side, passes, singly), listen, refuse, self._tell_of_loss
            )

        waiting, running = deque(batches), deque[Order]()
        with ThreadPoolExecutor(READERS) as readers:
            reading = deque(readers.submit(read, waiting.popleft()) for _ in range(min(len(waiting), self._pool.size)))
            while reading or running:
                # enough for every worker, and as much again that is ready for them
                while reading and len(running) < 2 * self._pool.size:
                    running.append(self._submit(self._await_reading(reading.popleft())))
                    if waiting:
                        reading.append(readers.submit(read, waiting.popleft()))
                ended = self._await_any(running)
                for order in ended:
                    running.remove(order)
                    assert isinstance(order.unit, FrameUnit)
                    finished += len(order.unit.rows)
                    self._callbacks.progress("frames", finished, count)

    # -- what is waited for -------------------------------------------------------------------------------------------

    def _await_reading(self, reading: Any) -> Order:
        while True:
            try:
                found: Order = reading.result(timeout=LOOK_SECONDS)
            except TimeoutError:
                self._check()
                continue
            return found

    def _await(self, orders: Sequence[Order]) -> list[UnitEnded]:
        found, left = [], list(orders)
        while left:
            for order in self._await_any(left):
                left.remove(order)
                found.append(order.done.result())
        return found

    def _await_any(self, orders: Sequence[Order]) -> list[Order]:
        """Those of some orders that have ended, at least one. Raises what one of them failed with, and ``Interrupted``."""
        while True:
            ended, _ = wait([order.done for order in orders], LOOK_SECONDS, FIRST_COMPLETED)
            self._check()
            if not ended:
                continue
            found = [order for order in orders if order.done in ended]
            for order in found:
                try:
                    self._take_over(order.done.result())
                except CancelledError:
                    raise Interrupted from None
            return found

    def _check(self) -> None:
        if self._callbacks.should_stop():
            self._pool.stop(self._turn)
            raise Interrupted

    def _take_over(self, end: UnitEnded) -> None:
        self._device = end.device
        for stage, seconds in end.seconds.items():
            self._context.seconds[stage] = self._context.seconds.get(stage, 0.0) + seconds
        self._context.add_warnings(end.warnings)

    # -- what is told -------------------------------------------------------------------------------------------------

    def _listen_to_keys(self, event: Event) -> None:
        with self._lock:
            if not self._over:
                self._keep(event)

    def _keep(self, event: Event) -> None:
        job, callbacks = self._job, self._callbacks
        if isinstance(event, Moved):
            callbacks.progress(event.stage, event.step, event.steps)
        elif isinstance(event, Saved):
            job.save_checkpoint(event.checkpoint)
        elif isinstance(event, LookMade):
            dressing = self._dressing
            job.save_look_file(event.look if dressing is None else dressing.complete_file(event.look, self._context))
        elif isinstance(event, Drafted) and callbacks.draft is not None:
            callbacks.draft(event.rows, event.pictures, False)
        elif isinstance(event, FrameMade):
            self._store(event.index, event.png)

    def _store(self, index: int, png: bytes) -> None:
        """Keep a frame, unless it is there already: a worker that took another's place makes all of its batch."""
        with self._lock:
            if self._over or index in self._made:
                return
            self._job.write_png(index, png)
            self._made.add(index)
            if self._callbacks.draft is not None:
                self._callbacks.draft([index], shrink(decode_png(png))[None], True)
            self._callbacks.frame_stored(index)


def run_pooled(job: Job, pool: WorkerPool, callbacks: RunCallbacks, priority: int = 0, owner: bytes = b"") -> dict[str, Any]:
    """``jobs.runner.run`` with the frames made by a pool."""
    return finish(job, callbacks, lambda done: PooledShot(job, pool, callbacks, priority, owner).make(done))


def make_look_pooled(
    job: Job,
    pool: WorkerPool,
    callbacks: RunCallbacks,
    scene: LookScene | None = None,
    priority: int = 0,
    owner: bytes = b"",
) -> tuple[bytes, dict[str, Any]]:
    """``jobs.look_making.make_look`` with the key frames made by a pool."""
    shot = PooledShot(job, pool, callbacks, priority, owner)
    return pack_look(job, shot.make_keys, callbacks, pool.descriptions[0].device, scene)
