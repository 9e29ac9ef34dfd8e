"""Bringing a model here: from the catalogue, or any repository of the hub. What is there already is not got again, and what came
in part goes on where it stopped."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from huggingface_hub import constants
from huggingface_hub.errors import OfflineModeIsEnabled

from ....shared import logs
from ....shared.disk_errors import explain_disk_error, find_path, is_full
from ....shared.folders import MODELS_ENVIRONMENT, models_folder
from ....shared.library import write_bytes
from ....shared.model_name import is_weight_file
from ....shared.shot import ShotError
from ..downloads import hash_file
from ..hub import (
    HubError,
    RemoteFile,
    Report,
    check_space,
    download_file,
    download_files,
    explain_hub_errors,
    is_offline,
    list_absent,
    list_repository,
)
from ..hub_cache import find_in_cache, list_needed
from ..registry import is_hub_id, split_revision
from .cached import find_entry_files
from .catalogue import CatalogueEntry, CatalogueFile, find_entry
from .received import ReceivedFile, forget_received, note_received, read_received

logger = logs.get_logger(__name__)
#: kind -> folder below the models' folder, as ComfyUI calls them
KIND_FOLDERS = {
    "checkpoint": "checkpoints",
    "lora": "loras",
    "controlnet": "controlnet",
    "vae": "vae",
    "embedding": "embeddings",
    "ip_adapter": "ipadapter",
    "picture_encoder": "clip_vision",
    "motion_module": "animatediff_models",
    "motion": "motion",
    "text_encoder": "text_encoders",
}


@dataclass(frozen=True)
class Got:
    """What has been got: where it is, the bytes that came, and the sentence for it."""

    path: Path
    size: int
    sentence: str


def find_named(name: str) -> CatalogueEntry:
    """The entry of the catalogue, or one for a hub id. Raises ``ShotError`` for what is neither."""
    entry = find_entry(name)
    if entry is not None:
        return entry
    if not is_hub_id(name):
        raise ShotError(
            "library",
            f"There is no '{name}' to get; 'latentman models list' shows what there is, and OWNER/NAME of the hub works, too.",
        )
    repository, revision = split_revision(name)
    return CatalogueEntry(
        name="hub",
        title=name,
        kind="checkpoint",
        family="",
        way="repository",
        licence="",
        purpose="",
        repository=repository,
        revision=revision,
    )


def list_paths(entry: CatalogueEntry) -> list[Path]:
    """The files of an entry in the library's own folder, whether or not they are there."""
    folder = models_folder() / KIND_FOLDERS[entry.kind]
    return [folder / file.save_as for file in entry.files] if entry.way == "files" else []


def find_here(entry: CatalogueEntry) -> Path | None:
    """Where an entry is on this machine, all of it; None where it is not."""
    if entry.way == "files":
        paths = list_paths(entry)
        return paths[0] if all(os.path.isfile(path) for path in paths) else None
    if entry.way != "repository":
        return None
    files = find_entry_files(entry)
    if files is not None:
        first = entry.files[0].path
        return files[0].parents[len(Path(first).parts) - 1]
    # somebody may have another form of the weights
    inner = any("/" in file.path for file in entry.files) and not any(file.path == "model_index.json" for file in entry.files)
    return None if inner else find_in_cache(entry.repository, entry.revision, half=True)


def get(name: str, report: Report) -> Got:
    """Get a model. ``report`` is told (bytes that have come, bytes in all, file) and may raise to end it; the total is known before
    anything comes. Raises ``ShotError`` for what cannot be got at all, and ``HubError``."""
    entry = find_named(name)
    if entry.way == "bundled":
        raise ShotError("library", f"'{entry.title}' comes with the extension; there is nothing to get.")
    if entry.way == "page":
        raise ShotError("page", f"'{entry.title}' is only to be had in a browser: open {entry.page}. {entry.purpose}.")
    _drop_damaged(entry)
    here = find_here(entry)
    if here is not None:
        return Got(here, 0, f"{entry.title} is here already: {here}")
    folder = models_folder() / KIND_FOLDERS[entry.kind] if entry.way == "files" else Path(constants.HF_HUB_CACHE)
    try:
        with explain_hub_errors(entry.repository, entry.revision):
            if is_offline():
                raise OfflineModeIsEnabled(entry.repository)
            commit, listed = list_repository(entry.repository, entry.revision)
            files = choose_files(entry, listed)
            report(0, sum(file.size for file in files), files[0].name)
            if entry.way == "files":
                return _get_files(entry, commit, files, folder, report)
            return _get_repository(entry, commit, files, report)
    except HubError as error:
        if error.reason == "disk" and error.__cause__ is not None:
            raise HubError(
                f"the disk is full while '{entry.title}' is got; make space in {folder} and try again", "disk"
            ) from error
        raise
    except OSError as error:
        if is_full(error):
            raise HubError(
                f"the disk is full while '{entry.title}' is got; make space in {folder} and try again", "disk"
            ) from error
        variable = MODELS_ENVIRONMENT if entry.way == "files" else "HF_HOME"
        sentence = explain_disk_error(error, find_path(error, folder), "used", f"name another folder in {variable}")
        raise HubError(sentence.rstrip("."), "disk") from error


