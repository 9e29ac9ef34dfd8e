"""All of the library in one list: what comes with the extension, the catalogue, the user's folders and the hub's cache."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ....shared.folders import models_folder
from ....shared.library import MAX_ITEMS, LibraryFolder, LibraryItem, matches
from ....shared.shot import ShotError
from ..model_file import FAMILIES
from ..registry import HUB_REVISIONS, PRESETS, STARTER
from ..usual_controls import find_family_of_folder
from .cached import CachedRepository, list_cached, read_cached_configuration
from .cards import find_preview, read_card
from .catalogue import CatalogueEntry, read_catalogue
from .fit import DeviceMemory, judge_fit
from .folders import list_folders
from .getting import find_here, list_paths
from .inspection import Inspected, InspectionIndex, inspect_configuration
from .layouts import list_places
from .received import read_received
from .scanning import Candidate, LeftOut, scan

#: kinds of which a device's memory holds one together with a base
_FITTED = ("checkpoint", "controlnet")


@dataclass(frozen=True)
class Listing:
    """``items`` in the order in which people read them, ``left_out`` how many more there are, ``notices`` sentences about what
    could not be read."""

    items: tuple[LibraryItem, ...]
    folders: tuple[LibraryFolder, ...] = ()
    notices: tuple[str, ...] = ()
    left_out: int = 0


def list_library(
    search: str = "",
    kinds: Collection[str] = (),
    device: DeviceMemory | None = None,
    check: Callable[[], None] = lambda: None,
    index: InspectionIndex | None = None,
) -> Listing:
    """The library's entries that match. ``check`` is called now and then, and may raise to end it."""
    index = index or InspectionIndex()
    folders, notices = _read_folders()
    items: list[LibraryItem] = []
    known: set[str] = set()
    own, users = _list_own(notices, index, device, check), _list_user(folders, notices, index, device, check)
    for found in (_list_catalogue(device), own, users):
        for item in found:
            if item.path and item.path in known:
                continue
            known |= {item.path} if item.path else set()
            items.append(item)
    repositories = {entry.repository for entry in read_catalogue().entries if entry.way == "repository"}
    cached = (_describe_cached(one, device) for one in list_cached() if one.name not in repositories)
    items += [item for item in cached if item is not None]
    index.save()
    chosen = [item for item in items if (not kinds or item.kind in kinds) and matches(item, search)]
    said = tuple(_clean(notice, 4096) for notice in dict.fromkeys(notices))
    return Listing(tuple(chosen[:MAX_ITEMS]), tuple(folders), said, max(len(chosen) - MAX_ITEMS, 0))


def _read_folders() -> tuple[list[LibraryFolder], list[str]]:
    try:
        folders = list_folders()
    except ShotError as error:
        return [], [str(error)]
    return folders, [folder.problem for folder in folders if folder.problem]


def make_item(**values: Any) -> LibraryItem:
    """An entry whose texts are as they can be sent: not too long, and without letters that no screen has."""
    for name, value in values.items():
        if isinstance(value, str):
            values[name] = _clean(
                value, 4096 if name in ("name", "path", "use", "purpose", "page", "fit_sentence", "problem") else 200
            )
    values["title"] = " ".join(values["title"].split()) or "?"
    return LibraryItem(**values)


def _clean(text: str, most: int) -> str:
    return text[:most].encode("utf-8", "backslashreplace").decode()[:most]


def _add_fit(values: dict[str, Any], device: DeviceMemory | None) -> dict[str, Any]:
    if values["kind"] in _FITTED:
        values["fits"], values["fit_sentence"] = judge_fit(values["family"], device)
    return values


def _list_catalogue(device: DeviceMemory | None) -> Iterator[LibraryItem]:
    received = read_received()
    damaged = {file.entry for file in received.values() if file.damaged}
    for entry in read_catalogue().entries:
        yield _describe_entry(entry, device, entry.name in damaged)


