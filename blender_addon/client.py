"""The socket to the backend: a thread owns it and puts typed events into a queue, which the main thread empties.

Nothing here uses bpy.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import zmq
from zmq.utils.monitor import recv_monitor_message

from ..shared import curve_keys, key_entries, logs, messages, running
from ..shared.endpoint import is_loopback, normalise_endpoint
from .render_gate import gate

CONNECT_SECONDS = 10.0
#: how long the last words, such as a cancel, may take to go out
LINGER_MILLISECONDS = 500
logger = logs.get_logger(__name__)


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


class BackendClient:
    """A connection to one backend. Every method may be called from the main thread; none blocks."""

    def __init__(self, endpoint: str) -> None:
        """Start to connect; ``ConnectionLost`` arrives as an event if no backend answers in time."""
        self.endpoint = normalise_endpoint(endpoint)
        self.events: queue.SimpleQueue[Event | ConnectionLost | Unreadable] = queue.SimpleQueue()
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
        self.send(messages.Hello())

    def send(self, message: messages.Message, arrays: dict[str, np.ndarray] | None = None) -> None:
        """Queue a message; ``ConnectionLost`` arrives as an event if it cannot be delivered."""
        if self._is_closed:
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
        outgoing = self._outgoing
        try:
            pair = curve_keys.load_or_create(zmq.curve_keypair, derive_public=zmq.curve_public)
            server_key = _choose_server_key(self.endpoint, pair.server_public)
        except (OSError, ValueError) as error:
            outgoing.close(0)
            self.events.put(ConnectionLost(f"The backend cannot be connected to. {error}"))
            return
        socket = self._context.socket(zmq.DEALER)
        socket.linger, socket.sndhwm, socket.rcvhwm = LINGER_MILLISECONDS, 0, 0
        socket.setsockopt(zmq.MAXMSGSIZE, messages.MAX_PART_BYTES)
        socket.curve_serverkey = server_key
        socket.curve_publickey, socket.curve_secretkey = pair.client_public, pair.client_secret
        monitor = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_FAILED_AUTH)
        poller = zmq.Poller()
        try:
            socket.connect(self.endpoint)
            for one in (socket, monitor, outgoing):
                poller.register(one, zmq.POLLIN)
            answered, deadline = False, time.monotonic() + CONNECT_SECONDS
            while True:
                ready = dict(poller.poll(200))
                with gate:
                    if socket in ready:
                        answered = True
                        self._receive([bytes(part) for part in messages.receive_parts(socket)])
                    if monitor in ready and self._check_event(recv_monitor_message(monitor), answered):
                        return
                    if outgoing in ready:
                        # passes are large: what is handed on is not copied
                        parts = outgoing.recv_multipart(copy=False)
                        if len(parts) == 1 and not parts[0].bytes:
                            return
                        socket.send_multipart(parts, copy=False)
                        del parts
                    if not answered and time.monotonic() > deadline:
                        self.events.put(
                            ConnectionLost(
                                f"No backend answers at {self.endpoint}; press Start or check the address in the preferences."
                            )
                        )
                        return
        finally:
            socket.disable_monitor()
            monitor.close(0)
            outgoing.close(0)
            socket.close()

    def _receive(self, parts: list[bytes]) -> None:
        """Hand a message on. One that cannot be read ends the piece of work that it is about, or all where it names none."""
        try:
            self.events.put(Event(*messages.decode(parts)))
            return
        except messages.WireError as error:
            code, sentence, ticket = error.code, str(error), error.ticket
        except Exception as error:  # the thread is there for the other messages, too
            logger.exception("a message could not be read")
            code, sentence, ticket = "malformed", f"It cannot be read ({type(error).__name__}: {error}).", ""
        if code == "protocol":
            self.events.put(Event(messages.Failed(code=code, message=sentence), {}))
            return
        logger.error("the backend sent a message that cannot be read: %s", sentence)
        told = f"The backend sent something that cannot be read: {sentence} Generate again; what is finished is kept."
        self.events.put(Event(messages.Failed(ticket=ticket, code=code, message=told), {}) if ticket else Unreadable(told))

    def _check_event(self, event: Mapping[str, Any], answered: bool) -> bool:
        """Report a connection that broke or was refused; returns whether it did."""
        if event["event"] == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            self.events.put(
                ConnectionLost("The backend does not know this user's key; start it as the same user, or pair with it.")
            )
            return True
        if event["event"] == zmq.EVENT_DISCONNECTED and answered:
            self.events.put(
                ConnectionLost("The backend stopped; finished frames are kept. Start it and generate again to continue.")
            )
            return True
        return False
