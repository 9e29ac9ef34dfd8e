"""A connection to a backend on another machine, without its socket: it packs what is sent, and goes on where it was after a break.

Nothing here uses bpy.
"""

from __future__ import annotations

import queue
import secrets
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from ..shared import messages
from ..shared.streams import StreamError, StreamSender, split_number

make_stream = StreamSender
#: stream of passes, and that of everything else, which does not wait for passes
PASSES: Literal[1] = 1
OTHERS: Literal[0] = 0


class FarLink:
    """One session with a backend. ``send`` and ``waiting_bytes`` are for any thread, all else is for the one of the socket."""

    def __init__(self) -> None:
        self._session = secrets.token_hex(16)
        self._streams = make_stream(), make_stream()
        self._queue: queue.SimpleQueue[tuple[messages.Message, dict[str, np.ndarray]]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._waiting = 0
        #: (stream, where a message ends in it, bytes of its packed arrays) of what is on its way
        self._leaving: deque[tuple[int, int, int]] = deque()
        #: the number of the last message of the backend that has come
        self._heard = self._told = 0
        #: whether the session was open before, and is now
        self.was_open = self.is_open = False

    # -- what is sent -------------------------------------------------------------------------------------------------

    def send(self, message: messages.Message, arrays: Mapping[str, np.ndarray] | None = None) -> None:
        """Queue a message."""
        found = dict(arrays or {})
        with self._lock:
            self._waiting += sum(array.nbytes for array in found.values())
        self._queue.put((message, found))

    @property
    def waiting_bytes(self) -> int:
        """The bytes that wait for the backend to get them: of arrays, or of what they are packed into by now."""
        with self._lock:
            return self._waiting

    @property
    def has_unsent(self) -> bool:
        """Whether anything but passes is still to be sent, or to be known to have come."""
        return not self._queue.empty() or self._streams[OTHERS].taken < self._streams[OTHERS].end

    @property
    def sent_bytes(self) -> int:
        """The bytes of the streams that were sent, those that were sent twice included."""
        return sum(stream.given_out for stream in self._streams)

    def pack_next(self) -> bool:
        """Pack the next message that was queued; False without one."""
        try:
            message, arrays = self._queue.get_nowait()
        except queue.Empty:
            return False
        parts = messages.encode_packed(message, arrays)
        number = PASSES if isinstance(message, messages.SendPasses) else OTHERS
        stream = self._streams[number]
        stream.put([part.reshape(-1).view(np.uint8).data if isinstance(part, np.ndarray) else part for part in parts])
        size = sum(memoryview(part).nbytes for part in parts[1:])
        self._leaving.append((number, stream.end, size))
        with self._lock:
            self._waiting -= sum(array.nbytes for array in arrays.values()) - size
        return True

    def next_message(self) -> list[Any] | None:
        """The parts of what to send next; None while there is nothing, or enough is on its way."""
        if not self.is_open:
            return None
        if self._told < self._heard:
            self._told = self._heard
            return messages.encode(messages.Heard(number=self._heard))
        number: Literal[0, 1]
        for number in (OTHERS, PASSES):
            piece = self._streams[number].next_piece()
            if piece is not None:
                start, data = piece
                return messages.encode(messages.Piece(stream=number, start=start), {"piece": np.frombuffer(data, np.uint8)})
        return None

    def make_opening(self) -> list[Any]:
        """The parts of the first message over a new connection."""
        self.is_open = False
        return messages.encode(messages.OpenSession(session=self._session, resumes=self.was_open, heard=self._heard))

    # -- what comes ---------------------------------------------------------------------------------------------------

    def take_number(self, parts: Sequence[bytes]) -> Sequence[bytes]:
        """The parts of a message without its number; none of one that came before. Raises ``StreamError`` where one is missing."""
        number, parts = split_number(parts)
        if number:
            if number <= self._heard:
                return []
            if number > self._heard + 1:
                raise StreamError("A message of the backend is missing.")
            self._heard = number
        return parts

    def receive(self, message: messages.AnyMessage) -> bool:
        """Take a message about the connection itself; False for others. Raises ``StreamError`` for what cannot be."""
        if isinstance(message, messages.SessionOpen):
            for stream, taken in zip(self._streams, message.taken, strict=True):
                stream.go_on_from(taken)
            self.was_open = self.is_open = True
            self._told = 0
        elif isinstance(message, messages.PieceTaken):
            self._streams[message.stream].acknowledge(message.taken)
        else:
            return False
        self._count_taken()
        return True

    def _count_taken(self) -> None:
        """Forget what the backend has got."""
        taken = sum(size for number, end, size in self._leaving if end <= self._streams[number].taken)
        self._leaving = deque(one for one in self._leaving if one[1] > self._streams[one[0]].taken)
        with self._lock:
            self._waiting -= taken
