"""The socket to the backend: a thread owns it and puts typed events into a queue, which the main thread empties.

Nothing here uses bpy.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import zmq
from zmq.utils.monitor import recv_monitor_message

from ..shared import curve_keys, key_entries, logs, messages, running
from ..shared.endpoint import is_loopback, normalise_endpoint
from ..shared.streams import TRY_SECONDS, StreamError
from .far_link import FarLink
from .render_gate import gate, keep_from_renders, wakers

CONNECT_SECONDS = 10.0
#: how long to wait before a connection that broke is tried again, and how long its silence may be
AGAIN_SECONDS, HEARTBEAT_MILLISECONDS, SILENCE_MILLISECONDS = 0.2, 5000, 15_000
#: what only wakes the thread
_WAKE = b"\0"
#: how long the last words, such as a cancel, may take to go out
LINGER_MILLISECONDS = 500
logger = logs.get_logger(__name__)
UNKNOWN_KEY = "The backend does not know this user's key; start it as the same user, or pair with it."
STOPPED = "The backend stopped; finished frames are kept. Start it and generate again to continue."
BROKEN = (
    "The connection to the backend broke and did not come back, or the backend was started again; finished frames are kept. "
    "Generate again to continue."
)


def _choose_server_key(endpoint: str, own: bytes) -> bytes:
    """The public key of the backend that is expected at an address: of the one that was paired with there, or this user's own.
    Raises ``KeysError``."""
    # at the near end of a tunnel there may be a backend of this user's own another time
    if is_loopback(endpoint) and running.find_running(endpoint) is not None:
        return own
    return key_entries.find_backend_key(endpoint) or own


@dataclass(frozen=True)
class Event:
    """A message of the backend with its arrays."""

    message: messages.AnyMessage
    arrays: dict[str, np.ndarray]


@dataclass(frozen=True)
class ConnectionLost:
    """The connection broke, or the backend never answered; ``reason`` is a sentence for the user."""

    reason: str


@dataclass(frozen=True)
class Unreadable:
    """The backend sent something that cannot be read and names no piece of work; ``reason`` is a sentence for the user."""

    reason: str


@dataclass(frozen=True)
class ConnectionInterrupted:
    """The connection broke and is tried again, or, with ``is_over``, is there again; nothing is lost."""

    is_over: bool = False
    reason: str = "The connection to the backend was interrupted; it is tried again."


AnyEvent = Event | ConnectionLost | ConnectionInterrupted | Unreadable


class BackendClient:
    """A connection to one backend. Every method may be called from the main thread; none blocks.

    To a backend on another machine arrays are packed, and a connection that breaks goes on where it was. One of this user's own on
    this machine needs neither.
    """

    def __init__(self, endpoint: str) -> None:
        """Start to connect; ``ConnectionLost`` arrives as an event if no backend answers in time."""
        self.endpoint = normalise_endpoint(endpoint)
        self.events: queue.SimpleQueue[AnyEvent] = queue.SimpleQueue()
        #: why there can be no connection, "" where there can
        self._refusal = ""
        #: whether an interruption was told that is not over
        self._reported_break = False
        #: set for a backend on another machine
        self.link: FarLink | None = None
        try:
            self._keys = curve_keys.load_or_create(zmq.curve_keypair, derive_public=zmq.curve_public)
            self._server_key = _choose_server_key(self.endpoint, self._keys.server_public)
        except (OSError, ValueError) as error:
            self._refusal = f"The backend cannot be connected to. {error}"
        else:
            # the near end of a tunnel is on this machine, what listens at its other end is not: it has another key
            if not is_loopback(self.endpoint) or self._server_key != self._keys.server_public:
                self.link = FarLink()
        keep_from_renders()
        self._context = zmq.Context()
        address = f"inproc://outgoing-{id(self)}"
        self._sender = self._context.socket(zmq.PAIR)
        self._sender.sndhwm = 0
        self._sender.bind(address)
        self._outgoing = self._context.socket(zmq.PAIR)
        self._outgoing.connect(address)
        self._is_closed = False
        #: arrays that are on their way: what tells when they have gone out, and their bytes
        self._leaving: deque[tuple[zmq.MessageTracker, int]] = deque()
        self._thread = threading.Thread(target=self._run, name="latentman-client", daemon=True)
        self._thread.start()
        wakers.append(self._wake)
        self.send(messages.Hello())

    def _wake(self) -> None:
        """Have the thread come to the gate, where it rests."""
        self._enqueue([_WAKE])

    def send(self, message: messages.Message, arrays: dict[str, np.ndarray] | None = None) -> None:
        """Queue a message; ``ConnectionLost`` arrives as an event if it cannot be delivered."""
        if self._is_closed:
            return
        if self.link is not None:
            self.link.send(message, arrays)
            self._wake()
            return
        parts = messages.encode(message, arrays)
        if arrays:
            frames = [zmq.Frame(part, track=True, copy=False) for part in parts[1:]]
            # some versions of pyzmq declare a tuple
            make_tracker: Any = zmq.MessageTracker
            self._leaving.append((make_tracker(*frames), sum(array.nbytes for array in arrays.values())))
            parts[1:] = frames
        self._enqueue(parts)

    @property
    def waiting_bytes(self) -> int:
        """The bytes of arrays that were given to ``send`` and still wait in memory for their turn on the wire."""
        if self.link is not None:
            return self.link.waiting_bytes
        while self._leaving and self._leaving[0][0].done:
            self._leaving.popleft()
        return sum(size for _, size in self._leaving)

    def _enqueue(self, parts: list[Any]) -> None:
        # after a lost connection the thread has ended and receives nothing; waiting for it would block the window
        with suppress(zmq.Again):
            self._sender.send_multipart(parts, zmq.DONTWAIT, copy=False)

    def close(self) -> None:
        """Close the connection, without waiting for that; a second call does nothing."""
        if self._is_closed:
            return
        self._is_closed = True
        wakers.remove(self._wake)
        self._enqueue([b""])
        self._sender.close()
        # what is still to be sent goes out meanwhile
        threading.Thread(target=self._clear_up, name="latentman-client-end", daemon=True).start()

    def _clear_up(self) -> None:
        self._thread.join()
        self._context.destroy()

    def _run(self) -> None:
        """The thread. Whatever ends it, the main thread hears of it."""
        try:
            self._talk()
        except Exception as error:
            logger.exception("the connection to the backend broke")
            self.events.put(
                ConnectionLost(
                    f"The connection to the backend broke unexpectedly ({type(error).__name__}: {error}); "
                    f"more is in {logs.find_own()}"
                )
            )

    def _talk(self) -> None:
        if self._refusal:
            self._outgoing.close(0)
            self.events.put(ConnectionLost(self._refusal))
            return
        try:
            if self.link is None:
                self._talk_near()
            else:
                self._talk_far(self.link)
        finally:
            self._outgoing.close(0)

    @contextmanager
    def _connect(self) -> Iterator[tuple[Any, Any, zmq.Poller]]:
        """A socket, its monitor, and what polls both and what is to be sent."""
        socket = self._context.socket(zmq.DEALER)
        socket.linger, socket.sndhwm, socket.rcvhwm = LINGER_MILLISECONDS, 0, 0
        socket.setsockopt(zmq.MAXMSGSIZE, messages.MAX_PART_BYTES)
        socket.curve_serverkey = self._server_key
        socket.curve_publickey, socket.curve_secretkey = self._keys.client_public, self._keys.client_secret
        if self.link is not None:
            socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MILLISECONDS)
            socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, SILENCE_MILLISECONDS)
        monitor = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_FAILED_AUTH)
        poller = zmq.Poller()
        try:
            socket.connect(self.endpoint)
            for one in (socket, monitor, self._outgoing):
                poller.register(one, zmq.POLLIN)
            yield socket, monitor, poller
        finally:
            socket.disable_monitor()
            monitor.close(0)
            socket.close()

    def _talk_near(self) -> None:
        with self._connect() as (socket, monitor, poller):
            answered, deadline = False, time.monotonic() + CONNECT_SECONDS
            while True:
                ready = dict(poller.poll(200))
                with gate:
                    if socket in ready:
                        answered = True
                        self._receive([bytes(part) for part in messages.receive_parts(socket)])
                    if monitor in ready and self._check_event(recv_monitor_message(monitor), answered):
                        return
                    if self._outgoing in ready:
                        # passes are large: what is handed on is not copied
                        parts = self._outgoing.recv_multipart(copy=False)
                        if len(parts) == 1 and not parts[0].bytes:
                            return
                        if len(parts) > 1 or parts[0].bytes != _WAKE:
                            socket.send_multipart(parts, copy=False)
                        del parts
                    if not answered and time.monotonic() > deadline:
                        self.events.put(ConnectionLost(self._explain_silence()))
                        return

    def _explain_silence(self) -> str:
        return f"No backend answers at {self.endpoint}; press Start or check the address in the preferences."

    # -- to another machine -------------------------------------------------------------------------------------------

    def _talk_far(self, link: FarLink) -> None:
        """Connect, and again whenever the connection breaks, until it is closed or has been away for too long."""
        # while there is no session: until when one is waited for
        deadline = time.monotonic() + CONNECT_SECONDS
        while True:
            with self._connect() as (socket, monitor, poller):
                socket.send_multipart(link.make_opening())
                goes_on = self._talk_in_session(link, socket, monitor, poller, deadline)
                # what was not sent yet is sent in the next one
                socket.linger = LINGER_MILLISECONDS if not goes_on else 0
            if not goes_on:
                return
            link.is_open = False
            if link.was_open and not self._reported_break:
                self._reported_break, deadline = True, time.monotonic() + TRY_SECONDS
                self.events.put(ConnectionInterrupted())
            elif time.monotonic() > deadline:
                self._give_up(link)
                return
            time.sleep(AGAIN_SECONDS)

    def _give_up(self, link: FarLink) -> None:
        self.events.put(ConnectionLost(BROKEN if link.was_open else self._explain_silence()))

    def _talk_in_session(self, link: FarLink, socket: Any, monitor: Any, poller: zmq.Poller, deadline: float) -> bool:
        """Talk over one connection; returns whether it broke and is to be tried again."""
        closing = 0.0
        while True:
            ready = dict(poller.poll(200))
            with gate:
                if socket in ready and (outcome := self._receive_far(link, socket)) is not None:
                    return outcome
                if monitor in ready:
                    event = recv_monitor_message(monitor)["event"]
                    if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                        self.events.put(ConnectionLost(UNKNOWN_KEY))
                        return False
                    return not closing
                if self._outgoing in ready and not self._outgoing.recv():
                    closing = time.monotonic() + LINGER_MILLISECONDS / 1000
            while True:
                # one at a time: packing takes a while, in which a render of the main thread may begin
                with gate:
                    packed = link.pack_next()
                    while (parts := link.next_message()) is not None:
                        socket.send_multipart(parts)
                if not packed:
                    break
            if closing and (not link.has_unsent or time.monotonic() > closing):
                return False
            if not link.is_open and time.monotonic() > deadline:
                self._give_up(link)
                return False

    def _receive_far(self, link: FarLink, socket: Any) -> bool | None:
        """Take a message; None, or whether the connection is to be tried again."""
        try:
            parts = link.take_number([bytes(part) for part in messages.receive_parts(socket)])
            event = self._read(parts) if parts else None
            if event is None:
                return None
            message = event.message
            was_open = link.is_open
            if link.receive(message):
                if link.is_open and not was_open and self._reported_break:
                    self._reported_break = False
                    self.events.put(ConnectionInterrupted(is_over=True))
                return None
        except StreamError as error:
            logger.error("the connection does not go on: %s", error)
            self.events.put(ConnectionLost(BROKEN))
            return False
        if isinstance(message, messages.Failed) and message.code == "session":
            self.events.put(ConnectionLost(BROKEN))
            return False
        self.events.put(event)
        return None

    def _receive(self, parts: list[bytes]) -> None:
        """Hand a message on."""
        event = self._read(parts)
        if event is not None:
            self.events.put(event)

    def _read(self, parts: Sequence[bytes]) -> Event | None:
        """A message. One that cannot be read ends the piece of work that it is about, or all where it names none."""
        try:
            return Event(*messages.decode(parts))
        except messages.WireError as error:
            code, sentence, ticket = error.code, str(error), error.ticket
        except Exception as error:  # the thread is there for the other messages, too
            logger.exception("a message could not be read")
            code, sentence, ticket = "malformed", f"It cannot be read ({type(error).__name__}: {error}).", ""
        if code == "protocol":
            return Event(messages.Failed(code=code, message=sentence), {})
        logger.error("the backend sent a message that cannot be read: %s", sentence)
        told = f"The backend sent something that cannot be read: {sentence} Generate again; what is finished is kept."
        if ticket:
            return Event(messages.Failed(ticket=ticket, code=code, message=told), {})
        self.events.put(Unreadable(told))
        return None

    def _check_event(self, event: Mapping[str, Any], answered: bool) -> bool:
        """Report a connection that broke or was refused; returns whether it did."""
        if event["event"] == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            self.events.put(ConnectionLost(UNKNOWN_KEY))
            return True
        if event["event"] == zmq.EVENT_DISCONNECTED and answered:
            self.events.put(ConnectionLost(STOPPED))
            return True
        return False
