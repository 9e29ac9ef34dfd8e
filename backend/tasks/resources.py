"""What pieces of work are done with: loaded models, motion models and the job store.

PyTorch and diffusers come with them, whose import takes seconds, so a thread of its own makes them while the socket answers
already. Nothing else in the service imports these libraries before: two threads that import one of them at the same time can meet
a module that is only half there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...shared import logs
from ...shared.load_options import LoadOptions
from ...shared.shot import ShotError
from ..failures import explain_failure
from ..missing import explain_missing
from ..video.run_context import Interrupted

if TYPE_CHECKING:
    from ..jobs.motions import MotionCache
    from ..jobs.runner import ModelCache
    from ..jobs.store import JobStore
    from ..workers.options import WorkerOptions
    from ..workers.pool import WorkerPool
    from ..workers.ray_workers import RayCluster

logger = logs.get_logger(__name__)

#: the stage of a piece of work that waits for the libraries
LOADING = "loading"
#: how often a waiting thread looks whether it should stop
LOOK_SECONDS = 0.25


@dataclass(frozen=True)
class Resources:
    """What every piece of work of a service shares."""

    models: ModelCache
    motions: MotionCache
    store: JobStore
    #: the workers that make frames; None where this process makes them
    cluster: RayCluster | None = None

    @property
    def pool(self) -> WorkerPool | None:
        """The workers' pool."""
        return self.cluster.pool if self.cluster is not None else None

    def close(self) -> None:
        """End what runs beside this process."""
        if self.cluster is not None:
            self.cluster.close()


def make_resources(jobs: Path, options: LoadOptions | None = None, workers: WorkerOptions | None = None) -> Resources:
    """The resources of a service that keeps its jobs in the folder ``jobs``, with ``workers`` where it has some; imports the
    libraries.

    Raises ``ShotError`` for a device or a precision that is not there, and ``ImportError`` or ``OSError`` for a library that is
    missing or broken.
    """
    from ..jobs.motions import MotionCache
    from ..jobs.runner import ModelCache
    from ..jobs.store import JobStore

    models, cluster = ModelCache(options), None
    if workers is not None:
        from ..workers.ray_workers import RayCluster

        cluster = RayCluster(workers, models.options)
    return Resources(models, MotionCache(models.device), JobStore(jobs, models.numbers), cluster)


def _explain(error: Exception) -> ShotError:
    """What a client is told when there will be no resources."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        return ShotError("backend", f"The backend cannot work: {explain_missing(error.name)}")
    return ShotError(*explain_failure(error))


class ResourceLoader:
    """Makes the resources in a thread of its own."""

    def __init__(self, make: Callable[[], Resources]) -> None:
        """``make`` is called once, by the thread."""
        self._make = make
        self._resources: Resources | None = None
        self._has_hub, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="libraries", daemon=True)
        #: why there are none, once that is known: as it was raised, and as clients are told
        self.error: Exception | None = None
        self.refusal: ShotError | None = None

    def start(self) -> None:
        """Begin, unless that was done before."""
        if self._thread.ident is None:
            self._thread.start()

    @property
    def working(self) -> bool:
        """Whether the thread is at work. The interpreter must not take itself apart then: the thread is inside of imports."""
        return self._thread.is_alive()

    @property
    def ended(self) -> bool:
        """Whether the resources, or why there are none, are known."""
        return self._ended.is_set()

    @property
    def device(self) -> str:
        """What models run on; empty as long as it is not known."""
        if self._resources is None:
            return ""
        pool = self._resources.pool
        if pool is None:
            return str(self._resources.models.device)
        devices = sorted({worker.device for worker in pool.descriptions})
        return f"{', '.join(devices)} ({pool.size} workers)"

    @property
    def pool(self) -> WorkerPool | None:
        """The workers, once they are known; None where there are none."""
        return self._resources.pool if self._resources is not None else None

    def close(self) -> None:
        """End what the resources have beside this process."""
        if self._resources is not None:
            self._resources.close()

    def wait(self, should_stop: Callable[[], bool]) -> Resources:
        """The resources, as soon as they are there. Raises ``Interrupted`` when ``should_stop`` says so before, and ``ShotError``
        when there will be none."""
        self._wait(self._ended, should_stop)
        assert self._resources is not None
        return self._resources

    def wait_for_hub(self, should_stop: Callable[[], bool]) -> None:
        """Wait until the model hub's library is imported, which takes a moment: models' files can be read then. Raises as
        ``wait``."""
        self._wait(self._has_hub, should_stop)

    def _wait(self, event: threading.Event, should_stop: Callable[[], bool]) -> None:
        while not event.wait(LOOK_SECONDS):
            if should_stop():
                raise Interrupted
        if self.refusal is not None:
            # an exception of its own for each thread, which adds its traceback
            raise ShotError(self.refusal.code, str(self.refusal))

    def _run(self) -> None:
        try:
            from ..models import hub  # noqa: F401

            self._has_hub.set()
            self._resources = self._make()
        except Exception as error:
            self.error, self.refusal = error, _explain(error)
        except BaseException as error:  # a library that exits
            self.error = RuntimeError(f"a library of this Python ended with {type(error).__name__}: {error}")
            self.refusal = _explain(self.error)
        self._has_hub.set()
        self._ended.set()
