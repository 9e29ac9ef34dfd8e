"""What of the hub's repositories lies in its cache on this machine, and which of a repository's files are needed.

Imports the hub's library only when it is asked, so that commands which need no model work without it.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from ...shared.shot import ShotError
from .weight_forms import choose_form

#: folders of a pipeline whose weights are needed
NETWORKS = ("unet", "transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3", "connectors", "controlnet")
#: the part of a transformer's folder that looks at pictures; beside a UNet it is an IP-Adapter's, which is loaded by itself
PICTURE_ENCODER = "image_encoder"
#: a second transformer of some of them
SECOND = "transformer_2"
#: those of which a model has one, which predicts
DENOISERS = ("unet", "transformer")
#: ends of names of the small files that go with them
TEXTS = (".json", ".txt", ".model", ".jinja")


def list_parts(parts: Collection[str]) -> tuple[str, ...]:
    """The networks that a pipeline with some ``parts`` may have."""
    return (*NETWORKS, SECOND, PICTURE_ENCODER) if DENOISERS[1] in parts else NETWORKS


def find_cached_file(name: str, revision: str | None, file: str) -> Path | None:
    """A file of a repository in the cache; None where it is not there, or the name is none that the hub can have."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(name, file, revision=revision)
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None


def list_needed(names: Collection[str], *, half: bool) -> list[str]:
    """The files that a pipeline's or a network's repository is loaded from: texts, and one form of the weights of each of
    ``NETWORKS`` that it has, or of a network at its root. Raises ``ShotError`` where weights lack shards."""
    folders: dict[str, list[str]] = {}
    for name in names:
        path = PurePosixPath(name)
        folders.setdefault("" if str(path.parent) == "." else str(path.parent), []).append(path.name)
    needed = [name for name in names if name.endswith(TEXTS) and PurePosixPath(name).parts[0] not in ("onnx", "openvino", "flax")]
    # at the root of a pipeline lie whole checkpoints, which nobody needs beside its folders
    wanted = list_parts({PurePosixPath(name).parts[0] for name in names}) if "model_index.json" in names else ("",)
    for folder in wanted:
        form = choose_form(folders.get(folder, ()), half=half)
        if form is not None:
            needed += [f"{folder}/{name}" if folder else name for name in form.files]
    return needed


def find_in_cache(name: str, revision: str | None, *, half: bool = False) -> Path | None:
    """The folder of a repository in the hub's cache, when all that is needed of it is there."""
    for file in ("model_index.json", "config.json"):
        found = find_cached_file(name, revision, file)
        if found is not None:
            return found.parent if _is_complete(found.parent, half=half) else None
    return None


def list_names(folder: Path) -> list[str]:
    """The files below a folder, with slashes between folders."""
    return [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]


def _is_complete(folder: Path, *, half: bool) -> bool:
    names = list_names(folder)
    try:
        needed = list_needed(names, half=half)
    except ShotError:
        return False
    whole = {str(PurePosixPath(name).parent) for name in needed if not name.endswith(TEXTS)}
    if "model_index.json" not in names:
        return "." in whole
    try:
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
        listed = {part for part in list_parts(index) if (index.get(part) or [None])[0]}
    except (OSError, ValueError, AttributeError, TypeError, LookupError, RecursionError):
        return False
    # a download that was ended may lack even the configuration of a part
    return listed <= whole and any(part in whole for part in DENOISERS)
