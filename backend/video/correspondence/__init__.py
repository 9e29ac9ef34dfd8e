"""Which pixels of two frames show the same surface point.

``matches`` is what alignment and guidance ask; ``hungarian`` is the paper's matching, ``surface`` the exact one from rest
positions, ``densepose`` the paper's own source of parts and coordinates. In go ``FramePasses``, out come ``Matches``.
"""

from .background import match_background, match_turning_background
from .hungarian import match_hungarian, match_pair
from .matches import Matches, shrink
from .surface import (
    SurfaceFrame,
    find_reference_pixels,
    match,
    match_surfaces,
    prepare_background_frames,
    prepare_surface_frame,
    prepare_surface_frames,
)

__all__ = [
    "Matches",
    "SurfaceFrame",
    "find_reference_pixels",
    "match",
    "match_background",
    "match_hungarian",
    "match_pair",
    "match_surfaces",
    "match_turning_background",
    "prepare_background_frames",
    "prepare_surface_frame",
    "prepare_surface_frames",
    "shrink",
]
