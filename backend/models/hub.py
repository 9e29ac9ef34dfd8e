"""Models of the hub: found in its cache, else downloaded, file by file, as far as they are needed.

The hub is ``$HF_ENDPOINT``, else Hugging Face's. With ``$HF_HUB_OFFLINE`` nothing is asked of it. Whatever goes wrong ends in one
sentence.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from huggingface_hub import HfApi, constants, hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import (
    DisabledRepoError,
    EntryNotFoundError,
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import repo_folder_name

from ...shared.addresses import hide_credentials
from ...shared.shot import ShotError
from .downloads import FIRST_PAUSE, HTTP_ERROR, PASSING, DamagedDownloadError, download, get_wish
from .hub_cache import TEXTS, find_in_cache, list_needed
from .hub_connection import explain_connection
from .library.tokens import find_token
from .weight_forms import choose_form

#: files of a text encoder beside its weights
TEXT_ENCODER_FILES = (
    *("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "vocab.txt"),
    *("merges.txt", "added_tokens.json"),
)
#: space that stays free on the disk
_SPARE = 2**28

#: (bytes that have come, bytes in all, name of the file); may raise to end the download
Report = Callable[[int, int, str], None]


#: questions about a repository, when the hub does not answer or is busy, and the seconds that it may take to answer one
_ATTEMPTS, _PATIENCE = 3, 15


class HubError(OSError):
    """A repository cannot be had; the text is one sentence that says what to do. ``reason`` is for programs: gated, missing,
    offline, network, disk, damaged, or hub for anything else."""

    def __init__(self, sentence: str, reason: str = "hub") -> None:
        super().__init__(sentence)
        self.reason = reason


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository: its path, its size in bytes, and its SHA-256 where the hub says it, else empty."""

    name: str
    size: int
    sha256: str


def read_endpoint() -> str:
    """The hub's address."""
    return (os.environ.get("HF_ENDPOINT", "").strip() or constants.ENDPOINT).rstrip("/")


def is_offline() -> bool:
    """Whether the hub is not to be asked."""
    return bool(constants.is_offline_mode())


def fetch_repository(name: str, revision: str | None, *, half: bool, report: Report | None = None) -> Path:
    """The folder of a repository, downloaded as far as it is not in the cache. Raises ``HubError``, ``ShotError``
    where weights lack shards, and whatever ``report`` raises."""
    cached = find_in_cache(name, revision, half=half)
    if cached is not None:
        return cached
    with explain_hub_errors(name, revision):
        if is_offline():
            raise OfflineModeIsEnabled(name)
        commit, files = list_repository(name, revision)
        needed = set(list_needed([file.name for file in files], half=half))
        chosen = [file for file in files if file.name in needed]
        if len({file.name.endswith(TEXTS) for file in chosen}) < 2:
            raise HubError(f"the hub's '{name}' holds no diffusers model; name a repository with a model_index.json")
        # by its own name first, so that the cache knows which commit it stands for
        first = next(file for file in chosen if file.name.endswith(TEXTS))
        hf_hub_download(name, first.name, revision=revision or "main", endpoint=read_endpoint(), token=find_own_token())
        return download_files(name, commit, chosen, report)


def fetch_file(name: str, revision: str | None, file: str) -> Path:
    """One small file of a repository. Raises ``HubError``."""
    found = try_to_load_from_cache(name, file, revision=revision)
    if isinstance(found, str):
        return Path(found)
    with explain_hub_errors(name, revision):
        if is_offline():
            raise OfflineModeIsEnabled(name)
        return Path(hf_hub_download(name, file, revision=revision, endpoint=read_endpoint(), token=find_own_token()))


def find_own_token() -> str | None:
    """The token that the user has given for the hub; None leaves it to the hub's library, which may know one."""
    return find_token(read_endpoint())


def fetch_chosen_file(name: str, revision: str | None, choose: Callable[[list[str]], str], report: Report | None = None) -> Path:
    """The file of a repository that ``choose`` picks of the names of all. Raises as ``fetch_repository`` does, and what ``choose``
    raises."""
    with explain_hub_errors(name, revision):
        if is_offline():
            raise OfflineModeIsEnabled(name)
        commit, files = list_repository(name, revision)
        chosen = choose([file.name for file in files])
        download_files(name, commit, [file for file in files if file.name == chosen], report)
        # by its own name as well, so that the cache knows which commit it stands for
        endpoint, token = read_endpoint(), find_own_token()
        return Path(hf_hub_download(name, chosen, revision=revision or "main", endpoint=endpoint, token=token))


