"""The socket: a CURVE-encrypted ROUTER on loopback. Its thread checks messages and passes them on to tasks, and nothing else:
no disk, no device, no waiting."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zmq
from zmq.auth.thread import ThreadAuthenticator

from ..shared import curve_keys, logs
from ..shared.endpoint import is_loopback
from ..shared.messages import (
    MAX_PART_BYTES,
    AnyMessage,
    Buffer,
    Cancel,
    Cancelled,
    Failed,
    FrameTaken,
    Hello,
    MakeMotion,
    Message,
    SendPasses,
    SubmitShot,
    Welcome,
    WireError,
    decode,
    encode,
)
from ..shared.motion import MotionError
from ..shared.motion_request import check_kept, frame_count
from ..shared.shot import ShotError, check_request
from ..shared.version import VERSION
from .jobs.requests import remove_stale_incoming
from .jobs.runner import ModelCache
from .jobs.store import JobStore
from .models.loading import choose_device
from .models.registry import PRESETS
from .tasks.motion import MotionTask
from .tasks.outbox import Outbox
from .tasks.shot import ShotTask
from .tasks.task import Task
from .tasks.worker import Worker

logger = logs.get_logger(__name__)

POLL_MILLISECONDS = 200
#: how long a peer may take to show that it knows a key; one that does not is dropped, and its file descriptor freed
HANDSHAKE_MILLISECONDS = 3000
#: how often the clients of tasks are spoken to: that shows whether they are still there
PING_SECONDS = 5.0
#: how long a step may take to end when the service is stopped
STOP_SECONDS = 30.0


class RefusedToBind(ValueError):
    """The address would open the backend to others; the message says what to do."""


def allow_many_connections() -> None:
    """Use as many file descriptors as the system allows, so that idle connections of strangers do not use them up before they
    are dropped."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 65_536 if hard == resource.RLIM_INFINITY else hard
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


class _KnownClients:
    """ZAP credentials provider: lets in the listed public keys."""

    def __init__(self, allowed: set[bytes]) -> None:
        self._allowed = allowed

    def callback(self, domain: str, key: bytes) -> bool:
        """Whether a client key may connect."""
        return key in self._allowed


def check_endpoint(endpoint: str, extra_clients: set[bytes]) -> None:
    """``RefusedToBind`` for an address beyond loopback without a list of client keys."""
    if not is_loopback(endpoint) and not extra_clients:
        raise RefusedToBind(
            f"{endpoint} can be reached from other machines; list the client keys that may connect with "
            "--clients FILE, or use 127.0.0.1."
        )


