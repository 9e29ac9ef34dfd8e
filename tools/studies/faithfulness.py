"""``python -m tools.studies.faithfulness``: how large each departure of the preset ``latentman`` from the authors' code is.

Prints the tables of ``docs/faithfulness.md`` in Markdown, with the revision: the guidance's gradient with each omission against the
full one, matches with centred coordinates and with parts divided otherwise against ours, frames and their ``hmse`` with some or all
of it as released. All of it is made with this package; the authors' code is not needed.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import torch

from latentman.backend.metrics.clip_measurer import measure_clip
from latentman.backend.metrics.reference_shots import render_shots
from latentman.backend.metrics.shots import Shot
from latentman.backend.metrics.statistics import average_ratios
from latentman.backend.models.image_model import ImageModel
from latentman.backend.models.loading import load
from latentman.backend.video.correspondence import Matches, match_hungarian, match_surfaces
from latentman.backend.video.pipeline import Interrupted, RunContext, ShotPipeline
from latentman.backend.video.techniques.guidance import PixelGuidance
from latentman.shared.passes import PASS_LAYOUT, FramePasses
from latentman.shared.shot import METHODS, AsReleased, Guidance, Method, Sampling
from tools.tiny_models import write_sd

CPU = torch.device("cpu")
PROMPT = "a man in a red shirt and blue jeans, on a beach"
OMISSIONS = ("omit_direct", "omit_conditional", "omit_controlnet", "omit_attention", "clamp")
SHOTS = ("walk", "orbit", "dance")
TABLES = ("gradients", "matches", "frames")
#: of the paper
GUIDANCE_SCALE = 9.0
LATENTMAN = METHODS["latentman"]


def _release(*names: str) -> AsReleased:
    return AsReleased(**{name: name in names for name in AsReleased.__struct_fields__})


def shorten(shot: Shot, frames: int, side: int) -> Shot:
    """The first frames of a shot, of every few pixels one, so that it is ``side`` pixels wide."""
    every = shot.passes.mask.shape[1] // side
    # of the others, motion vectors count in pixels
    arrays = {name: getattr(shot.passes, name)[:frames, every // 2 :: every, every // 2 :: every] for name in PASS_LAYOUT}
    return replace(shot, passes=FramePasses(**arrays), frames=shot.frames[:frames])


class _RecordedGuidance(PixelGuidance):
    """Keeps the gradients and does not follow them, so that all runs see the same latents."""

    def __init__(self, settings: Guidance) -> None:
        super().__init__(settings)
        self.found: list[torch.Tensor] = []

    def follow_gradient(self, latents: torch.Tensor, gradient: torch.Tensor, step: int) -> torch.Tensor:
        self.found.append(gradient.double())
        return latents


def find_gradients(model: ImageModel, name: str, shot: Shot, sampling: Sampling, released: Sequence[str]) -> torch.Tensor:
    """(steps, F, C, h, w) float64 the guidance's gradients on its steps."""
    recorded = _RecordedGuidance(Guidance())
    # what comes after the guided steps says nothing more
    last = round(recorded.settings.until * sampling.steps) - round(recorded.settings.start * sampling.steps)
    method = msgspec.structs.replace(LATENTMAN, guidance=None, as_released=_release(*released))
    run_context = RunContext(should_stop=lambda: len(recorded.found) >= last)
    request = shot.make_request(PROMPT, method, msgspec.structs.replace(sampling, model=name))
    try:
        ShotPipeline(model, request, shot.passes, run_context, techniques=[recorded]).latents()
    except Interrupted:
        pass
    return torch.stack(recorded.found)


def compare_gradients(model: ImageModel, name: str, shot: Shot, sampling: Sampling) -> Iterator[list[str]]:
    """Rows: what is as released, cosine with ours, length against ours, the first frame's share of the squared length."""
    full = find_gradients(model, name, shot, sampling, ())
    for released in ((), *((one,) for one in OMISSIONS), OMISSIONS):
        found = find_gradients(model, name, shot, sampling, released) if released else full
        a, b = full.flatten(1), found.flatten(1)
        cosine = float(((a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))).mean())
        length = float((b.norm(dim=1) / a.norm(dim=1)).log().mean().exp())
        share = float((found[:, 0].flatten(1).square().sum(1) / b.square().sum(1)).mean())
        title = "all five" if released == OMISSIONS else f"`{released[0]}`" if released else "none (ours)"
        yield [title, f"{cosine:.3f}", f"{length:.3f}", f"{share:.1g}"]


def split_parts(passes: FramePasses) -> FramePasses:
    """Passes whose parts are halved into front and back by the rest position, as DensePose halves trunk and limbs."""
    part = passes.part.astype(np.uint8).copy()
    for number in np.unique(part[part > 0]):
        seen = passes.part == number
        depth = passes.rest_position[seen][:, 1]
        part[seen] = np.where(depth > np.median(depth), number + 100, number)
    return replace(passes, part=part)


def _share_equal(ours: Matches, other: Matches) -> float:
    """The share of pixels matched by ours that the other matches with the same pixel."""
    equal = count = 0
    for n in range(1, len(ours.target_pixels)):
        pixels = ours.height * ours.width
        a, b = np.full(pixels, -1), np.full(pixels, -2)
        a[ours.target_pixels[n]], b[other.target_pixels[n]] = ours.reference_pixels[n], other.reference_pixels[n]
        equal, count = equal + int((a == b).sum()), count + int((a >= 0).sum())
    return equal / count


