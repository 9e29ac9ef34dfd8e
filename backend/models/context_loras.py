"""LoRAs that teach a transformer to follow a clip of depth that it sees beside its own: read, checked and added to its weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ...shared.shot import ShotError
from .family_layouts import TRANSFORMER
from .folder_reading import name_folder
from .lora_kinds import find_lora_kind
from .lora_layout import UNET, ModuleNames, sort_tensors
from .loras import Addition, Scaling, add_to_layers, list_changes, list_modules, read_scaling
from .ltx2 import DOWNSCALE, read_downscale
from .names import find_control_kind
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
def teach(transformer: Any, path: Path, strength: float, title: str) -> tuple[str, ...]:
    """Add a LoRA at a strength to a transformer of a model called ``title``, whose configuration says from now on how large a clip
    of depth it sees; sentences about what has no place in it, and what is guessed of it. Raises ``ShotError``."""
    file, downscale = read_context_lora(path, title)
    warnings = [*_doubt(file)]
    modules = list_modules(transformer)
    names = dict[str, str]()
    for name in file.tensors:
        ours = _translate(name)
        # of two spellings in one file the second keeps its own, under which it has no place
        names[name if ours in names else ours] = name
    layout, scaling = sort_tensors(names, ModuleNames({UNET: modules})), read_scaling(file, (TRANSFORMER,))
    for change in list_changes(path, layout, file.tensors, title, warnings):
        own = {role: names[name] for role, name in change.tensors.items()}
        addition = Addition(file, replace(change, tensors=own), strength, scaling.get(TRANSFORMER, Scaling()))
        add_to_layers(modules, [addition], title)
    transformer.register_to_config(**{DOWNSCALE: downscale})
    return tuple(dict.fromkeys(warnings))


def check_context_lora(make_transformer: Callable[[], Any], path: Path, title: str) -> int:
    """How many times smaller than the frames a LoRA wants the clip. Raises ``ShotError`` for one that does not fit the transformer
    that is made, which gets no storage."""
    with torch.device("meta"):
        transformer = make_transformer()
    teach(transformer, path, 1.0, title)
    return read_downscale(transformer.config)


def _doubt(file: WeightFile) -> tuple[str, ...]:
    """A sentence about a LoRA that by its name, or its folder's, was not made for depth: such a file says it nowhere else."""
    name = file.path.name
    kind = find_control_kind(file.path.stem) or find_control_kind(name_folder(file.path.parent))
    if kind in ("depth", "union"):
        return ()
    if kind:
        return (f"By its name, {name} is a LoRA for {kind}; it is used for depth.",)
    return (f"Nothing says that {name} is an in-context LoRA for depth; it is taken to be one.",)


def _translate(name: str) -> str:
    while start := next((start for start in _STARTS if name.startswith(start)), ""):
        name = name.removeprefix(start)
    for theirs, ours in _NAMES:
        if theirs in name:
            name = name.replace(theirs, ours)
            break
    return name