def _describe_entry(entry: CatalogueEntry, device: DeviceMemory | None, damaged: bool) -> LibraryItem:
    here = find_here(entry)
    bundled = entry.way == "bundled"
    values: dict[str, Any] = {
        "name": entry.name,
        "title": entry.title,
        "kind": entry.kind,
        "family": entry.family,
        "place": "bundled" if bundled else "library" if here is not None else "catalogue",
        "path": str(here) if here is not None else str(STARTER) if bundled and entry.kind == "checkpoint" else "",
        "use": _find_use(entry, here) if here is not None or bundled else "",
        "size": entry.size,
        "licence": entry.licence,
        "purpose": entry.purpose,
        "page": entry.page,
        "control": entry.control,
        "is_here": here is not None or bundled,
        "can_get": entry.way in ("repository", "files") and (here is None or damaged),
        "damaged": damaged,
    }
    if entry.family == "starter" and device is not None:
        return make_item(**values, fits="yes", fit_sentence="It fits any machine.")
    return make_item(**_add_fit(values, device))


def _find_use(entry: CatalogueEntry, here: Path | None) -> str:
    if entry.kind == "text_encoder":
        return ""
    if entry.use in PRESETS or entry.way == "bundled":
        return entry.use
    if entry.way == "files":
        return str(here)
    if entry.use:
        return entry.use
    pinned = HUB_REVISIONS.get(entry.repository) == entry.revision or entry.revision is None
    return entry.repository if pinned else f"{entry.repository}@{entry.revision}"


def _list_own(
    notices: list[str], index: InspectionIndex, device: DeviceMemory | None, check: Callable[[], None]
) -> Iterator[LibraryItem]:
    """What lies in the library's own folder and is none of the catalogue's."""
    named = {str(path) for entry in read_catalogue().entries for path in list_paths(entry)}
    left_out = LeftOut()
    for candidate in scan(models_folder(), check, left_out):
        if str(candidate.path) not in named:
            yield _describe_file(candidate, index.inspect(candidate), "library", device)
    notices += left_out.explain(models_folder())


def _list_user(
    folders: list[LibraryFolder],
    notices: list[str],
    index: InspectionIndex,
    device: DeviceMemory | None,
    check: Callable[[], None],
) -> Iterator[LibraryItem]:
    for folder in folders:
        if folder.problem:
            continue
        places, said = list_places(Path(folder.path), folder.layout)
        notices += said
        for place in places:
            left_out = LeftOut()
            for candidate in scan(place, check, left_out):
                check()
                yield _describe_file(candidate, index.inspect(candidate), "folder", device)
            notices += left_out.explain(place)


def _describe_file(candidate: Candidate, found: Inspected, place: str, device: DeviceMemory | None) -> LibraryItem:
    path, card = candidate.path, read_card(candidate.path)
    usable = not found.problem and found.kind not in ("other", "text_encoder")
    values: dict[str, Any] = {
        "name": os.fspath(path),
        "title": card.title or found.title or (path.name if candidate.is_folder else path.stem),
        "kind": found.kind,
        "family": found.family,
        "place": place,
        "path": os.fspath(path),
        "use": os.fspath(path) if usable else "",
        "size": candidate.size,
        "licence": card.licence,
        "purpose": found.sentence if not found.problem else "",
        "page": card.page,
        "control": found.control,
        "words": tuple(_clean(word, 200) for word in (found.words or card.words)),
        "is_here": True,
        "has_preview": find_preview(path) is not None,
        "problem": found.problem,
    }
    return make_item(**_add_fit(values, device))


def _describe_cached(found: CachedRepository, device: DeviceMemory | None) -> LibraryItem | None:
    """A repository of the hub's cache; None for one that has nothing to do with pictures, motions or their words."""
    if os.path.exists(found.folder / "model_index.json"):
        family = find_family_of_folder(found.folder)
        problem = "" if family else "It is a model of a kind that is not supported."
        inspected = Inspected("checkpoint", family, problem=problem, sentence="It lies in the hub's cache.")
    else:
        inspected = inspect_configuration(read_cached_configuration(found.folder), found.name.rpartition("/")[2])
    if inspected.kind == "other" or inspected.problem:
        return None
    usable = inspected.kind != "text_encoder"
    values: dict[str, Any] = {
        "name": found.name,
        "title": found.name,
        "kind": inspected.kind,
        "family": inspected.family,
        "place": "hub",
        "path": str(found.folder),
        "use": found.name if usable else "",
        "size": found.size,
        "purpose": inspected.sentence,
        "page": f"https://huggingface.co/{found.name}",
        "control": inspected.control,
        "is_here": True,
    }
    return make_item(**_add_fit(values, device))


def write_family(item: LibraryItem) -> str:
    """A family in words, empty where there is none."""
    return FAMILIES.get(item.family, "") if item.family else ""
