"""Run as a process: a backend of another user, and breaking connections to it.

It is told what to do by lines of JSON, ``[name, *arguments]``, and answers each with a line.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from latentman.backend import server as server_module
from latentman.shared.endpoint import free_port
from tests.backend.wire import RunningServer
from tests.cut_proxy import CuttingProxy


class _Process:
    """What the process does."""

    def __init__(self, jobs, client) -> None:
        self._start = lambda: RunningServer(jobs, clients={client})
        self._running = self._start()
        self._proxies = []

    def _address(self):
        host, _, port = self.endpoint().removeprefix("tcp://").rpartition(":")
        return host, int(port)

    def endpoint(self):
        return self._running.server.endpoint

    def open(self, *cuts):
        self._proxies.append(CuttingProxy(self._address(), cuts))
        return len(self._proxies) - 1, self._proxies[-1].endpoint

    def broken(self, number):
        return self._proxies[number].broken

    def cut_off(self, number):
        self._proxies[number].target = ("127.0.0.1", free_port())
        self._proxies[number].cut()

    def lead_back(self, number):
        self._proxies[number].target = self._address()

    def start_again(self):
        self._running.close()
        self._running = self._start()

    def forget_clients(self):
        self._running.server._clients.knows = lambda key: False

    def close(self):
        for proxy in self._proxies:
            proxy.close()
        self._running.close()


def main() -> None:
    """Do what standard input says until it ends."""
    server_module.PING_SECONDS = 0.05
    # nothing else may write into the answers
    answers, sys.stdout = sys.stdout, sys.stderr
    process = _Process(Path(sys.argv[1]), sys.argv[2].encode())
    try:
        for line in sys.stdin:
            name, *arguments = json.loads(line)
            print(json.dumps(getattr(process, name)(*arguments)), file=answers, flush=True)
    finally:
        process.close()


if __name__ == "__main__":
    main()
