"""The parts of a model's name, ``BASE|depth=PATH@0.8|lora=PATH@0.6``, as both sides read and write them.

``backend/models/registry.py`` says what each part means; here they are only told apart and put together again.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from .control_uses import ControlUse, read_control_use
from .pasted_paths import read_pasted_path, unquote_text
from .shot import ShotError

#: ends of the names of files with weights
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".sft")
#: kinds of parts that are ControlNets: one for each picture that can be made of the passes
CONTROL_KINDS = ("depth", "normal", "openpose", "iuv")
#: kinds of parts that are no ControlNets
OTHER_KINDS = ("lora", "embedding", "vae", "ip", "encoder", "parts", "motion", "sees")
#: kinds of which a model has one at most
SINGLE_KINDS = ("vae", "ip", "encoder", "parts", "motion", "sees")
#: the strength of an IP-Adapter that names none is its setting's; this is what a slider begins with
ADAPTER_STRENGTH = 0.6


@dataclass(frozen=True)
class ModelPart:
    """A part behind a bar. ``kind`` is one of ``CONTROL_KINDS`` or ``OTHER_KINDS``, empty for a ControlNet whose kind is not
    named, or another word that was written; ``strength`` is None where none is written, or the kind has none. ``span`` are the
    fractions of the steps between which a ControlNet works."""

    kind: str
    path: str
    strength: float | None = None
    span: tuple[float, float] | None = None

    @property
    def has_strength(self) -> bool:
        """Whether the kind has a strength."""
        return self.kind in ("", "lora", "ip", *CONTROL_KINDS)


def is_weight_file(part: str) -> bool:
    """Whether a part of a model's name is a file of weights: by the end of its name, or since a file is there, whatever its name
    ends with."""
    return part.lower().endswith(WEIGHTS) or os.path.isfile(part)


def split_name(name: str) -> tuple[str, list[str]]:
    """The base of a model's name and its parts, as they are written."""
    # a bar at the end is one that nothing came behind
    first, *parts = [part for part in map(unquote_text, unquote_text(name).split("|")) if part] or [""]
    return first, parts


def split_part(part: str) -> tuple[str, str]:
    """(kind, value) of a part. One without a kind is a ControlNet, and so is a path with a sign of equality in it."""
    kind, equals, value = part.partition("=")
    kind = kind.strip().lower()
    if not equals or os.path.exists(read_pasted_path(part)) or not re.fullmatch(r"[a-z0-9_]+", kind):
        return "", part
    return kind, value


def read_lora_strength(text: str) -> tuple[str, float | None]:
    """``PATH@0.8`` -> the path and the strength, None for none written. Raises ``ShotError``."""
    whole = read_pasted_path(text)
    path, at, strength = whole.rpartition("@")
    if not at or os.path.exists(whole) or re.fullmatch(r"[0-9a-f]{40}", strength):
        # nothing behind it but a commit of the hub
        return whole, None
    try:
        number = float(strength)
    except ValueError:
        # an @ in a file's name
        if strength.lower().endswith(WEIGHTS):
            return whole, None
        number = math.nan
    if not math.isfinite(number):
        raise ShotError("model", f"'{strength}' is not the strength of a LoRA; write it like lora=PATH@0.8.")
    return path, number


def read_adapter_strength(text: str) -> tuple[str, float | None]:
    """``PATH@0.6`` -> the path and the strength of an IP-Adapter, None for none written. Raises ``ShotError``."""
    whole = read_pasted_path(text)
    path, at, strength = whole.rpartition("@")
    if not at or os.path.exists(whole) or strength.lower().endswith(WEIGHTS):
        return whole, None
    try:
        number = float(strength)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 1:
        raise ShotError("model", f"'{strength}' is not the strength of an IP-Adapter; write it like ip=PATH@0.6, from 0 to 1.")
    return path, number


def read_part(text: str) -> ModelPart:
    """A part as it is written. Raises ``ShotError`` for a strength that is none."""
    kind, value = split_part(text)
    if kind == "lora":
        return ModelPart(kind, *read_lora_strength(value))
    if kind == "ip":
        return ModelPart(kind, *read_adapter_strength(value))
    if kind and kind not in CONTROL_KINDS:
        return ModelPart(kind, value)
    path, use = read_control_use(value, is_weight_file)
    span = None if (use.start, use.end) == (0.0, 1.0) else (use.start, use.end)
    return ModelPart(kind, path, None if use == ControlUse(1.0, use.start, use.end) else use.strength, span)


def write_number(value: float) -> str:
    """A strength as it is written: no more digits than it needs."""
    return f"{round(value, 6):g}"


def write_part(part: ModelPart) -> str:
    """A part as it is written behind a bar."""
    ends = "" if part.strength is None else f"@{write_number(part.strength)}"
    if part.span is not None:
        ends += f"@{write_number(part.span[0])}-{write_number(part.span[1])}"
    return f"{part.kind}={part.path}{ends}" if part.kind else f"{part.path}{ends}"


def write_name(base: str, parts: Iterable[str]) -> str:
    """A model's name from its base and its parts as they are written."""
    return "|".join([base, *parts])


def set_base(name: str, base: str) -> str:
    """The name with another base. Its ControlNets, LoRAs and the like stay, whether or not they fit it."""
    return write_name(base, split_name(name)[1])


def set_strength(name: str, index: int, strength: float) -> str:
    """The name with another strength of the part at ``index``; as it is where that has none."""
    base, parts = split_name(name)
    try:
        part = read_part(parts[index])
    except (IndexError, ShotError):
        return name
    if not part.has_strength:
        return name
    parts[index] = write_part(replace(part, strength=strength))
    return write_name(base, parts)


def remove_part(name: str, index: int) -> str:
    """The name without the part at ``index``; as it is where there is none."""
    base, parts = split_name(name)
    return write_name(base, [part for n, part in enumerate(parts) if n != index])


def add_part(name: str, kind: str, path: str, strength: float | None = None) -> str:
    """The name with one more part. Of ControlNets of a kind, and of what there is one of, it takes the place of the other; one that
    is there already keeps its strength."""
    base, parts = split_name(name)
    kept = []
    for text in parts:
        try:
            part = read_part(text)
        except ShotError:
            kept.append(text)
            continue
        if (part.kind, part.path) == (kind, path):
            return name
        if part.kind != kind or kind not in (*SINGLE_KINDS, *CONTROL_KINDS):
            kept.append(text)
    return write_name(base, [*kept, write_part(ModelPart(kind, path, strength))])