def list_repository(name: str, revision: str | None) -> tuple[str, list[RemoteFile]]:
    """(commit, files) of a repository, as the hub tells; asked again a few times where that may help."""
    api = HfApi(endpoint=read_endpoint(), token=find_own_token())
    for attempt in range(_ATTEMPTS):
        try:
            found = api.model_info(name, revision=revision, files_metadata=True, timeout=_PATIENCE)
            break
        except HTTP_ERROR as error:
            status = getattr(getattr(error, "response", None), "status_code", None)
            if attempt == _ATTEMPTS - 1 or (status is not None and status not in PASSING):
                raise
            time.sleep(max(FIRST_PAUSE * 2**attempt, get_wish(error)))
    files = [
        RemoteFile(file.rfilename, int(file.size or 0), (file.lfs.sha256 if file.lfs else "") or "")
        for file in found.siblings or []
        # a name that leads out of the folder is none
        if not PurePosixPath(file.rfilename).is_absolute() and ".." not in PurePosixPath(file.rfilename).parts
    ]
    return found.sha or revision or "main", files


def check_space(name: str, total: int, folder: Path, advice: str) -> None:
    """Raise ``HubError`` where so many bytes do not fit into a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if total + _SPARE > free:
        raise HubError(
            f"'{name}' takes {total / 1e9:.1f} GB and there are {free / 1e9:.1f} GB free in {folder}; make space there, or "
            f"{advice}",
            "disk",
        )


def list_absent(name: str, commit: str, files: Sequence[RemoteFile]) -> list[RemoteFile]:
    """Those of a repository's files that are not in the cache."""
    return [file for file in files if not isinstance(try_to_load_from_cache(name, file.name, revision=commit), str)]


def download_file(name: str, commit: str, file: RemoteFile, path: Path, report: Callable[[int], None]) -> None:
    """Download a file of which the hash is known to a path. Raises ``HubError``, and what ``download`` raises."""
    url = hf_hub_url(name, file.name, revision=commit, endpoint=read_endpoint())
    try:
        download(url, path, file.size, file.sha256, report, find_own_token())
    except DamagedDownloadError as error:
        raise HubError(f"'{file.name}' of '{name}' arrived damaged and was removed again; try once more", "damaged") from error


def download_files(name: str, commit: str, files: Sequence[RemoteFile], report: Report | None) -> Path:
    """Download files of a repository into the cache, as far as they are not there; returns the folder of its root."""
    absent = list_absent(name, commit, files)
    total = sum(file.size for file in absent)
    cache = Path(constants.HF_HUB_CACHE)
    check_space(name, total, cache, "move the hub's cache with HF_HUB_CACHE")
    folder, done, token = cache, 0, find_own_token()
    for file in files:
        if file in absent and done and report is not None:
            report(done, total, file.name)
        if file in absent and file.sha256:
            told = done

            def report_file(come: int, told: int = told, name: str = file.name) -> None:
                if report is not None:
                    report(told + come, total, name)

            blob = cache / repo_folder_name(repo_id=name, repo_type="model") / "blobs" / file.sha256
            download_file(name, commit, file, blob, report_file)
        done += file.size if file in absent else 0
        # what the cache has already is only given its name there
        path = Path(hf_hub_download(name, file.name, revision=commit, endpoint=read_endpoint(), token=token))
        folder = path.parents[len(PurePosixPath(file.name).parts) - 1]
    return folder


@contextmanager
def explain_hub_errors(name: str, revision: str | None = None) -> Iterator[None]:
    """Turn what goes wrong with the hub into ``HubError``."""
    try:
        yield
    except (ShotError, HubError):
        raise
    except Exception as error:
        found = _explain(name, revision, error)
        if found is None:
            raise
        raise HubError(*found) from error


