"""The job store: everything needed to answer an identical request again, or to go on after a crash.

``<root>/<job>/request.json``, ``model.txt`` (the model's fingerprint), ``passes/`` (see ``shared.passes_folder``),
``latents.npz`` while denoising,
``frames/<index>.png``, ``look.npz`` once the look is settled, ``texture_<character>.png`` and, when all is done,
``report.json``.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from PIL import Image

from ...shared.manifest import FrameEntry, PassesHeader, split_manifest
from ...shared.overview import needs_overview
from ...shared.passes_folder import write_atomically
from ...shared.shot import FramePasses, ShotError, ShotRequest, check_arrays
from ...shared.task import new_ticket
from ...shared.version import VERSION
from ..models.registry import fingerprint
from ..pictures import encode_png
from ..video.look import Look
from ..video.source import MemoryPasses, PassesSource
from ..video.techniques.registry import installed_plugins, origin_of
from ..video.watch import Checkpoint
from .passes import StoredPasses, digest_frame
from .requests import DAY, read_request

#: below the store: passes of which nobody knows yet which job they make
INCOMING = "incoming"


@dataclass(frozen=True)
class Job:
    """One job's folder."""

    folder: Path
    request: ShotRequest
    #: where the passes still stream in; None for a job that is only read
    streaming: StoredPasses | None = None

    @property
    def name(self) -> str:
        """The job's id: a digest of the request, the model's files and the passes."""
        return self.folder.name

    def same_settings(self, other: Job) -> bool:
        """Whether what decides the look, the model's files included, is the same in both."""
        return self.request.settings() == other.request.settings() and self._model() == other._model()

    def _model(self) -> str:
        path = self.folder / "model.txt"
        return path.read_text() if path.exists() else ""

    def passes(self) -> StoredPasses:
        """The stored passes, which are read when they are asked for."""
        return self.streaming or StoredPasses(self.folder / "passes", self.request)

    def frame_path(self, index: int) -> Path:
        """Where the frame at an index of the request is stored."""
        return self.folder / "frames" / f"{index:05d}.png"

    def finished_frames(self) -> list[int]:
        """Indices of the frames on disk."""
        return [n for n in range(len(self.request.frames)) if self.frame_path(n).exists()]

    def read_frame(self, index: int) -> np.ndarray:
        """(H, W, 3) uint8."""
        with Image.open(self.frame_path(index)) as picture:
            return np.asarray(picture.convert("RGB"))

    def images(self) -> StoredImages:
        """All frames, read when they are asked for."""
        return StoredImages(self)

    def write_frame(self, index: int, image: np.ndarray) -> None:
        """Store a frame; after this it is never lost."""
        path = self.frame_path(index)
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, encode_png(image))

    def take_frame(self, index: int, path: Path) -> None:
        """Store another job's frame as this one's."""
        own = self.frame_path(index)
        own.parent.mkdir(exist_ok=True)
        write_atomically(own, path.read_bytes())

    def read_png(self, index: int) -> bytes:
        """A frame's file."""
        return self.frame_path(index).read_bytes()

    def write_texture(self, character: int, texture: np.ndarray) -> None:
        """Store a character's texture (S, S, 4) uint8."""
        write_atomically(self.folder / f"texture_{character}.png", encode_png(texture))

    def textures(self) -> dict[str, bytes]:
        """The stored textures' files by the names they travel under: ``texture_1`` and so on."""
        return {path.stem: path.read_bytes() for path in sorted(self.folder.glob("texture_*.png"))}

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Remember where denoising stands."""
        buffer = io.BytesIO()
        np.savez(buffer, step=checkpoint.step, latents=checkpoint.latents, path=checkpoint.path)
        write_atomically(self.folder / "latents.npz", buffer.getvalue())

    def load_checkpoint(self) -> Checkpoint | None:
        """What ``save_checkpoint`` stored last, or None."""
        path = self.folder / "latents.npz"
        if not path.exists():
            return None
        try:
            with np.load(path, allow_pickle=False) as data:
                return Checkpoint(int(data["step"]), data["latents"], data["path"])
        except (OSError, ValueError, KeyError):
            return None

    def save_look(self, look: Look) -> None:
        """Store the look; frames can be made from it from now on."""
        write_atomically(self.folder / "look.npz", look.encoded())

    def look(self) -> Look | None:
        """The settled look, or None; ``ShotError`` when its file is damaged."""
        path = self.folder / "look.npz"
        return Look.decoded(path.read_bytes()) if path.exists() else None

    def parent(self) -> Job | None:
        """The job whose look this one keeps; None when it makes its own.

        Raises ``ShotError`` when that look is not there, unless it is optional.
        """
        request = self.request
        if not request.look or not request.resolved_method().fusion:
            return None
        folder = self.folder.parent / request.look
        try:
            if not (folder / "look.npz").exists():
                raise FileNotFoundError(folder)
            return Job(folder, read_request(folder / "request.json"))
        except (OSError, msgspec.MsgspecError) as error:
            if request.look_optional:
                return None
            raise ShotError(
                "look",
                f"This backend does not have the kept look {request.look}; generate the shot that it comes "
                "from again, or make a new look.",
            ) from error

    def report(self) -> dict[str, Any] | None:
        """The report of a finished job, or None."""
        path = self.folder / "report.json"
        return json.loads(path.read_text()) if path.exists() else None

    def finish(self, report: dict[str, Any]) -> None:
        """Mark the job as finished."""
        write_atomically(self.folder / "report.json", json.dumps(report, indent=1).encode())
        (self.folder / "latents.npz").unlink(missing_ok=True)


class StoredImages(Sequence[np.ndarray]):
    """The finished frames of a job, (H, W, 3) uint8 each, of which one is in memory at a time."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def __len__(self) -> int:
        return len(self._job.request.frames)

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self._job.read_frame(index)


