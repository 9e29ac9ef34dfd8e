"""Passes on their way in: stored frame by frame, until it is known which job they belong to."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from ...shared.files import make_private_folder, replace_file
from ...shared.frame_digest import digest_frame
from ...shared.manifest import FrameEntry, PassesHeader
from ...shared.overview import compute_overview_size, needs_overview
from ...shared.passes import FramePasses, check_arrays
from ...shared.passes_folder import OVERVIEW
from ...shared.shot import ShotError, ShotRequest, describe_method, describe_request
from ...shared.task import new_ticket
from ...shared.version import VERSION
from ..models.prompts.named_loras import name_model
from ..models.registry import fingerprint
from ..plugins import origin_of
from ..video.techniques.registry import find_plugins
from .earlier import EarlierPasses, mark_try, name_try
from .in_use import Claim
from .job import LOOK_FILE, MADE_WITH, REFERENCE, WORN, Job
from .passes import StoredPasses
from .requests import INCOMING


class Store(Protocol):
    """What passes on their way need of the job store: its folder, the numbers that models compute with, what one at a time may do
    in it, and the names of jobs whose passes are not complete yet."""

    root: Path
    numbers: str
    lock: threading.Lock
    streaming: set[str]


def _remove_obstacles(folder: Path) -> None:
    """Remove from a job's folder what stands in the place of something of another kind, such as a folder in that of a file: it
    could neither be read nor replaced."""
    folders = [folder / name for name in ("frames", "passes", f"passes/{OVERVIEW}", WORN)]
    for path in folders:
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            path.unlink()
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink() and path not in folders:
            shutil.rmtree(path)


def _fingerprint_model(request: ShotRequest, numbers: str) -> str:
    """Another text when the model's files, the packages of the method's plugins or the numbers that it computes with are others."""
    installed = find_plugins()
    plugins = [origin_of(installed[name]) for name in sorted(request.get_method().plugins) if name in installed]
    return " ".join(filter(None, [fingerprint(name_model(request.sampling.model, request.text)), *plugins, numbers]))


class PassesIntake:
    """Takes a shot's passes onto the disk, frame by frame, and finds out which job they make.

    A job is named by its request, its model's files and its passes. Small frames name it when all are there. Of large ones the
    overview names it, so that a new job can begin at once; where there is such a job already, all its passes are compared first.
    """

    def __init__(
        self,
        store: Store,
        request: ShotRequest,
        header: PassesHeader,
        reference: bytes = b"",
        *,
        look: bytes = b"",
        costume: Mapping[str, bytes] | None = None,
        on_demand: bool = False,
        owner: bytes = b"",
    ) -> None:
        """``reference`` is the file of the picture that the request names, ``look`` that of the look that it is a part of,
        ``costume`` those of the costume that it makes or wears.
        ``on_demand`` asks for all small copies, and of the frames only for those that somebody waits for. ``owner`` is the key of
        the client, who can go on with an earlier try of its own; b"" for none."""
        self._reference, self._look, self._on_demand = reference, look, on_demand
        self._costume = dict(costume or {})
        self._store, self._request, self._header = store, request, header
        if not look:
            Job(store.root / "new", request).parent()
        self._model = _fingerprint_model(request, store.numbers)
        self._incoming = store.root / INCOMING / new_ticket()
        self._passes = StoredPasses(self._incoming, request)
        self._claims = [Claim(store.root, self._incoming.name)]
        count = len(request.frames)
        self._overviews: list[str | None] = [None] * (count if needs_overview(request) else 0)
        self._digests: list[str | None] = [None] * count
        self._unasked = {True: list(range(len(self._overviews))), False: list(range(count))}
        self._candidate = ""
        self._earlier: EarlierPasses | None = None
        self._keeps = False
        #: the job, as soon as it is known
        self.job: Job | None = None
        try:
            self._passes.begin(header)
            if owner:
                name = name_try(owner, request, self._model, header)
                self._earlier = EarlierPasses(store.root, name, request)
                mark_try(self._incoming, name)
        except (OSError, ShotError):
            shutil.rmtree(self._incoming, ignore_errors=True)
            self.release()
            raise

    @property
    def complete(self) -> bool:
        """Whether all passes are there."""
        return None not in self._digests

    def choose_next(self) -> tuple[int, bool] | None:
        """(index, whether its small copy) of what to ask for next, and asks for it only once: small copies first, then the
        frames that are waited for. None when everything has been asked for, or must wait for what is on its way."""
        overview = bool(self._overviews)
        if self._unasked[True]:
            return self._unasked[True].pop(0), True
        if (overview and None in self._overviews) or not self._unasked[False]:
            return None
        urgent = next((n for n in self._passes.urgent() if n in self._unasked[False]), None)
        if urgent is None:
            if self._on_demand and overview:
                return None
            urgent = self._unasked[False][0]
        self._unasked[False].remove(urgent)
        return urgent, False

    def has_earlier(self, index: int, *, overview: bool) -> bool:
        """Whether passes of a frame came in an earlier try; they may be others."""
        return self._earlier is not None and self._earlier.has(index, overview=overview)

    def add_earlier(self, index: int, digest: str, *, overview: bool) -> bool:
        """Take a frame from an earlier try; False where those passes are not there. Raises as ``add``."""
        self._check_asked(index, overview=overview)
        found = self._earlier.find(index, digest, overview=overview) if self._earlier is not None else None
        if found is None:
            return False
        size = self._request.width, self._request.height
        passes = check_arrays(found[0].arrays(), 1, *(compute_overview_size(*size) if overview else size))
        self.add(index, passes, found[1], overview=overview)
        return True

    def _check_asked(self, index: int, *, overview: bool) -> list[str | None]:
        """The digests that a frame's belongs into. Raises ``ShotError`` for one that was not asked for."""
        digests = self._overviews if overview else self._digests
        if not 0 <= index < len(digests) or digests[index] is not None or index in self._unasked[overview]:
            raise ShotError("passes", f"The passes of frame {index} were sent without being asked for; generate the shot again.")
        return digests

    def add(self, index: int, passes: FramePasses, entry: FrameEntry, *, overview: bool = False) -> None:
        """Store a frame. Raises ``ShotError`` for one that was not asked for, ``OSError`` when the disk does not take it."""
        digests = self._check_asked(index, overview=overview)
        if not overview and self.job is not None and self._passes.has(index):
            stored = self._passes.digest(index)
            if stored != digest_frame(passes, entry):
                raise ShotError("passes", "The scene changed while its passes were rendered; generate the shot again.")
        digests[index] = self._passes.add(index, passes, entry, overview=overview)
        if overview and None not in self._overviews:
            self._open_by_overview()
        elif self.complete:
            self._finish()

    def release(self) -> None:
        """Nobody works on the passes or on their job any more: from now on the job may be removed as an unused one."""
        if self._earlier is not None:
            self._earlier.release(remove=self.complete or not self._keeps)
        for claim in self._claims:
            claim.release()

    def fail(self, sentence: str, *, keeps: bool = False) -> None:
        """No more passes will come; ``keeps`` leaves those that have come to the next try."""
        if self.job is not None:
            self._store.streaming.discard(self.job.name)
        self._passes.fail(sentence)
        self._keeps = keeps and self._earlier is not None
        if not self._keeps:
            shutil.rmtree(self._incoming, ignore_errors=True)

    def _name(self, digests: list[str | None], base: str = "") -> str:
        request, method = describe_request(self._request), describe_method(self._request.get_method())
        identity = [VERSION, base, request, method, self._model, self._header, digests]
        return hashlib.blake2b(msgspec.json.encode(identity), digest_size=12).hexdigest()

    def _open_by_overview(self) -> None:
        name = self._name(self._overviews)
        with self._store.lock:
            if (self._store.root / name).exists():
                # asked before, perhaps: the full passes will tell
                self._candidate = name
                return
            self._create(name)
            self._store.streaming.add(name)

    def _create(self, name: str) -> None:
        folder = self._store.root / name
        self._claims.append(Claim(self._store.root, name))
        make_private_folder(folder)
        os.replace(self._incoming, folder / "passes")
        self._describe(folder)
        self._passes.folder = folder / "passes"
        self.job = Job(folder, self._request, self._passes)

    def _describe(self, folder: Path) -> None:
        replace_file(folder / "model.txt", self._model.encode(), private=True)
        method = describe_method(self._request.get_method())
        made_with = hashlib.blake2b(msgspec.json.encode([VERSION, method]), digest_size=12).hexdigest()
        replace_file(folder / MADE_WITH, made_with.encode(), private=True)
        if self._reference:
            replace_file(folder / REFERENCE, self._reference, private=True)
        if self._look:
            replace_file(folder / LOOK_FILE, self._look, private=True)
        for name, data in self._costume.items():
            make_private_folder(folder / WORN)
            replace_file(folder / WORN / name, data, private=True)
        replace_file(folder / "request.json", msgspec.json.encode(self._request), private=True)

    def _finish(self) -> None:
        """All passes are there."""
        with self._store.lock:
            if self.job is None:
                self._open_job()
            assert self.job is not None
            self._passes.complete()
            self._store.streaming.discard(self.job.name)
        # when a job was last asked for says how long it has been of use
        os.utime(self.job.folder / "request.json")

    def _open_job(self) -> None:
        name = self._candidate or self._name(self._digests)
        folder = self._store.root / name
        if self._candidate:
            stored = StoredPasses(folder / "passes", self._request)
            # of a job whose passes are still on their way nobody knows yet whether they are the same
            if name in self._store.streaming or any(
                stored.has(n) and stored.digest(n) != digest for n, digest in enumerate(self._digests)
            ):
                name = self._name(self._digests, self._candidate)
                folder = self._store.root / name
        if not folder.exists():
            self._create(name)
            return
        self._claims.append(Claim(self._store.root, name))
        _remove_obstacles(folder)
        # whoever asks for a job knows its request: what is damaged or missing there is written again
        self._describe(folder)
        # the same passes once more: they mend what is missing or damaged there
        for path in sorted(self._incoming.rglob("*")):
            if path.is_file():
                target = folder / "passes" / path.relative_to(self._incoming)
                make_private_folder(target.parent)
                os.replace(path, target)
        shutil.rmtree(self._incoming, ignore_errors=True)
        self._passes.folder = folder / "passes"
        self.job = Job(folder, self._request, self._passes)
