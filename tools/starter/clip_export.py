"""Writes the starter's motion module as a diffusers folder, and clips that show what it does."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import MotionAdapter

from latentman.backend.models.motion_adapters import SCHEDULE_FILE

from . import networks

CARD = Path(__file__).resolve().parent / "clip_card.md"


def export_motion_module(module: MotionAdapter, out: Path) -> None:
    """Save float16 safetensors, the scheduler that the module was trained with, and the model card to ``out``."""
    module.to(torch.float16).save_pretrained(out, safe_serialization=True)
    path = out / "config.json"
    config = json.loads(path.read_text())
    # the model card says where a module that was trained further came from
    config.pop("_name_or_path", None)
    path.write_text(json.dumps(config, indent=2) + "\n")
    scheduler = networks.make_scheduler()
    (out / SCHEDULE_FILE).write_text(scheduler.to_json_string())
    (out / "README.md").write_text(CARD.read_text())
