"""Measures a clip, whoever made it, against the saved passes of its shot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...shared.passes_folder import PassesFolder
from ...shared.version import VERSION
from .clips import Clip, open_clip
from .figures import ClipMeasurer
from .frames import prepare_frame
from .making import describe_making
from .perceptual import PerceptualSimilarity, find_encoders
from .pictures import PictureContrast


@dataclass(frozen=True)
class Measured:
    """A clip's figures, rounded, None where there is nothing to measure; sentences about what was guessed or left out; and what was
    measured, by what."""

    figures: dict[str, float | None]
    warnings: tuple[str, ...]
    provenance: dict[str, object]


def _measure_reference(clip: Clip, passes: PassesFolder) -> dict[str, float]:
    found = PictureContrast()
    for n, image in enumerate(clip):
        found.add(prepare_frame(n, image, passes.frame(n)))
    return found.figures()


def measure_saved(folder: Path, frames: Sequence[Path], reference: Path | None = None) -> Measured:
    """All figures of the clip in ``frames`` (see ``open_clip``) against the passes in a folder, one frame in memory at a time.
    ``reference`` is the per-frame clip for the figures that are ratios to it. Raises ``ShotError``."""
    passes = PassesFolder(folder)
    manifest = passes.manifest
    size = (manifest.width, manifest.height)
    clip = open_clip(frames, manifest.frames, size)
    against = None if reference is None else open_clip([reference], manifest.frames, size)
    contrast = None if against is None else _measure_reference(against, passes)
    measurer = ClipMeasurer(more={name: PerceptualSimilarity(name, encode) for name, encode in find_encoders().items()})
    for n, image in enumerate(clip):
        measurer.add(image, passes.frame(n))
    figures = measurer.figures(contrast)
    warnings = [*clip.warnings, *([] if against is None else against.warnings)]
    provenance: dict[str, object] = {
        "version": VERSION,
        "code": describe_making()["figures"],
        "passes": str(folder),
        "frames": [str(path) for path in frames],
        "format": clip.format,
        "size": clip.size_text,
        "reference": "" if reference is None else str(reference),
        "warnings": warnings,
    }
    rounded = {name: None if np.isnan(value) else round(value, 4) for name, value in figures.items()}
    return Measured(rounded, tuple(dict.fromkeys(warnings)), provenance)
