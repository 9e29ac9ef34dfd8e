"""``python -m tools.train_dressed_starter --minutes 9.5 --device cuda``: trains a larger starter in one run of a given length.

The pictures, of a mannequin whose hair and clothes have a shape, are rendered by the machine's processors while the networks learn:
auto-encoder, text encoder, UNet and ControlNet, and a LoRA for few steps. The run ends in time with a diffusers folder, pictures of
what was learnt, and figures; ``--start`` goes on from such a folder, and a run with the same ``--work`` from where that ended.
"""

from __future__ import annotations

import argparse
import json
import os
import tarfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from diffusers import AutoencoderTiny

from .starter import dressed_export, dressed_training, networks, text_pretraining, training
from .starter.streaming import StreamedRenders
from .starter.tailoring import HAIR_STYLES

ROOT = Path(__file__).resolve().parents[1]
#: pictures that must be there before the first step
LEAST = 64
#: guidance that the few steps take in
GUIDANCE = 1.5


def write_parts(folder: Path, target: Path, most: int) -> list[Path]:
    """Write a folder as ``target``/``model.tar.00`` and so on, of at most ``most`` bytes each; together they are a tar archive."""
    target.mkdir(parents=True, exist_ok=True)
    whole = target / "model.tar"
    with tarfile.open(whole, "w") as archive:
        archive.add(folder, arcname=folder.name)
    parts: list[Path] = []
    with whole.open("rb") as stream:
        while data := stream.read(most):
            parts.append(target / f"{whole.name}.{len(parts):02d}")
            parts[-1].write_bytes(data)
    whole.unlink()
    return parts


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=9.5, help="length of the whole run, with its beginning and its end")
    parser.add_argument("--device", default="cuda", help="cuda or cpu")
    parser.add_argument("--size", type=int, default=384, help="side of the pictures, a multiple of 64")
    parser.add_argument("--pictures", type=int, default=24_000, help="most pictures that are rendered")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=1e-3, help="the highest learning rate of the denoiser")
    parser.add_argument("--seed", type=int, default=21)
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 1), help="processes that render")
    parser.add_argument("--compile", action="store_true", help="fuse operations; needs a compiler, and half a minute")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "dressed_starter", help="renders and checkpoints")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "dressed_starter" / "model")
    parser.add_argument("--start", type=Path, help="a folder that this wrote, to go on from")
    parser.add_argument("--parts", type=Path, help="also write the folder as parts of an archive, of 15 MiB each")
    parser.add_argument("--sheet", type=Path, help="only write a PNG with some of the pictures that it would learn from")
    parser.add_argument("--shown", type=int, default=8, help="pictures that show what was learnt, and are measured")
    parser.add_argument("--steps", type=int, default=dressed_training.ENDLESS, help="most steps of each stage")
    return parser


def main() -> None:
    """Run the command line."""
    began = time.monotonic()
    parser = _make_parser()
    args = parser.parse_args()
    if args.size % 64 or args.size < 128:
        parser.error(f"--size {args.size} cannot be halved often enough; take a multiple of 64 from 128 on, such as 384")
    if args.start and not (args.start / "model_index.json").exists():
        parser.error(f"--start {args.start} holds no exported model: name a folder with a model_index.json")
    if args.sheet:
        dressed_export.write_sheet(args.sheet, args.seed * 10_000_000, args.size)
        return
    clock = dressed_training.Clock(60 * args.minutes)
    config = training.TrainingConfig(
        args.device, args.steps, args.steps, args.batch, args.seed, rate=args.rate, compiled=args.compile, checkpoint_every=10**9
    )
    args.work.mkdir(parents=True, exist_ok=True)
    try:
        renders = StreamedRenders(args.work / "data", args.size, args.pictures, args.seed * 10_000_000, args.device)
    except ValueError as error:
        parser.error(str(error))
    with renders.make(args.workers):
        sentences = text_pretraining.sample_sentences(text_pretraining.SENTENCES, 0, ("", *HAIR_STYLES))[0]
        tokenizer = networks.learn_tokenizer(sentences, args.work / "tokenizer")
        renders.wait_for(LEAST)
        initial = networks.load_networks(args.start) if args.start else None
        vae = _get_vae(args, clock, config, renders, initial[0] if initial else None)
        batches = dressed_training.Batches(renders, vae, tokenizer, config)
        models = initial[1] if initial else dressed_training.make_models(tokenizer, args.size)
        if not initial and not (args.work / "diffusion.pt").exists():
            text_pretraining.pretrain_text_encoder(
                models["text"].to(args.device),
                lambda texts: training.tokenize_captions(tokenizer, texts),
                args.device,
                min(args.steps, 2000),
                args.seed,
                styles=("", *HAIR_STYLES),
                seconds=clock.give("words"),
            )
        else:
            clock.skip("words")
        learnt = dressed_training.train_denoiser(batches, models, args.work, config, clock.give("diffusion"), args.steps)
        dressed_export.export(vae, learnt, tokenizer, args.out)
        dressed_training.train_few_steps(batches, learnt, args.work, config, clock.give("few_steps"), GUIDANCE, args.steps)
        dressed_export.export_few_steps(learnt["unet"], args.out)
    figures = dressed_export.measure(args.out, args.size, args.device, args.work / "samples.png", GUIDANCE, args.shown)
    report: dict[str, float | str] = {
        **figures,
        "pictures": len(renders),
        "steps": training.read_step_count(args.work / "diffusion.pt"),
        "seconds": round(time.monotonic() - began, 1),
        "device": torch.cuda.get_device_name() if torch.device(args.device).type == "cuda" else args.device,
        "bytes": sum(f.stat().st_size for f in args.out.rglob("*") if f.is_file()),
    }
    (args.work / "figures.json").write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report))
    if args.parts:
        write_parts(args.out, args.parts, 15 << 20)
        for name in ("samples.png", "figures.json"):
            (args.parts / name).write_bytes((args.work / name).read_bytes())


def _get_vae(
    args: argparse.Namespace,
    clock: dressed_training.Clock,
    config: training.TrainingConfig,
    renders: StreamedRenders,
    initial: AutoencoderTiny | None,
) -> AutoencoderTiny:
    """The auto-encoder: that of an earlier run, since latents have to stay what they are, or a new one."""
    folder = args.work / "vae"
    if initial is not None or folder.exists():
        clock.skip("vae")
        return initial if initial is not None else AutoencoderTiny.from_pretrained(folder).float()
    own = replace(config, vae_seconds=clock.give("vae"), batch=2 * config.batch)
    model = networks.make_vae(dressed_training.DECODER)
    vae = training.train_vae(renders, args.work, own, made=model)
    vae.save_pretrained(folder)
    return vae


if __name__ == "__main__":
    main()
