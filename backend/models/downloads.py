"""Large files over HTTP: taken up where they stopped, ended at once, and kept only when their hash is right."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout
from huggingface_hub import constants
from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # the HTTP library's own

# its documentation names these, and its types do not
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status  # type: ignore[attr-defined]

from ...shared.addresses import read_wish

#: what the HTTP library raises
HTTP_ERROR: type[Exception] = HTTPError
#: attempts in a row that bring nothing before a download is given up
MOST_ATTEMPTS = 5
#: seconds before the first of them; each next one takes twice as long
FIRST_PAUSE = 0.5
#: how often the caller is told of the progress, and asked whether to go on, in seconds
REPORT_SECONDS = 0.2
#: bytes that are hashed between two looks at whether to go on; a tenth of a second at most
_HASH_PIECE = 2**24
#: answers that may be others a moment later
PASSING = (408, 425, 429, 500, 502, 503, 504)


def get_wish(error: BaseException) -> float:
    """The seconds that a hub's answer asks to be left alone for, as ``read_wish`` has them; 0 where there was none."""
    headers = getattr(getattr(error, "response", None), "headers", None)
    return read_wish(str(headers.get("Retry-After") or "")) if headers is not None else 0.0


class DamagedDownloadError(Exception):
    """What came is not what was asked for."""


class _Transfer:
    """A download that runs in a thread of its own, so that whoever waits for it can stop waiting."""

    def __init__(self, url: str, part: Path, size: int, token: str | None) -> None:
        self.come = part.stat().st_size if part.exists() else 0
        self.error: Exception | None = None
        self._url, self._part, self._size, self._token = url, part, size, token
        self._stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, name="download", daemon=True)

    def stop(self) -> None:
        """End at the next piece."""
        self._stopping.set()

    def _run(self) -> None:
        # the most that has been there: what is lost and comes again is no progress
        failed, most = 0, self.come
        while self.come < self._size and not self._stopping.is_set():
            wish = 0.0
            try:
                self._receive()
                found: Exception = ConnectionError("the answer ended early")
            except HTTPError as error:
                status = getattr(getattr(error, "response", None), "status_code", None)
                if status is not None and status not in PASSING:
                    self.error = error
                    return
                found, wish = error, get_wish(error)
            except Exception as error:  # told to the caller, whatever it is
                self.error = error
                return
            if self.come >= self._size:
                return
            failed = failed + 1 if self.come <= most else 0
            most = max(most, self.come)
            if failed >= MOST_ATTEMPTS:
                self.error = found
                return
            self._stopping.wait(max(FIRST_PAUSE * 2**failed, wish))

    def _receive(self) -> None:
        # the HTTP library leaves the token out where it is sent on to another host
        headers = build_hf_headers(token=self._token)
        # what comes is hashed and kept as it comes
        headers["Accept-Encoding"] = "identity"
        if self.come:
            headers["Range"] = f"bytes={self.come}-"
        timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
        with get_session().stream("GET", self._url, headers=headers, timeout=timeout, follow_redirects=True) as response:
            if response.status_code >= 400:
                response.read()
            hf_raise_for_status(response)
            # one that knows no ranges sends all of it again
            whole = response.status_code != 206
            with self._part.open("wb" if whole else "ab") as file:
                self.come = 0 if whole else self.come
                for piece in response.iter_raw():
                    if self._stopping.is_set():
                        return
                    file.write(piece)
                    self.come += len(piece)
                    if self.come > self._size:
                        raise DamagedDownloadError("more came than there is")


def download(url: str, path: Path, size: int, sha256: str, report: Callable[[int], None], token: str | None = None) -> None:
    """Download a file of a known size in bytes and hash to ``path``, where it appears once it is complete.

    What has come lies in ``path`` with ``.part`` behind it, and the next call goes on from there. ``report`` is told how many bytes
    have come, a few times a second; what it raises ends the download at once. ``token`` goes to the host of ``url`` alone. Raises
    ``DamagedDownloadError`` for other bytes than those of the hash, ``OSError`` when the disk is full, and what ``huggingface_hub``
    raises for the hub's answers.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    # another backend may fetch the same file: the second one finds it there
    with _wait_for_lock(part, size, report):
        if path.exists():
            return
        if part.exists() and part.stat().st_size > size:
            part.unlink()
        transfer = _Transfer(url, part, size, token)
        transfer.thread.start()
        try:
            while transfer.thread.is_alive():
                transfer.thread.join(REPORT_SECONDS)
                report(min(transfer.come, size))
        finally:
            transfer.stop()
        if isinstance(transfer.error, DamagedDownloadError):
            part.unlink(missing_ok=True)
        if transfer.error is not None:
            raise transfer.error
        found = hash_file(part, lambda _: report(size))
        if found != sha256 or part.stat().st_size != size:
            part.unlink(missing_ok=True)
            raise DamagedDownloadError("its hash is another")
        os.replace(part, path)
    Path(f"{part}.lock").unlink(missing_ok=True)


def _wait_for_lock(part: Path, size: int, report: Callable[[int], None]) -> FileLock:
    """The lock of a file that is downloaded, held. While another process has it, ``report`` is told what that has got."""
    lock = FileLock(f"{part}.lock")
    while True:
        try:
            lock.acquire(timeout=REPORT_SECONDS)
            return lock
        except Timeout:
            report(min(part.stat().st_size if part.exists() else 0, size))


def hash_file(path: Path, report: Callable[[int], None] = lambda _: None) -> str:
    """A file's SHA-256. ``report`` is told how many bytes have been read, and may raise to end it."""
    digest, read = hashlib.sha256(), 0
    with path.open("rb") as file:
        while piece := file.read(_HASH_PIECE):
            digest.update(piece)
            read += len(piece)
            report(read)
    return digest.hexdigest()
