"""``python -m tools.evaluate_starter_motion --json FILE``: measures the starter motion model on moves held out from training.

Every accuracy is also given for performances of the same moves (``..._of_data``), which shows what the measurement gives when
nothing is wrong. The physical figures are ratios of means over all motions: 1 is as good as the performances the model learnt from.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from latentman.backend.motion.checkpoints import load_checkpoint
from latentman.backend.motion.diffusion import Schedule, make_guided_denoiser, sample_ddpm
from latentman.backend.motion.features import encode
from latentman.backend.motion.grounding import ground_motion
from latentman.backend.motion.registry import STARTER
from latentman.backend.motion.text import TextEncoder
from latentman.blender_addon.motion.foot_contacts import compute_skating_ratio
from latentman.blender_addon.motion.layouts import humanml_to_joints
from latentman.blender_addon.reference_shots.motion_metrics import compute_jitter, compute_penetration
from latentman.shared.skeleton import HUMANML_FPS
from tools.motions.actions import is_held_out, list_moves
from tools.motions.library import Performance, make_performance

from .evaluate_starter import fill_card
from .starter_motion import classifier

HELD_OUT_SEED, LESSON_SEED = 2_000_000, 1_000_000
#: a millimetre and one percent, so that ratios of figures near 0 stay meaningful
SLACK_MM, SLACK_SKATING = 1.0, 0.01


def make_held_out_performances(count: int) -> list[Performance]:
    """Performances of one move each, all actions equally often.

    The moves are those that training never saw. Actions with too few moves to hold any out are performed from seeds, and so with
    wordings and timings, that it did not see."""
    out = []
    for n in range(count):
        action = classifier.ACTIONS[n % len(classifier.ACTIONS)]
        possible = any(is_held_out((move,)) for move in list_moves(action))
        out.append(make_performance(HELD_OUT_SEED + n, from_held_out=possible, action=action))
    return out


@torch.no_grad()
def generate(folder: Path, asked: list[Performance], guidance: float, batch: int = 17) -> list[np.ndarray]:
    """A motion (F, 263) for each performance's first sentence, as long as the performance."""
    model = load_checkpoint(folder)
    encoder = TextEncoder(model.text_encoder, str(folder / "text_encoder"), torch.device("cpu"))
    lengths = torch.tensor([len(p.joints) - 1 for p in asked])
    text = torch.cat([encoder(p.captions[0]).vectors for p in asked])
    generator, out = torch.Generator().manual_seed(0), []
    for start in tqdm(range(0, len(asked), batch), desc="motions"):
        own = lengths[start : start + batch]
        noise = torch.randn((len(own), int(own.max()), 263), generator=generator)
        denoise = make_guided_denoiser(model.network, text[start : start + batch], guidance or model.guidance, lengths=own)
        made = sample_ddpm(denoise, Schedule(model.diffusion_steps), noise, generator)
        out += [
            ground_motion(row[None, :n].numpy() * model.std + model.mean, model.toe_height)[0]
            for row, n in zip(made, own, strict=True)
        ]
    return out


def evaluate(folder: Path, count: int, guidance: float, lessons: int, steps: int) -> dict[str, float]:
    """Measure every figure of a model's folder."""
    asked = make_held_out_performances(count)
    judge = classifier.train(lessons, steps, LESSON_SEED)
    moves = [p.moves[0] for p in asked]
    made, real = generate(folder, asked, guidance), [encode(p.joints, floor=0.0) for p in asked]
    figures: dict[str, float] = {}
    for suffix, vectors in (("", made), ("_of_data", real)):
        right = classifier.score(judge, vectors, moves)
        figures["action_accuracy" + suffix] = float(right[:, 0].mean())
        figures["side_accuracy" + suffix] = float(np.nanmean(right[:, 1:]))
    joints = [[humanml_to_joints(v) for v in vectors] for vectors in (made, real)]
    skating, shaking, below = (
        [float(np.mean([measure(j) for j in some])) for some in joints]
        for measure in (lambda j: compute_skating_ratio(j, HUMANML_FPS), compute_jitter, compute_penetration)
    )
    figures["skating_ratio_over_data"] = (skating[0] + SLACK_SKATING) / (skating[1] + SLACK_SKATING)
    figures["jitter_over_data"] = shaking[0] / shaking[1]
    figures["penetration_over_data"] = (below[0] + SLACK_MM) / (below[1] + SLACK_MM)
    figures["megabytes"] = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 1e6
    figures["motions"] = count
    return figures


def format_card(figures: dict[str, float]) -> str:
    """The figures as the model card shows them."""
    rows = [
        ("the asked action is seen", "{action_accuracy:.0%}", "{action_accuracy_of_data:.0%}"),
        ("the asked direction or side is seen", "{side_accuracy:.0%}", "{side_accuracy_of_data:.0%}"),
        ("skating", "{skating_ratio_over_data:.2f} times the performances'", ""),
        ("jitter", "{jitter_over_data:.2f} times the performances'", ""),
        ("penetration", "{penetration_over_data:.2f} times the performances'", ""),
        ("size on disk", "{megabytes:.1f} MB", ""),
    ]
    return "\n".join(
        [
            f"| {figures['motions']:.0f} held-out moves | figure | performances themselves |",
            "|---|---|---|",
            *(f"| {name} | {ours.format(**figures)} | {theirs.format(**figures)} |" for name, ours, theirs in rows),
        ]
    )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("build/bench/starter_motion.json"), help="where the figures go")
    parser.add_argument("--model", type=Path, default=STARTER, help="the model's folder")
    parser.add_argument("--motions", type=int, default=136)
    parser.add_argument("--guidance", type=float, default=0.0, help="0 is the model's own")
    parser.add_argument("--lessons", type=int, default=3400)
    parser.add_argument("--classifier-steps", type=int, default=900)
    parser.add_argument("--card", action="store_true", help="write the figures into the model's README.md too")
    args = parser.parse_args()
    figures = evaluate(args.model, args.motions, args.guidance, args.lessons, args.classifier_steps)
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures, indent=1))
    if args.card:
        fill_card(args.model / "README.md", format_card(figures))


if __name__ == "__main__":
    main()
