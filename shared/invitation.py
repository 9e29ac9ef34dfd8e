"""The text that pairs a client with a backend on another machine: ``latentman://host:port?key=...``, one line to copy.

The key holds the backend's public key, by which the client knows it, and a secret that lets one unknown client in, once. Nothing is
derived from the secret but a CURVE key that the client connects with the first time: the secret itself never travels.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass

from zmq.utils import z85

from .endpoint import EndpointError, normalise_endpoint

SCHEME = "latentman://"
#: bytes of the parts of the key: the backend's public key, the secret, and a digest of both that shows typing errors
_PUBLIC, _SECRET, _CHECK = 32, 16, 4
_PURPOSE = b"latentman pairing\0"
_TEXT = re.compile(r"latentman://([^/?#\s]+)/?\?key=([A-Za-z0-9_-]*)", re.ASCII | re.IGNORECASE)
_ADVICE = "copy the whole line that latentman serve --pair prints"


class PairingError(ValueError):
    """Pairing is not possible; the message is one sentence that says what to do."""


@dataclass(frozen=True)
class Invitation:
    """What a text says: the backend's address ``tcp://host:port``, its public key in Z85, and the secret."""

    endpoint: str
    server_public: bytes
    secret: bytes

    def derive_keys(self, derive_public: Callable[[bytes], bytes]) -> tuple[bytes, bytes]:
        """(public, secret) CURVE key in Z85 of the client that pairs; ``derive_public`` is ``zmq.curve_public``."""
        own = z85.encode(hashlib.sha256(_PURPOSE + self.secret).digest())
        return derive_public(own), own


def write_invitation(invitation: Invitation) -> str:
    """The text for an invitation."""
    data = z85.decode(invitation.server_public) + invitation.secret
    key = base64.urlsafe_b64encode(data + _make_check(data)).decode().rstrip("=")
    return f"{SCHEME}{invitation.endpoint.removeprefix('tcp://')}?key={key}"


def read_invitation(text: str) -> Invitation:
    """What a pasted text says; blanks, line breaks and quotes around and in it do not matter. Raises ``PairingError``."""
    found = _TEXT.fullmatch(re.sub(r"[\s\"'<>`]+", "", text[:4096]))
    if found is None:
        raise PairingError(f"This is not a text for pairing; {_ADVICE}.")
    try:
        endpoint = normalise_endpoint(found[1])
    except EndpointError as error:
        raise PairingError(f"The address in the text cannot be one; {_ADVICE}.") from error
    try:
        data = base64.urlsafe_b64decode(found[2] + "=" * (-len(found[2]) % 4))
    except ValueError:
        data = b""
    rest, check = data[:-_CHECK], data[-_CHECK:]
    if len(rest) != _PUBLIC + _SECRET or check != _make_check(rest):
        raise PairingError(f"The key in the text is incomplete or changed; {_ADVICE}.")
    return Invitation(endpoint, z85.encode(rest[:_PUBLIC]), rest[_PUBLIC:])


def _make_check(data: bytes) -> bytes:
    return hashlib.sha256(_PURPOSE + data).digest()[:_CHECK]
