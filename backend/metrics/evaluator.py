"""Runs variants of the method over shots, prompts and seeds, and measures every run the same way.

``<out>/<shot>/<prompt>-<seed>/<variant>-<key>/`` holds ``0001.png`` and so on and ``run.json``. The key (``run_identity``) stands
for everything that decides the frames, so that runs of other passes, weights, settings or code never take each other's place. A run
that is complete, and whose frames are the ones that were made, is not made again: an evaluation continues where it was stopped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ...shared.files import read_file, write_atomically
from ...shared.passes import FramePasses, check_passes
from ...shared.shot import METHODS, Method, Sampling, ShotRequest, check_request
from ..models.image_model import ImageModel
from ..pictures import read_frames, write_frames
from ..video.pipeline import ShotPipeline
from ..video.run_context import RunContext
from .baselines import bake_texture, blur
from .clip_measurer import measure_clip
from .figures import FIGURES, OPTIONAL
from .fingerprints import fingerprint_frames
from .given_clips import GivenClip, open_given_clip
from .metric_plugins import Metric
from .optional_parts import make_optional_parts
from .peak_memory import PeakMemory
from .rivals.making import describe_rival, make_frames
from .run_identity import (
    PROVENANCE,
    describe_provenance,
    describe_run,
    fingerprint_model,
    list_differences,
)
from .shots import Shot as Shot
from .shots import check_shots
from .variants import VARIANTS, Variant

#: baselines that are computed from the frames of another variant
DERIVED: dict[str, str] = {"blurred": "cross_frame", "bake": "cross_frame"}
#: the figures that the report shows, in order
COLUMNS = (*(figure.name for figure in (*FIGURES, *OPTIONAL)), "named_colours", "seconds_per_frame", "peak_mb")

#: bytes of a run's record
MAX_RECORD = 64 << 20
#: (frames (F, H, W, 3) uint8, their passes, the prompt) -> figures by name
ExtraMetrics = Callable[[np.ndarray, FramePasses, str], dict[str, float]]
#: variant -> the mean of every figure, None where no run has it
Means = dict[str, dict[str, float | None]]
#: one run: its shot, prompt, seed, variant and folder, and its figures
Row = dict[str, Any]


def read_run(folder: Path, count: int) -> np.ndarray | None:
    """(F, H, W, 3) uint8 frames of a run; None when any of its ``count`` frames is missing or damaged."""
    try:
        return read_frames(folder, range(1, count + 1))
    except (OSError, ValueError):
        return None


def _write_run(folder: Path, images: np.ndarray, record: dict[str, Any]) -> None:
    write_frames(folder, range(1, len(images) + 1), images)
    write_atomically(folder / "run.json", json.dumps(record, indent=1).encode())


def _read_record(folder: Path) -> dict[str, Any]:
    """What ``run.json`` says; empty when it cannot be read."""
    try:
        found = json.loads(read_file(folder / "run.json", MAX_RECORD))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def compute_metrics(
    images: np.ndarray, reference: np.ndarray, passes: FramePasses, metrics: dict[str, type[Metric]] | None = None
) -> dict[str, float]:
    """Every figure of a run's frames (F, H, W, 3) uint8.

    ``reference`` are the frames of the ``per_frame`` run with the same prompt and seed, against which detail is measured;
    ``metrics`` are other packages'.
    """
    return measure_clip(images, passes, reference, more=make_optional_parts(metrics or {}))


class Evaluator:
    """Makes runs of one model under one folder and measures them."""

    def __init__(
        self,
        out: Path,
        model: ImageModel,
        sampling: Sampling,
        print_line: Callable[[str], None],
        extra_metrics: ExtraMetrics | None = None,
        metrics: Mapping[str, type[Metric]] | None = None,
    ) -> None:
        """``sampling`` but for its model and seed; what is 0 or empty in it is the model's own. ``print_line`` is given a line of
        text after every run that was made; ``extra_metrics`` are computed of every run beside those of ``compute_metrics``, and
        those of ``metrics``, which other packages have, by their names."""
        self._out, self._model, self._sampling = out, model, msgspec.structs.replace(sampling, model=model.name)
        self._print_line, self._extra_metrics, self._metrics = print_line, extra_metrics, dict(metrics or {})
        self._fingerprint = fingerprint_model(model)
        self._said = set[str]()

    def run(
        self,
        shots: Sequence[Shot],
        prompts: tuple[str, ...],
        seeds: tuple[int, ...],
        variants: dict[str, Variant],
        derived: tuple[str, ...] = tuple(DERIVED),
        given: Sequence[GivenClip] = (),
    ) -> list[Row]:
        """Make or read every run and return a row for each: its names, its provenance and its figures. ``given`` are clips that
        were made elsewhere.

        The ``per_frame`` variant is always made, because detail is measured against it. Raises ``ShotError`` for shots, settings or
        clips that do not fit.
        """
        check_shots(shots)
        # what is wrong with a setting is said before anything is made
        for shot in shots:
            for prompt in prompts:
                for method in variants.values():
                    check_request(self._complete(shot, prompt, seeds[0], method))
        rows = []
        wanted: dict[str, Variant] = {"per_frame": VARIANTS["per_frame"], **variants}
        for shot in shots:
            for prompt_number, prompt in enumerate(prompts, 1):
                for seed in seeds:
                    folder = self._out / shot.name / f"{prompt_number}-{seed}"
                    found: dict[str, np.ndarray] = {}
                    origins: dict[str, Row] = {}
                    for name, method in wanted.items():
                        request = self._complete(shot, prompt, seed, method)
                        images, record = self._read_or_make_run(shot, request, method, name, folder)
                        found[name], origins[name] = images, record["provenance"]
                        if name in variants:
                            rows.append(self._make_row(shot, prompt, seed, name, images, found["per_frame"], record, folder))
                    for name in derived:
                        if DERIVED[name] in found:
                            source = found[DERIVED[name]]
                            images = blur(source) if name == "blurred" else bake_texture(source, shot.passes)
                            origin = {**origins[DERIVED[name]], "source": f"computed from {DERIVED[name]}"}
                            record = {"variant": name, "provenance": origin}
                            _write_run(folder / f"{name}-{origin['key']}", images, record)
                            rows.append(self._make_row(shot, prompt, seed, name, images, found["per_frame"], record, folder))
                    for clip in given:
                        if clip.belongs_to(shot.name, prompt_number, seed):
                            images, record = self._copy_given_clip(clip, shot, folder)
                            rows.append(self._make_row(shot, prompt, seed, clip.name, images, found["per_frame"], record, folder))
        return rows

    def _complete(self, shot: Shot, prompt: str, seed: int, variant: Variant) -> ShotRequest:
        """The request of a variant; a rival's has no techniques of ours."""
        tall, wide = shot.passes.mask.shape[1:]
        method = variant if isinstance(variant, Method) else METHODS["per_frame"]
        request = shot.make_request(prompt, method, msgspec.structs.replace(self._sampling, seed=seed))
        return self._model.complete_request(request, (wide, tall))

    def _read_or_make_run(
        self, shot: Shot, request: ShotRequest, variant: Variant, name: str, parent: Path
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """The frames and the record of a run, from its folder in ``parent`` if they are there, whole and unchanged."""
        rival = "" if isinstance(variant, Method) else describe_rival(variant)
        made_of = describe_run(request, shot.fingerprint, self._model, self._fingerprint, rival)
        provenance = describe_provenance(request, self._model, made_of)
        folder = parent / f"{name}-{provenance['key']}"
        record = _read_record(folder)
        if record.get("made_of") == made_of:
            stored = read_run(folder, shot.passes.frame_count)
            if stored is not None and record.get("frames") == fingerprint_frames(stored):
                # the same run may have been made from another place or on another card
                return stored, {**record, "provenance": {**provenance, **record.get("provenance", {})}}
        passes = check_passes(request, shot.passes.arrays())
        why = self._explain_making(parent, name, made_of)
        started = time.perf_counter()
        run_context = RunContext()
        with PeakMemory(self._model.device) as memory:
            if isinstance(variant, Method):
                images = np.stack(list(ShotPipeline(self._model, request, passes, run_context).frames()))
            else:
                images = make_frames(variant, self._model, request, passes, run_context)
        seconds = time.perf_counter() - started
        record = {
            "variant": name,
            "settings": msgspec.to_builtins(request),
            "made_of": made_of,
            "provenance": provenance,
            "frames": fingerprint_frames(images),
            "seconds_per_frame": seconds / len(images),
            "peak_mb": memory.megabytes,
            "stages": run_context.seconds,
        }
        _write_run(folder, images, record)
        self._print_line(f"{shot.name:>14} {parent.name:>6} {name:<26} {seconds / len(images):6.2f} s per frame{why}")
        self._warn(run_context.warnings)
        return images, record

    def _warn(self, sentences: Iterable[str]) -> None:
        """Say sentences, each once."""
        for sentence in sentences:
            if sentence not in self._said:
                self._said.add(sentence)
                self._print_line(sentence)

    def _explain_making(self, parent: Path, name: str, made_of: dict[str, str]) -> str:
        """In words, why a run that seems to be there is made; empty when none is."""
        for folder in sorted(parent.glob(f"{name}-*")):
            record = _read_record(folder)
            if record.get("variant") == name and isinstance(record.get("made_of"), dict):
                differences = list_differences(record["made_of"], made_of)
                return (
                    f"; what was there has {', '.join(differences)}" if differences else "; its frames were not as they were made"
                )
        if (parent / name / "run.json").exists():
            return "; what was there is of an earlier version, which did not keep what it was made of"
        return ""

    def _copy_given_clip(self, clip: GivenClip, shot: Shot, parent: Path) -> tuple[np.ndarray, dict[str, Any]]:
        """The frames and the record of a clip that was made elsewhere, copied beside the runs."""
        found = open_given_clip(clip, shot)
        images = np.stack(list(found))
        self._warn(found.warnings)
        frames = fingerprint_frames(images)
        provenance = dict.fromkeys(PROVENANCE, "") | {
            "key": frames[:12],
            "size": found.size_text,
            "passes": shot.fingerprint,
            "source": f"{clip.path}, {found.format}",
        }
        record = {"variant": clip.name, "provenance": provenance, "frames": frames}
        _write_run(parent / f"{clip.name}-{frames[:12]}", images, record)
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
        figures = compute_metrics(images, reference, shot.passes, self._metrics)
        figures |= self._extra_metrics(images, shot.passes, prompt) if self._extra_metrics else {}
        figures |= {key: record.get(key, float("nan")) for key in ("seconds_per_frame", "peak_mb")}
        return {
            "shot": shot.name,
            "prompt": prompt,
            "seed": seed,
            "variant": name,
            "folder": (folder / f"{name}-{record['provenance']['key']}").relative_to(self._out).as_posix(),
            **{key: record["provenance"].get(key, "") for key in PROVENANCE},
            **figures,
        }


def compute_means(rows: list[Row]) -> dict[str, dict[str, float]]:
    """variant -> the mean of every figure over its runs; NaN for a figure that no run has."""
    out: dict[str, dict[str, float]] = {}
    for name in dict.fromkeys(row["variant"] for row in rows):
        own = [row for row in rows if row["variant"] == name]
        keys = [key for key, value in own[0].items() if isinstance(value, float) and key not in PROVENANCE]
        values = {key: np.array([row[key] for row in own], float) for key in keys}
        out[name] = {key: float(np.nanmean(v)) if not np.isnan(v).all() else float("nan") for key, v in values.items()}
    return out


def round_means(rows: list[Row]) -> Means:
    """``compute_means`` as files and tables show them."""
    return {
        name: {key: None if np.isnan(value) else round(value, 5) for key, value in figures.items()}
        for name, figures in compute_means(rows).items()
    }
