"""Writes the larger starter as a diffusers folder with its LoRA for few steps, and measures and shows what it has learnt."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderTiny, StableDiffusionControlNetPipeline
from transformers import CLIPTokenizer

from latentman.backend.pictures import write_png
from latentman.blender_addon.character.body_model import MANNEQUIN, load

from . import few_steps
from .dataset import Example
from .dressed import render
from .export import save_folder
from .sewing import Mannequin

#: the LoRA's file within the folder
LORA = "few_steps.safetensors"
#: seeds of pictures that no run learns from
HELD_OUT = 2_000_000
CARD = """---
license: cc0-1.0
library_name: diffusers
pipeline_tag: text-to-image
---

# The larger starter

A small Stable Diffusion with a depth ControlNet, trained by `python -m tools.train_dressed_starter` on renders of this project's
own mannequin, whose hair, faces and clothes have a shape. The depth is that of what is to be shown. `{lora}` is a LoRA of its UNet
for {counts} steps without guidance. No photograph, no other model. CC0: do with it what you like.
"""


def export(vae: AutoencoderTiny, models: torch.nn.ModuleDict, tokenizer: CLIPTokenizer, out: Path) -> None:
    """Save fp16 safetensors and a model card to ``out``. The networks stay as they are."""
    save_folder(copy.deepcopy(vae).cpu(), copy.deepcopy(models).cpu(), tokenizer, out)
    counts = " or ".join(map(str, few_steps.STEP_COUNTS))
    (out / "README.md").write_text(CARD.format(lora=LORA, counts=counts))


def export_few_steps(unet: Any, out: Path) -> None:
    """Add the LoRA of a UNet to the folder."""
    few_steps.save_lora(unet, out, LORA)


def write_sheet(path: Path, first_seed: int, size: int, rows: int = 3, columns: int = 6) -> None:
    """Write pictures of the seeds from ``first_seed`` on, side by side."""
    mannequin = Mannequin(load(MANNEQUIN))
    pictures = [render(mannequin, first_seed + n, size).image for n in range(rows * columns)]
    lines = [np.concatenate(pictures[at : at + columns], 1) for at in range(0, len(pictures), columns)]
    write_png(path, np.concatenate(lines))


@torch.no_grad()
def _generate(pipeline: StableDiffusionControlNetPipeline, examples: list[Example], steps: int, guidance: float) -> np.ndarray:
    """(N, S, S, 3) uint8 pictures for the examples' captions and depth."""
    depth = torch.from_numpy(np.stack([example.depth for example in examples]))[:, None].expand(-1, 3, -1, -1).float() / 255
    made = pipeline(
        [example.caption for example in examples],
        image=depth,
        num_inference_steps=steps,
        guidance_scale=guidance,
        output_type="np",
        generator=[torch.Generator().manual_seed(n) for n in range(len(examples))],
    )
    pictures: np.ndarray = (made.images * 255).round().astype(np.uint8)
    return pictures


def _measure_psnr(made: np.ndarray, real: np.ndarray) -> float:
    """Mean over pictures of the peak signal-to-noise ratio in dB."""
    error = np.square(made.astype(np.float64) - real).mean((1, 2, 3))
    return float((10 * np.log10(255**2 / np.maximum(error, 1e-9))).mean())


def measure(folder: Path, size: int, device: str, picture: Path, guidance: float, shown: int) -> dict[str, float]:
    """Make ``shown`` pictures for outfits that training has not seen, and show them beside the renders: in 20 steps, and
    in few, with the LoRA and without. Gives PSNRs in dB: of the auto-encoder, and of few steps to 20."""
    mannequin = Mannequin(load(MANNEQUIN))
    examples = [render(mannequin, HELD_OUT + n, size, held_out=True) for n in range(shown)]
    real = np.stack([example.image for example in examples])
    pipeline = StableDiffusionControlNetPipeline.from_pretrained(folder).to(device)
    pipeline.set_progress_bar_config(disable=True)
    with torch.no_grad():
        pictures = torch.from_numpy(real).permute(0, 3, 1, 2).float().to(device) / 127.5 - 1
        decoded = pipeline.vae.decode(pipeline.vae.encode(pictures).latents).sample.clamp(-1, 1)
    rows = {"whole": _generate(pipeline, examples, 20, guidance)}
    rows |= {f"plain_{count}": _generate(pipeline, examples, count, guidance) for count in few_steps.STEP_COUNTS}
    pipeline.load_lora_weights(folder, weight_name=LORA)
    rows |= {f"few_{count}": _generate(pipeline, examples, count, 1.0) for count in few_steps.STEP_COUNTS}
    depths = np.repeat(np.stack([example.depth for example in examples])[..., None], 3, 3)
    write_png(picture, np.concatenate([np.concatenate(list(row), 1) for row in (real, depths, *rows.values())]))
    back = ((decoded.cpu().permute(0, 2, 3, 1).numpy() + 1) * 127.5).round()
    figures = {"psnr_of_decoded": _measure_psnr(back, real)}
    return figures | {f"psnr_of_{name}": _measure_psnr(made, rows["whole"]) for name, made in rows.items() if name != "whole"}
