"""Who may connect to the backend: from where, with which keys, and how many."""

from __future__ import annotations

from typing import Any

import zmq
from zmq.auth.thread import ThreadAuthenticator

from ..shared import logs
from ..shared.endpoint import is_loopback
from .clients import ClientList
from .pairing import Pairing

logger = logs.get_logger(__name__)


class RefusedToBind(ValueError):
    """The address would open the backend to others; the message says what to do."""


def check_endpoint(endpoint: str, *, has_clients: bool) -> None:
    """``RefusedToBind`` for an address beyond loopback where no client could come from there."""
    if not is_loopback(endpoint) and not has_clients:
        raise RefusedToBind(
            f"{endpoint} can be reached from other machines, of which none is paired; use --pair to let one in, list the keys of "
            "clients with --clients FILE, or use 127.0.0.1."
        )


def allow_many_connections() -> None:
    """Use as many file descriptors as the system allows, so that idle connections of strangers do not use them up before they
    are dropped."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 65_536 if hard == resource.RLIM_INFINITY else hard
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


class Authenticator(ThreadAuthenticator):
    """Lets clients in, whatever others have asked before."""

    async def handle_zap_message(self, msg: list[bytes]) -> None:
        """Answer one request to be let in; an error leaves that one outside and nobody else."""
        try:
            await super().handle_zap_message(msg)
        except Exception:
            logger.exception("a client could not be let in")


class KnownClients:
    """ZAP credentials provider: lets in clients whose public keys are known, and, while there is a text for pairing, who has it."""

    def __init__(self, clients: ClientList) -> None:
        self._clients = clients
        self.pairing: Pairing | None = None

    def callback(self, domain: str, key: bytes) -> bool:
        """Whether a client key may connect."""
        return self._clients.knows(key) or (self.pairing is not None and self.pairing.admits(key))


def find_key(frame: Any) -> bytes:
    """The public key, in Z85, that the sender of a frame has shown."""
    try:
        return str(frame.get("User-Id")).encode()
    except zmq.ZMQError:
        return b""
