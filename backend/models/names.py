"""What a model file's name and title say about it: how it was distilled, what a ControlNet is for. Guesses, and told as such."""

from __future__ import annotations

import re
from collections.abc import Mapping

#: how a model was distilled -> words that say so, among the words of a name
DISTILLED: dict[str, tuple[str, ...]] = {
    "lightning": ("lightning",),
    "hyper": ("hyper", "hypersd", "hyperxl"),
    "turbo": ("turbo", "turboxl"),
    "lcm": ("lcm", "lcmxl"),
    "tcd": ("tcd",),
    "dmd": ("dmd", "dmd2"),
    "pcm": ("pcm",),
    "schnell": ("schnell",),
    # in a way without a name, as what is published for Wan under these
    "distilled": ("lightx2v", "causvid", "accvid", "accvideo", "fusionx"),
}
#: those whose name is no part of another word
_INSIDE = ("lightning", "turbo", "schnell")
#: what a model is called whose distillation was trained away again
_UNDONE = re.compile(r"(?<![a-z])(de|un)[ _-]?distill")
#: words of models that change a picture that they are given
_EDITING = ("kontext", "edit")
#: kind of ControlNet -> words for it; the first found in this order
CONTROL_WORDS: dict[str, tuple[str, ...]] = {
    "union": ("union", "promax"),
    "openpose": ("openpose", "pose", "dwpose"),
    "normal": ("normalbae", "normal", "normals", "bae"),
    "depth": ("depth", "zoedepth", "midas"),
    "canny": ("canny",),
    "lineart": ("lineart", "anime"),
    "scribble": ("scribble", "sketch"),
    "softedge": ("softedge", "hed", "pidinet"),
    "mlsd": ("mlsd",),
    "segmentation": ("seg", "segmentation"),
    "shuffle": ("shuffle",),
    "instruct": ("ip2p",),
    "inpaint": ("inpaint", "inpainting"),
    "tile": ("tile", "blur"),
    "qrcode": ("qrcode", "qr", "monster"),
}


def split_words(text: str) -> list[str]:
    """The words of a name in lower case, where capitals and digits begin words: ``dreamshaperXL_v21TurboDPMSDE`` has turbo."""
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", text)
    pieces = [piece for piece in re.split(r"[^a-z0-9]+", text.lower()) if piece]
    return [*(part.lower() for part in parts), *pieces]


def says_distilled(name: str) -> bool:
    """Whether a name has the mere word, which tells of steps in some families alone."""
    return "distilled" in split_words(name) and not is_undistilled(name)


def is_undistilled(name: str) -> bool:
    """Whether a name says that a distillation was trained away again."""
    return bool(_UNDONE.search(name.lower()))


def find_distillation(name: str) -> str:
    """A key of ``DISTILLED``, empty when the name says nothing of it, or that it was undone."""
    if is_undistilled(name):
        return ""
    words = split_words(name)
    for kind, known in DISTILLED.items():
        if any(word in words for word in known) or (kind in _INSIDE and kind in name.lower()):
            return kind
    return ""


def is_for_editing(name: str) -> bool:
    """Whether the name of a model, or of a pipeline's class, says that it changes a picture that it is given."""
    return not set(_EDITING).isdisjoint(split_words(name))


def find_steps(name: str) -> int:
    """The number of steps in a name such as ``sdxl_lightning_4step``; 0 when there is none."""
    found = re.search(r"(?<!\d)(\d{1,2})[ _-]?steps?(?![a-z])", name.lower())
    return int(found[1]) if found else 0


def find_control_kind(name: str) -> str:
    """A key of ``CONTROL_WORDS``, empty when the name says nothing of it."""
    words = split_words(name)
    return next((kind for kind, known in CONTROL_WORDS.items() if any(word in words for word in known)), "")


def find_prediction(name: str) -> str:
    """``v_prediction`` or ``epsilon`` when the name says so, else empty."""
    lower = name.lower()
    if re.search(r"v[ _-]?pred", lower) or re.search(r"(?<!\d)768[_-]?v(?![a-z0-9])", lower):
        return "v_prediction"
    if re.search(r"(?<![a-z])eps(ilon)?([ _-]?pred)?(?![a-z])", lower) or re.search(r"(?<!\d)512[_-]base(?![a-z0-9])", lower):
        return "epsilon"
    return ""


def find_family_in_metadata(metadata: Mapping[str, str]) -> str:
    """``sd1``, ``sd2``, ``sdxl``, ``sdxl_refiner`` by what tools write into files; empty when they do not."""
    told = (metadata.get("modelspec.architecture", "") + " " + metadata.get("ss_base_model_version", "")).lower()
    if "refiner" in told:
        return "sdxl_refiner"
    if "xl" in told:
        return "sdxl"
    if "diffusion-v2" in told or "sd_v2" in told or metadata.get("ss_v2") == "True":
        return "sd2"
    return "sd1" if "diffusion-v1" in told or "sd_v1" in told else ""
