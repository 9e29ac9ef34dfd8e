"""Measures a clip, whoever made it, against the saved passes of its shot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...shared.passes import FramePasses
from ...shared.version import VERSION
from ..plugins import origin_of
from .clip_measurer import measure_frames
from .clips import Clip, open_clip
from .fingerprints import FramesFingerprint, PassesFingerprint
from .making import describe_making
from .metric_plugins import PLUGINS, Metric
from .optional_parts import make_optional_parts
from .packed_shots import FrameSource, open_frames
from .pictures import measure_contrast


@dataclass(frozen=True)
class Measured:
    """A clip's figures, rounded, None where there is nothing to measure; sentences about what was guessed or left out; and what was
    measured, by what."""

    figures: dict[str, float | None]
    warnings: tuple[str, ...]
    provenance: dict[str, object]


class _Reading:
    """Reads a clip's frames with their passes, and takes both hashes on the way."""

    def __init__(self, clip: Clip, passes: FrameSource) -> None:
        self._clip, self._passes = clip, passes
        self.passes_print = PassesFingerprint()
        self.frames_print = FramesFingerprint(len(passes.manifest.frames), clip.size)

    def __iter__(self) -> Iterator[tuple[np.ndarray, FramePasses]]:
        for n, image in enumerate(self._clip):
            passes = self._passes.frame(n)
            self.passes_print.add(passes)
            self.frames_print.add(image)
            yield image, passes


def measure_saved(
    folder: Path,
    frames: Sequence[Path],
    reference: Path | None = None,
    metrics: Mapping[str, type[Metric]] | None = None,
    shot: str = "",
) -> Measured:
    """All figures of the clip in ``frames`` (see ``open_clip``) against the passes in a folder, or those of a benchmark's ``shot``,
    one frame in memory at a time. ``reference`` is the per-frame clip for the figures that are ratios to it; ``metrics`` are other
    packages'. Raises ``ShotError``."""
    passes, name = open_frames(folder, shot)
    return measure_given(passes, name, frames, reference, str(folder), metrics)


def measure_given(
    passes: FrameSource,
    name: str,
    frames: Sequence[Path],
    reference: Path | None,
    where: str,
    metrics: Mapping[str, type[Metric]] | None = None,
) -> Measured:
    """``measure_saved`` for passes that are open already; ``name`` is the shot's, ``where`` what the provenance says of the place.
    Raises ``ShotError``."""
    manifest = passes.manifest
    size = (manifest.width, manifest.height)
    clip = open_clip(frames, manifest.frames, size)
    against = None if reference is None else open_clip([reference], manifest.frames, size)
    contrast = None if against is None else measure_contrast(_Reading(against, passes))
    reading = _Reading(clip, passes)
    figures = measure_frames(reading, contrast, more=make_optional_parts(dict(metrics or {})))
    warnings = list(dict.fromkeys([*clip.warnings, *([] if against is None else against.warnings)]))
    provenance: dict[str, object] = {
        "version": VERSION,
        "code": describe_making()["figures"],
        "shot": name,
        "passes": where,
        "passes_fingerprint": reading.passes_print.text,
        "frames": [str(path) for path in frames],
        "frames_fingerprint": reading.frames_print.text,
        "format": clip.format,
        "size": clip.size_text,
        "metrics": {name: origin_of(PLUGINS.find()[name]) for name in metrics or ()},
        "reference": "" if reference is None else str(reference),
        "warnings": warnings,
    }
    rounded = {name: None if np.isnan(value) else round(value, 4) for name, value in figures.items()}
    return Measured(rounded, tuple(warnings), provenance)
