"""Writes the flow-matching starter as a diffusers folder with its ControlNet in it, and loads such a folder to train it further."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from diffusers import AutoencoderTiny, ZImageControlNetModel, ZImageControlNetPipeline, ZImageTransformer2DModel
from transformers import Qwen2Tokenizer, Qwen3Model

from latentman.backend.pictures import write_png
from latentman.blender_addon.character.body_model import MANNEQUIN, load

from . import flow_networks as networks
from .dataset import render
from .export import SAMPLE_SEEDS

CARD = Path(__file__).resolve().parent / "flow_card.md"


def load_networks(folder: Path) -> torch.nn.ModuleDict:
    """The networks of an exported folder in float32, as ``flow_training.train_flow`` takes them."""
    picture = networks.PictureNetworks()
    transformer: Any = ZImageTransformer2DModel.from_pretrained(folder, subfolder="transformer")
    picture.transformer.load_state_dict(transformer.state_dict())
    control = ZImageControlNetModel.from_pretrained(folder, subfolder="controlnet").state_dict()
    picture.control.load_state_dict(control, strict=False)
    text = Qwen3Model.from_pretrained(folder, subfolder="text_encoder").float()
    return torch.nn.ModuleDict({"text": text, "picture": picture})


def export_pipeline(vae: AutoencoderTiny, models: torch.nn.ModuleDict, tokenizer: Qwen2Tokenizer, out: Path) -> None:
    """Save float16 safetensors and the model card to ``out``."""
    picture = cast(networks.PictureNetworks, models["picture"])
    pipeline = ZImageControlNetPipeline(
        vae=vae,
        text_encoder=models["text"],
        tokenizer=tokenizer,
        transformer=picture.transformer,
        controlnet=networks.make_controlnet(),
        scheduler=networks.make_scheduler(),
    )
    for name in ("vae", "text_encoder", "transformer"):
        getattr(pipeline, name).to(torch.float16)
    # the transformer's layers, which it borrows in training and a pipeline lends it again, are not the ControlNet's to save
    control = networks.make_controlnet()
    control.load_state_dict({name: value for name, value in picture.control.state_dict().items() if name in control.state_dict()})
    pipeline.register_modules(controlnet=control.to(torch.float16))
    pipeline.save_pretrained(out, safe_serialization=True)
    for config in out.glob("*/config.json"):
        values = json.loads(config.read_text())
        # transformers loads weights in the type that the config names, diffusers in float32; a pipeline needs one type
        if "dtype" in values:
            values["dtype"] = "float32"
        values.pop("_name_or_path", None)
        config.write_text(json.dumps(values, indent=2) + "\n")
    (out / "README.md").write_text(CARD.read_text())


@torch.no_grad()
def write_samples(folder: Path, path: Path) -> None:
    """Write renders, their depth and the pictures of the model in a folder for outfits that it has not seen."""
    body, columns, pipeline = load(MANNEQUIN), [], ZImageControlNetPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    for seed in SAMPLE_SEEDS:
        example = render(body, seed)
        made = pipeline(
            example.caption,
            height=example.depth.shape[0],
            width=example.depth.shape[1],
            control_image=torch.from_numpy(example.depth).float()[None, None].expand(1, 3, -1, -1) / 127.5 - 1,
            controlnet_conditioning_scale=1.0,
            num_inference_steps=20,
            guidance_scale=networks.GUIDANCE - 1,
            output_type="np",
            generator=torch.Generator().manual_seed(seed),
        ).images[0]
        grey = np.repeat(example.depth[..., None], 3, 2)
        columns.append(np.concatenate([example.image, grey, (made * 255).astype(np.uint8)]))
        print(example.caption)
    write_png(path, np.concatenate(columns, 1))
