"""LoRAs that teach a transformer to follow a clip of depth that it sees beside its own: read, checked and added to its weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ...shared.shot import ShotError
from .lora_kinds import find_lora_kind
from .lora_layout import UNET, ModuleNames, sort_tensors
from .loras import Addition, add_to_module, list_changes, list_modules
from .ltx2 import DOWNSCALE
from .plans import list_shapes
from .weight_files import WeightFile, read_weight_file

#: most times that a clip of depth may be smaller than the frames
_MOST_DOWNSCALE = 8
#: what files may have before the names of the transformer's modules
_STARTS = ("diffusion_model.", "transformer.", "base_model.model.")
#: its authors' names -> diffusers'; longer ones first, since they hold others
_NAMES = (
    ("av_ca_video_scale_shift_adaln_single", "av_cross_attn_video_scale_shift"),
    ("av_ca_audio_scale_shift_adaln_single", "av_cross_attn_audio_scale_shift"),
    ("av_ca_a2v_gate_adaln_single", "av_cross_attn_video_a2v_gate"),
    ("av_ca_v2a_gate_adaln_single", "av_cross_attn_audio_v2a_gate"),
    ("audio_prompt_adaln_single", "audio_prompt_adaln"),
    ("prompt_adaln_single", "prompt_adaln"),
    ("audio_adaln_single", "audio_time_embed"),
    ("adaln_single", "time_embed"),
    ("patchify_proj", "proj_in"),
    ("q_norm", "norm_q"),
    ("k_norm", "norm_k"),
)


def find_context_lora(source: str) -> Path:
    """The file of a LoRA by its path or that of the folder that holds it alone. Raises ``ShotError``."""
    path = Path(source)
    if path.is_dir():
        found = sorted(path.glob("*.safetensors"))
        if len(found) == 1:
            return found[0]
        raise ShotError("model", f"The folder {path} holds {len(found)} LoRAs; name one file of it.")
    if not path.is_file():
        raise ShotError("model", f"There is no LoRA {source} on this machine; download its file, and give its path behind depth=.")
    return path


def read_context_lora(path: Path, title: str) -> tuple[WeightFile, int]:
    """A LoRA's file for a model called ``title``, and how many times smaller than the frames it wants the clip. Raises
    ``ShotError``."""
    file = read_weight_file(path)
    if find_lora_kind(list_shapes(file)) is None:
        raise ShotError("model", f"The file {path.name} is no LoRA; behind depth= {title} takes its in-context LoRA for depth.")
    text = str(file.metadata.get(DOWNSCALE, "1"))
    try:
        downscale = float(text)
    except ValueError:
        downscale = 0.0
    if downscale not in range(1, _MOST_DOWNSCALE + 1):
        raise ShotError(
            "model",
            f"The LoRA {path.name} wants a clip of depth that is smaller by '{text[:20]}', which is no whole number up to "
            f"{_MOST_DOWNSCALE}; download it again.",
        )
    return file, int(downscale)


@torch.no_grad()
def teach(transformer: Any, source: str, strength: float, title: str) -> tuple[str, ...]:
    """Add a LoRA at a strength to a transformer of a model called ``title``, whose configuration says from now on how large a clip
    of depth it sees; sentences about what has no place in it. Raises ``ShotError``."""
    path, warnings = find_context_lora(source), list[str]()
    file, downscale = read_context_lora(path, title)
    modules = list_modules(transformer)
    names = {_translate(name): name for name in file.tensors}
    layout = sort_tensors(names, ModuleNames({UNET: modules}))
    for change in list_changes(path, layout, file.tensors, title, warnings):
        own = {role: names[name] for role, name in change.tensors.items()}
        addition = Addition(file, change.__class__(change.title, change.target, own), strength)
        add_to_module(modules[change.target.module], [addition], title)
    transformer.register_to_config(**{DOWNSCALE: downscale})
    return tuple(dict.fromkeys(warnings))


def add_downscale(config: Mapping[str, Any], source: str, title: str) -> dict[str, Any]:
    """The configuration of a transformer as ``teach`` leaves it. Raises ``ShotError``."""
    return {**config, DOWNSCALE: read_context_lora(find_context_lora(source), title)[1]}


def _translate(name: str) -> str:
    for start in _STARTS:
        name = name.removeprefix(start)
    for theirs, ours in _NAMES:
        if theirs in name:
            name = name.replace(theirs, ours)
            break
    return name
