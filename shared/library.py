"""The library of models as both sides speak of it: what is on this machine, and what can be got."""

from __future__ import annotations

from typing import Annotated

import msgspec

#: entries of a list that goes over the wire, and thumbnails that are asked for at a time
MAX_ITEMS, MAX_PREVIEWS = 2000, 24
#: pixels along the longer side of a thumbnail, and bytes of its file
PREVIEW_SIDE, MAX_PREVIEW_BYTES = 128, 128 << 10
#: characters of a token of a hub
MAX_TOKEN = 512
#: kinds of what the library lists -> words for people
KINDS = {
    "checkpoint": "Model",
    "controlnet": "ControlNet",
    "lora": "LoRA",
    "vae": "Decoder (VAE)",
    "embedding": "Textual inversion",
    "ip_adapter": "IP-Adapter",
    "picture_encoder": "Picture encoder",
    "motion_module": "Motion module",
    "motion": "Motion model",
    "text_encoder": "Text encoder",
    "other": "Not usable",
}
#: kind -> what stands before its path in a model's name; the base has nothing
PARTS = {
    "lora": "lora",
    "vae": "vae",
    "embedding": "embedding",
    "ip_adapter": "ip",
    "picture_encoder": "encoder",
    "motion_module": "motion",
}
#: families whose LoRAs stand where others have a ControlNet: they teach the model what depth is
TAUGHT = ("ltx2",)
#: where an entry is: it comes with the extension, was got by the library, lies in a folder of the user's or in the hub's cache, or
#: can be got
PLACES = ("bundled", "library", "folder", "hub", "catalogue")
#: whether a device's memory holds it: easily, in parts or slowly, not, or nobody knows
FITS = ("yes", "tight", "no", "")

ShortText = Annotated[str, msgspec.Meta(max_length=200)]
#: a path or a sentence
LongText = Annotated[str, msgspec.Meta(max_length=4096)]


class LibraryItem(msgspec.Struct, frozen=True, kw_only=True):
    """One entry. ``name`` is what it is called in commands and messages: its name in the catalogue, a path or a hub id. ``use`` is
    what stands for it in a model's name, empty while it is not here or cannot be used there. ``size`` in bytes, 0 where it is not
    known yet. ``fit_sentence`` says what ``fits`` (one of ``FITS``) means here, ``problem`` why it cannot be used. ``damaged`` is
    set once a check has found that its files are not what was got."""

    name: LongText
    title: ShortText
    kind: ShortText
    family: ShortText = ""
    place: ShortText = "catalogue"
    path: LongText = ""
    use: LongText = ""
    size: Annotated[int, msgspec.Meta(ge=0, le=2**60)] = 0
    licence: ShortText = ""
    purpose: LongText = ""
    page: LongText = ""
    control: ShortText = ""
    words: Annotated[tuple[ShortText, ...], msgspec.Meta(max_length=32)] = ()
    is_here: bool = False
    can_get: bool = False
    has_preview: bool = False
    damaged: bool = False
    fits: ShortText = ""
    fit_sentence: LongText = ""
    problem: LongText = ""


class LibraryFolder(msgspec.Struct, frozen=True, kw_only=True):
    """A folder of the user's that the library reads; ``layout`` is comfyui, a1111 or plain, ``problem`` why it cannot be read."""

    path: LongText
    layout: ShortText = "plain"
    problem: LongText = ""


def write_bytes(size: int) -> str:
    """A size in bytes as people read it; empty for one that is not known."""
    if size <= 0:
        return ""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{max(size / 1e6, 0.1):.1f} MB"


def matches(item: LibraryItem, search: str) -> bool:
    """Whether every word of a search stands somewhere in an entry's words."""
    told = " ".join((item.name, item.title, KINDS.get(item.kind, item.kind), item.kind, item.family, item.licence, item.purpose))
    told = f"{told} {item.control} {' '.join(item.words)}".lower()
    return all(word in told for word in search.lower().split())
