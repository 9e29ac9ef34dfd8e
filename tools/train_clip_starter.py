"""``python -m tools.train_clip_starter``: trains the starter's motion module from scratch, or further.

The networks are the starter's, which stay as they are. Clips -> latents -> motion module -> a diffusers folder. Every stage
continues where it was stopped; ``--export-only`` writes the folder from the checkpoint that exists.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from diffusers import AutoencoderTiny, MotionAdapter
from transformers import CLIPTokenizer

from latentman.backend.metrics.statistics import average_ratios
from latentman.backend.models.registry import CLIP_STARTER, STARTER

from .starter import clip_export, clip_training, clips, networks, training

ROOT = Path(__file__).resolve().parents[1]
#: seeds of the clips that measure and are not learnt from
HELD_OUT, HELD_OUT_COUNT = 900_000_000, 24


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    training.add_arguments(
        parser, ROOT / "build" / "clip_starter", CLIP_STARTER, 7, 1, "whole clips in a step, or twice as many of half the width"
    )
    parser.add_argument("--start", type=Path, help="train an exported motion module further")
    parser.add_argument("--clips", type=int, default=640)
    args = parser.parse_args()
    if args.start and not (args.start / "config.json").exists():
        parser.error(f"--start {args.start} holds no motion module: name a folder with a config.json")
    torch.set_num_threads(args.workers)
    config = training.TrainingConfig("cpu", 0, args.steps, args.batch, args.seed, rate=args.rate, seconds=60 * args.minutes)
    if args.export_only:
        config = replace(config, steps=0)
    vae, models = networks.load_networks(STARTER)
    vae = vae.eval().requires_grad_(False)
    tokenizer = CLIPTokenizer.from_pretrained(STARTER, subfolder="tokenizer")
    initial = MotionAdapter.from_pretrained(args.start).float() if args.start else None
    seen, latents = _prepare(args.work / "data", args.clips, args.seed * 10_000_000, args.workers, vae)
    module = clip_training.train_motion_module(seen, latents, models, tokenizer, args.work, config, initial)
    unseen = _prepare(args.work / "held_out", HELD_OUT_COUNT, HELD_OUT, args.workers, vae)
    _, models = networks.load_networks(STARTER)
    found = [clip_training.measure_clips(models, each, *unseen, tokenizer) for each in (clip_training.make_motion_module(), module)]
    without, trained = (clips_of[:, 0] / clips_of[:, 1] for clips_of in found)
    for n, name in enumerate(clip_training.MEASURED):
        whole = [float(each[:, 0, n].sum() / each[:, 1, n].sum()) for each in found]
        ratio = average_ratios({("clips", ""): (trained[:, n] / without[:, n]).tolist()})
        print(f"{name}: {whole[0]:.3f} without, {whole[1]:.3f} with; clip by clip {ratio}")
    clip_export.export_motion_module(module, args.out)
    print(f"{args.out}: {sum(f.stat().st_size for f in args.out.rglob('*') if f.is_file()) / 1e6:.1f} MB")


def _prepare(folder: Path, count: int, first_seed: int, workers: int, vae: AutoencoderTiny) -> tuple[clips.Clips, torch.Tensor]:
    """Clips and their latents, made if they are not there."""
    clips.write_clips(folder, count, first_seed, workers)
    made = clips.load_clips(folder)
    return made, clip_training.encode_clips(vae, made, folder, "cpu")


if __name__ == "__main__":
    main()
