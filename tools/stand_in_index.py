"""A package index on loopback: the simple repository API over folders of wheels, and fails in chosen ways."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote, urljoin


def normalise(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


class StandInIndex:
    """``folders``: the path of an index below the address -> the folder of its files, as in ``simple`` or ``whl/cpu``. What goes
    wrong is set on the object, and may change at any time."""

    def __init__(self, certificate: Path | None = None) -> None:
        """Begin to answer; with a ``certificate`` and its key in a file, over TLS."""
        self.folders: dict[str, Path] = {}
        #: pages as JSON where the client takes it, else as HTML
        self.speaks_json = True
        #: every answer is this status, when it is not 0; for how many answers, -1 for all
        self.status, self.status_count = 0, -1
        #: every answer is this page, as a hotel's network does
        self.page, self.page_kind = b"", "text/html"
        #: bytes of a file after which the connection is closed, for how many files; seconds between pieces of PIECE bytes
        self.cut_after, self.cut_count, self.pause, self.piece = 0, -1, 0.0, 1 << 16
        #: whether a part of a file can be asked for
        self.ranges = True
        #: file -> bytes that are sent instead
        self.wrong: dict[str, bytes] = {}
        #: user and password that are asked for
        self.user = ""
        #: where files are, when not here
        self.files_at = ""
        #: a header Retry-After that goes with the status
        self.wish = ""
        #: a link of a page to a file, from the file's path below the address: absolute paths, as usual, relative or whole addresses
        self.write_link: Callable[[str], str] = lambda path: path
        #: a <base> of pages in HTML
        self.base = ""
        #: what is asked for at a path that begins so is elsewhere
        self.redirects: dict[str, str] = {}
        #: answers to a request for a part say that they are a part, and begin somewhere else
        self.shifted = False
        #: headers of every request
        self.headers: list[dict[str, str]] = []
        #: another index, for packages that are not here
        self.beyond = ""
        #: called with a file's name before it is sent
        self.before: Callable[[str], None] = lambda name: None
        #: (path, Range header) of every request
        self.requests: list[tuple[str, str]] = []
        self._hashes: dict[tuple[Path, float], str] = {}
        index = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                index.answer(self)

            # uv asks so whether parts of a file can be had
            do_HEAD = do_GET

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._scheme = "https" if certificate else "http"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def host(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self._server.server_port}"

    @property
    def address(self) -> str:
        """What indexes' addresses begin with."""
        return f"{self._scheme}://{self.host}"

    def close(self) -> None:
        """Stop to answer: connections are refused."""
        self._server.shutdown()
        self._server.server_close()

    def hash(self, path: Path) -> str:
        """The SHA-256 of a file, computed once."""
        key = path, path.stat().st_mtime
        if key not in self._hashes:
            with path.open("rb") as stream:
                self._hashes[key] = hashlib.file_digest(stream, "sha256").hexdigest()
        return self._hashes[key]

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        path = unquote(handler.path)
        self.requests.append((path, handler.headers.get("Range", "")))
        self.headers.append(dict(handler.headers.items()))
        try:
            self._answer(handler, path)
        except (BrokenPipeError, ConnectionResetError):
            handler.close_connection = True

    def _send(self, handler: BaseHTTPRequestHandler, status: int, body: bytes, kind: str = "text/html", **headers: str) -> None:
        handler.send_response(status)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(body)

    def _answer(self, handler: BaseHTTPRequestHandler, path: str) -> None:
        if self.status and self.status_count:
            self.status_count -= 1
            return self._send(handler, self.status, b"no", **({"Retry_After": self.wish} if self.wish else {}))
        if self.page:
            return self._send(handler, 200, self.page, self.page_kind)
        if self.user:
            wanted = "Basic " + base64.b64encode(self.user.encode()).decode()
            if handler.headers.get("Authorization") != wanted:
                return self._send(handler, 401, b"who are you", WWW_Authenticate='Basic realm="index"')
        for begin, elsewhere in self.redirects.items():
            if path.startswith(begin):
                return self._send(handler, 302, b"", Location=elsewhere + quote(path.removeprefix(begin)))
        name = path.rpartition("/")[2]
        for prefix, folder in self.folders.items():
            if path.startswith(f"/files/{prefix}/"):
                return self._send_file(handler, folder / path.removeprefix(f"/files/{prefix}/"))
            if path.startswith(f"/{prefix}/") and path.endswith("/"):
                return self._send_page(handler, prefix, folder, path.removeprefix(f"/{prefix}/").rstrip("/"))
        # a mirror of plain files
        for prefix, folder in self.folders.items():
            if path.startswith(f"/{prefix}/") and (folder / name).is_file():
                return self._send_file(handler, folder / name)
        return self._send(handler, 404, b"not here")

    def _send_page(self, handler: BaseHTTPRequestHandler, prefix: str, folder: Path, package: str) -> None:
        files = [path for path in sorted(folder.glob("*.whl")) if normalise(path.name.split("-")[0]) == package]
        if not files:
            return self._pass_on(handler, package) if self.beyond else self._send(handler, 404, b"no such package")
        at = self.files_at or ""
        links = [(path, self.write_link(f"{at}/files/{prefix}/{quote(path.name)}")) for path in files]
        if self.speaks_json and "json" in handler.headers.get("Accept", ""):
            body = {
                "meta": {"api-version": "1.1"},
                "name": package,
                "files": [
                    {"filename": path.name, "url": url, "size": path.stat().st_size, "hashes": {"sha256": self.hash(path)}}
                    for path, url in links
                ],
            }
            return self._send(handler, 200, json.dumps(body).encode(), "application/vnd.pypi.simple.v1+json")
        lines = [f'<a href="{url}#sha256={self.hash(path)}">{path.name}</a><br/>' for path, url in links]
        base = f'<base href="{self.base}">' if self.base else ""
        return self._send(
            handler, 200, (f"<!DOCTYPE html><html><head>{base}</head><body>" + "\n".join(lines) + "</body></html>").encode()
        )

    def _pass_on(self, handler: BaseHTTPRequestHandler, package: str) -> None:
        """The page of another index, with whole addresses."""
        address = f"{self.beyond}/{package}/"
        asked = urllib.request.Request(address, headers={"Accept": "application/vnd.pypi.simple.v1+json"})
        try:
            with urllib.request.urlopen(asked, timeout=60) as answer:
                body = json.load(answer)
        except urllib.error.HTTPError as error:
            return self._send(handler, error.code, b"not there either")
        for file in body["files"]:
            file["url"] = urljoin(address, file["url"])
        return self._send(handler, 200, json.dumps(body).encode(), "application/vnd.pypi.simple.v1+json")

    def _send_file(self, handler: BaseHTTPRequestHandler, path: Path) -> None:
        if not path.is_file():
            return self._send(handler, 404, b"no such file")
        self.before(path.name)
        size = path.stat().st_size
        wrong = self.wrong.get(path.name)
        start = 0
        asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        if wrong is not None:
            size = len(wrong)
        if asked and self.ranges:
            start = int(asked[1])
            if start >= size:
                return self._send(handler, 416, b"", Content_Range=f"bytes */{size}")
            handler.send_response(206)
            if self.shifted:
                start = max(0, start - 7)
            handler.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        else:
            handler.send_response(200)
        handler.send_header("Content-Type", "application/octet-stream")
        handler.send_header("Content-Length", str(size - start))
        handler.end_headers()
        if handler.command == "HEAD":
            return None
        cut = self.cut_after if self.cut_count else 0
        if cut and size - start > cut:
            self.cut_count -= 1
        else:
            cut = 0
        sent = 0
        with path.open("rb") as stream:
            stream.seek(start)
            while sent < size - start:
                piece = wrong[start + sent : start + sent + self.piece] if wrong is not None else stream.read(self.piece)
                if cut:
                    piece = piece[: cut - sent]
                handler.wfile.write(piece)
                sent += len(piece)
                if cut and sent >= cut:
                    handler.close_connection = True
                    return None
                time.sleep(self.pause)
        return None
