"""A folder of tiny models for the window's test, as a studio has one of large ones: of AnimateDiff, FLUX.1 and Wan VACE."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from latentman.backend.models.registry import CLIP_STARTER
from tools.tiny_transformers import write_flux, write_wan_vace
from tools.window_names import CLIPS, CONTROL, LORA, LORA_WORD, MODULE, TRANSFORMER

RANK = 2
#: what a LoRA for FLUX.1 changes, as diffusers' trainer names it
CHANGED = ("transformer_blocks.0.attn.to_q", "transformer_blocks.0.attn.to_v", "single_transformer_blocks.0.attn.to_q")


def write_studio(folder: Path) -> None:
    """Write all of it into a folder that is not there yet."""
    parts = folder.with_name(f"{folder.name}-parts")
    write_flux(parts / "flux")
    write_wan_vace(parts / "wan")
    folder.mkdir(parents=True)
    for source, name in (("flux/base", TRANSFORMER), ("flux/control", CONTROL), ("wan/base", CLIPS)):
        (parts / source).rename(folder / name)
    shutil.rmtree(parts)
    # for the starter, in a single file, as modules are mostly shared
    shutil.copyfile(next(CLIP_STARTER.glob("*.safetensors")), folder / MODULE)
    weights = load_file(next((folder / TRANSFORMER / "transformer").glob("*.safetensors")))
    save_file(make_lora(weights), folder / LORA, {"modelspec.trigger_phrase": LORA_WORD})


def make_lora(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A LoRA for a transformer with these weights."""
    generator, state = torch.Generator().manual_seed(1), dict[str, torch.Tensor]()
    for layer in CHANGED:
        rows, columns = weights[f"{layer}.weight"].shape
        state[f"transformer.{layer}.lora_A.weight"] = torch.randn(RANK, columns, generator=generator)
        state[f"transformer.{layer}.lora_B.weight"] = torch.randn(rows, RANK, generator=generator)
    return state
