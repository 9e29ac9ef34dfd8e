"""Peers that do not have the keys: whatever they do, the user's own client is answered, and what they used up comes back."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import urlsplit

import zmq

from latentman.shared import curve_keys

from ..client import play_once
from ..processes import Backend
from ..shots import make_shot
from ..trial import Budget, Figures

CONNECTIONS = 600
#: what the backend may grow by
MOST_GROWTH_MB = 200
#: how long the backend may take to drop those that do not show a key
DROP_SECONDS = 20.0


def _connect(endpoint: str) -> socket.socket:
    found = urlsplit(endpoint)
    assert found.hostname and found.port
    return socket.create_connection((found.hostname, found.port), timeout=5)


def _stay_silent(chance: random.Random, endpoint: str) -> list[socket.socket]:
    return [_connect(endpoint) for _ in range(CONNECTIONS)]


def _make_noise(chance: random.Random, endpoint: str) -> list[socket.socket]:
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00CURVE" + bytes(15) + bytes(32)
    opened = []
    for _ in range(CONNECTIONS // 4):
        peer = _connect(endpoint)
        opened.append(peer)
        start = chance.choice((b"", greeting[: chance.randrange(64)], greeting, greeting.replace(b"CURVE", b"PLAIN")))
        with suppress(OSError):
            peer.sendall(start + chance.randbytes(chance.choice((0, 1, 100, 10_000))))
    return opened


def _send_huge_frame(chance: random.Random, endpoint: str) -> list[socket.socket]:
    """A frame that says it has gigabytes, and a part of them."""
    peer = _connect(endpoint)
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00" + chance.choice((b"NULL", b"CURVE")).ljust(20, b"\0") + bytes(32)
    with suppress(OSError):
        peer.sendall(greeting + b"\x06" + chance.choice((1 << 31, 1 << 40, (1 << 63) - 1)).to_bytes(8, "big"))
        for _ in range(300):
            peer.sendall(bytes(1 << 20))
    return [peer]


def _use_other_keys(chance: random.Random, endpoint: str) -> list[socket.socket]:
    context = zmq.Context()
    keys = curve_keys.load_or_create(zmq.curve_keypair)
    for n in range(40):
        dealer = context.socket(zmq.DEALER)
        dealer.linger = 0
        if n % 4:  # keys of its own; the server's public key right, wrong, or none at all
            dealer.curve_serverkey = keys.server_public if n % 4 == 1 else zmq.curve_keypair()[0]
            dealer.curve_publickey, dealer.curve_secretkey = zmq.curve_keypair()
        dealer.connect(endpoint)
        dealer.send_multipart([chance.randbytes(100)], zmq.DONTWAIT)
    time.sleep(0.5)
    context.destroy(0)
    return []


ATTACKS: dict[str, Callable[[random.Random, str], list[socket.socket]]] = {
    "hundreds of silent connections": _stay_silent,
    "noise and broken greetings": _make_noise,
    "frames of gigabytes": _send_huge_frame,
    "other keys and none": _use_other_keys,
}


def run(budget: Budget) -> Figures:
    """See ``PARTS``; a trial is one attack."""
    figures = Figures()
    figures.counts.update(dict.fromkeys(("deaths", "jobs of the owner that failed"), 0))
    backend = Backend(budget.work / "jobs")
    shot = make_shot(budget.model, "joint")
    expected = play_once(backend.endpoint, shot)
    first, quiet = backend.read_status("VmHWM"), backend.count_descriptors()
    try:
        for number, chance, _ in budget.trials():
            name = list(ATTACKS)[number % len(ATTACKS)]
            where = f"strangers --seed {budget.seed}, trial {number} ({name})"
            opened = ATTACKS[name](chance, backend.endpoint)
            figures.counts[name] += 1
            played = play_once(backend.endpoint, shot)
            if not backend.alive:
                figures.counts["deaths"] += 1
                figures.fault(f"{where}: the backend ended with code {backend.code}")
                return figures
            if not played.is_same(expected):
                figures.counts["jobs of the owner that failed"] += 1
                figures.fault(f"{where}: meanwhile the owner's own job {played.end}: {played.sentence}")
            end = time.monotonic() + DROP_SECONDS
            while backend.count_descriptors() > quiet + 2 and time.monotonic() < end:
                time.sleep(0.2)
            if backend.count_descriptors() > quiet + 2:
                figures.fault(f"{where}: {backend.count_descriptors() - quiet} descriptors did not come back")
            for peer in opened:
                peer.close()
        grown = (backend.read_status("VmHWM") - first) / 1024
    finally:
        backend.stop()
    figures.measures["most memory that the backend grew by"] = f"{grown:.0f} MB"
    if grown > MOST_GROWTH_MB:
        figures.fault(f"strangers --seed {budget.seed}: the backend grew by {grown:.0f} MB")
    return figures
