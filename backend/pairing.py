"""The backend's side of pairing: lets one unknown client in, once, within some minutes, and only to leave its public key."""

from __future__ import annotations

import hmac
import secrets
import socket
import threading
import time
from collections import deque
from collections.abc import Callable

import zmq

from ..shared import logs
from ..shared.endpoint import is_loopback
from ..shared.invitation import Invitation, PairingError, write_invitation
from .clients import ClientList

logger = logs.get_logger(__name__)

#: how long a text can be used
SECONDS = 600.0
#: unknown keys that are tried in ``TRIES_SECONDS`` before nobody can pair for as long, and altogether before the text is void
MOST_TRIES, TRIES_SECONDS, MOST_GUESSES = 20, 10.0, 1000
_ANY_HOST = ("0.0.0.0", "*", "[::]")
#: an address for documentation, to which nothing is sent: it tells which of this machine's addresses others see
_ELSEWHERE = ("192.0.2.1", 9)

USED = "This text was used already; run latentman serve --pair again for another one."
EXPIRED = "This text has expired; run latentman serve --pair again for another one."


def guess_host() -> str:
    """The address of this machine in its network, or its name where it has none."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(_ELSEWHERE)
            return str(probe.getsockname()[0])
    except OSError:
        return socket.gethostname()


def find_public_endpoint(endpoint: str) -> tuple[str, bool]:
    """(the address under which clients reach a backend that listens at ``tcp://host:port``, whether its host was guessed)."""
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    return (f"tcp://{guess_host()}:{port}", True) if host in _ANY_HOST else (endpoint, False)


class Pairing:
    """One text, which is good for one client. Its methods may be called by any thread."""

    def __init__(
        self, server_public: bytes, clients: ClientList, seconds: float = SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """The text can be used for ``seconds`` from now; who uses it is added to ``clients``."""
        self._server_public, self._secret, self._clients = server_public, secrets.token_bytes(16), clients
        self._key, _ = Invitation("", server_public, self._secret).derive_keys(zmq.curve_public)
        self._clock, self._end = clock, clock() + seconds
        self._tries: deque[float] = deque()
        self._guesses, self._used = 0, False
        self._lock = threading.Lock()

    def write_text(self, endpoint: str) -> str:
        """The line to paste, for a backend that clients reach at ``tcp://host:port``."""
        return write_invitation(Invitation(endpoint, self._server_public, self._secret))

    def is_own(self, key: bytes) -> bool:
        """Whether a key is that of whoever has the text, at whatever time."""
        return hmac.compare_digest(key, self._key)

    def admits(self, key: bytes) -> bool:
        """Whether a client with an unknown key may connect to pair. Each that may not counts as a guess."""
        with self._lock:
            now = self._clock()
            if self._used or now > self._end or self._guesses >= MOST_GUESSES:
                return False
            while self._tries and self._tries[0] < now - TRIES_SECONDS:
                self._tries.popleft()
            own = hmac.compare_digest(key, self._key)
            if not own:
                self._guesses += 1
                if len(self._tries) < MOST_TRIES:
                    self._tries.append(now)
                if self._guesses == MOST_GUESSES:
                    logger.warning("Pairing ended: %d unknown clients have tried to connect", MOST_GUESSES)
            return own and len(self._tries) < MOST_TRIES

    def take(self, key: bytes, name: str) -> str:
        """Let the client that has the text in from now on; returns its fingerprint. The text is void then.

        Raises ``PairingError`` for a text that was used or has expired, and ``KeysError`` when the key cannot be stored; the text
        can be used again after that.
        """
        with self._lock:
            if self._used:
                raise PairingError(USED)
            if self._clock() > self._end:
                raise PairingError(EXPIRED)
            entry = self._clients.add(key, name)
            self._used = True
        logger.info("Paired with %s (%s)", entry.name, entry.fingerprint)
        return entry.fingerprint


def explain(endpoint: str, *, is_guess: bool, seconds: float = SECONDS) -> str:
    """What is said beside the text."""
    said = (
        "Paste this line into Pair... in Blender, or run latentman pair with it; "
        f"it is good for one client and {seconds / 60:.0f} minutes."
    )
    if is_guess:
        host = endpoint.removeprefix("tcp://").rpartition(":")[0]
        said += f" The address {host} is guessed; write another one where it is wrong."
    if is_loopback(endpoint):
        said += " Only this machine can reach the address: for others give --endpoint tcp://0.0.0.0:48573, or use a tunnel."
    return said