class Server:
    """The backend service. ``serve`` returns after ``stop`` or never."""

    def __init__(self, endpoint: str, jobs: Path, extra_clients: set[bytes], models: ModelCache | None = None) -> None:
        """Binds at once; ``endpoint`` then holds the real address, also for port 0. ``models`` loads what the requests name."""
        check_endpoint(endpoint, extra_clients)
        self._device = str(choose_device())
        self._context = zmq.Context()
        pair = curve_keys.load_or_create(zmq.curve_keypair, derive_public=zmq.curve_public)
        self._authenticator = ThreadAuthenticator(self._context)
        self._authenticator.start()
        self._authenticator.configure_curve_callback(credentials_provider=_KnownClients({pair.client_public, *extra_clients}))
        self._router = self._context.socket(zmq.ROUTER)
        self._router.linger = 500
        self._router.sndhwm = 0
        # sending to a client that is gone is an error, which is how that is noticed
        self._router.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._router.setsockopt(zmq.HEARTBEAT_IVL, 5000)
        self._router.setsockopt(zmq.HEARTBEAT_TIMEOUT, 30_000)
        # both hold before a peer has shown that it knows a key
        self._router.setsockopt(zmq.MAXMSGSIZE, MAX_PART_BYTES)
        self._router.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MILLISECONDS)
        self._router.curve_server = True
        self._router.curve_publickey, self._router.curve_secretkey = pair.server_public, pair.server_secret
        self._router.bind(endpoint)
        self.endpoint = self._router.getsockopt_string(zmq.LAST_ENDPOINT)
        self._outbox, self._store, self._worker = Outbox(self._context), JobStore(jobs), Worker(models)
        self._tasks: dict[str, Task] = {}
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Ask ``serve`` to return; safe from a signal handler."""
        self._stopping.set()

    def serve(self) -> None:
        """Answer clients until stopped."""
        self._worker.start()
        threading.Thread(target=remove_stale_incoming, args=(self._store.root,), name="clean", daemon=True).start()
        poller = zmq.Poller()
        poller.register(self._router, zmq.POLLIN)
        poller.register(self._outbox.readable, zmq.POLLIN)
        pinged = time.monotonic()
        try:
            while not self._stopping.is_set():
                ready = dict(poller.poll(POLL_MILLISECONDS))
                for client, parts in self._outbox.take():
                    self._send(client, parts)
                if self._router in ready:
                    # passes are large: their buffers are used as they came in
                    sender, *parts = self._router.recv_multipart(copy=False)
                    self._answer(sender.bytes, [part.buffer for part in parts])
                self._tasks = {ticket: task for ticket, task in self._tasks.items() if not task.gone}
                if time.monotonic() > pinged + PING_SECONDS:
                    pinged = time.monotonic()
                    self._ping()
        finally:
            for task in self._tasks.values():
                task.cancel()
            self._worker.stop(STOP_SECONDS)
            for client, parts in self._outbox.take():
                self._send(client, parts)
            self._authenticator.stop()
            self._router.close()
            self._outbox.close()

    def _send(self, client: bytes, parts: list[Any]) -> None:
        try:
            self._router.send_multipart([client, *parts], copy=False)
        except zmq.ZMQError as error:
            if error.errno != errno.EHOSTUNREACH:
                # a message that cannot be sent is that client's loss, not everybody's
                logger.exception("a message could not be sent")
                return
            for task in self._tasks.values():
                if task.client == client:
                    logger.info("the client of %s is gone", task.ticket)
                    task.forget_client()

    def _ping(self) -> None:
        for task in self._tasks.values():
            if not task.state.ended:
                task.ping()

    def _reply(self, client: bytes, message: Message) -> None:
        self._send(client, encode(message))

    def _answer(self, client: bytes, parts: Sequence[Buffer]) -> None:
        """Handle one message; whatever is wrong with it, the service goes on."""
        try:
            self._dispatch(client, *decode(parts))
        except WireError as error:
            self._reply(client, Failed(code=error.code, message=str(error)))
        except Exception:
            logger.exception("a message could not be handled")
            sentence = f"The backend could not handle a message; why is in its log {logs.find_own()}"
            self._reply(client, Failed(code="internal", message=sentence))

    def _dispatch(self, client: bytes, message: AnyMessage, arrays: dict[str, np.ndarray]) -> None:
        if isinstance(message, Hello):
            self._reply(client, Welcome(version=VERSION, device=self._device, models=tuple(PRESETS)))
        elif isinstance(message, SubmitShot):
            self._submit_shot(client, message)
        elif isinstance(message, MakeMotion):
            self._make_motion(client, message, arrays)
        elif isinstance(message, (SendPasses, FrameTaken, Cancel)):
            self._pass_on(client, message, arrays)
        else:
            self._reply(client, Failed(code="malformed", message="This message goes from backend to client only."))

    def _pass_on(self, client: bytes, message: SendPasses | FrameTaken | Cancel, arrays: dict[str, np.ndarray]) -> None:
        """To the task that a message names; what comes after its end needs no answer, but for a cancel."""
        task = self._tasks.get(message.ticket)
        if task is None or task.client != client or task.state.ended:
            if isinstance(message, Cancel):
                self._reply(client, Cancelled(ticket=message.ticket))
        elif isinstance(message, Cancel):
            task.cancel()
        elif isinstance(task, ShotTask):
            if isinstance(message, SendPasses):
                task.receive_passes(message, arrays)
            else:
                task.receive_taken()

    def _submit_shot(self, client: bytes, message: SubmitShot) -> None:
        try:
            check_request(message.request)
        except ShotError as error:
            self._reply(client, Failed(ticket=message.ticket, code=error.code, message=str(error)))
            return
        task = ShotTask(
            message.ticket,
            client,
            self._outbox,
            message.request,
            message.header,
            self._store,
            transparent=message.cut_out,
        )
        self._start(client, task)

    def _make_motion(self, client: bytes, message: MakeMotion, arrays: dict[str, np.ndarray]) -> None:
        try:
            frame_count(message.request)
            kept = check_kept(message.request, arrays)
        except MotionError as error:
            self._reply(client, Failed(ticket=message.ticket, code="motion", message=str(error)))
            return
        self._start(client, MotionTask(message.ticket, client, self._outbox, message.request, kept))

    def _start(self, client: bytes, task: Task) -> None:
        if task.ticket in self._tasks:
            sentence = "There is a piece of work of that name already; give each a ticket of its own."
            self._reply(client, Failed(ticket=task.ticket, code="ticket", message=sentence))
            return
        self._tasks[task.ticket] = task
        task.start(self._worker)
