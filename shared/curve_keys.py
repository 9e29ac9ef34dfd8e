"""CURVE keys in the user's own configuration folder, made on first use and readable by nobody else.

Add-on and backend of one user find the same folder, so nothing has to be typed; whoever cannot read it cannot connect.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .files import UNFINISHED, read_file
from .folders import CONFIG_ENVIRONMENT, config_folder

#: bytes of the file, which has 164
MAX_BYTES = 4096
#: the letters of Z85, five of which stand for four bytes
_KEY = re.compile(rb"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")


@dataclass(frozen=True)
class CurveKeys:
    """Z85-encoded CURVE keys of both ends."""

    server_public: bytes
    server_secret: bytes
    client_public: bytes
    client_secret: bytes


def find_keys(folder: Path | None = None) -> Path:
    """The file of the user's keys, whether it exists or not."""
    return (folder or config_folder()) / "keys" / "curve.txt"


class KeysError(ValueError):
    """The keys cannot be made or used; the message is one sentence for the user."""


def load_or_create(
    make_pair: Callable[[], tuple[bytes, bytes]],
    folder: Path | None = None,
    derive_public: Callable[[bytes], bytes] | None = None,
) -> CurveKeys:
    """The user's keys; ``make_pair`` is ``zmq.curve_keypair``, and ``derive_public``, where given, ``zmq.curve_public``. The
    first of two racing processes wins. Raises ``KeysError``."""
    path = find_keys(folder)
    if not os.path.lexists(path):
        try:
            _create(path, make_pair)
        except OSError as error:
            raise KeysError(
                f"The keys cannot be written to {path.parent} ({error.strerror or error}); make that folder writable, or name "
                f"another one in the environment variable {CONFIG_ENVIRONMENT}."
            ) from error
    try:
        lines = read_file(path, MAX_BYTES).split()
    except OSError as error:
        raise KeysError(
            f"The keys in {path} cannot be read ({error.strerror or error}); delete it to make new ones, then restart the backend."
        ) from error
    if not _are_keys(lines, derive_public):
        raise KeysError(f"The keys in {path} are damaged; delete the file to make new ones, then restart the backend.")
    return CurveKeys(*lines)


def _create(path: Path, make_pair: Callable[[], tuple[bytes, bytes]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}{UNFINISHED}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(b"\n".join([*make_pair(), *make_pair()]) + b"\n")
        try:
            os.link(part, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links
            os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _are_keys(lines: list[bytes], derive_public: Callable[[bytes], bytes] | None) -> bool:
    if len(lines) != 4 or not all(_KEY.fullmatch(line) for line in lines):
        return False
    try:
        return derive_public is None or (derive_public(lines[1]) == lines[0] and derive_public(lines[3]) == lines[2])
    except Exception:  # ZeroMQ's, which this module does not know
        return False
