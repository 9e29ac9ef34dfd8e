"""Downloads that go on where they stopped."""

from __future__ import annotations

import errno
import hashlib
import http.client
import os
import re
import ssl
import time
import urllib.error
from collections.abc import Callable
from pathlib import Path

from .failures import InstallationError, Remedy
from .index import explain_wrong_file
from .lock_file import LockedFile
from .network import Network, explain_network_error, get_host, get_status, get_wish, may_pass

#: seconds before the next try; they begin anew whenever something has come
PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
PART = ".part"
_PIECE = 1 << 18

#: told how many bytes of the file are there
Report = Callable[[int], None]
#: told in a sentence why something is tried again
Explain = Callable[[str], None]


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


def fetch(
    network: Network,
    find_url: Callable[[], str],
    file: LockedFile,
    folder: Path,
    report: Report,
    explain: Explain = lambda sentence: None,
    patience: int = 0,
) -> Path:
    """Download a file into a folder, where it appears under its name once its hash is right.

    ``find_url`` is asked only where something is to come. What has come stays in ``NAME.part`` whatever happens, and the next call
    goes on from there. ``patience`` is how often it is tried again before it is given up, 0 for as often as there are ``PAUSES``.
    Raises ``InstallationError``, and ``OSError`` for the disk.
    """
    path, part = folder / file.name, folder / (file.name + PART)
    if path.exists():
        if hash_file(path) == file.sha256:
            report(path.stat().st_size)
            return path
        path.unlink()
    url = ""
    # what came in pieces, in another try or of servers that differ, is told apart from a wrong file by fetching all of it once more
    for attempt in range(2):
        had = part.stat().st_size if part.exists() else 0
        if not (file.exact and had == file.size):
            url = url or find_url()
            had += _receive(network, url, file, part, report, explain, PAUSES[:patience] if patience else PAUSES)
        if hash_file(part) == file.sha256:
            os.replace(part, path)
            return path
        part.unlink()
        if not had or attempt:
            break
    raise explain_wrong_file(file, url)


def _receive(
    network: Network, url: str, file: LockedFile, part: Path, report: Report, explain: Explain, pauses: tuple[float, ...]
) -> int:
    """Fetch until all is there; returns how often an answer had to be gone on with."""
    come, failed = part.stat().st_size if part.exists() else 0, 0
    # the most that has been there: what is lost and comes again is no progress
    most, resumed = come, 0
    if file.exact and come > file.size:
        part.unlink()
        come = 0
    while True:
        try:
            come, complete = _receive_once(network, url, file, part, come, report)
            if complete:
                return resumed
            error: Exception = ConnectionError("it stops in the middle of a file")
        except (http.client.HTTPException, ValueError) as found:
            error = found
        except OSError as found:
            if not _is_network(found):
                raise
            error = found
        come = part.stat().st_size if part.exists() else 0
        if get_status(error) == 416:
            # there is nothing behind what has come: it is complete, or it is another file
            if come and not file.exact:
                return resumed
            part.unlink(missing_ok=True)
            come = 0
        elif not may_pass(error):
            raise explain_network_error(error, url) from error
        failed = 0 if come > most else failed + 1
        most, resumed = max(most, come), resumed + bool(come)
        if failed > len(pauses):
            raise explain_network_error(error, url) from error
        pause = max(pauses[max(0, failed - 1)], get_wish(error))
        explain(f"{get_host(url)} does not answer as it should; the next try is in {pause:.0f} s")
        time.sleep(pause)


def _is_network(error: OSError) -> bool:
    """Whether an ``OSError`` is one of a connection, and not one of the disk."""
    if isinstance(error, (urllib.error.URLError, ConnectionError, TimeoutError, ssl.SSLError)):
        return True
    disk = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.EFBIG, errno.ENOENT)
    return error.filename is None and error.errno not in disk


def _receive_once(network: Network, url: str, file: LockedFile, part: Path, come: int, report: Report) -> tuple[int, bool]:
    """One answer. Returns (bytes that are there, whether that is all). Raises ``InstallationError`` for what cannot be the file."""
    headers = {"Range": f"bytes={come}-"} if come else {}
    with network.open(url, **headers) as answer:
        if answer.status == 206:
            first = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
            if first is None or int(first[1]) != come:
                # another piece than the one that was asked for
                part.unlink(missing_ok=True)
                return 0, False
        else:
            # one that knows no ranges sends all of it again
            come = 0
        length = answer.headers.get("Content-Length", "")
        total = come + int(length) if length.isdecimal() else None
        _check_answer(file, url, answer.headers.get_content_type(), total)
        with part.open("ab" if come else "wb") as stream:
            while piece := answer.read(_PIECE):
                stream.write(piece)
                come += len(piece)
                report(come)
                if file.exact and come > file.size:
                    raise explain_wrong_file(file, url)
        wanted = file.size if file.exact else total
    return come, come >= wanted if wanted is not None else True


def _check_answer(file: LockedFile, url: str, kind: str, total: int | None) -> None:
    """Raises ``InstallationError`` where what begins to come cannot be the file."""
    if kind in ("text/html", "application/xhtml+xml") and (total is None or total != file.size):
        raise InstallationError(
            "page",
            f"{get_host(url)} answers with a web page in place of {file.name}; open one in your browser to see whether the network "
            "wants you to log in first, then check the address.",
            Remedy.NETWORK,
        )
    if file.exact and total is not None and total != file.size:
        raise explain_wrong_file(file, url)
