"""``python -m tools.evaluate_starter --json FILE``: measures the starter image model on outfits held out from training.

Every figure about generated pictures is also given for the renders themselves (``..._of_renders``), which shows what the
measurement gives when nothing is wrong, and for renders that only went through the auto-encoder (``..._of_decoded``), which shows
what the best denoiser could reach.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny, StableDiffusionControlNetPipeline
from scipy.ndimage import binary_erosion
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from latentman.backend.metrics.named_colours import PALETTE
from latentman.backend.models.loading import load as load_model
from latentman.backend.models.registry import STARTER
from latentman.backend.pictures import write_png
from latentman.backend.video.pipeline import ShotPipeline
from latentman.backend.video.run_context import RunContext
from latentman.blender_addon.character.body_model import MANNEQUIN, BodyModel, load
from latentman.blender_addon.reference_shots.views import View, render_passes
from latentman.shared.model_profile import PRESET_PROFILES
from latentman.shared.passes import FramePasses
from latentman.shared.shot import make_request

from .starter import judge as judging
from .starter.dataset import Example, load_clip_poses, render
from .starter.scenery import SCENES
from .starter.wardrobe import find_garments

#: training uses seeds from 10,000,000 on
HELD_OUT_SEED = 2_000_000
PARTS = ("top", "bottom")
MIN_PIXELS = 60


def find_garment_pixels(example: Example, part: str) -> np.ndarray:
    """(S, S) bool: the inner pixels of a garment; none when the character wears a suit or the garment is hardly visible."""
    inside = np.zeros(example.mask.shape, bool)
    if example.outfit.suit or getattr(example.outfit, part).pattern == "camouflage":
        return inside
    inside[example.mask] = find_garments(example.rest_position[example.mask], example.outfit)[part]
    inside = binary_erosion(inside, iterations=2)
    return inside if inside.sum() >= MIN_PIXELS else np.zeros_like(inside)


def render_palette(body: BodyModel, example: Example, seed: int, part: str, pixels: np.ndarray) -> np.ndarray:
    """(colours, 3) the mean colour that a garment's pixels would have in each colour of the palette, in that picture's light."""
    return np.stack([render(body, seed, held_out=True, recolour=(part, name)).image[pixels].mean(0) for name in PALETTE])


def score_garment_colours(examples: list[Example], seeds: list[int], *sets: np.ndarray) -> np.ndarray:
    """(sets, garments) bool: whether a garment's colour in a set's picture is nearest to the palette colour that was asked for."""
    body, names, right = load(MANNEQUIN), list(PALETTE), []
    for example, seed, *pictures in zip(examples, seeds, *sets, strict=True):
        for part in PARTS:
            pixels = find_garment_pixels(example, part)
            if pixels.any():
                options = render_palette(body, example, seed, part, pixels)
                wanted = names.index(getattr(example.outfit, part).colour)
                right.append([np.square(options - picture[pixels].mean(0)).sum(1).argmin() == wanted for picture in pictures])
    return np.array(right).T


@torch.no_grad()
def generate(pipeline: StableDiffusionControlNetPipeline, examples: list[Example], guidance: float) -> np.ndarray:
    """(N, S, S, 3) uint8: the model's pictures for the examples' captions and depth, in 20 steps."""
    out = []
    for start in tqdm(range(0, len(examples), 8), desc="pictures"):
        batch = examples[start : start + 8]
        depth = torch.from_numpy(np.stack([e.depth for e in batch]))[:, None].expand(-1, 3, -1, -1).float() / 255
        made = pipeline(
            [e.caption for e in batch],
            image=depth,
            num_inference_steps=20,
            guidance_scale=guidance,
            output_type="np",
            generator=[torch.Generator().manual_seed(start + n) for n in range(len(batch))],
        )
        out.append((made.images * 255).round().astype(np.uint8))
    return np.concatenate(out)


@torch.no_grad()
def compute_vae_psnr(vae: AutoencoderTiny, pictures: np.ndarray) -> float:
    """Mean over pictures of the peak signal-to-noise ratio in dB after encoding and decoding."""
    values = []
    for picture in pictures:
        x = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1
        made = vae.decode(vae.encode(x).latents).sample.clamp(-1, 1)
        values.append(float(10 * torch.log10(4 / (made - x).square().mean())))
    return float(np.mean(values))


def render_walk(frames: int, size: int = 256) -> FramePasses:
    """Render the passes of the bundled walk in place with the reference rasteriser."""
    body = load(MANNEQUIN)
    return render_passes(
        [
            View(body.pose_vertices(Rotation.from_rotvec(pose).as_matrix(), np.zeros(1), np.zeros(3)) + [0, 0, -4.2], 1.9)
            for pose in load_clip_poses()[:frames]
        ],
        size,
    )


def measure_seconds_24_frames(folder: Path) -> float:
    """Seconds that the ``latentman`` preset takes for 24 frames of 256x256 in 20 steps, without the loading of the model."""
    model = load_model(str(folder), torch.device("cpu"))
    request = make_request(
        "a man in a red shirt and blue jeans, on a beach", width=256, height=256, frames=tuple(range(24)), fps=20.0, steps=20
    )
    passes, started = render_walk(24), time.perf_counter()
    list(ShotPipeline(model, request, passes, RunContext()).frames())
    return time.perf_counter() - started


def format_card(figures: dict[str, float]) -> str:
    """The figures as the model card shows them."""
    rows = [
        ("VAE, PSNR of held-out renders", "vae_psnr", "{:.1f} dB"),
        ("silhouette against the mask, mean IoU", "silhouette_iou", "{:.3f}"),
        ("named colour on the named garment", "garment_color_accuracy", "{:.0%}"),
        ("named place recognised", "background_accuracy", "{:.0%}"),
        ("24 frames, preset `latentman`, 20 steps, two CPU cores", "seconds_24_frames", "{:.0f} s"),
        ("size on disk", "megabytes", "{:.1f} MB"),
    ]
    lines = [
        f"| {figures['examples']:.0f} held-out outfits | figure | renders through the VAE | renders themselves |",
        "|---|---|---|---|",
    ]
    for text, key, form in rows:
        found = [figures.get(key + suffix) for suffix in ("", "_of_decoded", "_of_renders")]
        lines.append(f"| {text} | {' | '.join('' if value is None else form.format(value) for value in found)} |")
    return "\n".join(lines)


def fill_card(card: Path, table: str) -> None:
    """Put a table between the marks in a model card."""
    before, rest = card.read_text().split("<!-- figures -->")
    after = rest.split("<!-- end of figures -->")[1]
    card.write_text(f"{before}<!-- figures -->\n{table}\n<!-- end of figures -->{after}")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("build/bench/starter.json"), help="where the figures go")
    parser.add_argument("--model", type=Path, default=STARTER, help="the starter's folder")
    parser.add_argument("--examples", type=int, default=96)
    parser.add_argument("--guidance", type=float, default=PRESET_PROFILES["starter"].guidance_scale)
    parser.add_argument("--card", action="store_true", help="write the figures into the model's README.md too")
    args = parser.parse_args()
    seeds = [HELD_OUT_SEED + n for n in range(args.examples)]
    body = load(MANNEQUIN)
    examples = [render(body, seed, held_out=True) for seed in tqdm(seeds, desc="renders")]
    judge = judging.load()
    pipeline = StableDiffusionControlNetPipeline.from_pretrained(args.model)
    pipeline.set_progress_bar_config(disable=True)
    masks, real = np.stack([e.mask for e in examples]), np.stack([e.image for e in examples])
    asked = np.array([SCENES.index(e.scene) for e in examples])
    made = generate(pipeline, examples, args.guidance)
    figures: dict[str, float] = {"vae_psnr": compute_vae_psnr(pipeline.vae, real)}
    decoded = judging.reconstruct(pipeline.vae, torch.from_numpy(real)).numpy()
    sets = {"": made, "_of_decoded": decoded, "_of_renders": real}
    coloured = score_garment_colours(examples, seeds, *sets.values())
    for (suffix, pictures), right in zip(sets.items(), coloured, strict=True):
        figures["silhouette_iou" + suffix] = float(judging.silhouette_iou(judge, pictures, masks).mean())
        figures["garment_color_accuracy" + suffix] = float(right.mean())
        figures["background_accuracy" + suffix] = float((judging.predict_places(judge, pictures) == asked).mean())
    figures["seconds_24_frames"] = measure_seconds_24_frames(args.model)
    figures["megabytes"] = sum(f.stat().st_size for f in args.model.rglob("*") if f.is_file()) / 1e6
    figures["examples"] = args.examples
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(figures, indent=1) + "\n")
    sheet = [(e, picture) for e, picture in zip(examples[:16], made, strict=False)]
    tiles = [np.concatenate([e.image, np.repeat(e.depth[..., None], 3, 2), picture]) for e, picture in sheet]
    write_png(args.json.with_suffix(".png"), np.concatenate([np.concatenate(tiles[n : n + 8], 1) for n in range(0, len(tiles), 8)]))
    print(json.dumps(figures, indent=1))
    if args.card:
        fill_card(args.model / "README.md", format_card(figures))


if __name__ == "__main__":
    main()
