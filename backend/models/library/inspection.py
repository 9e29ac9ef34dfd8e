"""What a candidate is, by the recognition that loading uses; remembered on the disk, so that each file is looked into once."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import msgspec

from ....shared import logs
from ....shared.files import make_private_folder, read_file, write_atomically
from ....shared.folders import data_folder
from ....shared.shot import ShotError
from ....shared.version import VERSION
from ..family_layouts import BY_NAME, find_layout_of_control, list_supported
from ..motion_kinds import CLASS as MOTION_MODULE
from ..motion_kinds import explain_module, find_module_family
from ..names import find_control_kind
from ..recognition import inspect_model_file
from ..transformer_parts import find_parts
from ..usual_controls import find_family_of_folder
from .scanning import Candidate

logger = logs.get_logger(__name__)
MAX_INDEX, MAX_CONFIGURATION, MAX_KEPT = 64 << 20, 1 << 20, 50_000
#: width of the text in a ControlNet's configuration -> family
_CONTEXTS = {768: "sd1", 1024: "sd2", 2048: "sdxl"}
#: kinds that stay what they are in the library; others are not usable
_KINDS = ("checkpoint", "controlnet", "lora", "vae", "embedding", "ip_adapter", "picture_encoder", "motion_module")


class Inspected(msgspec.Struct, frozen=True):
    """What a candidate is: its kind and family, what a ControlNet is for, trigger words; ``sentence`` says it in words, ``problem``
    why it cannot be used."""

    kind: str
    family: str = ""
    control: str = ""
    title: str = ""
    words: tuple[str, ...] = ()
    problem: str = ""
    sentence: str = ""


class _Known(msgspec.Struct, frozen=True):
    state: str
    found: Inspected


class _Index(msgspec.Struct):
    #: another version may recognise more
    version: str = ""
    known: dict[str, _Known] = {}


class InspectionIndex:
    """What was found out before. Damaged or missing, it is made again."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or data_folder() / "library" / "index.msgpack"
        try:
            index = msgspec.msgpack.decode(read_file(self._path, MAX_INDEX), type=_Index)
        except (OSError, ValueError):
            index = _Index()
        self._known = index.known if index.version == VERSION else {}
        self._is_changed = False

    def inspect(self, candidate: Candidate) -> Inspected:
        """What a candidate is. Never raises for what is in it."""
        key = str(candidate.path)
        known = self._known.get(key)
        if known is not None and known.state == candidate.state:
            return known.found
        found, is_lasting = _look_into(candidate)
        if is_lasting:
            self._known[key], self._is_changed = _Known(candidate.state, found), True
        return found

    def save(self) -> None:
        """Keep what was found out; what cannot be kept is found out again."""
        if not self._is_changed:
            return
        while len(self._known) > MAX_KEPT:
            self._known.pop(next(iter(self._known)))
        try:
            make_private_folder(self._path.parent)
            # names that are no text stay out: they are refused anyway
            known = {key: value for key, value in self._known.items() if _is_text(key)}
            write_atomically(self._path, msgspec.msgpack.encode(_Index(VERSION, known)))
            self._is_changed = False
        except OSError as error:
            logger.warning("What models are cannot be remembered (%s)", error)


