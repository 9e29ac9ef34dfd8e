"""What can be done with a job store without torch: read its requests, and remove what was never sent to its end."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from ...shared.shot import Sampling, ShotRequest, Text

#: seconds
DAY = 24 * 3600
#: below the store: passes of which nobody knows yet which job they make
INCOMING = "incoming"


def read_request(path: Path) -> ShotRequest:
    """A stored request, also one of version 0.1.0, whose settings all stood side by side.

    Raises ``OSError``, or ``msgspec.MsgspecError`` for what is no request.
    """
    data = path.read_bytes()
    try:
        return msgspec.json.decode(data, type=ShotRequest)
    except msgspec.ValidationError:
        old = msgspec.json.decode(data, type=dict[str, Any])
        return _read_former_request(old)


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
    """Remove passes in the store ``root`` that were never sent to their end and are older than a day."""
    oldest = time.time() - DAY
    for folder in (root / INCOMING).glob("*"):
        with suppress(OSError):
            if folder.stat().st_mtime < oldest:
                shutil.rmtree(folder)
