"""Sends what no honest client sends to a running backend, with the right keys, and looks whether it goes on."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import zmq

from latentman.shared import curve_keys, messages
from latentman.shared.streams import split_number

from .messages import make_client_message, spoil

#: how long an honest client may wait for its answer
ANSWER_SECONDS = 10.0
#: messages between two looks at the backend
LOOK_EVERY = 50
_CONNECTIONS = 4


@contextmanager
def connect(endpoint: str) -> Iterator[zmq.Socket[bytes]]:
    """A connection with the user's keys."""
    pair = curve_keys.load_or_create(zmq.curve_keypair)
    context: zmq.Context[Any] = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.linger, socket.sndhwm, socket.rcvhwm = 0, 0, 0
    socket.curve_serverkey = pair.server_public
    socket.curve_publickey, socket.curve_secretkey = pair.client_public, pair.client_secret
    socket.connect(endpoint)
    try:
        yield socket
    finally:
        context.destroy(0)


def measure_answer(socket: zmq.Socket[bytes], seconds: float = ANSWER_SECONDS) -> float:
    """How many seconds it takes until a backend greets; raises ``TimeoutError``."""
    began = time.monotonic()
    socket.send_multipart(messages.encode(messages.Hello()))
    while (left := began + seconds - time.monotonic()) > 0:
        if not socket.poll(int(left * 1000)):
            break
        if isinstance(messages.decode(split_number(socket.recv_multipart())[1])[0], messages.Welcome):
            return time.monotonic() - began
    raise TimeoutError(f"the backend did not greet within {seconds} s")


class _Fuzzer:
    """What has been sent and heard."""

    def __init__(self, rng: random.Random, model: str, counts: Counter[str]) -> None:
        self._rng, self._model, self.counts = rng, model, counts
        #: pieces of work that the backend has asked something about, the latest last
        self._tickets = ["nobody"]

    def send(self, socket: zmq.Socket[bytes]) -> None:
        """One message: mostly a spoiled one, now and then one that makes sense, so that there is work in every state."""
        parts = make_client_message(self._rng, self._tickets[-6:], self._model)
        kind = "whole" if self._rng.random() < 0.15 else "spoiled"
        socket.send_multipart(parts if kind == "whole" else spoil(self._rng, parts))
        self.counts[f"sent {kind}"] += 1

    def hear(self, socket: zmq.Socket[bytes]) -> None:
        """Take what has been answered."""
        while socket.poll(0):
            message, _ = messages.decode(split_number(socket.recv_multipart())[1])
            name = type(message).__name__
            self.counts[f"heard {name} {message.code}" if isinstance(message, messages.Failed) else f"heard {name}"] += 1
            if isinstance(message, messages.PassesWanted) and message.ticket not in self._tickets:
                self._tickets.append(message.ticket)

    def cancel_all(self, socket: zmq.Socket[bytes]) -> None:
        """Cancel every piece of work that is known of."""
        for ticket in self._tickets[1:]:
            socket.send_multipart(messages.encode(messages.Cancel(ticket=ticket)))

    def forget(self) -> None:
        """Begin anew."""
        del self._tickets[1:]


def fuzz_backend(endpoint: str, count: int, seed: int, model: str) -> Counter[str]:
    """Send ``count`` messages from a seed; ``model`` is what requests that make sense name. Returns what was sent and heard.

    Raises ``TimeoutError`` when a client that behaves has to wait longer than ``ANSWER_SECONDS``. The longest wait is among the
    counts, in milliseconds.
    """
    rng, counts = random.Random(seed), Counter[str]()
    fuzzer = _Fuzzer(rng, model, counts)
    done = 0
    while done < count:
        # a client that vanishes in the middle, and comes back as another
        with connect(endpoint) as honest, _connect_several(endpoint) as sockets:
            for _ in range(20):
                for _ in range(min(LOOK_EVERY, count - done)):
                    fuzzer.send(rng.choice(sockets))
                    done += 1
                waited = measure_answer(honest)
                counts["longest wait ms"] = max(counts["longest wait ms"], round(waited * 1000))
                for socket in sockets:
                    fuzzer.hear(socket)
                if rng.random() < 0.3:
                    for socket in sockets:
                        fuzzer.cancel_all(socket)
                    fuzzer.forget()
                if done >= count:
                    break
    return counts


@contextmanager
def _connect_several(endpoint: str) -> Iterator[list[zmq.Socket[bytes]]]:
    """Several connections at once."""
    with ExitStack() as stack:
        yield [stack.enter_context(connect(endpoint)) for _ in range(_CONNECTIONS)]
