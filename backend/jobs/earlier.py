"""Passes that came in an earlier try of a shot which did not come to its end: they need not be sent again."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from ...shared.files import read_file, write_atomically
from ...shared.frame_digest import digest_frame
from ...shared.manifest import FrameEntry, PassesHeader
from ...shared.passes import FramePasses
from ...shared.shot import ShotError, ShotRequest, describe_method, describe_request
from ...shared.version import VERSION
from .in_use import Claim, is_in_use
from .passes import StoredPasses
from .requests import INCOMING

#: in a folder of passes on their way: which shot of which client they are of
TRY = "try.txt"
_PASSES = "passes"
#: folders of tries without an end that are kept
MOST_LEFT = 8


def name_try(owner: bytes, request: ShotRequest, model: str, header: PassesHeader) -> str:
    """The same for the same shot of the same client; ``owner`` is that one's key."""
    identity = [
        VERSION,
        owner.decode("ascii", "replace"),
        describe_request(request),
        describe_method(request.get_method()),
        model,
        header,
    ]
    return hashlib.blake2b(msgspec.json.encode(identity), digest_size=16).hexdigest()


def mark_try(folder: Path, name: str) -> None:
    """Write down which try the passes in a folder are of."""
    write_atomically(folder / TRY, name.encode(), private=True)


def _iter_left(root: Path, *patterns: str) -> Iterator[Path]:
    """The folders of tries that nobody works on, the newest first."""
    found = []
    for pattern in patterns:
        for path in root.glob(f"{pattern}/{TRY}"):
            with suppress(OSError):
                found.append((path.stat().st_mtime, path.parent))
    for _, folder in sorted(found, reverse=True):
        if not is_in_use(root, _find_name(folder)):
            yield folder


def _find_name(folder: Path) -> str:
    """What a folder of passes is called where it is said what is in use: a job's passes lie in the job's folder."""
    return folder.parent.name if folder.name == _PASSES else folder.name


def remove_old_tries(root: Path) -> None:
    """Keep only the newest tries of which nobody knows which job they make."""
    for number, folder in enumerate(_iter_left(root, f"{INCOMING}/*")):
        if number >= MOST_LEFT:
            shutil.rmtree(folder, ignore_errors=True)


class EarlierPasses:
    """Those of one shot: in the folder that the last try has left, and in the job that has the shot's small copies. Nothing is
    taken that cannot be read, or is not what its digest says."""

    def __init__(self, root: Path, name: str, request: ShotRequest) -> None:
        """``name`` is the try's."""
        self._request = request
        self._places: list[StoredPasses] = []
        self._claim: Claim | None = None
        self._folder: Path | None = None
        for folder in _iter_left(root, f"{INCOMING}/*", f"*/{_PASSES}"):
            with suppress(OSError):
                if read_file(folder / TRY, 100) == name.encode():
                    self._claim, self._folder = Claim(root, _find_name(folder)), folder
                    self._places.append(StoredPasses(folder, request))
                    return

    def add_job(self, folder: Path) -> None:
        """Look into a job, too."""
        self._places.append(StoredPasses(folder / _PASSES, self._request))

    def has(self, index: int, *, overview: bool) -> bool:
        """Whether passes of a frame are there, or its small copy."""
        return any(place.has(index, overview=overview) for place in self._places)

    def find(self, index: int, digest: str, *, overview: bool) -> tuple[FramePasses, FrameEntry] | None:
        """The passes (1, H, W, ...) of a digest with their entry."""
        for place in self._places:
            try:
                if place.has(index, overview=overview) and place.digest(index, overview=overview) == digest:
                    passes, entry = place.read(index, overview=overview), place.entry(index, overview=overview)
                    if digest_frame(passes, entry) == digest:
                        return passes, entry
            except ShotError:
                continue
        return None

    def release(self, *, remove: bool) -> None:
        """Nobody works with them any more; ``remove`` also says that nobody will."""
        self._places = []
        if self._claim is not None and self._folder is not None:
            if remove and self._folder.name == _PASSES:
                with suppress(OSError):
                    (self._folder / TRY).unlink()
            elif remove:
                shutil.rmtree(self._folder, ignore_errors=True)
            self._claim.release()
            self._claim = None
