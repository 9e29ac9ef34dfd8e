"""What the sun reaches: the shadows that a figure casts on the ground and on itself, as rays to one far lamp have them."""

from __future__ import annotations

import numpy as np

from latentman.blender_addon.reference_shots.rasteriser import rasterise
from latentman.shared.vectors import normalise

#: the lamp's distance in sizes of the figure: rays are nearly parallel
FAR = 30.0
#: side of the map in pixels; how much deeper than what the lamp sees a point is in shadow, in pixels' widths
SIDE, BIAS = 320, 3.0
#: directions towards points of the lamp: a shadow's edge is as soft as the sun's, and a cloud's, would make it
TAPS = 16


class LightMap:
    """A map of what a lamp sees of a mesh, points (V, 3) in metres and triangles (T, 3), in the unit direction ``light``."""

    def __init__(self, points: np.ndarray, faces: np.ndarray, light: np.ndarray) -> None:
        self._middle = (points.max(0) + points.min(0)) / 2
        radius = float(np.linalg.norm(points - self._middle, axis=1).max()) * 1.02
        side = normalise(np.cross([0.0, 0.0, 1.0] if abs(light[1]) > 0.9 else [0.0, 1.0, 0.0], light))
        self._axes = np.stack([side, np.cross(light, side), light])
        self._far, self._focal = FAR * radius, SIDE / 2 * FAR
        self._depth = rasterise(self._project(points), faces, self._focal, SIDE, SIDE).depth
        self._bias = BIAS * 2 * radius / SIDE

    def _project(self, points: np.ndarray) -> np.ndarray:
        return (points - self._middle) @ self._axes.T - [0.0, 0.0, self._far]

    def reach(self, points: np.ndarray, softness: float = 1.5) -> np.ndarray:
        """(N,) how much of the lamp points (N, 3) see, 0..1; ``softness`` is the width of shadows' edges, in pixels of the map."""
        seen = self._project(points)
        depth = -seen[:, 2]
        column, row = seen[:, 0] / depth * self._focal + SIDE / 2, SIDE / 2 - seen[:, 1] / depth * self._focal
        lit = np.zeros(len(points))
        for tap in range(TAPS):
            # a spiral that covers a disc evenly
            away, angle = softness * np.sqrt((tap + 0.5) / TAPS), tap * 2.399963
            x = np.floor(column + away * np.cos(angle)).astype(int)
            y = np.floor(row + away * np.sin(angle)).astype(int)
            inside = (x >= 0) & (x < SIDE) & (y >= 0) & (y < SIDE)
            nearest = np.where(inside, self._depth[np.clip(y, 0, SIDE - 1), np.clip(x, 0, SIDE - 1)], np.inf)
            lit += depth <= nearest + self._bias
        return lit / TAPS
