"""What is in a model's files, told the same on every machine: for what is made on one and used on another.

``registry.fingerprint`` tells changes on this machine, by times and paths. Here neither counts. A weight file of gigabytes is not
read as a whole: its size and pieces from all over it tell models apart.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from ...shared.shot import ShotError
from .lora_kinds import find_scaling_file
from .registry import find_model, get_preset_name, split_revision
from .settings_files import IN_FOLDER, RECOGNISED_KEYS, find_settings

#: files that change what a model makes
SUFFIXES = frozenset((".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".json", ".txt", ".model"))
#: a file that is no larger than so many bytes is read whole; of others so many pieces of this size
WHOLE, PIECES, PIECE = 1 << 22, 64, 1 << 15


def identify(name: str) -> str:
    """Another text for a model with other files, whatever it is called and wherever they lie. Raises ``ShotError`` when the name
    cannot be a model's, or a file cannot be read."""
    source = find_model(name)
    digest = hashlib.blake2b(digest_size=16)

    def add(*values: object) -> None:
        digest.update(repr(values).encode())

    def add_part(kind: str, part: str) -> None:
        path = Path(part)
        add(kind)
        beside = find_scaling_file(path) if kind.startswith("lora ") else None
        if beside is not None and beside.is_file():
            add(_digest_file(beside))
        if path.is_dir():
            files = [file for file in sorted(path.rglob("*")) if file.suffix.lower() in SUFFIXES and file.name != IN_FOLDER]
            for file in files:
                add(file.relative_to(path).as_posix(), _digest_file(file))
        elif path.is_file():
            add(_digest_file(path))
        else:
            # on the hub
            add(part, split_revision(part)[1])

    add_part("base", source.base)
    # what settings files say of steps and the like is part of a request
    values = find_settings(source.base, get_preset_name(source)).values
    add([(key, values[key]) for key in sorted((*RECOGNISED_KEYS, "spacing")) if key in values])
    for (kind, control), use in zip(source.controls, source.control_uses or [None] * len(source.controls), strict=True):
        add_part(f"control {kind} {use}", control)
    for lora, strength in source.loras:
        add_part(f"lora {strength}", lora)
    for embedding in source.embeddings:
        add_part("embedding", embedding)
    if source.vae:
        add_part("vae", source.vae)
    if source.parts:
        add_part("parts", source.parts)
    if source.motion:
        add_part("motion", source.motion)
    if source.sees:
        add("sees", source.sees)
    if source.reference is not None:
        add_part("adapter", str(source.reference.adapter))
        add_part("encoder", str(source.reference.encoder))
    return digest.hexdigest()


def _digest_file(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            size = path.stat().st_size
            digest = hashlib.blake2b(str(size).encode(), digest_size=16)
            if size <= WHOLE:
                digest.update(stream.read())
            else:
                for n in range(PIECES):
                    stream.seek((size - PIECE) * n // (PIECES - 1))
                    digest.update(stream.read(PIECE))
            return digest.hexdigest()
    except OSError as error:
        raise ShotError("model", f"The model's file {path} cannot be read ({error.strerror or error}).") from error
