"""Models that are known to work, with their exact files: ``catalogue.json``, checked when it is read. Free of torch.

A hash or size stands there only where it was found in two independent places; what has none is pinned by its commit, of which the
hub announces size and hash; what has no commit either is whatever its owner has there now.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

import msgspec

from ....shared.files import read_file
from ....shared.library import KINDS
from ....shared.model_name import is_weight_file
from ..memory_figures import MemoryNeed

CATALOGUE = Path(__file__).with_name("catalogue.json")
#: bytes of the catalogue
MAX_CATALOGUE = 1 << 20
Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
Commit = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{40}\Z")]
#: OWNER/NAME, or nothing
Repository = Annotated[str, msgspec.Meta(pattern=r"^([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)?\Z")]
Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9-]{1,64}\Z")]
Text = Annotated[str, msgspec.Meta(max_length=400)]


class CatalogueFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of a repository. ``size`` in bytes and ``sha256`` are None where they are not known; ``save_as`` is its name in the
    library's own folder, for entries whose ``way`` is files."""

    path: Text
    size: Annotated[int, msgspec.Meta(ge=0)] | None = None
    sha256: Sha256 | None = None
    save_as: Text = ""


class CatalogueEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One model. ``way`` is how it gets here: bundled (it is here), repository (its files go into the hub's cache), files (they go
    into the library's own folder), page (only a browser gets it). ``files`` are empty for a repository of which what is needed is
    found out when it is got. ``use`` is what stands for it in a model's name, where that is not its repository or file."""

    name: Name
    title: Text
    kind: Text
    family: Text
    way: Literal["bundled", "repository", "files", "page"]
    licence: Text
    purpose: Text
    repository: Repository = ""
    revision: Commit | None = None
    files: tuple[CatalogueFile, ...] = ()
    control: Text = ""
    page: Text = ""
    use: Text = ""

    @property
    def size(self) -> int:
        """Bytes of its files, without a few small ones; 0 where the size of a large one is not known."""
        if any(file.size is None and is_weight_file(file.path) for file in self.files):
            return 0
        return sum(file.size or 0 for file in self.files)


class Figures(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bytes, as ``MemoryNeed`` has them."""

    weights: dict[str, int]
    denoising: int
    decoding: int
    is_guided: bool = True
    together: int = 1


class Catalogue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``memory``: family -> precision -> what its base takes with a ControlNet, for frames of its own size."""

    version: Literal[1]
    memory: dict[str, dict[str, Figures]]
    entries: tuple[CatalogueEntry, ...]


def decode_catalogue(data: bytes) -> Catalogue:
    """A catalogue from its JSON. Raises ``ValueError`` for one that contradicts itself or leads out of a folder."""
    found = msgspec.json.decode(data, type=Catalogue)
    names = [entry.name for entry in found.entries]
    if len(set(names)) != len(names):
        raise ValueError("two entries have one name")
    for entry in found.entries:
        if entry.kind not in KINDS:
            raise ValueError(f"{entry.name} is of the unknown kind {entry.kind}")
        if entry.way in ("repository", "files") and not entry.repository:
            raise ValueError(f"{entry.name} names no repository")
        if entry.way == "files" and not (entry.files and all(file.save_as for file in entry.files)):
            raise ValueError(f"{entry.name} does not say what its files are called")
        if entry.way == "page" and not entry.page.startswith("https://"):
            raise ValueError(f"{entry.name} names no page")
        for file in entry.files:
            path = PurePosixPath(file.path)
            if path.is_absolute() or ".." in path.parts or "\\" in file.path or PurePosixPath(file.save_as).name != file.save_as:
                raise ValueError(f"{entry.name} has the file {file.path}, which leads out of its folder")
    return found


@cache
def read_catalogue() -> Catalogue:
    """The catalogue that comes with the backend."""
    return decode_catalogue(read_file(CATALOGUE, MAX_CATALOGUE))


def find_entry(name: str) -> CatalogueEntry | None:
    """The entry of a name, None for none."""
    return next((entry for entry in read_catalogue().entries if entry.name == name), None)


def find_need(family: str, precision: str) -> MemoryNeed | None:
    """What a family's base takes in float16 or float32; None where that is not known."""
    figures = read_catalogue().memory.get(family, {}).get(precision)
    if figures is None:
        return None
    return MemoryNeed(figures.weights, figures.denoising, figures.decoding, figures.is_guided, figures.together)
