"""What each technique of the method costs, and how the cost grows with frames, steps and resolution.

Every row runs in a process of its own, so that its peak memory can be measured.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FRAMES, STEPS, SIZE = 8, 8, 256
#: row -> the variant of the method
ROWS = {
    "controlnet": "per_frame",
    "cross_frame_attention": "cross_frame",
    "sla": "sla",
    "pwg_full": "latentman",
    "pwg_decoder": "pwg_decoder",
    "pwg_linear": "pwg_linear",
    "surface": "surface",
    "surface_fast": "surface_fast",
    "surface_every_frame": "surface_every_frame",
}
#: frames and steps of a usual shot: keyframes save time once a shot has many more frames
SHOT = (24, 20)


def list_runs() -> list[tuple[str, str, int, int, int]]:
    """(row, variant, frames, steps, size) of every run."""
    base = [(row, variant, FRAMES, STEPS, SIZE) for row, variant in ROWS.items()]
    growth = [
        (f"{row}_{frames}_frames", ROWS[row], frames, 4, SIZE) for row in ("controlnet", "pwg_full") for frames in (8, 24, 96)
    ]
    growth += [(f"surface_{frames}_frames", "surface", frames, 4, SIZE) for frames in (24, 96, 196)]
    growth += [(f"{row}_shot", ROWS[row], *SHOT, SIZE) for row in ("controlnet", "pwg_full", "surface", "surface_fast")]
    growth += [(f"pwg_full_{steps}_steps", "latentman", FRAMES, steps, SIZE) for steps in (4, 16)]
    return growth + base + [(f"pwg_full_{size}_pixels", "latentman", FRAMES, 4, size) for size in (192, 384)]


def run_variant(variant: str, frames: int, steps: int, size: int) -> dict[str, float]:
    """Seconds, processor seconds per frame and peak memory in MB of one run in this process, without the loading of the model."""
    import torch

    from latentman.backend.metrics.peak_memory import PeakMemory
    from latentman.backend.metrics.variants import VARIANTS
    from latentman.backend.models.loading import load
    from latentman.backend.video.pipeline import ShotPipeline
    from latentman.backend.video.run_context import RunContext
    from latentman.blender_addon.reference_shots.shots import make_clip_views
    from latentman.blender_addon.reference_shots.views import render_passes
    from latentman.shared.shot import make_request

    views = make_clip_views("a person walks forward", 48, turn=-30.0)
    passes = render_passes([views[n % len(views)] for n in range(frames)], size)
    model = load("starter", torch.device("cpu"))

    request = make_request(
        "a man in a red shirt and blue jeans, on a beach",
        width=size,
        height=size,
        fps=20.0,
        steps=steps,
        frames=tuple(range(1, frames + 1)),
        method=VARIANTS[variant],
        seed=3,
    )
    with PeakMemory(model.device) as memory:
        started, worked = time.perf_counter(), time.process_time()
        for _ in ShotPipeline(model, request, passes, RunContext()).frames():
            pass
        seconds, worked = time.perf_counter() - started, time.process_time() - worked
    cost = {"seconds_per_frame": seconds / frames, "processor_seconds_per_frame": worked / frames}
    return cost | {"peak_mb": memory.megabytes, "frames": frames, "steps": steps, "size": size}


def run_apart(variant: str, frames: int, steps: int, size: int) -> dict[str, float]:
    """``run_variant`` in a process of its own. Raises ``subprocess.CalledProcessError`` when it fails."""
    what = map(str, (variant, frames, steps, size))
    made = subprocess.run([sys.executable, "-m", "tools.bench_method", *what], cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(made.stdout.strip().splitlines()[-1])


def measure_method() -> dict[str, dict[str, float]]:
    """Row -> figures; ``time_ratio`` is against the plain ControlNet at the same frames, steps and size, if that is a row."""
    out: dict[str, dict[str, float]] = {}
    for row, variant, frames, steps, size in list_runs():
        out[row] = run_apart(variant, frames, steps, size)
        print(f"{row:>28} {out[row]['seconds_per_frame']:8.3f} s per frame {out[row]['peak_mb']:8.0f} MB", flush=True)
    for figures in out.values():
        same = [
            f
            for name, f in out.items()
            if name.startswith("controlnet") and all(f[key] == figures[key] for key in ("frames", "steps", "size"))
        ]
        if same:
            figures["time_ratio"] = figures["seconds_per_frame"] / same[0]["seconds_per_frame"]
    return out


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("variant")
    for name in ("frames", "steps", "size"):
        parser.add_argument(name, type=int)
    print(json.dumps(run_variant(**vars(parser.parse_args()))))
