"""Large files over HTTP: taken up where they stopped, ended at once, and kept only when their hash is right."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock
from huggingface_hub import constants
from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # the HTTP library's own

# its documentation names these, and its types do not
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status  # type: ignore[attr-defined]

#: what the HTTP library raises
HTTP_ERROR: type[Exception] = HTTPError
#: attempts in a row that bring nothing before a download is given up
MOST_ATTEMPTS = 5
#: seconds before the first of them; each next one takes twice as long
FIRST_PAUSE = 0.5
#: how often the caller is told of the progress, and asked whether to go on, in seconds
REPORT_SECONDS = 0.2
#: answers that may be others a moment later
_PASSING = (408, 425, 429, 500, 502, 503, 504)


class DamagedDownloadError(Exception):
    """What came is not what was asked for."""


class _Transfer:
    """A download that runs in a thread of its own, so that whoever waits for it can stop waiting."""

    def __init__(self, url: str, part: Path, size: int) -> None:
        self.come = part.stat().st_size if part.exists() else 0
        self.error: Exception | None = None
        self._url, self._part, self._size = url, part, size
        self._stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, name="download", daemon=True)

    def stop(self) -> None:
        """End at the next piece."""
        self._stopping.set()

    def _run(self) -> None:
        failed = 0
        while self.come < self._size and not self._stopping.is_set():
            before = self.come
            try:
                self._receive()
                found: Exception = ConnectionError("the answer ended early")
            except HTTPError as error:
                status = getattr(getattr(error, "response", None), "status_code", None)
                if status is not None and status not in _PASSING:
                    self.error = error
                    return
                found = error
            except Exception as error:  # told to the caller, whatever it is
                self.error = error
                return
            if self.come >= self._size:
                return
            failed = failed + 1 if self.come == before else 0
            if failed >= MOST_ATTEMPTS:
                self.error = found
                return
            self._stopping.wait(FIRST_PAUSE * 2**failed)

    def _receive(self) -> None:
        headers = build_hf_headers()
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


def download(url: str, path: Path, size: int, sha256: str, report: Callable[[int], None]) -> None:
    """Download a file of a known size in bytes and hash to ``path``, where it appears once it is complete.

    What has come lies in ``path`` with ``.part`` behind it, and the next call goes on from there. ``report`` is told how many bytes
    have come, a few times a second; what it raises ends the download at once. Raises ``DamagedDownloadError`` for other bytes than
    those of the hash, ``OSError`` when the disk is full, and what ``huggingface_hub`` raises for the hub's answers.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    # another backend may fetch the same file: the second one finds it there
    with FileLock(f"{part}.lock"):
        if path.exists():
            return
        if part.exists() and part.stat().st_size > size:
            part.unlink()
        transfer = _Transfer(url, part, size)
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
        with part.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256 or part.stat().st_size != size:
            part.unlink(missing_ok=True)
            raise DamagedDownloadError("its hash is another")
        os.replace(part, path)
    Path(f"{part}.lock").unlink(missing_ok=True)
