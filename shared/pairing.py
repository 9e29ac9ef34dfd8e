"""The client's side of pairing: shows a backend on another machine this user's public key, once, and keeps the backend's."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from contextlib import suppress

import zmq
from zmq.utils.monitor import recv_monitor_message

from . import curve_keys, key_entries, messages
from .invitation import Invitation, PairingError, read_invitation

#: how long the backend may take to answer
SECONDS = 15.0
_LOOK_MILLISECONDS = 100
REFUSED = (
    "The backend does not take this text: it was used already, has expired or is not the newest; run latentman serve --pair there "
    "again."
)


def get_client_name() -> str:
    """What the backend's owner sees of this client: the machine's name."""
    return "".join(letter for letter in platform.node() if letter.isprintable())[: messages.MAX_CLIENT_NAME] or "a client"


def pair(text: str, seconds: float = SECONDS, should_stop: Callable[[], bool] = lambda: False) -> str:
    """Pair with the backend that made ``text``; returns its address, at which this user's clients may connect from now on.

    Blocks until the backend has answered. Raises ``PairingError``, also when ``should_stop`` ends it, and ``KeysError`` when keys
    cannot be read or stored.
    """
    invitation = read_invitation(text)
    own = curve_keys.load_or_create(zmq.curve_keypair, derive_public=zmq.curve_public)
    context = zmq.Context()
    try:
        _introduce(context, invitation, own.client_public, time.monotonic() + seconds, should_stop)
    finally:
        context.destroy(linger=0)
    key_entries.add_entry(key_entries.BACKENDS, invitation.endpoint, invitation.server_public)
    return invitation.endpoint


def _introduce(
    context: zmq.Context[zmq.Socket[bytes]], invitation: Invitation, key: bytes, end: float, should_stop: Callable[[], bool]
) -> None:
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.MAXMSGSIZE, messages.MAX_PART_BYTES)
    socket.curve_serverkey = invitation.server_public
    socket.curve_publickey, socket.curve_secretkey = invitation.derive_keys(zmq.curve_public)
    monitor = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_FAILED_AUTH)
    poller = zmq.Poller()
    try:
        try:
            socket.connect(invitation.endpoint)
        except zmq.ZMQError as error:
            raise PairingError(f"{invitation.endpoint} cannot be connected to ({error}); check the address in the text.") from error
        socket.send_multipart(messages.encode(messages.Pair(key=key.decode("ascii"), name=get_client_name())))
        for one in (socket, monitor):
            poller.register(one, zmq.POLLIN)
        while time.monotonic() < end:
            if should_stop():
                raise PairingError("Pairing was stopped; paste the text again to go on.")
            ready = dict(poller.poll(_LOOK_MILLISECONDS))
            if monitor in ready:
                recv_monitor_message(monitor)
                raise PairingError(REFUSED)
            if socket in ready and _is_paired([bytes(part) for part in messages.receive_parts(socket)]):
                return
        raise PairingError(
            f"The backend that made this text does not answer at {invitation.endpoint}; check that it is running, and that a "
            "firewall lets its port through."
        )
    finally:
        with suppress(zmq.ZMQError):
            socket.disable_monitor()
        monitor.close(0)
        socket.close(0)


def _is_paired(parts: list[bytes]) -> bool:
    try:
        message, _ = messages.decode(parts)
    except messages.WireError as error:
        raise PairingError(str(error)) from error
    if isinstance(message, messages.Failed):
        raise PairingError(message.message)
    return isinstance(message, messages.Paired)
