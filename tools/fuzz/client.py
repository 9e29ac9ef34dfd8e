"""Answers the add-on's connection with what no honest backend sends, and looks whether it goes on."""

from __future__ import annotations

import queue
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import zmq

from latentman.blender_addon.client import BackendClient, ConnectionLost, Event
from latentman.shared import curve_keys, messages

from .messages import make_backend_message, spoil

ANSWER_SECONDS = 10.0
LOOK_EVERY = 50


class FalseBackend:
    """A socket that clients take for a backend; it says what it is told to. Close it when done."""

    def __init__(self, endpoint: str = "tcp://127.0.0.1:0") -> None:
        pair = curve_keys.load_or_create(zmq.curve_keypair)
        self._context: zmq.Context[Any] = zmq.Context()
        self._router = self._context.socket(zmq.ROUTER)
        self._router.sndhwm, self._router.linger = 0, 0
        self._router.curve_server = True
        self._router.curve_publickey, self._router.curve_secretkey = pair.server_public, pair.server_secret
        self._router.bind(endpoint)
        self.endpoint = self._router.getsockopt_string(zmq.LAST_ENDPOINT)
        self._client = b""

    def wait_for_client(self) -> None:
        """Wait until a client has said something; raises ``TimeoutError``."""
        if not self._router.poll(round(ANSWER_SECONDS * 1000)):
            raise TimeoutError("no client came")
        self._client = self._router.recv_multipart()[0]

    def send(self, parts: Sequence[bytes]) -> None:
        """Send any parts to the client that spoke last."""
        while self._router.poll(0):
            self._client = self._router.recv_multipart()[0]
        self._router.send_multipart([self._client, *parts])

    def close(self) -> None:
        """End it."""
        self._context.destroy(0)


def fuzz_client(count: int, seed: int, tickets: Sequence[str] = (), handle: Callable[[Any], None] = lambda _: None) -> Counter[str]:
    """Send ``count`` messages from a seed to a ``BackendClient``, and hand each of its events to ``handle``; returns the counts.

    Raises ``TimeoutError`` when an event that should come does not within ``ANSWER_SECONDS``, and ``RuntimeError`` when the
    client gives the connection up.
    """
    rng, counts = random.Random(seed), Counter[str]()
    backend = FalseBackend()
    client = BackendClient(backend.endpoint)
    try:
        backend.wait_for_client()
        for n in range(0, count, LOOK_EVERY):
            for _ in range(min(LOOK_EVERY, count - n)):
                backend.send(spoil(rng, make_backend_message(rng, tickets)))
                counts["sent"] += 1
            mark = messages.Ping(ticket=f"mark {n}")
            backend.send([bytes(part) for part in messages.encode(mark)])
            _hear_until(client, mark, counts, handle)
    finally:
        client.close()
        backend.close()
    return counts


def _hear_until(client: BackendClient, mark: messages.Message, counts: Counter[str], handle: Callable[[Any], None]) -> None:
    end = time.monotonic() + ANSWER_SECONDS
    while True:
        try:
            event = client.events.get(timeout=max(0.0, end - time.monotonic()))
        except queue.Empty:
            raise TimeoutError("the client hears nothing any more") from None
        if isinstance(event, ConnectionLost):
            raise RuntimeError(event.reason)
        if isinstance(event, Event) and event.message == mark:
            return
        counts[f"event {type(event.message).__name__ if isinstance(event, Event) else type(event).__name__}"] += 1
        handle(event)
