"""``python -m tools.train_starter_motion``: trains the starter motion model from scratch; continues where it was stopped."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch

from .starter.training import read_step_count
from .starter_motion import dataset, export, training

ROOT = Path(__file__).resolve().parents[1]
STARTER = ROOT / "backend" / "motion" / "starter"
#: evaluation uses seeds below
FIRST_SEED = 20_000_000


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "starter_motion", help="motions and checkpoints")
    parser.add_argument("--out", type=Path, default=STARTER)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--motions", type=int, default=8000)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument(
        "--minutes", type=float, default=0.0, help="end training after this time, with the learning rate decayed by then"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    motions = dataset.load(args.work / "data", args.motions, FIRST_SEED, args.workers)
    torch.set_num_threads(args.workers)
    args.work.mkdir(parents=True, exist_ok=True)
    tokenizer = training.learn_tokenizer(motions, args.work)
    models = training.train(
        motions,
        tokenizer,
        args.work,
        training.TrainingConfig(args.device, args.steps, args.batch, args.seed, seconds=60 * args.minutes),
    )
    export.export_model(models, tokenizer, motions, args.out, read_step_count(args.work / training.CHECKPOINT))
    print(f"{args.out}: {sum(f.stat().st_size for f in args.out.rglob('*') if f.is_file()) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
