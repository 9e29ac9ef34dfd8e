"""``python -m tools.bench_memory``: how much memory a shot takes in Blender and in the backend, for shots of several lengths.

A walking mannequin is rendered by real Blender, streamed to a real backend process over ZeroMQ and made into frames by a model
that only waits, so that what is measured is everything but the networks. Each length has processes of its own, whose peak of
resident memory is counted by the kernel. All lengths are of one scene, and a short shot has frames from all of it: keyframes take
memory, and a character near the camera takes more of it than one far away.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def _read_status(pid: int | str, field: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return round(int(line.split()[1]) / 1024, 1)
    return float("nan")


def read_peak_megabytes(pid: int | str = "self") -> float:
    """The peak resident memory of a process, in MB."""
    return _read_status(pid, "VmHWM")


def read_resident_megabytes(pid: int | str = "self") -> float:
    """The present resident memory of a process, in MB."""
    return _read_status(pid, "VmRSS")


def make_waiting_model(seconds: float) -> Any:
    """An ``ImageModel`` whose network waits and predicts nothing, and whose auto-encoder scales pictures."""
    import torch
    import torch.nn.functional as F
    from diffusers import DDIMScheduler

    from latentman.backend.models.families import StableDiffusion, TextConditions
    from latentman.backend.models.image_model import ImageModel
    from latentman.shared.model_profile import ModelProfile

    class Config(dict):
        __getattr__ = dict.__getitem__

    class Network:
        config = Config(in_channels=4, block_out_channels=(1, 1), cross_attention_dim=8)
        attn_processors: dict[str, Any] = {}

        def set_attn_processor(self, processors: Any) -> None:
            """Do nothing: the network has no attention."""

        def __call__(self, batch: torch.Tensor, timestep: torch.Tensor, **_: Any) -> tuple[torch.Tensor, None]:
            time.sleep(seconds)
            return (torch.zeros_like(batch), None)

    class AutoEncoder:
        dtype, config = torch.float32, Config(scaling_factor=1.0)

        def decode(self, latents: torch.Tensor) -> SimpleNamespace:
            return SimpleNamespace(sample=F.interpolate(latents[:, :3], scale_factor=8, mode="nearest"))

        def encode(self, pictures: torch.Tensor) -> SimpleNamespace:
            small = F.avg_pool2d(pictures, 8)
            return SimpleNamespace(latents=torch.cat([small, small[:, :1]], 1))

    class WaitingModel(ImageModel):
        family = StableDiffusion()

        def encode_text(self, *_: Any, **__: Any) -> TextConditions:
            return TextConditions(torch.zeros(1, 4, 8), {})

    scheduler = DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False)
    pipeline = SimpleNamespace(unet=Network(), controlnet=Network(), vae=AutoEncoder(), scheduler=scheduler, vae_scale_factor=8)
    profile = ModelProfile(guidance_scale=1.0)
    return WaitingModel("waiting", pipeline, torch.device("cpu"), torch.float32, profile=profile)


def serve(jobs: Path, seconds: float) -> None:
    """Run a backend with the waiting model until it is killed."""
    from latentman.backend.jobs.motions import MotionCache
    from latentman.backend.jobs.runner import ModelCache, RunCallbacks
    from latentman.backend.jobs.store import JobStore
    from latentman.backend.models.image_model import ImageModel
    from latentman.backend.server import Server
    from latentman.backend.tasks.resources import Resources

    class WaitingModels(ModelCache):
        def get(self, name: str, callbacks: RunCallbacks | None = None, size: tuple[int, int] | None = None) -> ImageModel:
            return make_waiting_model(seconds)

    def make(jobs: Path) -> Resources:
        models = WaitingModels()
        return Resources(models, MotionCache(models.device), JobStore(jobs))

    server = Server("tcp://127.0.0.1:0", jobs, set(), make)
    print(json.dumps({"event": "listening", "endpoint": server.endpoint}), flush=True)
    server.serve()


def run_shot(frames: int, longest: int, size: int, seconds: float) -> dict[str, Any]:
    """Make one shot of some length, of a motion of the length ``longest``, and measure what it takes."""
    import bpy

    from latentman.blender_addon import properties
    from latentman.blender_addon.command_line import wait_until
    from latentman.blender_addon.connection import Connection
    from latentman.blender_addon.tasks.shot import ShotTask
    from latentman.shared import messages
    from latentman.shared.shot import make_request
    from tools.demo import build_scene

    properties.register()
    armature = build_scene(0, longest, 20)
    armature.rotation_mode = "XYZ"
    for frame, turn in ((1, 0.0), (longest, 6.28)):
        armature.rotation_euler[2] = turn
        armature.keyframe_insert("rotation_euler", index=2, frame=frame)
    with tempfile.TemporaryDirectory(prefix="latentman-memory-") as folder:
        command = [sys.executable, "-m", "tools.bench_memory", "--serve", folder, "--seconds", str(seconds)]
        backend = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert backend.stdout is not None
        connection = Connection()
        connection.connect(json.loads(backend.stdout.readline())["endpoint"])
        assert connection.client is not None
        wait_until(connection, lambda: connection.connected or bool(connection.error), 60)
        request = make_request(
            "a man",
            tuple(range(1, longest + 1, longest // frames))[:frames],
            20.0,
            width=size,
            height=size,
            steps=20,
            guidance_scale=1.0,
        )
        passes_before_first_frame: list[int] = []
        #: (frames that have arrived, resident MB of Blender, of the backend), ten times over the shot
        course: list[tuple[int, float, float]] = []

        def watch_memory(message: messages.AnyMessage) -> None:
            if not isinstance(message, messages.FrameResult):
                return
            if not passes_before_first_frame:
                passes_before_first_frame.append(task._sent_count)
            if len(task.frames) % max(1, frames // 10) == 0:
                course.append((len(task.frames), read_resident_megabytes(), read_resident_megabytes(backend.pid)))

        started = time.perf_counter()
        out = Path(folder) / "frames"
        options: dict[str, Any] = dict(folder_per_job=False, keep_scenes=True, on_message=watch_memory)
        task = ShotTask(bpy.context, armature, request, connection.client, out, **options)
        connection.add(task)
        wait_until(connection, lambda: task.done)
        found = {
            "frames": frames,
            "size": size,
            "error": task.error,
            "arrived": len(task.frames),
            "blender_mb": read_peak_megabytes(),
            "backend_mb": read_peak_megabytes(backend.pid),
            "course": course,
            "passes_to_send": task._send_total,
            "passes_sent_before_first_frame": passes_before_first_frame,
            "seconds": round(time.perf_counter() - started, 1),
        }
        connection.stop()
        backend.kill()
    properties.unregister()
    return found


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, nargs="+", default=[24, 1000])
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--seconds", type=float, default=0.002, help="how long the model waits")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench" / "memory.json")
    parser.add_argument("--longest", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.serve, args.seconds)
        return 0
    if args.one:
        print("FOUND " + json.dumps(run_shot(args.frames[0], args.longest or args.frames[0], args.size, args.seconds)), flush=True)
        return 0
    runs = []
    for frames in args.frames:
        command = [sys.executable, "-m", "tools.bench_memory", "--one", "--frames", str(frames), "--size", str(args.size)]
        command += ["--longest", str(max(args.frames))]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        line = next((text for text in done.stdout.splitlines() if text.startswith("FOUND ")), None)
        if line is None:
            print(done.stdout + done.stderr, file=sys.stderr)
            return 1
        runs.append(json.loads(line.removeprefix("FOUND ")))
        print(json.dumps(runs[-1]), flush=True)
    first, last = runs[0], runs[-1]
    ratios = {side: round(last[f"{side}_mb"] / first[f"{side}_mb"], 3) for side in ("blender", "backend")}
    print(json.dumps({"ratio": ratios}))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps({"runs": runs, "ratio": ratios}, indent=1))
    return 0


if __name__ == "__main__":
    import os

    code = main()
    sys.stdout.flush()
    os._exit(code)
