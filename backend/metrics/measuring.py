"""Measures a clip, whoever made it, against the saved passes of its shot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...shared.passes import FramePasses
from ...shared.passes_folder import PassesFolder
from ...shared.version import VERSION
from ..plugins import origin_of
from .clip_measurer import measure_frames
from .clips import Clip, open_clip
from .making import describe_making
from .metric_plugins import PLUGINS, Metric, make_parts
from .perceptual import make_similarities
from .pictures import measure_contrast


@dataclass(frozen=True)
class Measured:
    """A clip's figures, rounded, None where there is nothing to measure; sentences about what was guessed or left out; and what was
    measured, by what."""

    figures: dict[str, float | None]
    warnings: tuple[str, ...]
    provenance: dict[str, object]


def _read_frames(clip: Clip, passes: PassesFolder) -> Iterator[tuple[np.ndarray, FramePasses]]:
    return ((image, passes.frame(n)) for n, image in enumerate(clip))


def measure_saved(
    folder: Path, frames: Sequence[Path], reference: Path | None = None, metrics: Mapping[str, type[Metric]] | None = None
) -> Measured:
    """All figures of the clip in ``frames`` (see ``open_clip``) against the passes in a folder, one frame in memory at a time.
    ``reference`` is the per-frame clip for the figures that are ratios to it; ``metrics`` are other packages'. Raises
    ``ShotError``."""
    passes = PassesFolder(folder)
    manifest = passes.manifest
    size = (manifest.width, manifest.height)
    clip = open_clip(frames, manifest.frames, size)
    against = None if reference is None else open_clip([reference], manifest.frames, size)
    contrast = None if against is None else measure_contrast(_read_frames(against, passes))
    figures = measure_frames(_read_frames(clip, passes), contrast, more=make_similarities() | make_parts(dict(metrics or {})))
    warnings = list(dict.fromkeys([*clip.warnings, *([] if against is None else against.warnings)]))
    provenance: dict[str, object] = {
        "version": VERSION,
        "code": describe_making()["figures"],
        "passes": str(folder),
        "frames": [str(path) for path in frames],
        "format": clip.format,
        "size": clip.size_text,
        "metrics": {name: origin_of(PLUGINS.find()[name]) for name in metrics or ()},
        "reference": "" if reference is None else str(reference),
        "warnings": warnings,
    }
    rounded = {name: None if np.isnan(value) else round(value, 4) for name, value in figures.items()}
    return Measured(rounded, tuple(warnings), provenance)
