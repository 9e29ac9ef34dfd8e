"""How well a shot spreads over workers, as a share of the ideal; and nights on workers that die, by simulation."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from latentman.backend.jobs.runner import ModelCache, RunCallbacks, run
from latentman.backend.jobs.store import JobStore
from latentman.backend.metrics.peak_memory import PeakMemory
from latentman.backend.workers.options import WorkerOptions
from latentman.backend.workers.ray_workers import RayCluster
from latentman.backend.workers.shot import run_pooled
from latentman.shared.load_options import LoadOptions
from latentman.shared.passes import FramePasses
from latentman.shared.shot import ShotRequest, make_request

from .simulate_night import Night, simulate
from .waiting_maker import SIDE, WaitingMaker

#: seconds that a stand-in takes for a frame
WAIT = 0.25
WAITING_COUNTS = (1, 4, 16, 64)
#: frames of a shot of theirs: a key frame, and four whole batches for each of the most workers. Batches are the same for any number
#: of workers, so that frames are; where they are no multiple of it, some workers have nothing to do at the end
WAITING_FRAMES = 1 + 4 * 64 * 8


def _paint_disc(frames: int) -> FramePasses:
    """Passes of a disc that moves to and fro."""
    rows, cols = np.mgrid[0:SIDE, 0:SIDE]
    out: dict[str, list[np.ndarray]] = {name: [] for name in ("depth", "mask", "uv", "rest_position", "part")}
    for n in range(frames):
        x, y = cols - SIDE // 2 - np.round(8 * np.sin(n / 8)), rows - SIDE // 2
        mask = x**2 + y**2 < (SIDE // 5) ** 2
        surface = np.stack([x, y, np.zeros_like(x)], -1) * 0.01 * mask[..., None]
        out["mask"].append(mask.astype(np.uint8))
        out["depth"].append((mask * 0.7).astype(np.float32))
        out["rest_position"].append(surface.astype(np.float32))
        out["uv"].append(((surface[..., :2] / 0.01 / SIDE + 0.5) * mask[..., None]).astype(np.float32))
        out["part"].append((mask * (1 + (x > 0))).astype(np.uint8))
    return FramePasses(**{name: np.stack(arrays) for name, arrays in out.items()})


def _time_frames(store: Path, request: ShotRequest, passes: FramePasses, cluster: RayCluster) -> tuple[float, float, float]:
    """(seconds from the last key frame to the last frame, seconds to the first frame, megabytes that this process grew by)."""
    times: list[float] = []
    job = JobStore(store).open(request, passes)
    began = time.perf_counter()
    with PeakMemory(torch.device("cpu")) as memory:
        run_pooled(job, cluster.pool, RunCallbacks(frame_stored=lambda _: times.append(time.perf_counter())))
    look = job.look()
    assert look is not None
    return times[-1] - times[len(look.keyframes) - 1], times[0] - began, memory.megabytes


def measure_real(request: ShotRequest, passes: FramePasses, repeats: int = 3) -> dict[str, float]:
    """One and two workers of one thread each, in turn: share of the ideal beyond the key frames, and when the first frame comes."""
    seconds: dict[int, list[float]] = {1: [], 2: []}
    first: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(repeats):
            for count in seconds:
                # as many as there are: fewer cores each for one would be another comparison
                with closing(RayCluster(WorkerOptions(count), LoadOptions(device="cpu"), threads=1)) as cluster:
                    warm = msgspec.structs.replace(request, frames=request.frames[:1])
                    run_pooled(
                        JobStore(Path(folder) / f"warm{repeat}{count}").open(warm, passes.select([0])), cluster.pool, RunCallbacks()
                    )
                    took, came, _ = _time_frames(Path(folder) / f"{repeat}{count}", request, passes, cluster)
                    seconds[count].append(took)
                    first[count].append(came)
    one, two = (statistics.median(seconds[count]) for count in (1, 2))
    return {
        "share_of_ideal_2": one / two / 2,
        "first_frame_2_over_1": statistics.median(first[2]) / statistics.median(first[1]),
        "seconds_1": one,
        "seconds_2": two,
    }


def measure_waiting(counts: tuple[int, ...] = WAITING_COUNTS, frames: int = WAITING_FRAMES) -> dict[str, float]:
    """The same for many workers that only wait, and how much the head's memory grows."""
    request = make_request(
        "a man on a beach", width=SIDE, height=SIDE, frames=tuple(range(frames)), fps=20.0, preset="surface", steps=2, seed=1
    )
    passes, out = _paint_disc(frames), dict[str, float]()
    with tempfile.TemporaryDirectory() as folder:
        # a look as a real model makes it, and the key frames that it comes from
        short = msgspec.structs.replace(request, frames=request.frames[:2])
        job = JobStore(Path(folder) / "look").open(short, passes.select([0, 1]))
        run(job, ModelCache(LoadOptions(device="cpu")), RunCallbacks())
        look = job.read_look()
        assert look is not None
        look = replace(look, keyframes=(0,))
        data = look.encode()
        make = partial(WaitingMaker, data, (0,), WAIT)
        for count in counts:
            with closing(RayCluster(WorkerOptions(count), LoadOptions(device="cpu"), make)) as cluster:
                part = frames if count > 4 else frames // 8
                some = msgspec.structs.replace(request, frames=request.frames[:part])
                took, _, grown = _time_frames(Path(folder) / str(count), some, passes.select(range(part)), cluster)
                out[f"share_of_ideal_{count}"] = (part - 1) * WAIT / count / took
                out[f"head_grew_mb_{count}"] = grown
    return out


def measure_nights() -> dict[str, dict[str, float]]:
    """1,000 shots on 16 workers that die never, once, four and twenty times an hour each."""
    found = {}
    for deaths in (0.0, 1.0, 4.0, 20.0):
        night = Night(deaths_per_hour=deaths)
        found[f"{deaths:g} deaths an hour"] = asdict(simulate(night))
    return found


def measure_workers(passes: FramePasses) -> Iterator[tuple[str, dict[str, Any]]]:
    """All of it, in parts by name; ``passes`` are those of the shot that real workers make."""
    count = passes.frame_count
    request = make_request(
        "a man in a red shirt and blue jeans, on a beach",
        width=256,
        height=256,
        frames=tuple(range(count)),
        fps=20.0,
        preset="surface",
        steps=20,
        seed=3,
    )
    torch.set_num_threads(1)
    yield "real", measure_real(request, passes)
    yield "waiting", measure_waiting()
    yield "nights", measure_nights()
