"""A connection that may break and goes on where it was: what one side has sent and the other has not got yet is sent again.

Messages become one stream of bytes, which travels in pieces. The receiver says how far it has come; after a break it says so again,
and the sender goes on from there. No sockets here, and no clock.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

from .messages import MAX_BYTES, MAX_HEADER_BYTES, MAX_PARTS, Buffer

#: bytes of a piece, and bytes that are on their way before the first of them are known to have come: no more than these are sent
#: twice after a break. 20 MB/s where an answer takes 50 ms
PIECE_BYTES, WINDOW_BYTES = 128 << 10, 1 << 20
#: how long a backend keeps a session whose client is gone, and how long that tries to come back
KEEP_SECONDS, TRY_SECONDS = 120.0, 90.0
#: in front of a backend's message in a session: its number, 0 for what need not be told again
NUMBER = struct.Struct("<Q")
_COUNT, _LENGTH = struct.Struct("<H"), struct.Struct("<I")


class StreamError(ValueError):
    """The other side does not keep to the rules."""


def split_number(parts: Sequence[Any]) -> tuple[int | None, Sequence[Any]]:
    """(number, parts) of a backend's message; None for one outside a session, which has none in front."""
    if not parts or len(parts[0]) != NUMBER.size:
        return None, parts
    return int(NUMBER.unpack(parts[0])[0]), parts[1:]


class StreamSender:
    """The sending end. ``end`` is the number of bytes that were put in so far, ``taken`` how many the other side has."""

    def __init__(self, piece: int = PIECE_BYTES, window: int = WINDOW_BYTES) -> None:
        self._piece, self._window = piece, window
        #: from ``taken`` on
        self._buffers: deque[memoryview] = deque()
        self.taken = self.end = 0
        self._sent = 0
        #: all bytes that were given out, those that were sent twice included
        self.given_out = 0

    def put(self, parts: Sequence[Buffer]) -> None:
        """Send a message. Its parts must not change until they are taken."""
        views = [memoryview(part).cast("B") for part in parts]
        head = _COUNT.pack(len(views)) + b"".join(_LENGTH.pack(len(view)) for view in views)
        for view in (memoryview(head), *views):
            if len(view):
                self._buffers.append(view)
                self.end += len(view)

    def next_piece(self) -> tuple[int, bytes] | None:
        """(where it begins in the stream, bytes) of what to send next; None while there is nothing, or enough is on its way."""
        count = min(self._piece, self.end - self._sent, self.taken + self._window - self._sent)
        if count <= 0:
            return None
        start, found, skip = self._sent, bytearray(), self._sent - self.taken
        for view in self._buffers:
            if skip >= len(view):
                skip -= len(view)
                continue
            found += view[skip : skip + count - len(found)]
            skip = 0
            if len(found) == count:
                break
        self._sent += count
        self.given_out += count
        return start, bytes(found)

    def acknowledge(self, taken: int) -> None:
        """The other side has the first ``taken`` bytes. Raises ``StreamError`` when it cannot have them."""
        if taken > self._sent:
            raise StreamError("The other side claims to have what was never sent.")
        while self.taken < taken:
            count = min(taken - self.taken, len(self._buffers[0]))
            if count == len(self._buffers[0]):
                self._buffers.popleft()
            else:
                self._buffers[0] = self._buffers[0][count:]
            self.taken += count

    def go_on_from(self, taken: int) -> None:
        """After a break: the other side has the first ``taken`` bytes. Raises ``StreamError`` when it cannot have them, or had more
        before."""
        if taken < self.taken:
            raise StreamError("The other side has forgotten what it had.")
        self.acknowledge(taken)
        self._sent = taken


class StreamReceiver:
    """The receiving end. ``taken`` is how many bytes of the stream have come."""

    def __init__(self) -> None:
        self.taken = 0
        self._buffer = bytearray()

    @property
    def waiting_bytes(self) -> int:
        """Bytes of a message that is not complete yet."""
        return len(self._buffer)

    def add(self, start: int, piece: Buffer) -> list[list[memoryview]]:
        """Take a piece that begins at ``start``; returns the parts of each message that it completes. What has come before is let
        go of, and so is what leaves a gap. Raises ``StreamError`` for messages that cannot be."""
        if start > self.taken or start + len(piece) <= self.taken:
            return []
        fresh = memoryview(piece)[self.taken - start :]
        self.taken += len(fresh)
        self._buffer += fresh
        found: list[list[slice]] = []
        end = 0
        while (lengths := self._read_lengths(end)) is not None:
            ends = list(accumulate(lengths, initial=end + _COUNT.size + len(lengths) * _LENGTH.size))
            if len(self._buffer) < ends[-1]:
                break
            found.append([slice(*one) for one in pairwise(ends)])
            end = ends[-1]
        if not found:
            return []
        # what is left is copied once, however many messages there are
        view = memoryview(self._buffer).toreadonly()
        self._buffer = bytearray(view[end:])
        return [[view[part] for part in parts] for parts in found]

    def _read_lengths(self, at: int) -> tuple[int, ...] | None:
        """The lengths of the parts of the message that begins at ``at`` in the buffer; None while not enough of it is there."""
        if len(self._buffer) < at + _COUNT.size:
            return None
        (count,) = _COUNT.unpack_from(self._buffer, at)
        if not 0 < count <= MAX_PARTS:
            raise StreamError("A message has no parts, or more than any.")
        if len(self._buffer) < at + _COUNT.size + count * _LENGTH.size:
            return None
        lengths = struct.unpack_from(f"<{count}I", self._buffer, at + _COUNT.size)
        if sum(lengths) > MAX_BYTES + MAX_HEADER_BYTES:
            raise StreamError("A message is larger than any.")
        return lengths


class NumberedOutbox:
    """Messages the other way, which are small: kept whole until they were heard, and told again after a break.
    ``waiting_bytes`` are those of what was not heard yet."""

    def __init__(self) -> None:
        self._kept: deque[tuple[int, list[Any], int]] = deque()
        self._last = 0
        self.waiting_bytes = 0

    def add(self, parts: list[Any]) -> int:
        """Keep a message; its number."""
        self._last += 1
        size = sum(memoryview(part).nbytes for part in parts)
        self._kept.append((self._last, parts, size))
        self.waiting_bytes += size
        return self._last

    def forget(self, heard: int) -> None:
        """Messages up to the number ``heard`` have come."""
        while self._kept and self._kept[0][0] <= heard:
            self.waiting_bytes -= self._kept.popleft()[2]

    def list_kept(self) -> list[tuple[int, list[Any]]]:
        """(number, parts) of what was not heard yet."""
        return [(number, parts) for number, parts, _ in self._kept]
