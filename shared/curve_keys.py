"""CURVE keys in the user's own configuration folder, made on first use and readable by nobody else.

Add-on and backend of one user find the same folder, so nothing has to be typed; whoever cannot read it cannot connect.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .folders import config_folder


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


def load_or_create(make_pair: Callable[[], tuple[bytes, bytes]], folder: Path | None = None) -> CurveKeys:
    """The user's keys; ``make_pair`` is ``zmq.curve_keypair``. The first of two racing processes wins."""
    path = find_keys(folder)
    folder = path.parent
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        part = folder / f"curve.{os.getpid()}.part"
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(b"\n".join([*make_pair(), *make_pair()]) + b"\n")
        try:
            os.link(part, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links
            os.replace(part, path)
        part.unlink(missing_ok=True)
    lines = path.read_bytes().split()
    if len(lines) != 4 or any(len(line) != 40 for line in lines):
        raise ValueError(f"The keys in {path} are damaged; delete the file to make new ones, then restart the backend.")
    return CurveKeys(*lines)
