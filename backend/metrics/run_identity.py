"""What a run is: a key made of everything that decides its frames, and the provenance that its figures carry.

Paths and names do not count, contents do: a model that was copied elsewhere makes the same runs, and one whose weights were
exchanged under its old name makes others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import torch

from ...shared.shot import ShotRequest, describe_request
from ...shared.version import VERSION
from ..models.downloads import hash_file
from ..models.identity import SUFFIXES
from ..models.image_model import ImageModel
from ..models.lora_kinds import find_scaling_file
from ..models.settings_files import IN_FOLDER
from .code_identity import describe_code
from .provenance import PROVENANCE as PROVENANCE

#: what a run is made of -> what is said when it is another one
WORDS = {
    "passes": "other passes",
    "model": "other weights or another model",
    "settings": "other settings",
    "code": "another version of the code",
    "numbers": "another device, precision or PyTorch",
}


def _hash_part(part: str, *, named: bool = False) -> str:
    """A hash of the files of a model's part, a file or a folder; with ``named`` also of its name, where that has a meaning. A part
    that lies elsewhere stands for itself."""
    path = Path(part)
    if not path.exists():
        return part
    digest = hashlib.sha256(path.name.encode() if named else b"")
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    for file in files:
        # what a settings file says is in the request, or in the scheduler's configuration
        if file.is_file() and file.name != IN_FOLDER and (file == path or file.suffix.lower() in SUFFIXES):
            digest.update(f"{file.relative_to(path).as_posix()}\n".encode())
            digest.update(bytes.fromhex(hash_file(file)))
    return digest.hexdigest()


def fingerprint_model(model: ImageModel) -> str:
    """A hash of the contents of all files of a loaded model, and of how they are put together. Raises ``ValueError`` for one that
    was not loaded by its name."""
    source = model.source
    if source is None:
        raise ValueError("the model was not loaded by its name, so that nobody knows its files")
    reference = source.reference
    parts: list[Any] = [
        _hash_part(source.base),
        [(kind, _hash_part(path)) for kind, path in source.controls],
        # LoRAs and words are called by their names in prompts
        [(_hash_part(path, named=True), strength) for path, strength in source.loras],
        [_hash_part(path, named=True) for path in source.embeddings],
        _hash_part(source.vae) if source.vae else "",
        repr(source.control_uses),
        reference and (_hash_part(reference.adapter), _hash_part(reference.encoder), reference.strength),
        model.distilled,
        dict(model.pipeline.scheduler.config),
    ]
    # only where there are such, so that other models' hashes stay what they were
    beside = [find_scaling_file(Path(path)) for path, _ in source.loras]
    further = {
        "motion": source.motion and _hash_part(source.motion),
        "parts": source.parts and _hash_part(source.parts),
        "sees": source.sees,
        "scaling": [_hash_part(str(file)) for file in beside if file is not None and file.is_file()],
    }
    parts += [(name, value) for name, value in further.items() if value]
    return _digest(parts)


def _digest(value: Any) -> str:
    return hashlib.blake2b(json.dumps(value, sort_keys=True, default=str).encode(), digest_size=12).hexdigest()


def describe_run(request: ShotRequest, passes: str, model: ImageModel, model_fingerprint: str, rival: str = "") -> dict[str, str]:
    """What decides the frames of a completed request, by ``WORDS``; ``passes`` and ``model_fingerprint`` are the hashes above,
    ``rival`` that of the rival whose frames they are."""
    # the model counts by its contents
    sampling = msgspec.structs.replace(request.sampling, model="")
    settings = msgspec.structs.replace(request, sampling=sampling, preset="", method=request.get_method())
    return {
        "passes": passes,
        "model": model_fingerprint,
        "settings": _digest([describe_request(settings), rival] if rival else describe_request(settings)),
        "code": f"{VERSION} {describe_code()}",
        "numbers": f"{model.device.type} {model.dtype} torch {torch.__version__} diffusers {version('diffusers')}",
    }


def make_key(made_of: Mapping[str, str]) -> str:
    """The key of a run, 12 digits."""
    return _digest(dict(made_of))[:12]


def list_differences(former: Mapping[str, str], made_of: Mapping[str, str]) -> list[str]:
    """In words, what two runs do not have in common."""
    return [words for part, words in WORDS.items() if former.get(part) != made_of[part]]


def _name_device(device: torch.device) -> str:
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def describe_provenance(request: ShotRequest, model: ImageModel, made_of: Mapping[str, str]) -> dict[str, Any]:
    """The columns ``PROVENANCE`` of a run of a completed request."""
    return {
        "key": make_key(made_of),
        "version": VERSION,
        "code": describe_code(),
        "torch": torch.__version__,
        "device": _name_device(model.device),
        "dtype": str(model.dtype).removeprefix("torch."),
        "model": model.name,
        "model_fingerprint": made_of["model"],
        "steps": request.sampling.steps,
        "guidance_scale": request.sampling.guidance_scale,
        "scheduler": request.sampling.scheduler,
        "size": f"{request.width}x{request.height}",
        "passes": made_of["passes"],
        "source": "made here",
    }


def summarise_provenance(rows: Iterable[Mapping[str, Any]]) -> str:
    """One sentence about where runs come from; where they differ, all values."""
    runs = list(rows)

    def show(name: str) -> str:
        return ", ".join(dict.fromkeys(str(row[name]) for row in runs if row.get(name) not in (None, "")))

    return (
        f"LatentMan {show('version')} (code {show('code')}), model {show('model')} (files {show('model_fingerprint')}), "
        f"PyTorch {show('torch')} on {show('device')} in {show('dtype')}; {show('steps')} steps of {show('scheduler')}, "
        f"guidance {show('guidance_scale')}, {show('size')} pixels."
    )