def _explain(name: str, revision: str | None, error: BaseException) -> tuple[str, str] | None:
    """(sentence, reason) of ``HubError``; None for what has nothing to do with the hub."""
    address = read_endpoint()
    endpoint = hide_credentials(address)
    cause: BaseException | None = error
    # what asks for one file hides why it could not be had
    while isinstance(cause, LocalEntryNotFoundError) and cause.__cause__ is not None:
        cause = cause.__cause__
    status = getattr(getattr(cause, "response", None), "status_code", None)
    instead = "give a folder or a file instead"
    connection = explain_connection(cause, status, address)
    if connection is not None:
        return connection, "network"
    if isinstance(cause, OfflineModeIsEnabled):
        return (
            f"'{name}' is not on this machine, and the hub is not to be asked (HF_HUB_OFFLINE, or Blender's online access is off); "
            f"allow it, or {instead}",
            "offline",
        )
    if isinstance(cause, GatedRepoError):
        return (
            f"'{name}' is gated: accept its terms at {endpoint}/{name}, run 'hf auth login' or 'latentman models token' with a "
            "token, and try again",
            "gated",
        )
    if isinstance(cause, RevisionNotFoundError):
        return f"the hub has no revision '{revision}' of '{name}'; name another one behind its @", "missing"
    if isinstance(cause, DisabledRepoError) or status in (410, 451):
        return f"the hub has taken '{name}' down; choose another model, or {instead}", "missing"
    if isinstance(cause, RepositoryNotFoundError) or status in (401, 403):
        return (
            f"the hub has no '{name}', or it is private: check the name, run 'hf auth login' or 'latentman models token' if it is "
            f"yours, or {instead}",
            "missing",
        )
    if isinstance(cause, EntryNotFoundError) and not isinstance(cause, LocalEntryNotFoundError):
        return f"the hub's '{name}' lacks a file that a model has; choose another one, or {instead}", "missing"
    if isinstance(cause, HFValidationError):
        return f"'{name}' is not a name that the hub can have; write OWNER/NAME, or {instead}", "missing"
    if status == 404:
        return f"the hub at {endpoint} has no '{name}'; check the name and HF_ENDPOINT, or {instead}", "missing"
    if status == 429:
        return f"the hub at {endpoint} has been asked too often; wait some minutes and try again, or {instead}", "network"
    if status is not None and status < 500:
        return f"the hub at {endpoint} refuses what is asked for '{name}' ({status}); check HF_ENDPOINT, or {instead}", "network"
    if status is not None:
        return f"the hub at {endpoint} answers with an error ({status}) for '{name}'; try again later, or {instead}", "network"
    if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full while '{name}' is downloaded; make space in {constants.HF_HUB_CACHE} and try again", "disk"
    if isinstance(cause, FileMetadataError):
        return f"what answers at {endpoint} is no model hub; check HF_ENDPOINT, the proxy and the connection", "network"
    if isinstance(cause, (HTTP_ERROR, HfHubHTTPError, LocalEntryNotFoundError, TimeoutError, ConnectionError)):
        return f"the hub at {endpoint} cannot be reached for '{name}'; check the connection and try again, or {instead}", "network"
    if isinstance(cause, OSError) and "onsistency check" in str(cause):
        return f"'{name}' came only in part; try again, and it goes on where it stopped", "network"
    if isinstance(cause, ValueError):
        return f"the hub's answer about '{name}' cannot be read; check HF_ENDPOINT and the proxy, or {instead}", "network"
    return None


def fetch_text_encoder(name: str, revision: str | None, report: Report | None = None) -> Path:
    """The folder of a text encoder's repository, downloaded as far as it is not in the cache. Raises as ``fetch_repository``
    does."""
    cached = find_in_cache(name, revision)
    if cached is not None:
        return cached
    with explain_hub_errors(name, revision):
        if is_offline():
            raise OfflineModeIsEnabled(name)
        commit, files = list_repository(name, revision)
        # an interrupt ends this at once, which it does not do while the hub's library downloads a large file
        form = choose_form((file.name for file in files if "/" not in file.name), half=False)
        wanted = (*TEXT_ENCODER_FILES, *(form.files if form is not None else ()))
        chosen = [file for file in files if file.name in wanted]
        if form is None or "config.json" not in {file.name for file in chosen}:
            raise HubError(f"the hub's '{name}' holds no text encoder; name a repository with a config.json and weights", "missing")
        return download_files(name, commit, chosen, report or (lambda done, total, file: None))


def fetch_folder(name: str, revision: str | None, folder: str, *, half: bool, report: Report | None = None) -> Path:
    """One network's folder of a repository, ``""`` for its root, downloaded as far as it is not in the cache. Raises as
    ``fetch_repository`` does."""
    start = f"{folder}/" if folder else ""
    cached = try_to_load_from_cache(name, f"{start}config.json", revision=revision)
    if isinstance(cached, str) and choose_form((path.name for path in Path(cached).parent.iterdir()), half=half) is not None:
        return Path(cached).parent
    with explain_hub_errors(name, revision):
        if is_offline():
            raise OfflineModeIsEnabled(name)
        commit, files = list_repository(name, revision)
        inside = {file.name[len(start) :]: file for file in files if file.name.startswith(start)}
        form = choose_form((inner for inner in inside if "/" not in inner), half=half)
        if form is None or "config.json" not in inside:
            where = f"'{name}' in {folder}" if folder else f"'{name}'"
            raise HubError(f"the hub's {where} holds no network; name a folder with a config.json and weights")
        # by its own name first, so that the cache knows which commit it stands for
        token = find_own_token()
        hf_hub_download(name, f"{start}config.json", revision=revision or "main", endpoint=read_endpoint(), token=token)
        chosen = [inside[inner] for inner in inside if inner in ("config.json", *form.files) or inner.endswith(".index.json")]
        return download_files(name, commit, chosen, report) / folder