def choose_files(entry: CatalogueEntry, listed: Sequence[RemoteFile]) -> list[RemoteFile]:
    """Which files of a repository an entry wants, with the catalogue's sizes and hashes. Raises ``HubError`` where the hub has
    others."""
    if not entry.files:
        needed = set(list_needed([file.name for file in listed], half=True))
        chosen = [file for file in listed if file.name in needed]
        single = [file for file in listed if is_weight_file(file.name)]
        if not any(is_weight_file(file.name) for file in chosen) and len(single) == 1:
            # a LoRA or the like, whatever it is called
            chosen = [*chosen, *single]
        if not any(file.sha256 for file in chosen):
            raise HubError(f"the hub's '{entry.repository}' holds no model that can be used; choose another one", "missing")
        return chosen
    by_name = {file.name: file for file in listed}
    return [_check_file(entry, file, by_name.get(file.path)) for file in entry.files]


def _check_file(entry: CatalogueEntry, wanted: CatalogueFile, found: RemoteFile | None) -> RemoteFile:
    if found is None:
        raise HubError(f"the hub's '{entry.repository}' lacks {wanted.path}; update the extension, or open {entry.page}", "missing")
    odd = wanted.sha256 and found.sha256 and wanted.sha256 != found.sha256
    if odd or (wanted.size is not None and found.size != wanted.size):
        raise HubError(
            f"the hub's '{entry.repository}' announces another {wanted.path} than the catalogue knows; nothing was got: check "
            "HF_ENDPOINT, or update the extension",
            "damaged",
        )
    return replace(found, sha256=wanted.sha256 or found.sha256)


def _get_files(entry: CatalogueEntry, commit: str, files: Sequence[RemoteFile], folder: Path, report: Report) -> Got:
    """Into the library's own folder."""
    paths = [folder / file.save_as for file in entry.files]
    absent = [(file, path) for file, path in zip(files, paths, strict=True) if not os.path.isfile(path)]
    total = sum(file.size for file, _ in absent)
    check_space(entry.title, total, folder, "move the models' folder with LATENTMAN_MODELS")
    done = 0
    for file, path in absent:
        if not file.sha256:
            raise HubError(f"the hub gives no hash of {file.name} to check it by; open {entry.page} to get it", "missing")
        told = done

        def report_file(come: int, told: int = told, name: str = path.name) -> None:
            report(told + come, total, name)

        download_file(entry.repository, commit, file, path, report_file)
        done += file.size
    _note(entry, commit, dict(zip(paths, files, strict=True)))
    return Got(paths[0], total, _describe(entry, total, paths[0]))


def _get_repository(entry: CatalogueEntry, commit: str, files: Sequence[RemoteFile], report: Report) -> Got:
    """Into the hub's cache."""
    total = sum(file.size for file in list_absent(entry.repository, commit, files))
    folder = download_files(entry.repository, commit, files, report)
    _note(entry, commit, {folder / file.name: file for file in files})
    return Got(folder, total, _describe(entry, total, folder))


def _describe(entry: CatalogueEntry, size: int, path: Path) -> str:
    came = f" ({write_bytes(size)} came)" if size else ""
    return f"{entry.title} is here{came}: {path}"


def _note(entry: CatalogueEntry, commit: str, files: dict[Path, RemoteFile]) -> None:
    """Write down what came; what is small has no hash of the hub's, and gets that of what is there."""
    try:
        noted = {}
        for path, file in files.items():
            sha256 = file.sha256 or hash_file(path)
            name = entry.name if find_entry(entry.name) else entry.repository
            noted[path] = ReceivedFile(path.stat().st_size, sha256, name, entry.repository, commit, file.name)
        note_received(noted)
    except OSError as error:
        logger.warning("What came cannot be written down (%s)", error)


def _drop_damaged(entry: CatalogueEntry) -> None:
    """Remove what a check has found damaged, so that it is got again."""
    known = read_received()
    name = entry.name if find_entry(entry.name) else entry.repository
    damaged = [Path(path) for path, file in known.items() if file.damaged and file.entry == name]
    for path in damaged:
        target = path.resolve()
        for place in (path, target):
            if os.path.isfile(place) or os.path.islink(place):
                place.unlink()
    if damaged:
        forget_received(damaged)
