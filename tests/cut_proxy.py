"""A TCP proxy on loopback that cuts connections: after so many bytes, in the middle of whatever goes over it."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class CuttingProxy:
    """Hands on what comes to ``port``. Each number of ``cuts`` is how many bytes of a connection go to the backend before both of
    its ends are cut, or, when it is negative, how many come back before that; connections after those last."""

    def __init__(self, target, cuts=()):
        #: where new connections go
        self.target, self._cuts = target, list(cuts)
        #: bytes that were handed on, to the backend and back
        self.sent = self.returned = 0
        #: connections that were cut, and those that were made
        self.broken = self.connections = 0
        self._lock = threading.Lock()
        self._open = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def endpoint(self):
        """Its address."""
        return f"tcp://127.0.0.1:{self.port}"

    def cut(self):
        """Cut what is connected now."""
        with self._lock:
            pairs, self._open = self._open, []
        for pair in pairs:
            self._break(pair)

    def close(self):
        """End it."""
        # a close alone leaves a thread that waits for a connection waiting, and one more is taken
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _break(self, pair):
        with self._lock:
            self.broken += 1
        for one in pair:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self):
        while True:
            try:
                near = self._listener.accept()[0]
            except OSError:
                return
            try:
                far = socket.create_connection(self.target)
            except OSError:
                near.close()
                continue
            pair = (near, far)
            with self._lock:
                self.connections += 1
                self._open.append(pair)
                limit = self._cuts.pop(0) if self._cuts else None
            for source, sink, upward in ((near, far, True), (far, near, False)):
                most = abs(limit) if limit is not None and (limit > 0) == upward else None
                threading.Thread(target=self._pump, args=(pair, source, sink, most), kwargs={"upward": upward}, daemon=True).start()

    def _pump(self, pair, source, sink, most, *, upward):
        passed = 0
        with suppress(OSError):
            while most is None or passed < most:
                data = source.recv(65536 if most is None else min(65536, most - passed))
                if not data:
                    break
                sink.sendall(data)
                passed += len(data)
                with self._lock:
                    if upward:
                        self.sent += len(data)
                    else:
                        self.returned += len(data)
        with self._lock:
            is_first = pair in self._open
            if is_first:
                self._open.remove(pair)
        if is_first:
            self._break(pair)
        source.close()
