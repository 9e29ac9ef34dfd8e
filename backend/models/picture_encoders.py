"""The picture encoder of an IP-Adapter: the one that is named, else one that fits beside it on the disk, else the hub's.

Which encoder fits is told by the width of what the adapter was trained on. Free of torch.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...shared.shot import ShotError
from .ip_adapter_kinds import EncoderKind, IPAdapterKind, find_encoder_kind, find_ip_adapter_kind
from .plans import list_shapes, open_model_file
from .weight_files import read_weight_file

#: where the usual encoders are in the hub, by (whether patches are looked at, the width that is wanted)
HUB_ENCODERS = {
    (False, 1024): "h94/IP-Adapter/models/image_encoder",
    (True, 1280): "h94/IP-Adapter/models/image_encoder",
    (False, 1280): "h94/IP-Adapter/sdxl_models/image_encoder",
    (True, 1664): "h94/IP-Adapter/sdxl_models/image_encoder",
}
#: folders of encoders beside an adapter, and beside the folders above it
_FOLDERS = ("image_encoder", "models/image_encoder", "sdxl_models/image_encoder")
#: folders with files of encoders there
_FILES = ("clip_vision", "extensions/sd-webui-controlnet/annotator/downloads/clip_vision", "annotator/downloads/clip_vision")
_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth")
#: words in the names of an encoder's file beside an adapter
_WORDS = ("clip", "vit", "image_encoder", "vision")
#: files that are looked into
_MOST_FILES = 24
#: bytes that a configuration may have
_MOST_CONFIGURATION = 2**20


@dataclass(frozen=True)
class ReferenceSource:
    """An IP-Adapter's file and its picture encoder: a file, a folder, or ``OWNER/NAME/FOLDER`` of the hub. ``strength`` is what its
    name says, None for nothing; ``found`` that nobody named the encoder."""

    adapter: str
    encoder: str
    strength: float | None = None
    found: bool = False


def read_adapter_kind(path: Path) -> IPAdapterKind:
    """What IP-Adapter a file is. Raises ``ShotError`` for other files, and for those that cannot be used."""
    if path.is_dir():
        raise ShotError("model", f"{path} is a folder; name one IP-Adapter's file in it, as in ip=FILE.")
    kind = find_ip_adapter_kind(list_shapes(open_model_file(path, "ip_adapter")[0]))
    assert kind is not None, "recognised as one"
    return kind


def find_reference_source(adapter: str, strength: float | None, encoder: str, base: Path) -> ReferenceSource:
    """The IP-Adapter's file ``adapter`` with its encoder: ``encoder`` if it is not empty, else one that is found. ``base`` is where
    the base model lies, which may bring one. Raises ``ShotError`` where the file is no usable IP-Adapter, or has no encoder."""
    if not os.path.exists(adapter):
        raise ShotError("model", f"There is no IP-Adapter {adapter}; name its file, as in ip=FILE.")
    kind = read_adapter_kind(Path(adapter))
    if encoder:
        found = _measure(Path(encoder)) if os.path.exists(encoder) else None
        if found is None and (os.path.exists(encoder) or not split_hub_folder(encoder)):
            raise ShotError("model", f"{encoder} is no picture encoder; name CLIP's, as a folder or a file.")
        if found is not None and not kind.fits(found):
            raise ShotError(
                "model",
                f"The picture encoder {encoder} is {found.title} and does not fit {Path(adapter).name}, which wants "
                f"{describe_wanted(kind)}.",
            )
        return ReferenceSource(adapter, encoder, strength)
    for path in _list_candidates(Path(adapter), base):
        found = _measure(path)
        if found is not None and kind.fits(found):
            return ReferenceSource(adapter, str(path), strength, found=True)
    usual = HUB_ENCODERS.get((kind.is_patched, kind.width))
    if usual is None:
        raise ShotError(
            "model",
            f"There is no picture encoder beside {Path(adapter).name}, and no usual one fits it; add encoder=FOLDER with one of "
            f"{describe_wanted(kind)}.",
        )
    return ReferenceSource(adapter, usual, strength, found=True)


def describe_wanted(kind: IPAdapterKind) -> str:
    """What encoder an adapter wants, in words."""
    what = "a hidden state" if kind.is_patched else "a projection"
    return f"CLIP's with {what} of {kind.width} numbers"


def split_hub_folder(text: str) -> tuple[str, str] | None:
    """(repository, folder) of a picture encoder in the hub, None for what is none."""
    found = re.fullmatch(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(?:@[0-9a-f]{40})?)((?:/[A-Za-z0-9_][\w.-]*)*)", text)
    if not found or text.lower().endswith(_SUFFIXES):
        return None
    return found[1], found[2].strip("/")


def _list_candidates(adapter: Path, base: Path) -> Iterator[Path]:
    above = list(adapter.absolute().parents)[:3]
    folders = [*(place / name for place in above for name in _FOLDERS), base / "image_encoder"]
    yield from (folder for folder in dict.fromkeys(folders) if folder.is_dir())
    beside = [
        path for path in _list_files(adapter.absolute().parent, deep=False) if any(word in path.name.lower() for word in _WORDS)
    ]
    below = [path for place in above for name in _FILES if (place / name).is_dir() for path in _list_files(place / name, deep=True)]
    yield from [path for path in dict.fromkeys((*below, *beside)) if path.name != adapter.name][:_MOST_FILES]


def _list_files(folder: Path, *, deep: bool) -> list[Path]:
    try:
        listed = folder.rglob("*") if deep else folder.iterdir()
        return sorted(path for path in listed if path.suffix.lower() in _SUFFIXES and path.is_file())
    except OSError:
        return []


def find_encoder_file(path: Path) -> Path | None:
    """The file of an encoder that is a single file: the path itself, or the only one in a folder without a configuration."""
    if not path.is_dir():
        return path
    files = _list_files(path, deep=False)
    return files[0] if len(files) == 1 and not (path / "config.json").exists() else None


def _measure(path: Path) -> EncoderKind | None:
    """What encoder lies at a path, None for what is none or cannot be read."""
    file = find_encoder_file(path)
    try:
        if file is not None:
            return find_encoder_kind(list_shapes(read_weight_file(file)))
        return read_encoder_configuration(path / "config.json")
    except (ShotError, OSError):
        return None


def read_encoder_configuration(path: Path) -> EncoderKind | None:
    """What encoder a ``config.json`` of transformers describes, None for another network. Raises ``OSError``."""
    if path.stat().st_size > _MOST_CONFIGURATION:
        return None
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        # CLIP as a whole describes its two halves
        inner = config.get("vision_config", config)
        if "patch_size" not in inner:
            return None
        projection = config.get("projection_dim", inner.get("projection_dim", 512))
        return EncoderKind(int(inner["hidden_size"]), int(projection))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
