"""Names of image models and where their parts come from.

A model is named by parts between bars: ``BASE|PART|...``. The base is a preset, a diffusers folder, a hub id or a single
``.safetensors`` file. A part is ``depth=``, ``normal=`` or another of ``CONTROLS`` with a ControlNet (a plain name is one for
depth), ``lora=PATH`` or ``lora=PATH@0.8``, or ``embedding=PATH`` for a textual inversion. Behind the hub id of a base or a
ControlNet, ``@COMMIT`` names the revision that is loaded; those in ``HUB_REVISIONS`` have one anyway.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from pathlib import Path

from ...shared.shot import ShotError
from ..maps import MAPS

STARTER = Path(__file__).resolve().parent / "starter"
#: the kinds of ControlNets: one for each picture that can be made of the passes
CONTROLS = tuple(MAPS)


@dataclass(frozen=True)
class ModelSource:
    """Where a base model and what is added to it are.

    ``controls`` are (kind, source) of the ControlNets; empty means that a depth ControlNet lies in the base's folder.
    ``loras`` are (source, strength). ``guidance_scale`` suits the model; 0 leaves it to the kind of model.
    """

    base: str
    controls: tuple[tuple[str, str], ...] = ()
    loras: tuple[tuple[str, float], ...] = ()
    embeddings: tuple[str, ...] = ()
    guidance_scale: float = 0.0


PRESETS: dict[str, ModelSource] = {
    "starter": ModelSource(str(STARTER), guidance_scale=1.5),
    "sd15": ModelSource("stable-diffusion-v1-5/stable-diffusion-v1-5", (("depth", "lllyasviel/control_v11f1p_sd15_depth"),)),
    "sdxl": ModelSource("stabilityai/stable-diffusion-xl-base-1.0", (("depth", "diffusers/controlnet-depth-sdxl-1.0"),)),
}

#: hub id -> the commit that is loaded, whatever its owner puts there later
HUB_REVISIONS = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": "451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
    "lllyasviel/control_v11f1p_sd15_depth": "539f99181d33db39cf1af2e517cd8056785f0a87",
    "stabilityai/stable-diffusion-xl-base-1.0": "462165984030d82259a11f4367a4eed129e94a7b",
    "diffusers/controlnet-depth-sdxl-1.0": "17bb97973f29801224cd66f192c5ffacf82648b4",
    "openai/clip-vit-base-patch32": "3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268",
    "distilbert/distilbert-base-uncased": "12040accade4e8a0f71eabdb258fecc2e7e948be",
}


def split_revision(source: str) -> tuple[str, str | None]:
    """A folder, file or hub id, and the commit to load it at: the one behind its ``@``, else that of ``HUB_REVISIONS``; None for
    what lies on this machine, and for a hub id without either, of which the newest is loaded."""
    if Path(source).exists():
        return source, None
    name, at, commit = source.rpartition("@")
    if at and re.fullmatch(r"[0-9a-f]{40}", commit):
        return name, commit
    return source, HUB_REVISIONS.get(source)


def _read_strength(text: str) -> tuple[str, float]:
    path, at, strength = text.rpartition("@")
    if not at:
        return text, 1.0
    try:
        return path, float(strength)
    except ValueError:
        raise ShotError("model", f"'{strength}' is not the strength of a LoRA; write it like lora=PATH@0.8.") from None


def find_model(name: str) -> ModelSource:
    """The source of a model name; ``ShotError`` when it cannot be one."""
    first, *parts = (part.strip() for part in name.split("|"))
    if first in PRESETS:
        source = PRESETS[first]
    elif parts or (Path(first) / "model_index.json").exists():
        # a preset by its folder is that preset
        source = next((preset for preset in PRESETS.values() if Path(preset.base) == Path(first).resolve()), ModelSource(first))
    else:
        raise ShotError(
            "model",
            f"There is no model '{name}'; use {', '.join(PRESETS)}, a diffusers folder with a ControlNet, or BASE|CONTROLNET.",
        )
    controls, loras, embeddings = [], [], []
    for part in parts:
        kind, equals, value = part.partition("=")
        if not equals:
            controls.append(("depth", part))
        elif kind in CONTROLS:
            controls.append((kind, value))
        elif kind == "lora":
            loras.append(_read_strength(value))
        elif kind == "embedding":
            embeddings.append(value)
        else:
            raise ShotError("model", f"'{kind}=' is not a part of a model; use {'=, '.join(CONTROLS)}=, lora= or embedding=.")
    return replace(source, controls=tuple(controls) or source.controls, loras=tuple(loras), embeddings=tuple(embeddings))


def fingerprint(name: str) -> str:
    """Another text whenever what a model name stands for has changed: its parts, or the path, size or time of writing of one of
    their files on this machine. ``ShotError`` when it cannot be a model."""
    source = find_model(name)
    digest = hashlib.blake2b(repr(source).encode(), digest_size=12)
    networks = (source.base, *(control for _, control in source.controls))
    for commit in (split_revision(network)[1] for network in networks):
        digest.update((commit or "").encode())
    parts = (*networks, *(lora for lora, _ in source.loras), *source.embeddings)
    for path in map(Path, parts):
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                state = file.stat()
                digest.update(repr((str(file), state.st_size, state.st_mtime_ns)).encode())
    return digest.hexdigest()
