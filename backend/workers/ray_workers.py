"""Workers as actors of Ray (https://www.ray.io, an optional dependency): processes of this machine, or of a cluster that exists.

A local Ray listens on loopback only, and reports nothing to its makers. What travels between its processes is pickled by Ray
itself: whoever may connect to a cluster may run code there, so that a cluster belongs into a network of one's own.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ...shared import logs
from ...shared.endpoint import is_loopback
from ...shared.load_options import LoadOptions
from ...shared.machine import measure_memory
from ...shared.shot import ShotError
from ...shared.version import VERSION
from ..metrics.code_identity import describe_code
from ..missing import explain_missing
from .options import AUTO, WorkerOptions
from .pool import Running, WorkerHandle, WorkerLost, WorkerPool
from .units import Event, FrameUnit, PackedPasses, Unit, UnitEnded, UnitFailed, WorkerDescription

logger = logs.get_logger(__name__)
LAUNCHER = Path(__file__).resolve().parents[1] / "launch.py"
#: calls that an actor takes at the same time: its unit, and what is said to it meanwhile
CONCURRENCY = 8
#: how long an address may take to answer, and a worker to import its libraries
CONNECT_SECONDS, START_SECONDS = 5.0, 300.0
#: looks that stay in the object store
MOST_LOOKS = 8
#: bytes of the local object store, or less where there is little memory
STORE_BYTES = 2 << 30
#: cores that a worker without a GPU has where nothing says how many workers there should be
CORES_EACH = 4


def _import_ray(*, local: bool) -> Any:
    # before the import: Ray reads them then
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if local:
        # it takes this machine's address otherwise, and listens to the network
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    try:
        return import_module("ray")
    except ModuleNotFoundError as error:
        raise ShotError("environment", explain_missing(error.name or "ray")) from error


class RayUnit(Running):
    """A unit that an actor makes."""

    def __init__(self, ray: Any, actor: Any, unit: Unit, look: Any, passes: Any) -> None:
        self._ray, self._actor, self._ticket = ray, actor, secrets.token_hex(8)
        self._events = actor.run.options(num_returns="streaming").remote(self._ticket, unit, look, passes)

    def iter_events(self) -> Iterator[Event]:
        """See ``Running``."""
        try:
            for reference in self._events:
                event: Event = self._ray.get(reference)
                yield event
                if isinstance(event, (UnitEnded, UnitFailed)):
                    return
        except self._ray.exceptions.RayError as error:
            raise WorkerLost(_shorten(error)) from error

    def answer(self, passes: PackedPasses | str) -> None:
        """See ``Running``."""
        self._actor.answer.remote(self._ticket, passes)

    def stop(self) -> None:
        """See ``Running``."""
        with suppress(Exception):
            self._actor.stop.remote(self._ticket)


class RayWorker(WorkerHandle):
    """An actor."""

    def __init__(self, cluster: RayCluster, actor: Any, description: WorkerDescription) -> None:
        self._cluster, self._actor, self._description = cluster, actor, description

    @property
    def description(self) -> WorkerDescription:
        """See ``WorkerHandle``."""
        return self._description

    def run(self, unit: Unit) -> Running:
        """See ``WorkerHandle``."""
        look = passes = None
        ray = self._cluster.ray
        try:
            if isinstance(unit, FrameUnit):
                look, passes = self._cluster.put_look(unit.look_hash, unit.look), ray.put(list(unit.passes))
                unit = replace(unit, look=np.empty(0, np.uint8), passes=())
            return RayUnit(ray, self._actor, unit, look, passes)
        except ray.exceptions.RayError as error:
            raise WorkerLost(_shorten(error)) from error

    def close(self) -> None:
        """See ``WorkerHandle``."""
        with suppress(Exception):
            self._cluster.ray.kill(self._actor)


class RayCluster:
    """A connection to Ray, and the workers on it."""

    def __init__(
        self, options: WorkerOptions, load_options: LoadOptions, make: Callable[[], Any] | None = None, threads: int = 0
    ) -> None:
        """Starts a Ray of its own where ``options`` names no address. ``make`` makes what stands in for the workers' models in
        measurements; ``threads`` are those of each worker, 0 for an equal share of the cores. Raises ``ShotError``."""
        self._make, self._threads = make, threads
        self.ray = _import_ray(local=not options.address)
        self._options, self._load_options = options, load_options
        self._folder = ""
        self._looks: OrderedDict[str, Any] = OrderedDict()
        if load_options.device not in ("auto", "cpu", "cuda"):
            raise ShotError("device", "Workers take their devices from Ray; use --device auto, cuda or cpu.")
        count, self._gpus = (self._connect if options.address else self._start)()
        try:
            self.pool = WorkerPool(self._make_workers(count), self._make_worker)
        except BaseException:
            self.close()
            raise

    def _start(self) -> tuple[int, float]:
        """Start a Ray on this machine; how many workers there are to be, and how many GPUs each has."""
        import torch

        gpus = 0 if self._load_options.device == "cpu" else torch.cuda.device_count()
        cores = os.cpu_count() or 1
        wanted = self._options.count
        count = (gpus or max(1, cores // CORES_EACH)) if wanted == AUTO else wanted
        if gpus and count > gpus:
            raise ShotError("worker", f"There are {gpus} GPUs for {count} workers; use --workers {gpus}, or --device cpu.")
        self._cores = self._threads or max(1, cores // count)
        self._folder = tempfile.mkdtemp(prefix="lm-ray-")
        try:
            self.ray.init(
                num_cpus=count * self._cores,
                num_gpus=gpus,
                include_dashboard=False,
                log_to_driver=False,
                configure_logging=False,
                object_store_memory=min(STORE_BYTES, _find_free_memory() // 4),
                _temp_dir=self._folder,
            )
        except Exception as error:
            self.close()
            raise ShotError("worker", f"Ray could not be started ({_shorten(error)}); leave --workers out.") from error
        host = self.ray.util.get_node_ip_address()
        if not is_loopback(f"tcp://{host}:0"):
            self.close()
            raise ShotError("worker", f"Ray would listen at {host}, beyond this machine; install the version that is asked for.")
        return count, 1.0 if gpus else 0.0

    def _connect(self) -> tuple[int, float]:
        """Connect to a cluster; as ``_start``."""
        address = self._options.address
        if address != "auto":
            _check_address(address)
        try:
            self.ray.init(address=address, log_to_driver=False, configure_logging=False)
        except Exception as error:
            raise ShotError(
                "worker",
                f"The Ray cluster at {address} cannot be used ({_shorten(error)}); check the address, and the version of Ray.",
            ) from error
        self._cores = 1
        has = self.ray.cluster_resources()
        gpus, wanted = int(has.get("GPU", 0)), self._options.count
        if self._load_options.device == "cpu":
            if wanted == AUTO:
                wanted = max(1, int(has.get("CPU", 1)) // CORES_EACH)
            self._cores = max(1, int(has.get("CPU", 1)) // wanted)
            return wanted, 0.0
        if not gpus:
            self.close()
            raise ShotError(
                "worker", f"The Ray cluster at {address} has no GPUs; add machines that have some, or use --device cpu --workers N."
            )
        if wanted != AUTO and wanted > gpus:
            self.close()
            raise ShotError("worker", f"The Ray cluster at {address} has {gpus} GPUs for {wanted} workers; use --workers {gpus}.")
        return gpus if wanted == AUTO else wanted, 1.0

    def _begin_worker(self) -> Any:
        from . import ray_actor

        # the package may not be importable there before the actor has found it
        self.ray.cloudpickle.register_pickle_by_value(ray_actor)
        actor_class = self.ray.remote(ray_actor.UnitActor)
        options = actor_class.options(
            num_cpus=self._cores, num_gpus=self._gpus, max_concurrency=CONCURRENCY, max_restarts=0, max_task_retries=0
        )
        return options.remote(str(LAUNCHER), msgspec.json.encode(self._load_options), self._make)

    def _make_workers(self, count: int) -> list[RayWorker]:
        actors = [self._begin_worker() for _ in range(count)]
        return [self._await_worker(actor) for actor in actors]

    def _make_worker(self) -> RayWorker:
        return self._await_worker(self._begin_worker())

    def _await_worker(self, actor: Any) -> RayWorker:
        """A worker whose version is this one's. Raises ``ShotError``."""
        exceptions = self.ray.exceptions
        try:
            found: WorkerDescription = self.ray.get(actor.describe.remote(), timeout=START_SECONDS)
        except exceptions.GetTimeoutError as error:
            raise ShotError("worker", "A worker did not start in time; see Ray's log, or use fewer workers.") from error
        except exceptions.OutOfMemoryError as error:
            raise ShotError(
                "worker", "The memory is too small for so many workers; use fewer, or end what else is running there."
            ) from error
        except exceptions.RayError as error:
            raise ShotError(
                "worker", f"A worker could not start ({_shorten(error)}); install latentman[ray] {VERSION} on every machine."
            ) from error
        if (found.version, found.code) != (VERSION, describe_code()):
            self.ray.kill(actor)
            other = found.version if found.version != VERSION else f"another build of {VERSION}"
            raise ShotError(
                "worker", f"The worker on {found.host} has LatentMan {other}, this is {VERSION}; install the same on every machine."
            )
        return RayWorker(self, actor, found)

    def put_look(self, name: str, look: np.ndarray) -> Any:
        """A look in the object store, once for all workers."""
        if name not in self._looks:
            self._looks[name] = self.ray.put(look)
            while len(self._looks) > MOST_LOOKS:
                self._looks.popitem(last=False)
        self._looks.move_to_end(name)
        return self._looks[name]

    def close(self) -> None:
        """End the workers, and Ray where it was started here."""
        pool = getattr(self, "pool", None)
        if pool is not None:
            pool.close()
        with suppress(Exception):
            self.ray.shutdown()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)


def _check_address(address: str) -> None:
    host, separator, port = address.removeprefix("ray://").rpartition(":")
    if not separator or not port.isdigit():
        raise ShotError("worker", f"'{address}' is no address of a Ray cluster; give HOST:PORT, such as 10.0.0.4:6379, or auto.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ShotError(
            "worker", f"Nobody answers at {address} ({error}); start Ray there with ray start --head, or check the address."
        ) from error


def _shorten(error: BaseException) -> str:
    """The last line of what Ray says, which has the reason."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:200].rstrip(".")


def _find_free_memory() -> int:
    found = measure_memory()
    return found[0] if found else STORE_BYTES
