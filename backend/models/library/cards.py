"""What other programs have put beside a model's file: a picture, and a few words about it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import msgspec

from ....shared.files import read_file

MAX_CARD = 2 << 20
PICTURES = (".preview.png", ".preview.jpg", ".preview.jpeg", ".preview.webp", ".png", ".jpg", ".jpeg", ".webp")
#: names of files with words; the first that can be read counts
CARDS = (".civitai.info", ".cm-info.json", ".metadata.json", ".json")


class Card(msgspec.Struct, frozen=True):
    """What is told of a model; empty where nothing is."""

    title: str = ""
    licence: str = ""
    page: str = ""
    words: tuple[str, ...] = ()


def find_preview(path: Path) -> Path | None:
    """The picture beside a file, or in a folder that is a model; None where there is none."""
    places = [path / f"preview{end}" for end in (".png", ".jpg", ".webp")] if os.path.isdir(path) else []
    places += [path.parent / (_get_stem(path) + end) for end in PICTURES]
    return next((place for place in places if place != path and os.path.isfile(place)), None)


def read_card(path: Path) -> Card:
    """What is told beside a file."""
    for end in CARDS:
        place = path.parent / (_get_stem(path) + end)
        try:
            found = json.loads(read_file(place, MAX_CARD))
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            return _read(found)
    return Card()


def _get_stem(path: Path) -> str:
    return path.name if os.path.isdir(path) else path.stem


def _read(found: dict[str, Any]) -> Card:
    inner = found.get("civitai") if isinstance(found.get("civitai"), dict) else found
    assert isinstance(inner, dict)
    model = inner.get("model") if isinstance(inner.get("model"), dict) else {}
    assert isinstance(model, dict)
    name, version = _text(model.get("name")), _text(inner.get("name"))
    title = name or _text(found.get("model_name")) or _text(found.get("title"))
    if name and version and version.lower() not in name.lower():
        title = f"{name}, {version}"
    licence = _text(found.get("license")) or _text(found.get("licence")) or _write_permissions(model) or _write_permissions(inner)
    number = inner.get("modelId")
    page = f"https://civitai.com/models/{number}" if isinstance(number, int) and not isinstance(number, bool) and number > 0 else ""
    words = inner.get("trainedWords")
    words = [word for one in words if (word := _text(one))] if isinstance(words, list) else []
    return Card(title[:200], licence[:200], page, tuple(word[:200] for word in words[:32]))


def _write_permissions(model: dict[str, Any]) -> str:
    """What Civitai says that pictures may be used for."""
    allowed = model.get("allowCommercialUse")
    if isinstance(allowed, str):
        allowed = [allowed]
    if not isinstance(allowed, list):
        return ""
    named = [_text(one) for one in allowed if _text(one) and _text(one).lower() != "none"]
    return f"Civitai; for sale: {', '.join(named)}" if named else "Civitai; not for sale"


def _text(value: Any) -> str:
    return " ".join(value.split()) if isinstance(value, str) else ""
