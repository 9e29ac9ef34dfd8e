"""The two sides of a body: the plane that mirrors its rest pose onto itself, and what one side lacks taken from the other."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.spatial import cKDTree

from .lattice import SurfaceTexture, unpack_cells
from .surface_filling import SurfaceCells

#: of the cells off the plane at least this fraction must have one at its mirror image, or the body is not symmetric
LEAST_SYMMETRY = 0.75
#: cells that count as being at a place, and within which of the plane nothing is to be learnt
SPOT, MIDDLE = 1.75, 4.0
#: cells that are tried
SAMPLES = 3000


@dataclass(frozen=True)
class Mirror:
    """A plane: its unit ``normal`` (3,), and how far along it from the origin it lies, in metres."""

    normal: np.ndarray
    offset: float

    def reflect(self, points: np.ndarray) -> np.ndarray:
        """Points (N, 3) on the other side."""
        found: np.ndarray = points - 2 * np.outer(points @ self.normal - self.offset, self.normal)
        return found

    def reflect_directions(self, directions: np.ndarray) -> np.ndarray:
        """Directions (N, 3) as they are in the mirror."""
        found: np.ndarray = directions - 2 * np.outer(directions @ self.normal, self.normal)
        return found


def find_mirror(surface: SurfaceCells) -> Mirror | None:
    """The plane that mirrors most of a surface onto itself; None where none does. Planes across the axes of the rest pose and the
    surface's own long, broad and deep ways are tried."""
    if len(surface.cells) < 100:
        return None
    points = unpack_cells(surface.cells)[0] * surface.side
    tree, middle = cKDTree(points), points.mean(0)
    some = points[np.linspace(0, len(points) - 1, min(SAMPLES, len(points))).astype(int)]
    own_ways = np.linalg.svd(some - some.mean(0), full_matrices=False)[2]
    best, most = None, 0.0
    for normal in (*np.eye(3), *own_ways):
        along = points @ normal
        centres = {(along.min() + along.max()) / 2, float(np.median(along)), float(middle @ normal)}
        for centre in sorted(centres):
            for shift in np.arange(-2, 2.01, 0.5) * surface.side:
                mirror = Mirror(normal, centre + shift)
                share, distance = _measure_symmetry(mirror, some, tree, surface.side)
                # of planes that fit alike the one that fits closest
                score = share - 0.1 * distance
                if share >= LEAST_SYMMETRY and score > most:
                    best, most = mirror, score
    return best


def _measure_symmetry(mirror: Mirror, points: np.ndarray, tree: cKDTree, side: float) -> tuple[float, float]:
    """The fraction of points off the plane whose mirror image is on the surface, and how far in cells it is from the nearest cell;
    0 where most of them are on the plane."""
    off = np.abs(points @ mirror.normal - mirror.offset) > MIDDLE * side
    if off.mean() < 0.5:
        return 0.0, 0.0
    distance = tree.query(mirror.reflect(points[off]), distance_upper_bound=SPOT * side)[0]
    there = np.isfinite(distance)
    return float(there.mean()), float(distance[there].mean()) / side if there.any() else 0.0


def mirror_texture(texture: SurfaceTexture, surface: SurfaceCells, mirror: Mirror) -> SurfaceTexture:
    """``texture`` with the colours of the mirror images of its unknown and doubtful cells, where those are trusted. ``surface`` has
    cells of the same size."""
    device = texture.cells.device
    own = texture.rows(torch.from_numpy(surface.cells).to(device)).cpu().numpy()
    trusted = (own >= 0) & texture.trusted.cpu().numpy()[own.clip(0)] if len(texture.cells) else np.zeros(len(own), bool)
    if trusted.all() or not trusted.any():
        return texture
    points = unpack_cells(surface.cells)[0] * surface.side
    wanted = np.flatnonzero(~trusted)
    distance, near = cKDTree(points[trusted]).query(mirror.reflect(points[wanted]), distance_upper_bound=SPOT * surface.side)
    there = np.isfinite(distance)
    wanted, near = wanted[there], np.flatnonzero(trusted)[near[there]]
    faces = (mirror.reflect_directions(surface.normals[wanted]) * surface.normals[near]).sum(1) > 0
    wanted, near = wanted[faces], near[faces]
    taken = SurfaceTexture(
        texture.side,
        torch.from_numpy(surface.cells[wanted]).to(device),
        texture.values[torch.from_numpy(own[near]).to(device)],
    )
    kept = taken.merge(texture)
    return replace(kept, doubtful=None) if not bool((~kept.trusted).any()) else kept
