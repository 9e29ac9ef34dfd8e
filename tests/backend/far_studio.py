"""A backend of another user, and connections to it that break."""

from __future__ import annotations

import shutil
import time

import zmq

from latentman.blender_addon import client as client_module
from latentman.blender_addon import far_link
from latentman.blender_addon.client import BackendClient
from latentman.shared import curve_keys, key_entries
from latentman.shared.folders import CONFIG_ENVIRONMENT
from latentman.shared.streams import StreamSender
from tests.backend.wire import RunningServer
from tests.cut_proxy import CuttingProxy

#: small, as the tests' passes are
PIECE, WINDOW = 4 << 10, 16 << 10


class Studio:
    """A backend of another user, and connections to it over proxies."""

    def __init__(self, tmp_path, monkeypatch) -> None:
        monkeypatch.setattr(far_link, "make_stream", lambda: StreamSender(PIECE, WINDOW))
        monkeypatch.setattr(client_module, "AGAIN_SECONDS", 0.01)
        monkeypatch.setattr("latentman.backend.server.PING_SECONDS", 0.05)
        self._root, self._patch = tmp_path, monkeypatch
        self._clients = {self.become(name).client_public for name in ("other", "user")}
        self.become("studio")
        self.jobs = tmp_path / "jobs"
        self.running = RunningServer(self.jobs, clients=self._clients)
        #: its public key, and the folder of its jobs
        self.key = curve_keys.load_or_create(zmq.curve_keypair).server_public
        self.become("user")
        self._closing = []

    def become(self, name):
        """Be a user from now on; their keys."""
        self._patch.setenv(CONFIG_ENVIRONMENT, str(self._root / name))
        return curve_keys.load_or_create(zmq.curve_keypair, derive_public=zmq.curve_public)

    @property
    def address(self):
        """(host, port) of the backend."""
        host, _, port = self.running.server.endpoint.removeprefix("tcp://").rpartition(":")
        return host, int(port)

    def open_way(self, *cuts):
        """A proxy before the backend, which the user has paired with there; connections break at ``cuts``."""
        proxy = CuttingProxy(self.address, cuts)
        self._closing.append(proxy.close)
        key_entries.add_entry(key_entries.BACKENDS, proxy.endpoint, self.key)
        return proxy

    def connect(self, *cuts):
        """(client, proxy) of a connection that breaks at ``cuts``."""
        proxy = self.open_way(*cuts)
        client = BackendClient(proxy.endpoint)
        self._closing.insert(0, client.close)
        return client, proxy

    def watch(self, client):
        """Close a client at the end, too."""
        self._closing.append(client.close)
        return client

    def start_again(self):
        """The backend ends, and another one with its jobs starts, at another port."""
        self.running.close()
        self.become("studio")
        self.running = RunningServer(self.jobs, clients=self._clients)
        self.become("user")

    def forget_jobs(self):
        """The next shot is made anew."""
        for folder in self.jobs.iterdir():
            if (folder / "request.json").exists():
                shutil.rmtree(folder)

    @staticmethod
    def wait_until(condition, seconds=30.0):
        """Wait until something holds."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.01)

    def close(self) -> None:
        """End everything."""
        for close in self._closing:
            close()
        self.running.close()
