"""The socket: a CURVE-encrypted ROUTER on loopback. Its thread checks messages and passes them on to tasks, and nothing else:
no disk, no device, no waiting."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zmq

from ..shared import curve_keys, logs
from ..shared.costume_files import check_files, take_files
from ..shared.curve_keys import KEY
from ..shared.invitation import PairingError
from ..shared.messages import (
    MAX_PART_BYTES,
    AnyMessage,
    ArrivedArrays,
    Buffer,
    Cancel,
    Cancelled,
    ChangeLibrary,
    DescribeModel,
    Failed,
    FetchJob,
    FrameTaken,
    GetModel,
    Heard,
    Hello,
    ListModels,
    MakeMotion,
    Message,
    OpenSession,
    Pair,
    Paired,
    PassesDigest,
    Piece,
    PieceTaken,
    SendPasses,
    SessionOpen,
    ShowModels,
    SubmitShot,
    Welcome,
    WireError,
    clean_words,
    decode,
    decode_header,
    encode,
    receive_parts,
)
from ..shared.motion import MotionError
from ..shared.motion_request import check_kept, frame_count
from ..shared.reference import MAX_BYTES, check_reference
from ..shared.shot import ShotError, check_request
from ..shared.streams import NUMBER, PIECE_BYTES, StreamError
from ..shared.task import TaskState
from ..shared.version import VERSION
from .admission import Authenticator, KnownClients, check_endpoint, find_key
from .clients import ClientList
from .jobs.requests import remove_stale_incoming
from .models.registry import PRESETS
from .pairing import Pairing
from .sessions import PREFIX, Session, SessionBook
from .tasks.describe import DescribeTask
from .tasks.fetch import FetchTask
from .tasks.library import ChangeTask, GetTask, ListTask, ShowTask
from .tasks.motion import MotionTask
from .tasks.outbox import Outbox
from .tasks.resources import ResourceLoader, Resources, make_resources
from .tasks.shot import ShotTask
from .tasks.task import Task
from .tasks.worker import Worker

logger = logs.get_logger(__name__)

POLL_MILLISECONDS = 200
#: how long a peer may take to show that it knows a key; one that does not is dropped, and its file descriptor freed
HANDSHAKE_MILLISECONDS = 3000
#: how often the clients of tasks are spoken to: that shows whether they are still there
PING_SECONDS = 5.0
#: how long to wait after something unexpected, so that what repeats itself does not fill the log
PAUSE_SECONDS = 0.05
#: how long a step may take to end when the service is stopped
STOP_SECONDS = 30.0
#: how long a first client is waited for before the libraries are imported, during which answers may be late
IMPORT_AFTER_SECONDS = 1.0
#: clients that are told of the device as soon as it is known
MOST_TOLD = 1000
#: how long pieces of work are waited for before clients are left alone
LAST_WORDS_SECONDS = 1.0
#: how long the last words to clients may take when the service is stopped
LINGER_MILLISECONDS = 500
#: pieces of work that are not at their end yet; more are refused
MOST_TASKS = 64


_NO_SESSION = "The backend does not know this connection any more; generate again: what is finished is kept."


#: what goes to the task that it names
_OfTask = SendPasses | PassesDigest | FrameTaken | Cancel


class Server:
    """The backend service. ``serve`` returns after ``stop`` or never."""

    def __init__(
        self,
        endpoint: str,
        jobs: Path,
        extra_clients: set[bytes],
        make: Callable[[Path], Resources] = make_resources,
        *,
        pairs: bool = False,
    ) -> None:
        """Binds at once; ``endpoint`` then holds the real address, also for port 0. ``make`` makes what pieces of work are done
        with, in a thread of its own: from the folder of the jobs, once a client has been answered. ``pairs`` makes ``pairing``."""
        self._context = zmq.Context()
        pair = curve_keys.load_or_create(zmq.curve_keypair, derive_public=zmq.curve_public)
        self._clients = ClientList({pair.client_public, *extra_clients})
        check_endpoint(endpoint, has_clients=bool(extra_clients or pairs or self._clients.list_paired()))
        known = KnownClients(self._clients)
        #: lets one more client in, or None
        self.pairing = known.pairing = Pairing(pair.server_public, self._clients) if pairs else None
        self._authenticator = Authenticator(self._context)
        self._authenticator.start()
        self._authenticator.configure_curve_callback(credentials_provider=known)
        self._router = self._context.socket(zmq.ROUTER)
        self._router.linger = LINGER_MILLISECONDS
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
        #: where the jobs are
        self.jobs = jobs
        #: what is loaded while clients are answered already
        self.loader = ResourceLoader(lambda: make(jobs))
        self._outbox, self._worker = Outbox(self._context), Worker(self.loader)
        #: clients on other machines, whose connections may break
        self._sessions = SessionBook()
        #: clients to be told of the device, in their order
        self._untold: dict[bytes, None] = {}
        self._has_answered = self._has_told = False
        self._tasks: dict[str, Task] = {}
        #: the key of whoever has sent the message that is being answered
        self._sender_key = b""
        self._pinged = 0.0
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Ask ``serve`` to return; safe from a signal handler."""
        self._stopping.set()

    def serve(self, closing: Callable[[], None] = lambda: None, ready: Callable[[], None] = lambda: None) -> None:
        """Answer clients until stopped; ``closing`` is called as soon as that is asked for, ``ready`` as soon as the libraries are
        imported and the device is known. Where that fails the service stops, and ``loader.error`` says why.

        An exception in one part of a round ends nothing but that part.
        """
        self._worker.start()
        threading.Thread(target=remove_stale_incoming, args=(self.jobs,), name="clean", daemon=True).start()
        poller = zmq.Poller()
        poller.register(self._router, zmq.POLLIN)
        poller.register(self._outbox.readable, zmq.POLLIN)
        began = self._pinged = time.monotonic()
        try:
            while not self._stopping.is_set():
                self._attempt(lambda: poller.poll(POLL_MILLISECONDS))
                self._attempt(self._send_waiting)
                self._attempt(self._receive)
                self._attempt(self._look_after_tasks)
                if self._has_answered or time.monotonic() > began + IMPORT_AFTER_SECONDS:
                    self._attempt(lambda: self._look_after_loading(ready))
        finally:
            self._attempt(closing)
            for task in list(self._tasks.values()):
                self._attempt(task.leave)
            self._attempt(self._send_last_words)
            # another backend may have the address from now on; the last words still go out, which they would not after unbinding
            self._router.close()
            end = time.monotonic() + STOP_SECONDS
            self._worker.stop(STOP_SECONDS)
            # a thread that is still at work when Python ends takes the process down with an abort
            for task in list(self._tasks.values()):
                task.wait(max(end - time.monotonic(), 0.0))
            self._attempt(self.loader.close)
            self._authenticator.stop()
            self._outbox.close()
            self._attempt(lambda: self._context.destroy(linger=LINGER_MILLISECONDS))

    def _attempt(self, part: Callable[[], object]) -> None:
        """Do a part of a round; what nobody foresaw goes to the log, and the service goes on."""
        try:
            part()
        except Exception:
            logger.exception("the service met something unexpected and goes on")
            self._stopping.wait(PAUSE_SECONDS)

    def _send_waiting(self) -> None:
        for client, parts, is_passing in self._outbox.take():
            self._send(client, parts, is_passing=is_passing)

    def _receive(self) -> None:
        """Take one message, if there is one, and answer it."""
        if not self._router.poll(0):
            return
        # passes are large: their buffers are used as they came in
        sender, *parts = receive_parts(self._router)
        buffers = [part.buffer if isinstance(part, zmq.Frame) else part for part in parts]
        key, route = find_key(sender), sender.bytes
        if route.startswith(PREFIX):
            return  # a connection that calls itself by the name of a session
        session = self._sessions.find(route, key)
        if self._clients.knows(key):
            self._sender_key = key
            if session is None:
                self._answer(route, buffers)
            else:
                self._answer(session.handle, buffers)
        elif self.pairing is not None and self.pairing.is_own(key):
            self._pair(self.pairing, route, buffers)
        else:
            self._refuse_forgotten(route, session)

    def _pair(self, pairing: Pairing, client: bytes, parts: Sequence[Buffer]) -> None:
        """Answer one who has the text for pairing and is not known otherwise."""
        try:
            message, _ = decode(parts)
            if not isinstance(message, Pair):
                raise PairingError("Whoever has the text for pairing can do nothing with it but pair.")
            key = message.key.encode("utf-8", "backslashreplace")
            if not KEY.fullmatch(key):
                raise PairingError("That is not a client's key; update the extension to the backend's version.")
            pairing.take(key, "".join(letter for letter in message.name if letter.isprintable()) or "a client")
            self._reply(client, Paired())
        except WireError as error:
            self._reply(client, Failed(code=error.code, message=clean_words(str(error))))
        except (PairingError, curve_keys.KeysError) as error:
            self._reply(client, Failed(code="pairing", message=clean_words(str(error))))

    def _refuse_forgotten(self, route: bytes, session: Session | None) -> None:
        """Answer a client that was let in and has been forgotten since; what it asked for ends."""
        client = route if session is None else session.handle
        for task in self._tasks.values():
            if task.client == client:
                task.cancel()
        if session is not None:
            self._sessions.end(session)
        self._reply(route, Failed(code="forgotten", message="The backend does not let this machine in any more; pair again."))

    def _look_after_tasks(self) -> None:
        self._tasks = {ticket: task for ticket, task in self._tasks.items() if not task.gone}
        self._look_after_sessions()
        if time.monotonic() > self._pinged + PING_SECONDS:
            self._pinged = time.monotonic()
            self._ping()

    def _look_after_sessions(self) -> None:
        """Let go of clients that do not come back, and of what holds up others meanwhile."""
        for session in self._sessions.take_expired(time.monotonic()):
            logger.info("a client that was interrupted did not come back")
            self._forget_client(session.handle)
        gone = {session.handle for session in self._sessions.list_gone()}
        if not gone or not self._worker.has_waiting:
            return
        for task in self._tasks.values():
            if task.client in gone and task.state is TaskState.RUNNING and isinstance(task, ShotTask) and task.awaits_passes:
                task.give_way()

    def _send_last_words(self) -> None:
        """Send what tasks say at their end, as far as they end soon."""
        end = time.monotonic() + LAST_WORDS_SECONDS
        while not all(task.gone for task in self._tasks.values()) and time.monotonic() < end:
            self._outbox.readable.poll(POLL_MILLISECONDS)
            self._send_waiting()
        self._send_waiting()

    def _look_after_loading(self, ready: Callable[[], None]) -> None:
        """Begin to import the libraries, tell of the device when it is known, and stop when there will be none."""
        self.loader.start()
        if not self.loader.ended or self._has_told:
            return
        self._has_told = True
        if self.loader.refusal is not None:
            for task in list(self._tasks.values()):
                task.fail(self.loader.refusal)
            self.stop()
            return
        logger.info("The libraries are imported; models run on %s", self.loader.device)
        ready()
        for client in self._untold:
            self._reply(client, self._make_welcome())
        self._untold.clear()

    def _make_welcome(self) -> Welcome:
        return Welcome(version=VERSION, device=self.loader.device, models=tuple(PRESETS))

    def _welcome(self, client: bytes) -> None:
        self._reply(client, self._make_welcome())
        if not self._has_told and len(self._untold) < MOST_TOLD:
            self._untold[client] = None

    def _send(self, client: bytes, parts: list[Any], *, is_passing: bool = False) -> None:
        """Send a message. One for a client that was interrupted waits for it, unless it is about what will have passed by then."""
        session = self._sessions.get(client)
        if session is None:
            # what is for a session that has been forgotten is for nobody
            if not client.startswith(PREFIX) and not self._send_over(client, parts):
                self._forget_client(client)
            return
        self._send_in(session, 0 if is_passing else session.outbox.add(parts), parts)

    def _send_in(self, session: Session, number: int, parts: list[Any]) -> None:
        """Send a message of a session if it has a connection."""
        if session.route is not None and not self._send_over(session.route, [NUMBER.pack(number), *parts]):
            logger.info("the connection to a client is interrupted")
            self._sessions.leave(session, time.monotonic())

    def _send_over(self, route: bytes, parts: list[Any]) -> bool:
        """Send over a connection; False when it is gone."""
        try:
            self._router.send_multipart([route, *parts], copy=False)
        except zmq.ZMQError as error:
            if error.errno == errno.EHOSTUNREACH:
                return False
            # a message that cannot be sent is that client's loss, not everybody's
            logger.exception("a message could not be sent")
        return True

    def _forget_client(self, client: bytes) -> None:
        for task in self._tasks.values():
            if task.client == client:
                logger.info("the client of %s is gone", task.ticket)
                task.forget_client()

    def _ping(self) -> None:
        for task in self._tasks.values():
            if not task.state.ended:
                task.ping()
        for session in self._sessions.list_connected():
            self._send_in(session, 0, encode(PieceTaken(stream=0, taken=session.taken[0])))

    def _reply(self, client: bytes, message: Message) -> None:
        self._send(client, encode(message))

    def _answer(self, client: bytes, parts: Sequence[Buffer], *, in_stream: bool = False) -> None:
        """Handle one message. One that cannot be handled ends the piece of work that it is about, and nothing else."""
        ticket, self._has_answered = "", True
        try:
            message, arrived = decode_header(parts)
            ticket = getattr(message, "ticket", "")
            if isinstance(message, (OpenSession, Piece, Heard)):
                if in_stream:
                    raise WireError("malformed", "A message about the connection does not come in one of its streams.")
                self._go_on_with_session(client, message, arrived)
            elif isinstance(message, SendPasses):
                # whoever needs them unpacks them
                self._pass_on(client, message, arrived)
            else:
                self._dispatch(client, message, arrived.read())
        except WireError as error:
            self._refuse(client, error.ticket, ShotError(error.code, str(error)))
        except Exception:
            logger.exception("a message could not be handled")
            sentence = f"The backend could not handle a message; why is in its log {logs.find_own()}"
            self._refuse(client, ticket, ShotError("internal", sentence))

    def _go_on_with_session(self, client: bytes, message: OpenSession | Piece | Heard, arrived: ArrivedArrays) -> None:
        session = self._sessions.get(client)
        if isinstance(message, OpenSession):
            if session is not None:
                raise WireError("malformed", "This connection has a session already; open another connection for another one.")
            self._open_session(client, message)
        elif session is None:
            self._reply(client, Failed(code="session", message=_NO_SESSION))
        elif isinstance(message, Heard):
            session.outbox.forget(message.number)
        else:
            self._take_piece(session, message, arrived)

    def _open_session(self, route: bytes, message: OpenSession) -> None:
        left = self._sessions.make_room(self._sender_key, message)
        if left is not None:
            self._forget_client(left.handle)
        session = self._sessions.open(route, self._sender_key, message)
        if session is None:
            self._reply(route, Failed(code="session", message=_NO_SESSION))
            return
        self._send_in(session, 0, encode(SessionOpen(taken=session.taken)))
        for number, parts in session.outbox.list_kept():
            self._send_in(session, number, parts)

    def _take_piece(self, session: Session, message: Piece, arrived: ArrivedArrays) -> None:
        if arrived.size > PIECE_BYTES:
            # before it is unpacked; and all that is in one piece is answered in one round
            raise WireError("malformed", f"A piece has {PIECE_BYTES} bytes at most, not {arrived.size}.")
        piece = arrived.read().get("piece")
        if piece is None or piece.dtype != np.uint8 or piece.ndim != 1:
            raise WireError("malformed", "The message lacks the piece that it announces.")
        stream = session.streams[message.stream]
        try:
            found = stream.add(message.start, piece.data)
        except StreamError as error:
            # nobody can tell where the next message begins
            self._send(session.handle, encode(Failed(code="session", message=clean_words(str(error)))), is_passing=True)
            self._forget_client(session.handle)
            self._sessions.end(session)
            return
        self._send(session.handle, encode(PieceTaken(stream=message.stream, taken=stream.taken)), is_passing=True)
        for parts in found:
            self._answer(session.handle, parts, in_stream=True)

    def _refuse(self, client: bytes, ticket: str, error: ShotError) -> None:
        task = self._tasks.get(ticket)
        if task is not None and task.client == client and not task.state.ended:
            task.fail(error)
        else:
            self._reply(client, Failed(ticket=ticket, code=error.code, message=clean_words(str(error))))

    def _dispatch(self, client: bytes, message: AnyMessage, arrays: dict[str, np.ndarray]) -> None:
        if isinstance(message, Hello):
            self._welcome(client)
        elif isinstance(message, SubmitShot):
            self._submit_shot(client, message, arrays)
        elif isinstance(message, FetchJob):
            task: Task = FetchTask(
                message.ticket, client, self._outbox, message.job, transparent=message.cut_out, crop=message.crop
            )
            self._start(client, task)
        elif isinstance(message, DescribeModel):
            task = DescribeTask(message.ticket, client, self._outbox, message.model, download=message.download)
            self._start(client, task)
        elif isinstance(message, MakeMotion):
            self._make_motion(client, message, arrays)
        elif isinstance(message, (ListModels, ShowModels, GetModel, ChangeLibrary)):
            self._start(client, self._make_library_task(client, message))
        elif isinstance(message, (PassesDigest, FrameTaken, Cancel)):
            self._pass_on(client, message)
        else:
            self._reply(client, Failed(code="malformed", message="This message goes from backend to client only."))

    def _make_library_task(self, client: bytes, message: ListModels | ShowModels | GetModel | ChangeLibrary) -> Task:
        if isinstance(message, ListModels):
            return ListTask(message.ticket, client, self._outbox, message)
        if isinstance(message, ShowModels):
            return ShowTask(message.ticket, client, self._outbox, message)
        if isinstance(message, GetModel):
            return GetTask(message.ticket, client, self._outbox, message)
        return ChangeTask(message.ticket, client, self._outbox, message)

    def _pass_on(self, client: bytes, message: _OfTask, arrived: ArrivedArrays | None = None) -> None:
        """To the task that a message names; what comes after its end needs no answer, but for a cancel."""
        task = self._tasks.get(message.ticket)
        if task is None or task.client != client or task.state.ended:
            if isinstance(message, Cancel):
                self._reply(client, Cancelled(ticket=message.ticket))
        elif isinstance(message, Cancel):
            task.cancel()
        elif isinstance(message, PassesDigest):
            if isinstance(task, ShotTask):
                task.receive_digest(message)
        elif isinstance(message, SendPasses):
            if isinstance(task, ShotTask) and arrived is not None:
                task.receive_passes(message, arrived)
        elif isinstance(task, (ShotTask, FetchTask)):
            task.receive_taken()

    def _submit_shot(self, client: bytes, message: SubmitShot, arrays: dict[str, np.ndarray]) -> None:
        reference = arrays["reference"].reshape(-1)[: MAX_BYTES + 1].tobytes() if "reference" in arrays else b""
        look = arrays["look"].reshape(-1).tobytes() if "look" in arrays else b""
        files = take_files(arrays)
        try:
            check_request(message.request)
            check_reference(message.request, reference)
            check_files(message.request, files)
        except ShotError as error:
            self._refuse_new(client, message.ticket, error)
            return
        task = ShotTask(
            message.ticket,
            client,
            self._outbox,
            message.request,
            message.header,
            transparent=message.cut_out,
            crop=message.crop,
            reference=reference,
            look=look,
            costume=files,
            only_look=message.only_look,
            scene=message.scene,
            drafts=message.drafts,
            priority=message.priority,
            is_far=self._sessions.get(client) is not None,
        )
        self._start(client, task)

    def _make_motion(self, client: bytes, message: MakeMotion, arrays: dict[str, np.ndarray]) -> None:
        try:
            frame_count(message.request)
            kept = check_kept(message.request, arrays)
        except MotionError as error:
            self._refuse_new(client, message.ticket, ShotError("motion", str(error)))
            return
        self._start(client, MotionTask(message.ticket, client, self._outbox, message.request, kept))

    def _start(self, client: bytes, task: Task) -> None:
        if task.ticket in self._tasks:
            sentence = "There is a piece of work of that name already; give each a ticket of its own."
            self._refuse_new(client, task.ticket, ShotError("ticket", sentence))
            return
        # one that has ended may need a moment until its thread has, too
        under_way = sum(not one.state.ended for one in self._tasks.values())
        if under_way >= MOST_TASKS or len(self._tasks) >= 4 * MOST_TASKS:
            sentence = f"{MOST_TASKS} pieces of work are under way already; wait until some are finished, or cancel some."
            self._refuse_new(client, task.ticket, ShotError("busy", sentence))
            return
        self._tasks[task.ticket] = task
        task.owner = self._sender_key
        try:
            task.start(self._worker)
        except Exception as error:  # no more threads, for one
            task.fail(error)

    def _refuse_new(self, client: bytes, ticket: str, error: ShotError) -> None:
        """Answer a request that is not taken; a piece of work of its name that is under way goes on."""
        self._reply(client, Failed(ticket=ticket, code=error.code, message=clean_words(str(error))))
