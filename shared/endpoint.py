"""Addresses of backends, in every form that people type them."""

from __future__ import annotations

import ipaddress
import socket

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 48573
DEFAULT_ENDPOINT = f"tcp://{DEFAULT_HOST}:{DEFAULT_PORT}"


class EndpointError(ValueError):
    """An address that cannot be one; the message is a sentence for the user."""


def normalise_endpoint(text: str) -> str:
    """``host:port``, ``tcp://host:port``, ``http://host:port/`` or a bare port -> ``tcp://host:port``."""
    value = text.strip().rstrip("/")
    for scheme in ("tcp://", "http://", "https://", "ws://"):
        value = value.removeprefix(scheme)
    host, colon, port = value.rpartition(":")
    if not colon:
        host, port = (DEFAULT_HOST, value) if value.isdigit() else (value, str(DEFAULT_PORT))
    if not port.isdigit() or not 0 < int(port) < 65536 or not host or "/" in host or " " in host:
        raise EndpointError(f"'{text}' is not the address of a backend; write it like {DEFAULT_HOST}:{DEFAULT_PORT}.")
    return f"tcp://{DEFAULT_HOST if host == 'localhost' else host}:{port}"


def is_loopback(endpoint: str) -> bool:
    """Whether only this machine can reach ``tcp://host:port``."""
    host = endpoint.removeprefix("tcp://").rsplit(":", 1)[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def free_port() -> int:
    """A loopback port that nobody uses right now."""
    with socket.socket() as probe:
        probe.bind((DEFAULT_HOST, 0))
        return int(probe.getsockname()[1])