def _measure_error(found: Matches, exact: Matches) -> float:
    """The median distance in pixels from where the surface really was, in pixels that both match."""
    far = []
    for n in range(1, len(found.target_pixels)):
        where = np.full((found.height * found.width, 2), np.nan)
        where[exact.target_pixels[n]] = exact.places[n]
        far.append(np.linalg.norm(where[found.target_pixels[n]] - found.places[n], axis=1))
    return float(np.nanmedian(np.concatenate(far)))


def compare_matches(shots: Sequence[Shot], sizes: Sequence[int]) -> Iterator[list[str]]:
    """Rows: shot, size, the share of equal matches when centred and with halved parts, and the median errors of all three."""
    for shot in shots:
        for size in sizes:
            ours, exact = (match(shot.passes, size, size, "prev") for match in (match_hungarian, match_surfaces))
            centred = match_hungarian(shot.passes, size, size, "prev", centred=True)
            halved = match_hungarian(split_parts(shot.passes), size, size, "prev")
            equal = [f"{_share_equal(ours, other):.2f}" for other in (centred, halved)]
            errors = [f"{_measure_error(found, exact):.2f}" for found in (ours, centred, halved)]
            yield [shot.name, str(size), *equal, *errors]


def _make_frames(model: ImageModel, name: str, shot: Shot, method: Method, sampling: Sampling) -> np.ndarray:
    request = shot.make_request(PROMPT, method, msgspec.structs.replace(sampling, model=name))
    return np.stack(list(ShotPipeline(model, request, shot.passes, RunContext()).frames()))


def compare_frames(
    model: ImageModel, name: str, shot: Shot, sampling: Sampling, seeds: Sequence[int], variants: Sequence[tuple[str, ...]]
) -> Iterator[list[str]]:
    """Rows: what is as released, the frames' root mean square difference from ours in levels, and the ratio of ``hmse``."""
    own: dict[int, np.ndarray] = {}
    figures: dict[tuple[str, ...], list[float]] = {}
    for released in ((), *variants):
        changes, errors = [], []
        for seed in seeds:
            method = msgspec.structs.replace(LATENTMAN, as_released=_release(*released) if released else None)
            frames = _make_frames(model, name, shot, method, msgspec.structs.replace(sampling, seed=seed))
            own.setdefault(seed, frames)
            changes.append(float(np.sqrt(((frames.astype(float) - own[seed]) ** 2).mean())))
            errors.append(measure_clip(frames, shot.passes, only=("hmse",))["hmse"])
        figures[released] = errors
        if released:
            ratio = average_ratios({(shot.name, PROMPT): [a / b for a, b in zip(errors, figures[()], strict=True)]})
            title = f"`{released[0]}`" if len(released) == 1 else "the gradient" if released == OMISSIONS else "everything"
            yield [title, f"{np.mean(changes):.1f}", str(ratio)]


def _print_table(title: str, head: tuple[str, ...], rows: Iterator[list[str]]) -> None:
    print(f"\n{title}\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}", flush=True)
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", default=",".join(TABLES), help="those to make, with commas between them")
    parser.add_argument("--frames", type=int, default=4, help="frames of a shot")
    parser.add_argument("--side", type=int, default=128, help="its side in pixels where frames and gradients are made")
    parser.add_argument("--steps", type=int, default=20, help="denoising steps")
    parser.add_argument("--seeds", type=int, default=5, help="seeds of the frames")
    args = parser.parse_args()
    tables = args.tables.split(",")
    if not set(tables) <= set(TABLES):
        parser.error(f"--tables takes {', '.join(TABLES)}, with commas between them")
    revision = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    print(f"Revision {revision}, torch {torch.__version__}: python -m tools.studies.faithfulness", end="")
    print(" " + " ".join(f"--{name} {value}" for name, value in vars(args).items()), flush=True)
    shots = render_shots(args.frames, list(SHOTS))
    small = shorten(shots[0], args.frames, args.side)
    sampling = Sampling(seed=1, steps=args.steps, guidance_scale=GUIDANCE_SCALE, scheduler="ddim", spacing="leading")
    starter = load("starter", CPU)
    if "gradients" in tables:
        columns = ("as released", "cosine with ours", "length / ours", "share of frame 0")
        with tempfile.TemporaryDirectory() as folder:
            write_sd(Path(folder))
            name = str(Path(folder) / "whole")
            rows = compare_gradients(load(name, CPU), name, small, sampling)
            _print_table("Gradient, random weights that predict noise", columns, rows)
        _print_table("Gradient, starter model", columns, compare_gradients(starter, "starter", small, sampling))
    if "matches" in tables:
        wide = ("shot", "side", "equal, centred", "equal, halved parts", "error, ours", "error, centred", "error, halved parts")
        _print_table("Matches of consecutive frames; median errors in pixels", wide, compare_matches(shots, (32, 64, 128)))
    if "frames" in tables:
        variants = (AsReleased.__struct_fields__, OMISSIONS, ("centred",), ("steps_from_zero",))
        frames = compare_frames(starter, "starter", small, sampling, range(1, args.seeds + 1), variants)
        _print_table("Frames, starter model", ("as released", "difference in levels", "hmse / ours"), frames)


if __name__ == "__main__":
    main()
