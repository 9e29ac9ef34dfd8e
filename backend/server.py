"""The socket: a CURVE-encrypted ROUTER on loopback, one worker thread that runs jobs one after the other.

Only this module's thread touches the ROUTER; the worker hands its messages over through an in-process socket.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import zmq
from zmq.auth.thread import ThreadAuthenticator

from ..shared import keys, logs
from ..shared.endpoint import is_loopback
from ..shared.messages import (
    Accepted,
    Cancel,
    Cancelled,
    Failed,
    FrameResult,
    Hello,
    MakeMotion,
    Message,
    Progress,
    Submit,
    Welcome,
    WireError,
    decode,
    encode,
)
from ..shared.motion import MotionError
from ..shared.motion_request import check_kept, frame_count
from ..shared.shot import ShotError, check_passes, check_request
from ..shared.version import VERSION
from .jobs.motions import MotionRunner
from .jobs.runner import Emit, ModelCache, run
from .jobs.store import JobStore
from .models.loading import LoadOptions, best_device
from .models.registry import PRESETS

logger = logs.get_logger(__name__)
RELAY = "inproc://job-messages"


class RefusedToBind(ValueError):
    """The address would open the backend to others; the message says what to do."""


class _KnownClients:
    """ZAP credentials provider: lets in the listed public keys."""

    def __init__(self, allowed: set[bytes]) -> None:
        self._allowed = allowed

    def callback(self, domain: str, key: bytes) -> bool:
        """Whether a client key may connect."""
        return key in self._allowed


@dataclass
class _Ticket:
    """Work in the queue: ``work(emit, should_stop)`` ends with a message that is neither progress nor a frame."""

    name: str
    work: Callable[[Emit, Callable[[], bool]], object]
    clients: set[bytes]
    stop: threading.Event = field(default_factory=threading.Event)


def check_endpoint(endpoint: str, extra_clients: set[bytes]) -> None:
    """``RefusedToBind`` for an address beyond loopback without a list of client keys."""
    if not is_loopback(endpoint) and not extra_clients:
        raise RefusedToBind(
            f"{endpoint} can be reached from other machines; list the client keys that may connect with "
            "--clients FILE, or use 127.0.0.1."
        )


class Server:
    """The backend service. ``serve`` returns after ``stop`` or never."""

    def __init__(self, endpoint: str, jobs: Path, extra_clients: set[bytes], options: LoadOptions | None = None) -> None:
        """Binds at once; ``endpoint`` then holds the real address, also for port 0."""
        check_endpoint(endpoint, extra_clients)
        self._context = zmq.Context()
        pair = keys.load_or_create(zmq.curve_keypair)
        self._authenticator = ThreadAuthenticator(self._context)
        self._authenticator.start()
        self._authenticator.configure_curve_callback(credentials_provider=_KnownClients({pair.client_public, *extra_clients}))
        self._router = self._context.socket(zmq.ROUTER)
        self._router.linger = 500
        self._router.sndhwm = 0
        self._router.curve_server = True
        self._router.curve_publickey, self._router.curve_secretkey = pair.server_public, pair.server_secret
        self._router.bind(endpoint)
        self.endpoint = self._router.getsockopt_string(zmq.LAST_ENDPOINT)
        self._relay = self._context.socket(zmq.PULL)
        self._relay.bind(RELAY)
        self._store, self._models, self._motions = JobStore(jobs), ModelCache(options), MotionRunner()
        self._waiting: queue.SimpleQueue[_Ticket | None] = queue.SimpleQueue()
        self._tickets: dict[str, _Ticket] = {}
        self._stopping = threading.Event()
        self._worker = threading.Thread(target=self._work, name="jobs", daemon=True)

    def stop(self) -> None:
        """Ask ``serve`` to return; safe from a signal handler."""
        self._stopping.set()

    def serve(self) -> None:
        """Answer clients until stopped."""
        self._worker.start()
        poller = zmq.Poller()
        poller.register(self._router, zmq.POLLIN)
        poller.register(self._relay, zmq.POLLIN)
        try:
            while not self._stopping.is_set():
                ready = dict(poller.poll(200))
                if self._relay in ready:
                    self._forward(self._relay.recv_multipart(copy=False))
                if self._router in ready:
                    client, *parts = self._router.recv_multipart()
                    self._answer(client, parts)
        finally:
            for ticket in list(self._tickets.values()):
                ticket.stop.set()
            self._waiting.put(None)
            self._worker.join(timeout=30)
            self._authenticator.stop()
            self._router.close()
            self._relay.close()

    def _forward(self, parts: list[Any]) -> None:
        """Pass a job's message on to those who wait for it; the first part names the job, the second ends it."""
        job, last = parts[0].bytes.decode(), bool(parts[1].bytes)
        ticket = self._tickets.get(job)
        for client in ticket.clients if ticket else ():
            self._router.send_multipart([client, *parts[2:]], copy=False)
        if last:
            self._tickets.pop(job, None)

    def _reply(self, client: bytes, message: Message) -> None:
        self._router.send_multipart([client, *encode(message)])

    def _answer(self, client: bytes, parts: list[bytes]) -> None:
        try:
            message, arrays = decode(parts)
        except WireError as error:
            self._reply(client, Failed(code=error.code, message=str(error)))
            return
        if isinstance(message, Hello):
            self._reply(client, Welcome(version=VERSION, device=str(best_device()), models=tuple(PRESETS)))
        elif isinstance(message, Submit):
            self._submit(client, message, arrays)
        elif isinstance(message, MakeMotion):
            self._make_motion(client, message, arrays)
        elif isinstance(message, Cancel):
            ticket = self._tickets.get(message.job)
            if ticket:
                ticket.stop.set()
            else:
                self._reply(client, Cancelled(job=message.job))
        else:
            self._reply(client, Failed(code="malformed", message="This message goes from backend to client only."))

    def _submit(self, client: bytes, message: Submit, arrays: dict[str, np.ndarray]) -> None:
        try:
            check_request(message.request)
            job = self._store.open(message.request, check_passes(message.request, arrays))
        except ShotError as error:
            self._reply(client, Failed(ticket=message.ticket, code=error.code, message=str(error)))
            return
        except OSError as error:
            self._reply(
                client,
                Failed(
                    ticket=message.ticket, code="disk", message=f"The job folder {self._store.root} cannot be written: {error}."
                ),
            )
            return
        self._reply(client, Accepted(ticket=message.ticket, job=job.name))
        running = self._tickets.get(job.name)
        if running:
            running.clients.add(client)
            for index in job.finished_frames():
                self._router.send_multipart(
                    [
                        client,
                        *encode(
                            FrameResult(job=job.name, index=index, frame=job.request.frames[index]),
                            {"image": job.read_frame(index)},
                        ),
                    ]
                )
            return
        self._enqueue(_Ticket(job.name, lambda emit, stopped: run(job, self._models, emit, stopped), {client}))

    def _make_motion(self, client: bytes, message: MakeMotion, arrays: dict[str, np.ndarray]) -> None:
        try:
            frame_count(message.request)
            kept = check_kept(message.request, arrays)
        except MotionError as error:
            self._reply(client, Failed(ticket=message.ticket, job=message.ticket, code="motion", message=str(error)))
            return
        self._enqueue(
            _Ticket(
                message.ticket,
                lambda emit, stopped: self._motions.run(message.ticket, message.request, kept, emit, stopped),
                {client},
            )
        )

    def _enqueue(self, ticket: _Ticket) -> None:
        self._tickets[ticket.name] = ticket
        self._waiting.put(ticket)

    def _work(self) -> None:
        relay = self._context.socket(zmq.PUSH)
        relay.linger = 0
        relay.connect(RELAY)

        def sender(job: str) -> Emit:
            def emit(message: Message, arrays: dict[str, np.ndarray] | None) -> None:
                last = not isinstance(message, Progress | FrameResult)
                relay.send_multipart([job.encode(), b"1" if last else b"", *encode(message, arrays)])

            return emit

        while (ticket := self._waiting.get()) is not None:
            emit = sender(ticket.name)
            try:
                ticket.work(emit, ticket.stop.is_set)
            except Exception as error:  # the service outlives any job
                logger.exception("The work %s failed", ticket.name)
                emit(Failed(job=ticket.name, code="internal", message=f"The generation failed unexpectedly: {error}"), None)
        relay.close()
