"""``python -m tools.train_starter``: trains the starter image model from scratch, or fine-tunes one.

Renders -> auto-encoder -> text encoder, UNet and ControlNet -> a diffusers folder. Every stage continues where it was
stopped; ``--export-only`` writes the folder from the checkpoints that exist.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from transformers import CLIPTokenizer

from latentman.backend.models.registry import STARTER

from .starter import dataset, export, judge, networks, training

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    training.add_arguments(parser, ROOT / "build" / "starter", STARTER, seed=1, batch=16)
    parser.add_argument("--start", type=Path, help="fine-tune an exported starter's networks; its latents change little")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--images", type=int, default=12000)
    parser.add_argument("--vae-steps", type=int, default=4800)
    parser.add_argument("--no-mirrored", action="store_true", help="leave out the pictures' mirror images: half the encoding")
    parser.add_argument("--compile", action="store_true", help="fuse operations; needs a C++ compiler, pays after minutes")
    parser.add_argument(
        "--judge-steps",
        type=int,
        default=0,
        help="also train the network that measures the pictures, and write it beside the tools",
    )
    args = parser.parse_args()
    config = training.TrainingConfig(
        args.device,
        args.vae_steps,
        args.steps,
        args.batch,
        args.seed,
        compiled=args.compile,
        rate=args.rate,
        seconds=60 * args.minutes,
        mirrored=not args.no_mirrored,
    )
    if args.start and not (args.start / "model_index.json").exists():
        parser.error(f"--start {args.start} holds no exported model: name a folder with a model_index.json, such as {STARTER}")
    if args.export_only:
        config = replace(config, vae_steps=0, steps=0)
    tokenizer = training.learn_tokenizer(args.work)
    initial: tuple[AutoencoderTiny | None, torch.nn.ModuleDict | None] = (None, None)
    if args.start:
        if CLIPTokenizer.from_pretrained(args.start, subfolder="tokenizer").get_vocab() != tokenizer.get_vocab():
            parser.error(f"--start {args.start} has another vocabulary than today's grammar: train from scratch")
        initial = networks.load_networks(args.start)
    data = args.work / "data"
    dataset.write_renders(data, args.images, args.seed * 10_000_000, args.workers)
    torch.set_num_threads(args.workers)
    renders = dataset.load_renders(data, args.device)
    vae = training.train_vae(renders, args.work, config, initial[0])
    latents = training.encode_all(vae, renders, args.work, config)
    models = training.train_diffusion(renders, latents, tokenizer, args.work, config, initial[1])
    if args.judge_steps:
        judge.save(judge.train(renders, vae, args.judge_steps, args.device))
    export.export_pipeline(vae, models, tokenizer, args.out, args.work, training.read_step_count(args.work / "diffusion.pt"))
    print(f"{args.out}: {sum(f.stat().st_size for f in args.out.rglob('*') if f.is_file()) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
