"""Writes the trained networks as a diffusers pipeline folder, and plots of the training beside it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny, StableDiffusionControlNetPipeline
from PIL import Image, ImageDraw
from transformers import CLIPTokenizer

from latentman.backend.pictures import write_png
from latentman.blender_addon.character.body_model import MANNEQUIN, load
from latentman.shared.model_profile import PRESET_PROFILES

from . import networks
from .dataset import render

CARD = Path(__file__).resolve().parent / "card.md"
SAMPLE_SEEDS = range(5, 13)


def export_pipeline(
    vae: AutoencoderTiny, models: torch.nn.ModuleDict, tokenizer: CLIPTokenizer, out: Path, work: Path, steps: int
) -> None:
    """Save fp16 safetensors and the model card to ``out``; ``samples.png`` and ``loss.png`` go to ``work``."""
    pipeline = _assemble(vae, models, tokenizer)
    _write_samples(pipeline, work / "samples.png")
    _plot_losses(work)
    save_folder(vae, models, tokenizer, out)
    (out / "README.md").write_text(CARD.read_text().format(steps=steps))


def _assemble(vae: AutoencoderTiny, models: torch.nn.ModuleDict, tokenizer: CLIPTokenizer) -> StableDiffusionControlNetPipeline:
    return StableDiffusionControlNetPipeline(
        vae=vae,
        text_encoder=models["text"],
        tokenizer=tokenizer,
        unet=models["unet"],
        controlnet=models["control"],
        scheduler=networks.make_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def save_folder(vae: AutoencoderTiny, models: torch.nn.ModuleDict, tokenizer: CLIPTokenizer, out: Path) -> None:
    """Save networks, under ``text``, ``unet`` and ``control``, as fp16 safetensors of a diffusers pipeline. Changes their type."""
    pipeline = _assemble(vae, models, tokenizer)
    for part in (vae, models):
        part.to(torch.float16)
    pipeline.save_pretrained(out, safe_serialization=True)
    for config in out.glob("*/config.json"):
        values = json.loads(config.read_text())
        # transformers loads weights in the type that the config names, diffusers in float32; a pipeline needs one type
        if "dtype" in values:
            values["dtype"] = "float32"
        # the model card says where the networks of a continued training came from
        values.pop("_name_or_path", None)
        config.write_text(json.dumps(values, indent=2) + "\n")


@torch.no_grad()
def _write_samples(pipeline: StableDiffusionControlNetPipeline, path: Path) -> None:
    """Write renders, their depth and the model's pictures for outfits that it has not seen."""
    body, columns = load(MANNEQUIN), []
    pipeline.set_progress_bar_config(disable=True)
    for seed in SAMPLE_SEEDS:
        example = render(body, seed)
        depth = torch.from_numpy(example.depth).float()[None, None].expand(1, 3, -1, -1) / 255
        made = pipeline(
            example.caption,
            image=depth,
            num_inference_steps=20,
            guidance_scale=PRESET_PROFILES["starter"].guidance_scale,
            output_type="np",
            generator=torch.Generator().manual_seed(seed),
        ).images[0]
        grey = np.repeat(example.depth[..., None], 3, 2)
        columns.append(np.concatenate([example.image, grey, (made * 255).astype(np.uint8)]))
        print(example.caption)
    write_png(path, np.concatenate(columns, 1))


def _plot_losses(work: Path) -> None:
    """Plot the losses of the logs that exist, on a logarithmic scale."""
    width, height = 640, 240
    logs = {name: work / f"{name}_loss.txt" for name in ("vae", "diffusion")}
    logs = {name: log for name, log in logs.items() if log.exists() and log.stat().st_size}
    picture = Image.new("RGB", (width, max(len(logs), 1) * height), "white")
    draw = ImageDraw.Draw(picture)
    for row, (name, log) in enumerate(logs.items()):
        # a run that was stopped repeats the steps after its checkpoint: the later line counts
        steps, losses = np.array(sorted(dict(np.loadtxt(log, ndmin=2).tolist()).items())).T
        level = np.log10(losses)
        x = 10 + (width - 20) * steps / max(steps.max(), 1)
        y = row * height + 20 + (height - 40) * (level.max() - level) / max(np.ptp(level), 1e-6)
        draw.line(list(zip(x.tolist(), y.tolist(), strict=True)), fill=(30, 80, 200), width=2)
        draw.text((14, row * height + 4), f"{name}: {losses[-1]:.4f} after {int(steps[-1])} steps", fill="black")
    write_png(work / "loss.png", np.asarray(picture))
