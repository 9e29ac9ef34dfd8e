"""Runs variants of the method over shots, prompts and seeds, and measures every run the same way.

``<out>/<shot>/<prompt>-<seed>/<variant>/`` holds ``0001.png`` and so on and ``run.json``; a run that is there is not made again,
so that an evaluation goes on where it was stopped. What a run is called must not change what it is: its settings are in
``run.json``, and another request under the same name is made anew.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import torch
from PIL import Image

from ...shared.files import write_atomically
from ...shared.shot import (
    METHODS,
    Alignment,
    FramePasses,
    Fusion,
    Guidance,
    Keyframes,
    Method,
    ShotRequest,
    check_passes,
    check_request,
    make_request,
)
from ..models.loading import ImageModel
from ..video.pipeline import RunContext, ShotPipeline
from .baselines import bake, blurred
from .consistency import background_error
from .pictures import contour, detail, silhouette_iou
from .surface import cell_colours, hmse, hmse_compat, liveliness, reappearance, surface_variance, warp_error

_LATENTMAN, _SURFACE = METHODS["latentman"], METHODS["surface"]
#: name -> parts; the paper's presets first
VARIANTS: dict[str, Method] = {
    "per_frame": METHODS["per_frame"],
    "cross_frame": METHODS["cross_frame"],
    "sla": msgspec.structs.replace(_LATENTMAN, guidance=None),
    "pwg": msgspec.structs.replace(_LATENTMAN, alignment=None),
    "latentman": _LATENTMAN,
    "surface": _SURFACE,
    "surface_quality": METHODS["surface_quality"],
    "surface_fast": METHODS["surface_fast"],
    "surface_noise": msgspec.structs.replace(_SURFACE, surface_noise=0.9),
    "surface_guided": msgspec.structs.replace(_SURFACE, keyframes=Keyframes(guided=True)),
    "surface_no_finish": msgspec.structs.replace(_SURFACE, fusion=Fusion(finish=False)),
    "surface_no_background": msgspec.structs.replace(_SURFACE, background=None),
    "background": msgspec.structs.replace(METHODS["cross_frame"], background=_SURFACE.background),
    "noise": msgspec.structs.replace(METHODS["cross_frame"], surface_noise=0.9),
    "sla_surface": msgspec.structs.replace(_LATENTMAN, guidance=None, matching="surface"),
    "latentman_surface": msgspec.structs.replace(_LATENTMAN, matching="surface"),
    "latentman_no_attention": msgspec.structs.replace(_LATENTMAN, cross_frame_attention=False),
    "latentman_no_shared_noise": msgspec.structs.replace(_LATENTMAN, shared_noise=False),
    "pwg_decoder": msgspec.structs.replace(_LATENTMAN, guidance=Guidance(gradient="decoder")),
    "pwg_linear": msgspec.structs.replace(_LATENTMAN, guidance=Guidance(gradient="linear")),
}
PAPER = ("per_frame", "cross_frame", "sla", "pwg", "latentman")
MODULES = (
    *PAPER,
    "sla_surface",
    "latentman_surface",
    "latentman_no_attention",
    "latentman_no_shared_noise",
    "pwg_decoder",
    "pwg_linear",
)
SURFACE = ("per_frame", "cross_frame", "latentman", "surface", "surface_quality", "surface_fast")
#: the surface preset's parts, alone and left out
PARTS = (
    "cross_frame",
    "noise",
    "background",
    "surface",
    "surface_noise",
    "surface_guided",
    "surface_no_finish",
    "surface_no_background",
    "surface_quality",
)
#: made from the frames of another run
DERIVED: dict[str, str] = {"blurred": "cross_frame", "bake": "cross_frame"}
#: what the columns of the report mean, in order
COLUMNS = (
    "hmse",
    "detail",
    "surface_variance_low",
    "surface_variance_high",
    "reappearance",
    "liveliness",
    "background_error",
    "silhouette_iou",
    "contour",
    "named_colours",
    "seconds_per_frame",
    "peak_mb",
)


def sweep() -> dict[str, Method]:
    """Variants over the range of alignment's steps, and over guidance's step length."""
    out = {f"sla_until_{share:g}": Method(alignment=Alignment(until=share)) for share in (0.2, 0.4, 0.6, 0.8, 1.0)}
    out |= {f"pwg_rho_{rho:g}": Method(guidance=Guidance(rho=rho)) for rho in (0.003, 0.01, 0.03, 0.1, 0.3)}
    spans = ((0, 0.4), (0.4, 0.8), (0.6, 1))
    return out | {f"pwg_steps_{a:g}_{b:g}": Method(guidance=Guidance(start=a, until=b)) for a, b in spans}


#: (frames, passes, prompt) -> figures
Further = Callable[[np.ndarray, FramePasses, str], dict[str, float]]


@dataclass(frozen=True)
class Shot:
    """A named shot to evaluate on."""

    name: str
    passes: FramePasses
    fps: float = 20.0

    def request(self, prompt: str, seed: int, method: Method, steps: int, model: str) -> ShotRequest:
        """A request for it."""
        count, height, width = self.passes.mask.shape
        return make_request(
            prompt,
            width=width,
            height=height,
            frames=tuple(range(1, count + 1)),
            fps=self.fps,
            seed=seed,
            model=model,
            method=method,
            steps=steps,
        )


class PeakMemory:
    """The most memory in MB that was taken within the block beyond what was there before: the process's own on the CPU, the
    allocator's on CUDA."""

    def __init__(self, device: torch.device) -> None:
        self._cuda, self._done = device.type == "cuda", threading.Event()
        self._start = self._peak = self.megabytes = 0.0

    @staticmethod
    def _resident() -> float:
        try:
            with open("/proc/self/statm", encoding="ascii") as file:
                return int(file.read().split()[1]) * 4096 / 1e6
        except OSError:
            return float("nan")

    def _watch(self) -> None:
        while not self._done.wait(0.02):
            self._peak = max(self._peak, self._resident())

    def __enter__(self) -> PeakMemory:
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()
        self._start = self._peak = self._resident()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self.megabytes = torch.cuda.max_memory_allocated() / 1e6 if self._cuda else self._peak - self._start


