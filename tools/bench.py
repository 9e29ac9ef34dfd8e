"""``python -m tools.bench``: measures motion, passes, correspondences and the method's cost, and compares the presets on one shot.

The figures are printed and written to ``build/bench/*.json``. Speed is a ratio to another row of the same session, so that figures
from different machines can be compared.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import bpy
import numpy as np
import torch

from latentman.backend.metrics.consistency import measure_consistency
from latentman.backend.models.loading import load
from latentman.backend.video.pipeline import ShotPipeline
from latentman.backend.video.run_context import RunContext
from latentman.blender_addon import properties
from latentman.blender_addon.passes.render import PassRender
from latentman.shared.passes import FramePasses
from latentman.shared.shot import make_request

from .bench_method import measure_method
from .bench_motion import measure as measure_motion
from .bench_passes import measure_passes
from .demo import build_scene
from .studies.correspondence import measure_cases, measure_speedup, summarise

ROOT = Path(__file__).resolve().parents[1]
ONLY = ("motion", "passes", "correspondence", "method", "presets", "workers")
#: frames of the shot that workers share
WORKERS_FRAMES = 96
PRESETS = ("per_frame", "cross_frame", "latentman", "surface")


def render_shot(clip: int, frames: int) -> FramePasses:
    """Render the passes of a bundled clip in Blender, at 256x256."""
    properties.register()
    try:
        armature = build_scene(clip, frames, 20)
        job = PassRender(bpy.context, armature, tuple(range(1, frames + 1)), 256, 256)
        list(job.render_all())
        return job.result()
    finally:
        properties.unregister()


def measure_matching() -> dict[str, float]:
    """The worst fractions of correct matches over all cases of the study, and how much quicker the surface matching is."""
    figures = summarise(list(measure_cases((64, 256), hungarian_max_size=256)))
    return figures | {f"speedup_{size}": measure_speedup(size) for size in (256, 384)}


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench")
    parser.add_argument("--clip", type=int, default=0)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--prompt", default="a man in a red shirt and blue jeans, on a beach")
    parser.add_argument("--only", choices=ONLY, help="measure only this; workers are only measured when they are named")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for name, measure in (("motion", measure_motion), ("passes", measure_passes), ("correspondence", measure_matching)):
        if args.only in (None, name):
            figures = measure()
            (args.out / f"{name}.json").write_text(json.dumps(figures, indent=1))
            print("\n".join(f"{key:>28} {value:.5g}" for key, value in figures.items()), flush=True)
    if args.only in (None, "method"):
        (args.out / "method.json").write_text(json.dumps(measure_method(), indent=1))
    if args.only == "workers":
        # Ray is optional
        from .bench_workers import measure_workers

        found: dict[str, dict[str, float]] = {}
        for part, figures in measure_workers(render_shot(args.clip, WORKERS_FRAMES)):
            found[part] = figures
            (args.out / "workers.json").write_text(json.dumps(found, indent=1))
            print(part, json.dumps(figures, indent=1), flush=True)
    if args.only not in (None, "presets"):
        return 0
    passes, model = render_shot(args.clip, args.frames), load("starter", torch.device("cpu"))
    rows: dict[str, dict[str, float]] = {}
    for preset in PRESETS:
        request = make_request(
            args.prompt, width=256, height=256, frames=tuple(range(args.frames)), fps=20.0, preset=preset, steps=args.steps, seed=3
        )
        started = time.perf_counter()
        images = np.stack(list(ShotPipeline(model, request, passes, RunContext()).frames()))
        rows[preset] = measure_consistency(images, passes) | {"seconds": time.perf_counter() - started}
    for row in rows.values():
        row["time_ratio"] = row["seconds"] / rows["per_frame"]["seconds"]
    (args.out / "presets.json").write_text(json.dumps(rows, indent=1))
    columns = list(rows["per_frame"])
    print("".join(f"{name:>16}" for name in ("preset", *columns)))
    for preset, row in rows.items():
        print(f"{preset:>16}" + "".join(f"{row[name]:16.2f}" for name in columns))
    return 0


if __name__ == "__main__":
    sys.exit(main())
