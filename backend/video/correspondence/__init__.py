"""Which pixels of two frames show the same surface point.

``matches`` is what alignment and guidance ask; ``hungarian`` is the paper's matching, ``surface`` the exact one from rest
positions, ``densepose`` the paper's own source of parts and coordinates. In go ``FramePasses``, out come ``Matches``.
"""

from .background import background_matches
from .hungarian import hungarian_matches, hungarian_pair
from .matches import Matches, shrink
from .surface import SurfaceFrame, background_frames, match, reference_pixels, surface_frame, surface_frames, surface_matches

__all__ = [
    "Matches",
    "SurfaceFrame",
    "background_frames",
    "background_matches",
    "hungarian_matches",
    "hungarian_pair",
    "match",
    "reference_pixels",
    "shrink",
    "surface_frame",
    "surface_frames",
    "surface_matches",
]