def _read(folder: Path, count: int) -> np.ndarray | None:
    paths = [folder / f"{n:04d}.png" for n in range(1, count + 1)]
    if not all(path.exists() for path in paths):
        return None
    return np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])


def _write(folder: Path, images: np.ndarray, record: dict) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for n, image in enumerate(images, 1):
        Image.fromarray(image).save(folder / f"{n:04d}.png")
    write_atomically(folder / "run.json", json.dumps(record, indent=1).encode())


def _request_of(record: dict) -> ShotRequest | None:
    """What a run was made for; settings that did not exist then have their defaults."""
    try:
        return msgspec.convert(record.get("settings"), ShotRequest)
    except msgspec.ValidationError:
        return None


def measure(images: np.ndarray, reference: np.ndarray, passes: FramePasses) -> dict[str, float]:
    """Every figure of a run; ``reference`` are the frames of the ``per_frame`` run with the same prompt and seed."""
    colours = cell_colours(images, passes)
    figures = {
        "hmse": hmse(images, passes),
        "hmse_compat": hmse_compat(images, passes),
        "warp_error": warp_error(images, passes),
        "detail": detail(images, reference, passes),
        "reappearance": reappearance(colours),
        "liveliness": liveliness(colours),
        "background_error": background_error(images, passes),
        "silhouette_iou": silhouette_iou(images, passes),
        "contour": contour(images, passes),
    }
    for band in ("low", "high"):
        figures[f"surface_variance_{band}"] = surface_variance(colours, band, None)
        figures |= {f"surface_variance_{band}_lag{lag}": surface_variance(colours, band, lag) for lag in (1, 8)}
    return figures


