"""The client's side: the add-on's own connection, which plays a job from its passes to its frames."""

from __future__ import annotations

import queue
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from latentman.blender_addon.client import BackendClient, Event
from latentman.shared import messages
from latentman.shared.files import write_atomically
from latentman.shared.manifest import FrameEntry
from latentman.shared.overview import shrink_passes
from latentman.shared.task import new_ticket

from .shots import Shot

#: a backend that says nothing for so long hangs
SILENT_SECONDS = 60.0
#: how a client's process ends
ENDED = {"finished": 0, "lost": 10, "failed": 11, "silent": 12, "cancelled": 13}


@dataclass
class Played:
    """What came of a job: how it ended, in a word and a sentence, its frames by their index and its other pictures by name."""

    end: str = "silent"
    sentence: str = "nothing was heard for a minute"
    frames: dict[int, bytes] = field(default_factory=dict)
    textures: dict[str, bytes] = field(default_factory=dict)

    def is_same(self, other: Played) -> bool:
        """Whether every byte is the same."""
        return (self.end, self.frames, self.textures) == (other.end, other.frames, other.textures)


def open_client(endpoint: str) -> BackendClient:
    """A client that the backend has answered. Raises ``ConnectionError``."""
    client = BackendClient(endpoint)
    try:
        while True:
            event = client.events.get(timeout=SILENT_SECONDS)
            if not isinstance(event, Event):
                raise ConnectionError(event.reason)
            if isinstance(event.message, messages.Welcome):
                return client
    except (queue.Empty, ConnectionError) as error:
        client.close()
        raise ConnectionError(str(error) or "the backend did not answer") from error


def send_passes(client: BackendClient, shot: Shot, wanted: messages.PassesWanted) -> None:
    """Send what the backend asks for."""
    frame = shot.passes.select([wanted.index])
    if wanted.overview:
        frame = shrink_passes(frame)
    message = messages.SendPasses(ticket=wanted.ticket, index=wanted.index, entry=FrameEntry(), overview=wanted.overview)
    client.send(message, frame.arrays())


def play(
    client: BackendClient,
    shot: Shot,
    stored: Callable[[int, bytes], None] = lambda index, data: None,
    heard: Callable[[messages.AnyMessage], None] = lambda message: None,
) -> Played:
    """Submit a job and do what the backend asks for, until it ends, the connection breaks or nothing more is heard.

    ``stored`` gets every frame before it is acknowledged, ``heard`` every message of the job.
    """
    ticket, played = new_ticket(), Played()
    client.send(messages.SubmitShot(ticket=ticket, request=shot.request, cut_out=shot.transparent))
    while True:
        try:
            event = client.events.get(timeout=SILENT_SECONDS)
        except queue.Empty:
            return played
        if not isinstance(event, Event):
            played.end, played.sentence = "lost", event.reason
            return played
        message = event.message
        if getattr(message, "ticket", "") not in (ticket, ""):
            continue
        heard(message)
        if isinstance(message, messages.PassesWanted):
            send_passes(client, shot, message)
        elif isinstance(message, messages.FrameResult):
            played.frames[message.index] = event.arrays["png"].tobytes()
            stored(message.index, played.frames[message.index])
            client.send(messages.FrameTaken(ticket=ticket))
        elif isinstance(message, messages.Finished):
            played.textures = {name: array.tobytes() for name, array in event.arrays.items()}
            played.end, played.sentence = "finished", ""
            return played
        elif isinstance(message, messages.Failed):
            played.end, played.sentence = "failed", message.message
            return played
        elif isinstance(message, messages.Cancelled):
            played.end, played.sentence = "cancelled", ""
            return played


def play_once(endpoint: str, shot: Shot) -> Played:
    """Connect, play a job, and go."""
    try:
        client = open_client(endpoint)
    except ConnectionError as error:
        return Played("lost", str(error))
    try:
        return play(client, shot)
    finally:
        client.close()


def run_client(endpoint: str, shot: Shot, folder: Path) -> None:
    """The program of a client's process: the frames go into a folder, as the add-on stores them."""
    try:
        client = open_client(endpoint)
    except ConnectionError:
        sys.exit(ENDED["lost"])
    started = time.monotonic()
    played = play(client, shot, lambda index, data: write_atomically(folder / f"{index:04d}.png", data))
    (folder / "end.txt").write_text(f"{played.end} after {time.monotonic() - started:.1f} s: {played.sentence}")
    for name, data in played.textures.items():
        write_atomically(folder / f"{name}.png", data)
    client.close()
    sys.exit(ENDED[played.end])
