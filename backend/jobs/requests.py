"""What can be done with a job store without torch: read its requests, and remove what was never sent to its end."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from ...shared.files import UNFINISHED, read_file
from ...shared.shot import Sampling, ShotRequest, Text
from .in_use import is_in_use

#: seconds
DAY = 24 * 3600
#: below the store: passes of which nobody knows yet which job they make
INCOMING = "incoming"
#: bytes of a request, which may hold the manifest of a long shot
MAX_REQUEST = 256 << 20


def read_request(path: Path) -> ShotRequest:
    """A stored request, also one of version 0.1.0, whose settings all stood side by side.

    Raises ``OSError``, or ``msgspec.MsgspecError`` for what is not a request.
    """
    data = read_file(path, MAX_REQUEST)
    try:
        try:
            return msgspec.json.decode(data, type=ShotRequest)
        except msgspec.ValidationError:
            return _read_former_request(msgspec.json.decode(data, type=dict[str, Any]))
    except (AttributeError, TypeError, RecursionError, UnicodeDecodeError) as error:
        raise msgspec.DecodeError("it is not a request") from error


def _read_former_request(old: dict[str, Any]) -> ShotRequest:
    for group in (Text, Sampling):
        names = [name for name in group.__struct_fields__ if name in old]
        old[group.__name__.lower()] = {name: old.pop(name) for name in names}
    method = old.get("method")
    if method and "keys" in method:
        method["keyframes"] = method.pop("keys")
    # what was the default then
    return msgspec.convert({"preset": "latentman"} | old | {"manifest": None}, ShotRequest)


def remove_stale_incoming(root: Path) -> None:
    """Remove what was begun in the store ``root`` more than a day ago and never came to its end: passes that stopped coming, and
    files whose writer was killed. What somebody works on stays."""
    oldest = time.time() - DAY
    for folder in (root / INCOMING).glob("*"):
        with suppress(OSError):
            if folder.stat().st_mtime < oldest and not is_in_use(root, folder.name):
                shutil.rmtree(folder)
    for path in root.rglob(f"*{UNFINISHED}"):
        with suppress(OSError):
            if path.stat().st_mtime < oldest:
                path.unlink()
