"""A server in a thread of the test, and a client that speaks to it over a real socket."""

from __future__ import annotations

import threading
import time

import zmq

from latentman.backend.server import Server
from latentman.backend.tasks.resources import make_resources
from latentman.shared import curve_keys, messages
from latentman.shared.manifest import FrameEntry
from latentman.shared.overview import shrink_passes


class RunningServer:
    """Serves until it is closed."""

    def __init__(self, jobs, make=make_resources, clients=()) -> None:
        """``make`` makes what pieces of work are done with; ``clients`` are public keys of other users that are let in."""
        self.server = Server("tcp://127.0.0.1:0", jobs, set(clients), make)
        self._thread = threading.Thread(target=self.server.serve, daemon=True)
        self._thread.start()
        self._clients = []

    def connect(self) -> WireClient:
        """Another client."""
        self._clients.append(WireClient(self.server.endpoint))
        return self._clients[-1]

    @property
    def alive(self) -> bool:
        """Whether it still serves."""
        return self._thread.is_alive()

    def close(self) -> None:
        """End it."""
        for client in self._clients:
            client.close()
        self.server.stop()
        self._thread.join(60)
        assert not self._thread.is_alive()
        # a thread that outlives its server can take the process down at its end
        assert all(task.gone for task in self.server._tasks.values())


class WireClient:
    """Sends messages and waits for answers; what is not waited for is kept in ``heard``."""

    def __init__(self, endpoint, server_key=None, keys=None) -> None:
        """``server_key`` is the backend's public key where that is not this user's own, ``keys`` the client's (public, secret)."""
        pair = curve_keys.load_or_create(zmq.curve_keypair)
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.linger = 0
        self._socket.curve_serverkey = server_key or pair.server_public
        self._socket.curve_publickey, self._socket.curve_secretkey = keys or (pair.client_public, pair.client_secret)
        self._socket.connect(endpoint)
        self.heard = []

    def close(self) -> None:
        """Go away without a word."""
        self._socket.close(0)
        self._context.term()

    def send(self, message, arrays=None) -> None:
        """Send a message."""
        self._socket.send_multipart(messages.encode(message, arrays))

    def send_raw(self, parts) -> None:
        """Send whatever bytes."""
        self._socket.send_multipart(parts)

    def receive(self, seconds=60.0):
        """The next message and its arrays; None when none comes in time."""
        if not self._socket.poll(int(seconds * 1000)):
            return None
        self.heard.append(messages.decode(self._socket.recv_multipart()))
        return self.heard[-1]

    def wait_for(self, kind, ticket="", seconds=90.0):
        """The next message of a kind (about a ticket) and its arrays; an end that was not waited for fails the test."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = self.receive(end - time.monotonic())
            if found is None:
                break
            message, arrays = found
            if isinstance(message, kind) and (not ticket or message.ticket == ticket):
                return message, arrays
        raise AssertionError(f"no {kind} for {ticket or 'anything'}; heard {[m for m, _ in self.heard][-8:]}")

    def hears_nothing(self, seconds=0.5) -> bool:
        """Whether nothing but progress and pings comes for a while."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            found = self.receive(left)
            if found is not None and not isinstance(found[0], (messages.Progress, messages.Ping)):
                return False
        return True

    def hears_nothing_of_an_end(self, seconds=0.5) -> bool:
        """Whether no piece of work of this client ends for a while."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            found = self.receive(left)
            if found is not None and isinstance(found[0], (messages.Failed, messages.Cancelled, messages.Finished)):
                return False
        return True

    def send_passes(self, wanted, passes) -> None:
        """Send what a ``PassesWanted`` asks for."""
        frame = passes.select([wanted.index])
        if wanted.overview:
            frame = shrink_passes(frame)
        message = messages.SendPasses(ticket=wanted.ticket, index=wanted.index, entry=FrameEntry(), overview=wanted.overview)
        self.send(message, frame.arrays())

    def run_shot(self, ticket, request, passes, until, *, withhold=(), **options):
        """Submit a shot and do what the backend asks for until a message of the kinds ``until`` comes, which is returned with its
        arrays. Full passes of the frames ``withhold`` are not sent."""
        self.send(messages.SubmitShot(ticket=ticket, request=request, **options))
        return self.go_on(ticket, passes, until, withhold=withhold)

    def go_on(self, ticket, passes, until, *, withhold=()):
        """As ``run_shot``, for a shot that was submitted before."""
        while True:
            message, arrays = self.wait_for((messages.Message,), ticket)
            if isinstance(message, until):
                return message, arrays
            if isinstance(message, messages.PassesWanted) and (message.overview or message.index not in withhold):
                self.send_passes(message, passes)
            elif isinstance(message, messages.FrameResult):
                self.send(messages.FrameTaken(ticket=ticket))
            elif isinstance(message, (messages.Failed, messages.Cancelled, messages.Finished)):
                raise AssertionError(message)

    def frames(self, ticket):
        """Indices of the frames that came, in their order."""
        return [m.index for m, _ in self.heard if isinstance(m, messages.FrameResult) and m.ticket == ticket]
