"""Writes the starter motion model as the folder that ``backend.motion`` reads: an MDM checkpoint with its text encoder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import CLIPTextModelWithProjection, CLIPTokenizer

from latentman.blender_addon.reference_shots.motion_metrics import TOE_HEIGHT

from .dataset import ROOT_EMPHASIS, Motions
from .training import ARCHITECTURE, STEPS

#: the guidance scale with the steadiest feet at which the words are still followed
GUIDANCE = 1.5
CARD = Path(__file__).resolve().parent / "card.md"


def export_model(models: torch.nn.ModuleDict, tokenizer: CLIPTokenizer, motions: Motions, out: Path, steps: int) -> None:
    """Write half-precision safetensors, ``args.json``, statistics, the text encoder and the model card."""
    out.mkdir(parents=True, exist_ok=True)
    state = {
        name: value.detach().half().cpu().contiguous()
        for name, value in models["motion"].state_dict().items()
        if not name.endswith(".pe")
    }
    save_file(state, out / "model.safetensors")
    (out / "args.json").write_text(
        json.dumps(
            {
                "arch": "trans_enc",
                "text_encoder_type": "clip",
                "mask_frames": ARCHITECTURE.mask_frames,
                "diffusion_steps": STEPS,
                "latent_dim": ARCHITECTURE.latent,
                "ff_size": ARCHITECTURE.feedforward,
                "layers": ARCHITECTURE.layers,
                "num_heads": ARCHITECTURE.heads,
                "text_width": ARCHITECTURE.text_width,
                "dataset": "humanml",
                "toe_height": TOE_HEIGHT,
                "root_emphasis": ROOT_EMPHASIS,
                "guidance": GUIDANCE,
            },
            indent=1,
        )
        + "\n"
    )
    np.save(out / "Mean.npy", motions.mean)
    np.save(out / "Std.npy", motions.std)
    encoder: CLIPTextModelWithProjection = models["text"].half()
    encoder.save_pretrained(out / "text_encoder", safe_serialization=True)
    tokenizer.save_pretrained(out / "text_encoder")
    (out / "README.md").write_text(CARD.read_text().format(steps=steps, motions=len(motions.lengths)))