def _is_text(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


def inspect_candidate(candidate: Candidate) -> Inspected:
    """What a candidate is, looked up anew."""
    return _look_into(candidate)[0]


def _look_into(candidate: Candidate) -> tuple[Inspected, bool]:
    """(what a candidate is, whether that stays so while the file is as it is: permissions and disks change without it)."""
    path = candidate.path
    if not _is_text(str(path)):
        return _refuse("Its name holds bytes that are no letters; rename it."), True
    try:
        found = _inspect_folder(path) if candidate.is_folder else _inspect_file(path)
    except ShotError as error:
        return _refuse(str(error)), not isinstance(error.__cause__, OSError)
    except Exception as error:  # a file that nobody foresaw is listed, and the others too
        logger.exception("%s could not be looked into", path)
        is_lasting = not isinstance(error, (OSError, MemoryError))
        return _refuse(f"It could not be looked into ({type(error).__name__}); 'latentman models inspect' says more."), is_lasting
    if "|" in str(path) and not found.problem:
        problem = "Its path holds a bar, which parts the names of models; rename it."
        return msgspec.structs.replace(found, problem=problem), True
    return found, True


def _refuse(sentence: str) -> Inspected:
    return Inspected("other", problem=sentence, sentence=sentence)


def _inspect_file(path: Path) -> Inspected:
    found = inspect_model_file(path)
    # only a whole model, or what is added to one, can be chosen
    kind, control, problem = found.kind if found.kind in _KINDS else "other", found.control, found.problem
    if found.kind == "transformer" and not problem:
        kind = "checkpoint"
        try:
            find_parts(path, BY_NAME[found.family])
        except ShotError as error:
            problem = str(error)
    if kind == "controlnet" and found.family in BY_NAME:
        control = _choose_control(control)
    words = found.words[:32] if kind == "lora" else ()
    return Inspected(kind, found.family, control, found.title, words, problem, found.sentence)


def _choose_control(control: str) -> str:
    """What a ControlNet of a transformer is offered for: the union ones take every kind of picture."""
    return "depth" if control == "union" else control


def _inspect_folder(folder: Path) -> Inspected:
    if os.path.isfile(folder / "args.json"):
        return Inspected("motion", "mdm", sentence=f"{folder.name} is a motion model of MDM.")
    if os.path.isfile(folder / "model_index.json"):
        family = find_family_of_folder(folder)
        problem = "" if family else f"It is a model of a kind that is not supported; choose one of {list_supported()}."
        return Inspected("checkpoint", family, problem=problem, sentence=f"{folder.name} is a diffusers folder.")
    return inspect_configuration(_read_configuration(folder), folder.name)


def inspect_configuration(config: dict[str, Any], name: str) -> Inspected:
    """What a network is by its ``config.json`` and the name of its folder."""
    told, kind = str(config.get("_class_name", "")), str(config.get("model_type", ""))
    layout = find_layout_of_control(config)
    if layout is not None:
        control = _choose_control(find_control_kind(name) or "union")
        return Inspected("controlnet", layout.name, control, sentence=f"{name} is a ControlNet for {layout.title}.")
    if told.startswith("ControlNet"):
        width = config.get("cross_attention_dim")
        family = _CONTEXTS.get(width, "other") if isinstance(width, int) else "other"
        control = "union" if "Union" in told else find_control_kind(name)
        problem = "" if family != "other" else "It is a ControlNet for a kind of model that is not supported."
        return Inspected("controlnet", family, control, problem=problem, sentence=f"{name} is a ControlNet.")
    if told == MOTION_MODULE:
        why = explain_module(config)
        problem = f"It is of another kind ({why}); choose a motion module for Stable Diffusion 1.x." if why else ""
        return Inspected(
            "motion_module", find_module_family(config), problem=problem, sentence=f"{name} is a motion module of AnimateDiff."
        )
    if told in ("AutoencoderKL", "AutoencoderTiny"):
        what = "an auto-encoder (VAE)" if told == "AutoencoderKL" else "a small auto-encoder"
        return Inspected("vae", "sdxl" if "xl" in name.lower() else "", sentence=f"{name} is {what}.")
    if kind == "clip_vision_model":
        return Inspected("picture_encoder", sentence=f"{name} is a picture encoder.")
    if kind in ("distilbert", "clip", "clip_text_model"):
        return Inspected("text_encoder", "mdm", sentence=f"{name} is a text encoder.")
    sentence = f"It is a network of a kind that cannot be used alone ({(told or kind or 'unknown')[:60]})."
    return Inspected("other", problem=sentence, sentence=sentence)


def _read_configuration(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads(read_file(folder / "config.json", MAX_CONFIGURATION))
    except (OSError, ValueError, RecursionError) as error:
        raise ShotError("model", f"The file {folder / 'config.json'} cannot be read; download the model again.") from error
    if not isinstance(found, dict):
        raise ShotError("model", f"The file {folder / 'config.json'} is no configuration; download the model again.")
    return found
