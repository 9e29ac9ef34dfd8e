"""CURVE keys in the user's own configuration folder, made on first use and readable by nobody else.

Add-on and backend of one user find the same folder, so nothing has to be typed; whoever cannot read it cannot connect.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .files import UNFINISHED, make_private_folder, read_file, sync_folder, write_atomically
from .folders import CONFIG_ENVIRONMENT, config_folder

#: bytes of the file, which has 164
MAX_BYTES = 4096
#: a key in the letters of Z85, five of which stand for four bytes
KEY = re.compile(rb"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")


class KeysError(ValueError):
    """The keys cannot be used; the message is one sentence that says what to do."""


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


def load_or_create(
    make_pair: Callable[[], tuple[bytes, bytes]],
    folder: Path | None = None,
    derive_public: Callable[[bytes], bytes] | None = None,
) -> CurveKeys:
    """The user's keys; ``make_pair`` is ``zmq.curve_keypair``, and ``derive_public``, where given, ``zmq.curve_public``. The
    first of two racing processes wins.

    Raises ``KeysError`` when they cannot be made or read, are damaged, or may be known to others.
    """
    path = find_keys(folder)
    try:
        if not os.path.lexists(path):
            _create(path, make_pair)
        check_private(path)
        lines = read_file(path, MAX_BYTES).split()
    except OSError as error:
        reason = error.strerror or str(error)
        raise KeysError(
            f"The keys in {path} cannot be made or read ({reason}); make the folder writable for yourself, or set "
            f"{CONFIG_ENVIRONMENT} to another."
        ) from error
    if not _are_keys(lines, derive_public):
        raise KeysError(f"The keys in {path} are damaged; delete the file to make new ones, then restart the backend.")
    return CurveKeys(*lines)


def _create(path: Path, make_pair: Callable[[], tuple[bytes, bytes]]) -> None:
    make_private_folder(path.parent)
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}{UNFINISHED}")
    try:
        write_atomically(part, b"\n".join([*make_pair(), *make_pair()]) + b"\n", private=True)
        try:
            os.link(part, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links
            os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    sync_folder(path.parent)


def check_private(path: Path) -> None:
    """``KeysError`` where somebody else may have read or changed the keys in a file. On Windows they are in the user's profile,
    which is nobody else's."""
    if os.name == "nt":
        return
    for one, right in ((path.parent, "700"), (path, "600")):
        found = one.stat()
        if found.st_uid != os.geteuid():
            raise KeysError(
                f"{one} belongs to another user (number {found.st_uid}), who may know the keys; remove it to have new ones made, "
                f"or set {CONFIG_ENVIRONMENT} to a folder of your own."
            )
        if stat.S_IMODE(found.st_mode) & 0o077:
            raise KeysError(
                f"Others may read or change {one}, and so may know the keys; run chmod {right} on it and delete {path}, so that "
                f"new ones are made (on a disk without permissions set {CONFIG_ENVIRONMENT} to a folder elsewhere)."
            )


def _are_keys(lines: list[bytes], derive_public: Callable[[bytes], bytes] | None) -> bool:
    if len(lines) != 4 or not all(KEY.fullmatch(line) for line in lines):
        return False
    try:
        return derive_public is None or (derive_public(lines[1]) == lines[0] and derive_public(lines[3]) == lines[2])
    except Exception:  # ZeroMQ's, which this module does not know
        return False
