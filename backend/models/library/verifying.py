"""Whether what is here is what it should be: files are hashed again, and compared with what came, or with the catalogue."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ....shared.shot import ShotError
from ..downloads import hash_file
from .cached import find_entry_files
from .catalogue import CatalogueEntry, find_entry, read_catalogue
from .getting import list_paths
from .naming import read_path
from .received import ReceivedFile, change_received, read_received

#: (bytes that were read, bytes in all, name of the file); may raise to end it
Report = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Checked:
    """A file that was looked at. ``state`` is intact, damaged, missing or unknown; ``name`` what ``get`` is to be told."""

    path: Path
    name: str
    state: str
    sentence: str


@dataclass(frozen=True)
class _Expected:
    path: Path
    name: str
    size: int | None
    sha256: str | None


def verify(names: Sequence[str], report: Report) -> list[Checked]:
    """Look at models by their names, or at all that are here and of which something is known. Raises ``ShotError`` for a name that
    means nothing, and what ``report`` raises."""
    expected = _list_expected(names)
    sizes = [one.path.stat().st_size if os.path.isfile(one.path) else 0 for one in expected]
    total, done, checked = sum(sizes), 0, []
    for one, size in zip(expected, sizes, strict=True):
        told = done

        def report_file(read: int, told: int = told, name: str = one.path.name) -> None:
            report(told + min(read, total), total, name)

        checked.append(_check(one, report_file))
        done += size
    _mark(checked, {one.path: one for one in expected})
    return checked


def _list_expected(names: Sequence[str]) -> list[_Expected]:
    known = read_received()
    every = {Path(path): _Expected(Path(path), file.entry, file.size, file.sha256) for path, file in known.items()}
    for entry in read_catalogue().entries:
        for one in _expect_entry(entry):
            every.setdefault(one.path, one)
    if not names:
        return list(every.values())
    chosen: dict[Path, _Expected] = {}
    for name in names:
        path = read_path(name)
        found = [one for one in every.values() if one.name == name or one.path == path or one.path.is_relative_to(path)]
        if not found and os.path.isfile(path):
            found = [_Expected(path, name, None, None)]
        if not found and find_entry(name) is None:
            raise ShotError("library", f"There is no '{name}' to verify; 'latentman models list' shows what there is.")
        if not found:
            raise ShotError("library", f"'{name}' is not here; get it first.")
        chosen |= {one.path: one for one in found}
    return list(chosen.values())


def _expect_entry(entry: CatalogueEntry) -> list[_Expected]:
    """An entry's files that are here, though nobody wrote down that they came."""
    paths = [path for path in list_paths(entry) if os.path.isfile(path)] if entry.way == "files" else find_entry_files(entry) or []
    out = []
    for path, file in zip(paths, entry.files, strict=False):
        # the hub's cache calls large files by their hashes
        blob = path.resolve().name
        sha256 = file.sha256 or (blob if re.fullmatch("[0-9a-f]{64}", blob) else None)
        out.append(_Expected(path, entry.name, file.size, sha256))
    return out


def _check(one: _Expected, report: Callable[[int], None]) -> Checked:
    if not os.path.isfile(one.path):
        return Checked(one.path, one.name, "missing", f"{one.path} is gone; get '{one.name}' again.")
    again = f"get '{one.name}' again"
    try:
        if one.size is not None and one.path.stat().st_size != one.size:
            return Checked(one.path, one.name, "damaged", f"{one.path} has another size than what came; {again}.")
        sha256 = hash_file(one.path, report)
    except OSError as error:
        return Checked(one.path, one.name, "damaged", f"{one.path} cannot be read ({error.strerror or error}); {again}.")
    if one.sha256 is None:
        return _look_up(one, sha256)
    if sha256 != one.sha256:
        return Checked(
            one.path, one.name, "damaged", f"{one.path} is damaged: its hash is another than that of what came; {again}."
        )
    return Checked(one.path, one.name, "intact", f"{one.path} is intact.")


def _look_up(one: _Expected, sha256: str) -> Checked:
    """A file of which only its contents may tell what it is."""
    for entry in read_catalogue().entries:
        if any(file.sha256 == sha256 for file in entry.files):
            return Checked(one.path, entry.name, "intact", f"{one.path} is intact: it is the catalogue's '{entry.name}'.")
    return Checked(one.path, one.name, "unknown", f"{one.path} is unknown: there is nothing to compare it with.")


def _mark(checked: Sequence[Checked], expected: dict[Path, _Expected]) -> None:
    """Write down what is damaged, so that it is got again, and what no longer is."""
    known = read_received()
    changes: dict[str, ReceivedFile] = {}
    for one in checked:
        before, damaged = known.get(str(one.path)), one.state == "damaged"
        if before is None and damaged and one.name:
            wanted = expected[one.path]
            changes[str(one.path)] = ReceivedFile(wanted.size or 0, wanted.sha256 or "", one.name, damaged=True)
        elif before is not None and before.damaged != damaged and one.state != "missing":
            changes[str(one.path)] = msgspec.structs.replace(before, damaged=damaged)
    if changes:
        change_received(lambda files: files.update(changes))


def summarise(checked: Sequence[Checked]) -> str:
    """How many files are as they should be, in a sentence."""
    if not checked:
        return "There is nothing to verify: the library has got nothing yet."
    counts = {state: sum(one.state == state for one in checked) for state in ("intact", "damaged", "missing", "unknown")}
    told = [f"{count} {state}" for state, count in counts.items() if count]
    files = "1 file was" if len(checked) == 1 else f"{len(checked)} files were"
    return f"{files} looked at: {', '.join(told)}."
