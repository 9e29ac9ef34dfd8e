"""Runs variants of the method over shots, prompts and seeds, and measures every run the same way.

``<out>/<shot>/<prompt>-<seed>/<variant>/`` holds ``0001.png`` and so on and ``run.json``. A run that is complete is not made again,
so that an evaluation continues where it was stopped. ``run.json`` holds the settings that the run was made with; a run with other
settings under the same name is made anew.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ...shared.files import write_atomically
from ...shared.passes import FramePasses, check_passes
from ...shared.shot import Method, ShotRequest, check_request, make_request
from ..models.image_model import ImageModel
from ..pictures import read_frames, write_frames
from ..video.pipeline import ShotPipeline
from ..video.run_context import RunContext
from .baselines import bake_texture, blur
from .figures import FIGURES, OPTIONAL, measure_clip
from .peak_memory import PeakMemory
from .perceptual import PerceptualSimilarity, find_encoders
from .variants import VARIANTS

#: baselines that are computed from the frames of another variant
DERIVED: dict[str, str] = {"blurred": "cross_frame", "bake": "cross_frame"}
#: the figures that the report shows, in order
COLUMNS = (*(figure.name for figure in (*FIGURES, *OPTIONAL)), "named_colours", "seconds_per_frame", "peak_mb")

#: (frames (F, H, W, 3) uint8, their passes, the prompt) -> figures by name
ExtraMetrics = Callable[[np.ndarray, FramePasses, str], dict[str, float]]
#: one run: its shot, prompt, seed, variant and folder, and its figures
Row = dict[str, Any]


@dataclass(frozen=True)
class Shot:
    """A named shot to evaluate on."""

    name: str
    passes: FramePasses
    fps: float = 20.0

    def make_request(self, prompt: str, seed: int, method: Method, steps: int, model: str) -> ShotRequest:
        """A request for all of the shot's frames, numbered from 1."""
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


def read_run(folder: Path, count: int) -> np.ndarray | None:
    """(F, H, W, 3) uint8 frames of a run; None when any of its ``count`` frames is missing or damaged."""
    try:
        return read_frames(folder, range(1, count + 1))
    except (OSError, ValueError):
        return None


def _write_run(folder: Path, images: np.ndarray, record: dict[str, Any]) -> None:
    write_frames(folder, range(1, len(images) + 1), images)
    write_atomically(folder / "run.json", json.dumps(record, indent=1).encode())


def _request_from(record: dict[str, Any]) -> ShotRequest | None:
    """The request that a run was made for, with defaults for settings that did not exist then; None when it cannot be read."""
    try:
        return msgspec.convert(record.get("settings"), ShotRequest)
    except msgspec.ValidationError:
        return None


def compute_metrics(images: np.ndarray, reference: np.ndarray, passes: FramePasses) -> dict[str, float]:
    """Every figure of a run's frames (F, H, W, 3) uint8.

    ``reference`` are the frames of the ``per_frame`` run with the same prompt and seed, against which detail is measured.
    """
    more = {name: PerceptualSimilarity(name, encode) for name, encode in find_encoders().items()}
    return measure_clip(images, passes, reference, more=more)


class Evaluator:
    """Makes runs of one model under one folder and measures them."""

    def __init__(
        self,
        out: Path,
        model: ImageModel,
        steps: int,
        print_line: Callable[[str], None],
        extra_metrics: ExtraMetrics | None = None,
    ) -> None:
        """``steps`` 0 are the model's own. ``print_line`` is given a line of text after every run that was made;
        ``extra_metrics`` are computed of every run beside those of ``compute_metrics``."""
        self._out, self._model, self._steps = out, model, steps
        self._print_line, self._extra_metrics = print_line, extra_metrics

    def run(
        self,
        shots: Iterable[Shot],
        prompts: tuple[str, ...],
        seeds: tuple[int, ...],
        variants: dict[str, Method],
        derived: tuple[str, ...] = tuple(DERIVED),
    ) -> list[Row]:
        """Make or read every run and return a row for each: its names and figures.

        The ``per_frame`` variant is always made, because detail is measured against it. Raises ``ShotError`` for shots or settings
        that do not fit.
        """
        rows = []
        wanted = {"per_frame": VARIANTS["per_frame"], **variants}
        for shot in shots:
            for prompt_number, prompt in enumerate(prompts, 1):
                for seed in seeds:
                    folder = self._out / shot.name / f"{prompt_number}-{seed}"
                    found: dict[str, np.ndarray] = {}
                    for name, method in wanted.items():
                        images, record = self._read_or_make_run(shot, prompt, seed, method, folder / name)
                        found[name] = images
                        if name in variants:
                            rows.append(self._make_row(shot, prompt, seed, name, images, found["per_frame"], record, folder))
                    for name in derived:
                        if DERIVED[name] in found:
                            source = found[DERIVED[name]]
                            images = blur(source) if name == "blurred" else bake_texture(source, shot.passes)
                            _write_run(folder / name, images, {"from": DERIVED[name]})
                            rows.append(self._make_row(shot, prompt, seed, name, images, found["per_frame"], {}, folder))
        return rows

    def _read_or_make_run(
        self, shot: Shot, prompt: str, seed: int, method: Method, folder: Path
    ) -> tuple[np.ndarray, dict[str, Any]]:
        tall, wide = shot.passes.mask.shape[1:]
        request = self._model.complete_request(shot.make_request(prompt, seed, method, self._steps, self._model.name), (wide, tall))
        record_path = folder / "run.json"
        if record_path.exists():
            record: dict[str, Any] = json.loads(record_path.read_text())
            stored = read_run(folder, shot.passes.frame_count)
            former = _request_from(record)
            # earlier versions stored what was left to the model as that
            if stored is not None and former and self._model.complete_request(former, (wide, tall)) == request:
                return stored, record
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
        _write_run(folder, images, record)
        self._print_line(f"{shot.name:>14} {folder.parent.name:>6} {folder.name:<26} {seconds / len(images):6.2f} s per frame")
        return images, record

    def _make_row(
        self,
        shot: Shot,
        prompt: str,
        seed: int,
        name: str,
        images: np.ndarray,
        reference: np.ndarray,
        record: dict[str, Any],
        folder: Path,
    ) -> Row:
        figures = compute_metrics(images, reference, shot.passes)
        figures |= self._extra_metrics(images, shot.passes, prompt) if self._extra_metrics else {}
        figures |= {key: record.get(key, float("nan")) for key in ("seconds_per_frame", "peak_mb")}
        return {
            "shot": shot.name,
            "prompt": prompt,
            "seed": seed,
            "variant": name,
            "folder": str((folder / name).relative_to(self._out)),
            **figures,
        }


def compute_means(rows: list[Row]) -> dict[str, dict[str, float]]:
    """variant -> the mean of every figure over its runs; NaN for a figure that no run has."""
    out: dict[str, dict[str, float]] = {}
    for name in dict.fromkeys(row["variant"] for row in rows):
        own = [row for row in rows if row["variant"] == name]
        keys = [key for key, value in own[0].items() if isinstance(value, float)]
        values = {key: np.array([row[key] for row in own], float) for key in keys}
        out[name] = {key: float(np.nanmean(v)) if not np.isnan(v).all() else float("nan") for key, v in values.items()}
    return out
