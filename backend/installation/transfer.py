"""Downloads that go on where they stopped."""

from __future__ import annotations

import errno
import hashlib
import http.client
import os
import time
import urllib.error
from collections.abc import Callable
from pathlib import Path

from .failures import InstallationError
from .lock_file import LockedFile
from .network import Network, explain_network_error, get_status, may_pass

#: seconds before the next try; they begin anew whenever something has come
PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
PART = ".part"
_PIECE = 1 << 18

#: told how many bytes of the file are there
Report = Callable[[int], None]


def hash_file(path: Path, report: Report | None = None) -> str:
    """The SHA-256 of a file."""
    digest = hashlib.sha256()
    done = 0
    with path.open("rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
            done += len(piece)
            if report:
                report(done)
    return digest.hexdigest()


def fetch(network: Network, url: str, file: LockedFile, folder: Path, report: Report) -> Path:
    """Download a file into a folder, where it appears under its name once its hash is right.

    What has come stays in ``NAME.part`` whatever happens, and the next call goes on from there. Raises ``InstallationError``, and
    ``OSError`` for the disk.
    """
    path, part = folder / file.name, folder / (file.name + PART)
    if path.exists():
        if hash_file(path) == file.sha256:
            report(path.stat().st_size)
            return path
        path.unlink()
    # a broken piece of an earlier download is told apart from a wrong file by fetching all of it once more
    for attempt in range(2):
        resumed = _receive(network, url, file, part, report)
        if hash_file(part) == file.sha256:
            os.replace(part, path)
            return path
        part.unlink()
        if not resumed or attempt:
            break
    raise InstallationError(
        "hash",
        f"{file.name} arrived with another hash than the one that is locked, and was removed; what offers it is not what it should "
        "be: try again, or use another index.",
    )


def _receive(network: Network, url: str, file: LockedFile, part: Path, report: Report) -> bool:
    """Fetch until all is there; returns whether some of it was there before."""
    start = part.stat().st_size if part.exists() else 0
    if file.exact and start > file.size:
        part.unlink()
        start = 0
    come, failed = start, 0
    while True:
        before = come
        try:
            come, complete = _receive_once(network, url, file, part, come, report)
            if complete:
                return start > 0
            error: Exception = ConnectionError("the answer ended early")
        except http.client.HTTPException as found:
            error = found
        except OSError as found:
            # the disk's errors are not the network's
            if found.filename is not None or (found.errno is not None and not _is_network(found)):
                raise
            error = found
        come = part.stat().st_size if part.exists() else 0
        if get_status(error) == 416:
            # there is nothing behind what has come: it is complete, or it is another file
            if come and not file.exact:
                return start > 0
            part.unlink(missing_ok=True)
            come = 0
        elif not may_pass(error):
            raise explain_network_error(error, url) from error
        failed = 0 if come > before else failed + 1
        if failed > len(PAUSES):
            raise explain_network_error(error, url) from error
        time.sleep(PAUSES[max(0, failed - 1)])


def _is_network(error: OSError) -> bool:
    """Whether an ``OSError`` with a number is one of a connection, and not one of the disk."""
    disk = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.EFBIG, errno.ENOENT)
    return isinstance(error, (urllib.error.URLError, ConnectionError, TimeoutError)) or error.errno not in disk


def _receive_once(network: Network, url: str, file: LockedFile, part: Path, come: int, report: Report) -> tuple[int, bool]:
    """One answer. Returns (bytes that are there, whether that is all)."""
    if file.exact and come == file.size:
        return come, True
    headers = {"Range": f"bytes={come}-"} if come else {}
    with network.open(url, **headers) as answer:
        # one that knows no ranges sends all of it again
        if answer.status != 206:
            come = 0
        length = answer.headers.get("Content-Length", "")
        total = come + int(length) if length.isdigit() else None
        with part.open("ab" if come else "wb") as stream:
            while piece := answer.read(_PIECE):
                stream.write(piece)
                come += len(piece)
                report(come)
                if file.exact and come > file.size:
                    break
        wanted = file.size if file.exact else total
    return come, come >= wanted if wanted is not None else True
