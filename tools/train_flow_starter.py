"""``python -m tools.train_flow_starter``: trains the flow-matching starter from scratch, or further.

The pictures are the other starter's and so is the auto-encoder. Renders -> latents -> text encoder, transformer and ControlNet -> a
diffusers folder. Every stage continues where it was stopped; ``--export-only`` writes the folder from the checkpoints that exist.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from diffusers import AutoencoderTiny

from latentman.backend.models.registry import FLOW_STARTER, STARTER

from .starter import dataset, flow_export, flow_networks, flow_training, text_pretraining, training

ROOT = Path(__file__).resolve().parents[1]
#: seeds of the pictures that measure and are not learnt from
HELD_OUT, HELD_OUT_COUNT = 900_000_000, 96


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    training.add_arguments(parser, ROOT / "build" / "flow_starter", FLOW_STARTER, seed=8, batch=16)
    parser.add_argument("--start", type=Path, help="train an exported model's networks further")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--images", type=int, default=10000)
    args = parser.parse_args()
    if args.start and not (args.start / "model_index.json").exists():
        parser.error(f"--start {args.start} holds no exported model: name a folder with a model_index.json")
    torch.set_num_threads(args.workers)
    config = training.TrainingConfig(
        args.device, 0, args.steps, args.batch, args.seed, rate=args.rate, seconds=60 * args.minutes, mirrored=False
    )
    if args.export_only:
        config = replace(config, steps=0)
    texts = text_pretraining.sample_sentences(text_pretraining.SENTENCES, 0)[0]
    tokenizer = flow_networks.learn_tokenizer(texts, args.work / "tokenizer")
    initial = flow_export.load_networks(args.start) if args.start else None
    vae = AutoencoderTiny.from_pretrained(STARTER, subfolder="vae").float().eval().requires_grad_(False).to(args.device)
    renders, encoded = _prepare(args.work / "data", args.images, args.seed * 10_000_000, args.workers, vae, args.device)
    models = flow_training.train_flow(renders, encoded, tokenizer, args.work, config, initial)
    unseen = _prepare(args.work / "held_out", HELD_OUT_COUNT, HELD_OUT, args.workers, vae, args.device)
    print(flow_training.measure_error(models, *unseen, tokenizer, args.device))
    flow_export.export_pipeline(vae, models, tokenizer, args.out)
    flow_export.write_samples(args.out, args.work / "samples.png")
    print(f"{args.out}: {sum(f.stat().st_size for f in args.out.rglob('*') if f.is_file()) / 1e6:.1f} MB")


def _prepare(
    folder: Path, count: int, first_seed: int, workers: int, vae: AutoencoderTiny, device: str
) -> tuple[dataset.Renders, torch.Tensor]:
    """Renders and their latents, made if they are not there."""
    dataset.write_renders(folder, count, first_seed, workers)
    renders = dataset.load_renders(folder, device)
    return renders, flow_training.encode_pictures(vae, renders, folder, device)


if __name__ == "__main__":
    main()
