"""Passes that a client has sent before for the same request, whether that try came to its end or not: they need not be sent
again."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import msgspec

from ...shared.files import replace_file
from ...shared.frame_digest import digest_frame
from ...shared.manifest import FrameEntry, PassesHeader
from ...shared.passes import FramePasses
from ...shared.shot import ShotError, ShotRequest, describe_method, describe_request
from ...shared.version import VERSION
from .in_use import Claim, is_in_use
from .passes import StoredPasses
from .requests import INCOMING

#: how files end that lie beside passes and say of which shot of which client they are; their names are ``name_try``'s
TRY = ".try"
#: folders of tries without an end that are kept, and places that are looked into for one shot
MOST_LEFT, MOST_PLACES = 8, 3


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
    """Write down which try the passes in a folder are of; a job has the marks of all that had its passes."""
    replace_file(folder / f"{name}{TRY}", b"", private=True)


def _sort_by_age(marks: Iterable[Path]) -> list[Path]:
    """The folders of marks, the newest first."""
    found = []
    for mark in marks:
        with suppress(OSError):
            found.append((mark.stat().st_mtime, mark.parent))
    return [folder for _, folder in sorted(found, reverse=True)]


def remove_old_tries(root: Path) -> None:
    """Keep only the newest tries of which nobody knows which job they make."""
    left = [folder for folder in _sort_by_age((root / INCOMING).glob(f"*/*{TRY}")) if not is_in_use(root, folder.name)]
    for folder in left[MOST_LEFT:]:
        shutil.rmtree(folder, ignore_errors=True)


class EarlierPasses:
    """Those of one shot of one client: what earlier tries have left on the way, and what jobs of the same request have. Nothing is
    taken that cannot be read, or is not what its digest says."""

    def __init__(self, root: Path, name: str, request: ShotRequest) -> None:
        """``name`` is the try's."""
        self._request = request
        self._places: list[StoredPasses] = []
        #: what was left on the way, and what says that it is in use
        self._left: list[tuple[Path, Claim]] = []
        for folder in _sort_by_age((root / INCOMING).glob(f"*/{name}{TRY}"))[:MOST_PLACES]:
            if not is_in_use(root, folder.name):
                self._left.append((folder, Claim(root, folder.name)))
                self._places.append(StoredPasses(folder, request))
        for folder in _sort_by_age(root.glob(f"*/passes/{name}{TRY}"))[:MOST_PLACES]:
            self._places.append(StoredPasses(folder, request))

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
        """Nobody works with them any more; ``remove`` also says that nobody will with what was left on the way."""
        self._places = []
        for folder, claim in self._left:
            if remove:
                shutil.rmtree(folder, ignore_errors=True)
            claim.release()
        self._left = []
