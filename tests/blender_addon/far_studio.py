"""A backend of another user and breaking connections to it, in a process of their own.

Threads of Python that work while Blender renders in the same process crash it now and then, so tests that render have these
elsewhere.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import zmq

from latentman.blender_addon import client as client_module
from latentman.blender_addon import far_link
from latentman.shared import curve_keys, key_entries
from latentman.shared.folders import CONFIG_ENVIRONMENT
from latentman.shared.streams import StreamSender
from tests.backend.far_studio import PIECE, WINDOW
from tests.checkout import ROOT


class FarProxy:
    """A ``CuttingProxy`` of the process."""

    def __init__(self, ask, cuts) -> None:
        self._ask = ask
        self._number, self.endpoint = ask("open", *cuts)

    @property
    def broken(self):
        """Connections that were cut."""
        return self._ask("broken", self._number)

    def cut_off(self):
        """Cut what is connected, and let nothing reach the backend until ``lead_back``."""
        self._ask("cut_off", self._number)

    def lead_back(self):
        """New connections reach the backend again."""
        self._ask("lead_back", self._number)


class FarStudio:
    """A backend of another user and proxies before it; this process is a user that is let in."""

    def __init__(self, folder, monkeypatch) -> None:
        monkeypatch.setattr(far_link, "make_stream", lambda: StreamSender(PIECE, WINDOW))
        monkeypatch.setattr(client_module, "AGAIN_SECONDS", 0.01)
        self._folder, self._patch = Path(folder), monkeypatch
        self._key = self.become("studio").server_public
        client = self.become("user").client_public
        python = os.environ.get("LATENTMAN_PYTHON", sys.executable)
        self._process = subprocess.Popen(
            [python, "-m", "tests.backend.far_process", str(self._folder / "jobs"), client.decode()],
            cwd=ROOT,
            env={**os.environ, CONFIG_ENVIRONMENT: str(self._folder / "studio")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._ask("endpoint")

    def become(self, name):
        """Be a user from now on; their keys."""
        self._patch.setenv(CONFIG_ENVIRONMENT, str(self._folder / name))
        return curve_keys.load_or_create(zmq.curve_keypair, derive_public=zmq.curve_public)

    def _ask(self, name, *arguments):
        self._process.stdin.write(json.dumps([name, *arguments]) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the studio's process ended"
        return json.loads(answer)

    @property
    def endpoint(self):
        """The backend's own address."""
        return self._ask("endpoint")

    def open_way(self, *cuts):
        """A proxy before the backend, which the user has paired with there; connections break at ``cuts``."""
        proxy = FarProxy(self._ask, cuts)
        key_entries.add_entry(key_entries.BACKENDS, proxy.endpoint, self._key)
        return proxy

    def start_again(self):
        """The backend ends, and another one with its jobs starts, at another port."""
        self._ask("start_again")

    def forget_clients(self):
        """The backend lets nobody in any more."""
        self._ask("forget_clients")

    def close(self):
        """End everything."""
        self._process.stdin.close()
        assert self._process.wait(60) == 0