class Laboratory:
    """Makes and measures runs under one folder."""

    def __init__(
        self, out: Path, model: ImageModel, steps: int, say: Callable[[str], None], further: Further | None = None
    ) -> None:
        """``further`` figures are taken of every run beside ``measure``'s."""
        self._out, self._model, self._steps, self._say, self._further = out, model, steps, say, further

    def run(
        self,
        shots: Iterable[Shot],
        prompts: tuple[str, ...],
        seeds: tuple[int, ...],
        variants: dict[str, Method],
        derived: tuple[str, ...] = tuple(DERIVED),
    ) -> list[dict]:
        """A row for every shot, prompt, seed and variant: its names and figures. ``per_frame`` is made in any case, since detail is
        measured against it."""
        rows = []
        wanted = {"per_frame": VARIANTS["per_frame"], **variants}
        for shot in shots:
            for prompt_number, prompt in enumerate(prompts, 1):
                for seed in seeds:
                    folder = self._out / shot.name / f"{prompt_number}-{seed}"
                    found: dict[str, np.ndarray] = {}
                    for name, method in wanted.items():
                        images, record = self._made(shot, prompt, seed, method, folder / name)
                        found[name] = images
                        if name in variants:
                            rows.append(self._row(shot, prompt, seed, name, images, found["per_frame"], record, folder))
                    for name in derived:
                        if DERIVED[name] in found:
                            source = found[DERIVED[name]]
                            images = blurred(source) if name == "blurred" else bake(source, shot.passes)
                            _write(folder / name, images, {"from": DERIVED[name]})
                            rows.append(self._row(shot, prompt, seed, name, images, found["per_frame"], {}, folder))
        return rows

    def _made(self, shot: Shot, prompt: str, seed: int, method: Method, folder: Path) -> tuple[np.ndarray, dict]:
        request = shot.request(prompt, seed, method, self._steps, self._model.name)
        record_path = folder / "run.json"
        if record_path.exists():
            record = json.loads(record_path.read_text())
            images = _read(folder, shot.passes.frame_count)
            if images is not None and _request_of(record) == request:
                return images, record
        check_request(request)
        passes = check_passes(request, shot.passes.arrays())
        started = time.perf_counter()
        run_context = RunContext()
        with PeakMemory(self._model.device) as memory:
            images = np.stack(list(ShotPipeline(self._model, request, passes, run_context).frames()))
        seconds = time.perf_counter() - started
        record = {
            "settings": msgspec.to_builtins(request),
            "seconds_per_frame": seconds / len(images),
            "peak_mb": memory.megabytes,
            "stages": run_context.seconds,
        }
        _write(folder, images, record)
        self._say(f"{shot.name:>14} {folder.parent.name:>6} {folder.name:<26} {seconds / len(images):6.2f} s a frame")
        return images, record

    def _row(
        self, shot: Shot, prompt: str, seed: int, name: str, images: np.ndarray, reference: np.ndarray, record: dict, folder: Path
    ) -> dict:
        figures = measure(images, reference, shot.passes)
        figures |= self._further(images, shot.passes, prompt) if self._further else {}
        figures |= {key: record.get(key, float("nan")) for key in ("seconds_per_frame", "peak_mb")}
        return {
            "shot": shot.name,
            "prompt": prompt,
            "seed": seed,
            "variant": name,
            "folder": str((folder / name).relative_to(self._out)),
            **figures,
        }


def means(rows: list[dict]) -> dict[str, dict[str, float]]:
    """variant -> mean of every figure over its runs; figures that no run has are NaN."""
    out: dict[str, dict[str, float]] = {}
    for name in dict.fromkeys(row["variant"] for row in rows):
        own = [row for row in rows if row["variant"] == name]
        keys = [key for key, value in own[0].items() if isinstance(value, float)]
        values = {key: np.array([row[key] for row in own], float) for key in keys}
        out[name] = {key: float(np.nanmean(v)) if not np.isnan(v).all() else float("nan") for key, v in values.items()}
    return out
