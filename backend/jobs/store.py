"""The job store: everything needed to answer an identical request again, or to go on after a crash.

``<root>/<job>/request.json``, ``model.txt`` (the model's fingerprint, and unusual numbers), ``passes/`` (see
``shared.passes_folder``), ``reference.picture``, ``given.look`` and ``worn/`` (a costume's files) where the request names them,
``latents.npz`` while denoising, ``frames/<index>.png``, ``look.npz`` once the look is final, ``texture_<character>.png``,
``made.costume`` with ``costume.json`` where there is a costume, and, when all is done, ``report.json``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from ...shared.costume_files import check_files
from ...shared.manifest import PassesHeader, split_manifest
from ...shared.passes import FramePasses, check_arrays
from ...shared.reference import check_reference
from ...shared.shot import ShotRequest
from ..models.profiles import complete_request
from ..video.source import MemoryPasses, PassesSource
from .intake import PassesIntake
from .job import Job


class JobStore:
    """All jobs under one folder."""

    def __init__(self, root: Path, numbers: str = "") -> None:
        """``numbers`` are those that models compute with where they are not the usual ones: the same request has jobs of its own
        then."""
        self.root, self.numbers = root, numbers
        self.lock = threading.Lock()
        #: jobs of this process whose passes are not complete yet
        self.streaming: set[str] = set()

    def receive(
        self,
        request: ShotRequest,
        header: PassesHeader,
        reference: bytes = b"",
        *,
        look: bytes = b"",
        costume: Mapping[str, bytes] | None = None,
        on_demand: bool = False,
        owner: bytes = b"",
    ) -> PassesIntake:
        """Begin to take a shot's passes; what the request leaves to its model is put in. The other arguments are those of
        ``PassesIntake``.

        Raises ``ShotError`` when the look that the request keeps is not there, the model's name stands for nothing, or the picture
        is another one.
        """
        check_reference(request, reference)
        check_files(request, costume or {})
        request = msgspec.structs.replace(complete_request(request), manifest=None)
        return PassesIntake(self, request, header, reference, look=look, costume=costume, on_demand=on_demand, owner=owner)

    def open(
        self,
        request: ShotRequest,
        passes: FramePasses | PassesSource,
        check: Callable[[], None] = lambda: None,
        reference: bytes = b"",
        look: bytes = b"",
        costume: Mapping[str, bytes] | None = None,
    ) -> Job:
        """The job of a request whose passes are there as a whole: the one on disk if it was asked before, else a new one.

        ``check`` is called between frames; what it raises ends it. ``look`` is the look's file that the shot is a part of,
        ``costume`` are the files of the costume that it makes or wears. Raises ``ShotError`` as ``receive``.
        """
        source = MemoryPasses(passes, request.manifest) if isinstance(passes, FramePasses) else passes
        if not (request.width and request.height):
            tall, wide = source.size
            request = msgspec.structs.replace(request, width=wide, height=tall)
        header, entries = split_manifest(source.manifest(range(source.frame_count)), source.frame_count)
        intake = self.receive(request, header, reference, look=look, costume=costume)
        try:
            while (wanted := intake.choose_next()) is not None:
                check()
                index, overview = wanted
                found = source.overview(index) if overview else source.frame(index)
                height, width = found.mask.shape[1:] if overview else (request.height, request.width)
                intake.add(index, check_arrays(found.arrays(), 1, width, height), entries[index], overview=overview)
        except BaseException:
            intake.fail("The passes could not be read to their end.")
            raise
        finally:
            intake.release()
        assert intake.job is not None
        return intake.job
