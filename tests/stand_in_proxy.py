"""A proxy on loopback: plain requests and tunnels, with a password or without."""

from __future__ import annotations

import base64
import http.client
import select
import socket
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class StandInProxy:
    """``hosts`` answers for hosts that are not there: name -> host and port."""

    def __init__(self, user=""):
        self.user = user
        self.hosts: dict[str, str] = {}
        #: every tunnel is refused with this status
        self.refusal = 0
        #: (method, what was asked for) of every request that was let through
        self.requests: list[tuple[str, str]] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                proxy.answer(self)

            def do_CONNECT(self):
                proxy.connect(self)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def host(self):
        return f"127.0.0.1:{self._server.server_port}"

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    def _refuses(self, handler):
        wanted = "Basic " + base64.b64encode(self.user.encode()).decode()
        status = 407 if self.user and handler.headers.get("Proxy-Authorization") != wanted else self.refusal
        if status:
            handler.send_response(status)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
        else:
            self.requests.append((handler.command, handler.path))
        return bool(status)

    def answer(self, handler):
        if self._refuses(handler):
            return
        parts = urlsplit(handler.path)
        asked = http.client.HTTPConnection(self.hosts.get(parts.netloc, parts.netloc), timeout=10)
        passed = {
            name: value for name, value in handler.headers.items() if name.lower() not in ("proxy-authorization", "connection")
        }
        asked.request("GET", parts.path, headers=passed)
        answer = asked.getresponse()
        body = answer.read()
        handler.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "server", "date"):
                handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    def connect(self, handler):
        if self._refuses(handler):
            return
        host, port = self.hosts.get(handler.path, handler.path).split(":")
        with socket.create_connection((host, int(port)), timeout=10) as other:
            handler.send_response(200)
            handler.end_headers()
            ends = {handler.connection: other, other: handler.connection}
            with suppress(OSError):
                while True:
                    ready, _, _ = select.select(list(ends), [], [], 10)
                    for end in ready:
                        piece = end.recv(1 << 16)
                        if not piece:
                            handler.close_connection = True
                            return
                        ends[end].sendall(piece)
