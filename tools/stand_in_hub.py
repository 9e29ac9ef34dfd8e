"""A model hub on loopback that speaks as much of the hub's protocol as loading needs, and fails in chosen ways."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

#: files from this size on are stored as large ones, with a SHA-256
LARGE = 4096


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: Any) -> None:
        """Clients that go away in the middle are what is tested."""


class StandInHub:
    """``repositories``: name -> (commit, folder). What goes wrong is set on the object, and may change at any time."""

    def __init__(self) -> None:
        self.repositories: dict[str, tuple[str, Path]] = {}
        self.gated: set[str] = set()
        #: private repositories: name -> the token that opens them; a gated one opens to its token, too
        self.tokens: dict[str, str] = {}
        #: every answer is this status, when it is not 0; so many of the next ones are 503
        self.status, self.failures = 0, 0
        #: another hub, to which files that are asked for here are sent on
        self.elsewhere: StandInHub | None = None
        #: seconds before an answer begins
        self.delay = 0.0
        #: every answer is this page, as a hotel's network does
        self.page = b""
        #: bytes of a large file after which the connection is closed, -1 for before the first; seconds between pieces
        self.cut_after, self.pause = 0, 0.0
        #: whether a part of a file can be asked for
        self.ranges = True
        #: file -> bytes that are sent instead
        self.wrong: dict[str, bytes] = {}
        #: file -> size that is told
        self.told_sizes: dict[str, int] = {}
        #: (method, path, Range header) of every request, and what each said of who asks
        self.requests: list[tuple[str, str, str]] = []
        self.authorizations: list[str] = []
        #: the packings that a file was taken in
        self.encodings: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_HEAD(self) -> None:
                hub.answer(self, body=False)

            def do_GET(self) -> None:
                hub.answer(self, body=True)

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        """What belongs into HF_ENDPOINT."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """Stop to answer: connections are refused."""
        self._server.shutdown()
        self._server.server_close()

    def files_sent(self) -> set[str]:
        """The files whose contents were asked for."""
        return {
            path.split("/resolve/")[1].partition("/")[2]
            for method, path, _ in self.requests
            if method == "GET" and "/resolve/" in path
        }

    def answer(self, request: BaseHTTPRequestHandler, *, body: bool) -> None:
        """Answer one request."""
        self.requests.append((request.command, request.path, request.headers.get("Range", "")))
        self.authorizations.append(request.headers.get("Authorization", ""))
        if request.command == "GET" and "/resolve/" in request.path:
            self.encodings.append(request.headers.get("Accept-Encoding", ""))
        time.sleep(self.delay)
        path = request.path.partition("?")[0]
        if self.page:
            return _send(request, 200, self.page, body=body, content="text/html")
        if self.failures:
            self.failures -= 1
            return _send(request, 503, b"{}", body=body)
        if self.status:
            return _send(request, self.status, b"{}", body=body)
        if path.startswith("/api/models/"):
            name, _, revision = path.removeprefix("/api/models/").partition("/revision/")
            fault = self._find_fault(request, name, revision)
            return self._refuse(request, *fault, body=body) if fault else self._describe(request, name, body=body)
        name, _, rest = path.lstrip("/").partition("/resolve/")
        revision, _, file = rest.partition("/")
        fault = self._find_fault(request, name, revision)
        if fault:
            return self._refuse(request, *fault, body=body)
        if self.elsewhere is not None and body:
            return _send(request, 302, b"", body=body, headers={"Location": self.elsewhere.address + request.path})
        return self._send_file(request, name, file, body=body)

    def _find_fault(self, request: BaseHTTPRequestHandler, name: str, revision: str) -> tuple[int, str] | None:
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if name not in self.repositories or (name in self.tokens and name not in self.gated and given != self.tokens[name]):
            return 401, "RepoNotFound"
        if name in self.gated and not (name in self.tokens and given == self.tokens[name]):
            return 403, "GatedRepo"
        if revision and revision not in ("main", self.repositories[name][0]):
            return 404, "RevisionNotFound"
        return None

    @staticmethod
    def _refuse(request: BaseHTTPRequestHandler, status: int, code: str, *, body: bool) -> None:
        return _send(request, status, json.dumps({"error": code}).encode(), body=body, headers={"X-Error-Code": code})

    def _describe(self, request: BaseHTTPRequestHandler, name: str, *, body: bool) -> None:
        commit, folder = self.repositories[name]
        siblings = []
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                file = path.relative_to(folder).as_posix()
                data = path.read_bytes()
                size = self.told_sizes.get(file, len(data))
                entry: dict[str, Any] = {"rfilename": file, "size": size, "blobId": hashlib.sha1(data).hexdigest()}
                if len(data) >= LARGE:
                    entry["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": size, "pointerSize": 134}
                siblings.append(entry)
        found = {"id": name, "modelId": name, "sha": commit, "siblings": siblings, "private": False, "tags": [], "downloads": 0}
        return _send(request, 200, json.dumps(found).encode(), body=body)

    def _send_file(self, request: BaseHTTPRequestHandler, name: str, file: str, *, body: bool) -> None:
        commit, folder = self.repositories[name]
        path = folder / file
        if not path.is_file():
            return self._refuse(request, 404, "EntryNotFound", body=body)
        true = path.read_bytes()
        data = self.wrong.get(file, true)
        first = 0
        if body and self.ranges and (wanted := request.headers.get("Range", "")).startswith("bytes="):
            first = int(wanted[6:].partition("-")[0])
        tag = hashlib.sha256(true).hexdigest() if len(true) >= LARGE else hashlib.sha1(true).hexdigest()
        request.send_response(206 if first else 200)
        for key, value in (
            ("X-Repo-Commit", commit),
            ("ETag", f'"{tag}"'),
            ("Accept-Ranges", "bytes"),
            ("Content-Length", str(len(data) - first)),
            *([("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")] if first else []),
        ):
            request.send_header(key, value)
        request.end_headers()
        if body:
            self._send_slowly(request, data[first:], large=len(true) >= LARGE)

    def _send_slowly(self, request: BaseHTTPRequestHandler, data: bytes, *, large: bool) -> None:
        step = 2048
        for start in range(0, len(data), step):
            if large and self.cut_after and start >= self.cut_after:
                request.wfile.flush()
                request.close_connection = True
                request.connection.close()
                return
            try:
                request.wfile.write(data[start : start + step])
            except OSError:
                return
            if large and self.pause:
                request.wfile.flush()
                time.sleep(self.pause)


def _send(
    request: BaseHTTPRequestHandler,
    status: int,
    data: bytes,
    *,
    body: bool,
    content: str = "application/json",
    headers: Mapping[str, str] | None = None,
) -> None:
    request.send_response(status)
    request.send_header("Content-Type", content)
    request.send_header("Content-Length", str(len(data)))
    for key, value in (headers or {}).items():
        request.send_header(key, value)
    request.end_headers()
    if body:
        request.wfile.write(data)
