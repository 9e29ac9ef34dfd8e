"""Messages on their way to clients: any thread puts them in, the socket's thread takes them out."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import zmq

from ...shared.messages import Draft, Message, Ping, Progress, encode

ADDRESS = "inproc://outbox"
#: messages about what will have passed when a client that was interrupted comes back
_PASSING = (Draft, Ping, Progress)


class Outbox:
    """A queue with a socket that becomes readable when something is in it."""

    def __init__(self, context: zmq.Context[Any]) -> None:
        self._queue: queue.SimpleQueue[tuple[bytes, list[Any], bool]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        #: to be polled
        self.readable = context.socket(zmq.PAIR)
        self.readable.bind(ADDRESS)
        self._wake = context.socket(zmq.PAIR)
        self._wake.connect(ADDRESS)
        self._closed = False

    def put(self, client: bytes, message: Message, arrays: Mapping[str, np.ndarray] | None = None) -> None:
        """Send a message to a client."""
        self._queue.put((client, encode(message, arrays), isinstance(message, _PASSING)))
        with self._lock, suppress(zmq.Again):  # a full socket is readable already
            if not self._closed:
                self._wake.send(b"", zmq.DONTWAIT)

    def take(self) -> Iterator[tuple[bytes, list[Any], bool]]:
        """(client, message parts, whether it need not be told later) of everything that waits."""
        with suppress(zmq.Again):
            while True:
                self.readable.recv(zmq.DONTWAIT)
        while not self._queue.empty():
            yield self._queue.get()

    def close(self) -> None:
        """Nothing is sent any more."""
        with self._lock:
            self._closed = True
            self._wake.close(0)
        self.readable.close(0)
