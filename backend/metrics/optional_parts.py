"""What gathers figures beyond the ones that are always there: of encoders whose weights are at hand, and of other packages."""

from __future__ import annotations

from .clip_measurer import Part
from .lpips import make_perceptual_change
from .metric_plugins import Metric, make_parts
from .perceptual import make_similarities


def make_optional_parts(metrics: dict[str, type[Metric]]) -> dict[str, Part]:
    """The parts by names of their own; ``metrics`` are other packages'."""
    return {**make_similarities(), **make_perceptual_change(), **make_parts(metrics)}
