"""Completes looks by colours for all of the surface that a shot shows."""

from __future__ import annotations

from ...shared.shot import Method
from .lattice import sample_frames
from .look import Look
from .mirroring import Mirror, find_mirror
from .run_context import RunContext
from .source import PassesSource, compute_overview_scale
from .surface_filling import SurfaceCells, collect_surface_cells

NOT_SYMMETRIC = (
    "What the shot shows of the characters is not the same left and right in their rest pose, so nothing was taken from the other "
    "side; switch Symmetric off."
)
#: frames from which the surface of a shot is known, spread over it
SURFACE_FRAMES = 64


class LookFiller:
    """Fills the looks of one shot."""

    def __init__(self, source: PassesSource, method: Method, run_context: RunContext) -> None:
        """``run_context`` takes the warning that a body is not symmetric."""
        self._source, self._method, self._run_context = source, method, run_context
        self._surface: SurfaceCells | None = None

    def fill(self, look: Look) -> Look:
        """A look with colours for all of the surface that the shot's frames show."""
        surface = self._collect_surface(look.texture.side)
        return look.fill(surface, self._find_mirror(surface))

    def _find_mirror(self, surface: SurfaceCells) -> Mirror | None:
        """The body's plane of symmetry, where that is asked for; it is said when there is none."""
        fusion = self._method.fusion
        if fusion is None or not fusion.symmetric:
            return None
        mirror = find_mirror(surface)
        if mirror is None and len(surface.cells):
            self._run_context.add_warnings((NOT_SYMMETRIC,))
        return mirror

    def _collect_surface(self, side: float) -> SurfaceCells:
        """What the small copies of the shot's frames show of the surface, in cells as large as their pixels; ``side`` is that of
        cells as large as a frame's."""
        side *= compute_overview_scale(self._source)
        if self._surface is None or self._surface.side != side:
            frames = sample_frames(self._source.overview, range(self._source.frame_count), SURFACE_FRAMES)
            self._surface = collect_surface_cells(frames, side)
        return self._surface
