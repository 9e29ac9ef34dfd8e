"""Which pixels of two frames show the same surface point.

``matches`` is what alignment and guidance ask; ``hungarian`` is the paper's matching, ``surface`` the exact one from rest
positions, ``chains`` follows the exact one through a clip, ``densepose`` is the paper's own source of parts and coordinates. In go
``FramePasses``, out come ``Matches`` or ``Chains``.
"""

from .background import match_background, match_turning_background
from .chains import Chains, find_cubic_corners, follow_chains
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
    "Chains",
    "Matches",
    "SurfaceFrame",
    "find_cubic_corners",
    "find_reference_pixels",
    "follow_chains",
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
