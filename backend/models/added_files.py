"""Files that are added to a model, LoRAs and textual inversions, from what names them: a file, a folder, or an id of the hub."""

from __future__ import annotations

import contextlib
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

from ...shared.shot import ShotError
from .hub import HubError, Report, fetch_chosen_file, fetch_file
from .hub_cache import find_cached_file
from .lora_kinds import find_scaling_file
from .recognition import inspect_model_file
from .registry import WEIGHTS, split_revision

#: kind of a file -> names under which diffusers writes one, the better first
USUAL_NAMES = {
    "lora": ("pytorch_lora_weights.safetensors", "pytorch_lora_weights.bin", "adapter_model.safetensors", "adapter_model.bin"),
    "embedding": ("learned_embeds.safetensors", "learned_embeds.bin"),
}
TITLES = {"lora": "LoRA", "embedding": "textual inversion"}


def find_added_files(source: str, kind: str, report: Report | None = None) -> list[Path]:
    """The files of a kind of ``USUAL_NAMES`` that a part of a model's name means: itself, or those in a folder or on the hub, of
    whose download ``report`` is told.

    Raises ``ShotError`` where there is none, and ``HubError`` where the hub gives none.
    """
    path = Path(source)
    if path.is_dir():
        return _find_in_folder(path, kind)
    if path.exists() or source.lower().endswith(WEIGHTS):
        return [path]
    return _find_on_hub(*split_revision(source), kind, report)


def find_added_files_here(source: str, kind: str) -> list[Path]:
    """The same of what lies on this machine; empty for what the hub would have to give. Raises ``ShotError``."""
    if Path(source).exists() or source.lower().endswith(WEIGHTS):
        return find_added_files(source, kind)
    name, revision = split_revision(source)
    cached = _find_usual(name, revision, kind)
    folder = None if cached else _find_snapshot(name, revision)
    return [cached] if cached else _find_in_folder(folder, kind) if folder else []


def _find_usual(name: str, revision: str | None, kind: str) -> Path | None:
    """A repository's file under a name of ``USUAL_NAMES`` in the hub's cache."""
    found = (find_cached_file(name, revision, usual) for usual in USUAL_NAMES[kind])
    return next((path for path in found if path is not None), None)


def _find_snapshot(name: str, revision: str | None) -> Path | None:
    """A repository's folder in the hub's cache, whatever of it is there."""
    try:
        return Path(huggingface_hub.snapshot_download(name, revision=revision, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None


def _find_on_hub(name: str, revision: str | None, kind: str, report: Report | None) -> list[Path]:
    """What lies in the hub's cache is taken without asking the hub."""
    cached = _find_usual(name, revision, kind)
    if cached is not None:
        _fetch_scaling(cached, name, revision)
        return [cached]

    def choose(names: list[str]) -> str:
        usual = next((usual for usual in USUAL_NAMES[kind] if usual in names), "")
        files = [file for file in names if file.lower().endswith(WEIGHTS)]
        if not usual and len(files) != 1:
            which = ", ".join(files[:5]) or "none"
            raise ShotError(
                "model",
                f"'{name}' holds {len(files)} files that may be a {TITLES[kind]} ({which}); download one and give its path.",
            )
        return usual or files[0]

    try:
        found = fetch_chosen_file(name, revision, choose, report)
        _fetch_scaling(found, name, revision)
        return [found]
    except HubError:
        # without a connection what is cached, under whatever name
        folder = _find_snapshot(name, revision)
        if folder is None:
            raise
        return _find_in_folder(folder, kind)


def _fetch_scaling(path: Path, name: str, revision: str | None) -> None:
    """Fetch what PEFT writes about a LoRA's file of a repository, which may lack it: that is said when the LoRA is added."""
    beside = find_scaling_file(path)
    if beside is not None and not beside.is_file():
        with contextlib.suppress(HubError):
            fetch_file(name, revision, beside.name)


def _find_in_folder(folder: Path, kind: str) -> list[Path]:
    usual = next((folder / name for name in USUAL_NAMES[kind] if (folder / name).is_file()), None)
    if usual is not None:
        return [usual]
    found = []
    for file in sorted(folder.iterdir()):
        if file.name.lower().endswith(WEIGHTS) and file.is_file():
            try:
                is_wanted = inspect_model_file(file).kind == kind
            except ShotError:
                is_wanted = False
            found += [file] if is_wanted else []
    if not found:
        raise ShotError("model", f"The folder {folder} holds no {TITLES[kind]}; choose another, or a file.")
    return found