class JobStore:
    """All jobs under one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock = threading.Lock()

    def receive(self, request: ShotRequest, header: PassesHeader) -> PassesIntake:
        """Begin to take a shot's passes.

        Raises ``ShotError`` when the look that the request keeps is not there, or the model's name stands for nothing.
        """
        return PassesIntake(self, msgspec.structs.replace(request, manifest=None), header)

    def open(self, request: ShotRequest, passes: FramePasses | PassesSource) -> Job:
        """The job of a request whose passes are there as a whole: the one on disk if it was asked before, else a new one.

        Raises ``ShotError`` as ``receive``.
        """
        source = MemoryPasses(passes, request.manifest) if isinstance(passes, FramePasses) else passes
        header, entries = split_manifest(source.manifest(range(source.frame_count)), source.frame_count)
        intake = self.receive(request, header)
        while (wanted := intake.next_wanted()) is not None:
            index, overview = wanted
            found = source.overview(index) if overview else source.frame(index)
            height, width = found.mask.shape[1:] if overview else (request.height, request.width)
            intake.add(index, check_arrays(found.arrays(), 1, width, height), entries[index], overview=overview)
        assert intake.job is not None
        return intake.job

    def remove_stale_incoming(self) -> None:
        """Remove passes that were never sent to their end and are older than a day."""
        oldest = time.time() - DAY
        for folder in (self.root / INCOMING).glob("*"):
            with suppress(OSError):
                if folder.stat().st_mtime < oldest:
                    shutil.rmtree(folder)


def _fingerprint(request: ShotRequest) -> str:
    """Another text when the model's files or the packages of the method's plugins have changed."""
    installed = installed_plugins()
    plugins = [origin_of(installed[name]) for name in sorted(request.resolved_method().plugins) if name in installed]
    return " ".join([fingerprint(request.sampling.model), *plugins])


class PassesIntake:
    """Takes a shot's passes onto the disk, frame by frame, and finds out which job they make.

    A job is named by its request, its model's files and its passes. Small frames name it when all are there. Of large ones the
    overview names it, so that a new job can begin at once; where there is such a job already, all its passes are compared first.
    """

    def __init__(self, store: JobStore, request: ShotRequest, header: PassesHeader) -> None:
        self._store, self._request, self._header = store, request, header
        Job(store.root / "new", request).parent()
        self._model = _fingerprint(request)
        self._incoming = store.root / INCOMING / new_ticket()
        self._passes = StoredPasses(self._incoming, request)
        self._passes.begin(header)
        count = len(request.frames)
        self._overviews: list[str | None] = [None] * (count if needs_overview(request) else 0)
        self._digests: list[str | None] = [None] * count
        self._unasked = {True: list(range(len(self._overviews))), False: list(range(count))}
        self._candidate = ""
        #: the job, as soon as it is known
        self.job: Job | None = None

    @property
    def complete(self) -> bool:
        """Whether all passes are there."""
        return None not in self._digests

    @property
    def received(self) -> int:
        """How many frames are there."""
        return len(self._digests) - self._digests.count(None)

    def next_wanted(self) -> tuple[int, bool] | None:
        """(index, whether its small copy) of what to ask for next, and asks for it only once: small copies first, then the
        frames that are waited for. None when everything has been asked for, or must wait for what is on its way."""
        overview = bool(self._overviews)
        if self._unasked[True]:
            return self._unasked[True].pop(0), True
        if (overview and None in self._overviews) or not self._unasked[False]:
            return None
        urgent = next((n for n in self._passes.take_urgent() if n in self._unasked[False]), self._unasked[False][0])
        self._unasked[False].remove(urgent)
        return urgent, False

    def add(self, index: int, passes: FramePasses, entry: FrameEntry, *, overview: bool = False) -> None:
        """Store a frame. Raises ``ShotError`` for one that was not asked for, ``OSError`` when the disk does not take it."""
        digests = self._overviews if overview else self._digests
        if not 0 <= index < len(digests) or digests[index] is not None or index in self._unasked[overview]:
            raise ShotError("passes", f"The passes of frame {index} were sent without being asked for; generate the shot again.")
        if not overview and self.job is not None and self._passes.has(index):
            stored = self._passes.digest(index)
            if stored != digest_frame(passes, entry):
                raise ShotError("passes", "The scene changed while its passes were rendered; generate the shot again.")
        digests[index] = self._passes.add(index, passes, entry, overview=overview)
        if overview and None not in self._overviews:
            self._open_by_overview()
        elif self.complete:
            self._finish()

    def fail(self, sentence: str) -> None:
        """No more passes will come."""
        self._passes.fail(sentence)
        shutil.rmtree(self._incoming, ignore_errors=True)

    def _name(self, digests: list[str | None], base: str = "") -> str:
        request = self._request
        identity = [VERSION, base, request, request.resolved_method(), self._model, self._header, digests]
        return hashlib.blake2b(msgspec.json.encode(identity), digest_size=12).hexdigest()

    def _open_by_overview(self) -> None:
        name = self._name(self._overviews)
        with self._store._lock:
            if (self._store.root / name).exists():
                # asked before, perhaps: the full passes will tell
                self._candidate = name
                return
            self._create(name)

    def _create(self, name: str) -> None:
        folder = self._store.root / name
        folder.mkdir(parents=True)
        os.replace(self._incoming, folder / "passes")
        write_atomically(folder / "model.txt", self._model.encode())
        write_atomically(folder / "request.json", msgspec.json.encode(self._request))
        self._passes.folder = folder / "passes"
        self.job = Job(folder, self._request, self._passes)

    def _finish(self) -> None:
        """All passes are there."""
        if self.job is None:
            with self._store._lock:
                self._settle_job()
        self._passes.complete()
        assert self.job is not None
        # when a job was last asked for says how long it has been of use
        os.utime(self.job.folder / "request.json")

    def _settle_job(self) -> None:
        name = self._candidate or self._name(self._digests)
        folder = self._store.root / name
        if self._candidate:
            stored = StoredPasses(folder / "passes", self._request)
            if any(stored.has(n) and stored.digest(n) != digest for n, digest in enumerate(self._digests)):
                name = self._name(self._digests, self._candidate)
                folder = self._store.root / name
        if not (folder / "request.json").exists():
            shutil.rmtree(folder, ignore_errors=True)
            self._create(name)
            return
        # the same passes once more: they mend what is missing or damaged there
        for path in sorted(self._incoming.rglob("*")):
            if path.is_file():
                target = folder / "passes" / path.relative_to(self._incoming)
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(path, target)
        shutil.rmtree(self._incoming, ignore_errors=True)
        self._passes.folder = folder / "passes"
        self.job = Job(folder, self._request, self._passes)
