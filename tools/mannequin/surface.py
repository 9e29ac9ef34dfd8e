"""Geometry: the control mesh placed inside the body, subdivided, and drawn onto the implicit surface."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from latentman.shared.vectors import normalise

from .anatomy import FINGERS, Loft, Proportions, Warp, compute_distance, make_solids
from .polycube import Cage, subdivide_catmull_clark

PROJECTIONS, RELAXATIONS = 6, 14


@dataclass(frozen=True)
class Skin:
    """The finished surface: ``points`` (V, 3) metres with the floor at y = 0, ``quads`` (F, 4), ``uv`` (F, 4, 2), and
    ``parts`` (V, P) booleans saying which of ``names`` each vertex belongs to."""

    points: np.ndarray
    quads: np.ndarray
    uv: np.ndarray
    parts: np.ndarray
    names: list[str]


TORSO_HEIGHTS = (0.845, 0.95, 1.06, 1.17, 1.28, 1.375, 1.475)
TORSO_HALF = ((0.14, 0.09), (0.16, 0.10), (0.145, 0.09), (0.13, 0.085), (0.14, 0.09), (0.15, 0.09), (0.12, 0.06))
HEAD_HEIGHTS = (1.475, 1.555, 1.63, 1.70, 1.775)
HEAD_HALF = ((0.05, 0.05, -0.02), (0.05, 0.055, 0.005), (0.055, 0.07, 0.02), (0.06, 0.075, 0.01), (0.045, 0.055, 0.0))
LEG_HEIGHTS = (0.845, 0.72, 0.59, 0.47, 0.35, 0.21, 0.085)
ARM_REACH = (0.165, 0.30, 0.45, 0.58, 0.715)
PALM_REACH = (0.715, 0.765, 0.808)
FOOT_DEPTH = (-0.075, -0.02, 0.045, 0.115, 0.19)


def _get_template_position(corner: np.ndarray, label: str) -> tuple[float, float, float]:
    """Template position of a grid point as seen from a left-side or midline part."""
    i, j, k = (int(c) for c in corner)
    part = label.split(".")[0]
    if part == "torso":
        half_x, half_z = TORSO_HALF[j]
        return i / 2 * half_x, TORSO_HEIGHTS[j], k * half_z - 0.005
    if part == "head":
        half_x, half_z, z = HEAD_HALF[j - 6]
        return i * half_x, HEAD_HEIGHTS[j - 6], k * half_z + z
    if part == "leg":
        radius = float(np.interp(-j, (0, 3, 6), (0.070, 0.045, 0.03)))
        x = (0.0, 0.07, 0.14)[i] if j == 0 else 0.088 + (i - 1) * radius
        return x, LEG_HEIGHTS[-j], k * radius + (-0.018 if j < -3 else 0.0)
    if part == "foot":
        return 0.095 + (i - 1) * 0.036, (0.085, 0.0)[-6 - j], FOOT_DEPTH[k + 1]
    if part == "arm":
        return ARM_REACH[i - 2], 1.425 + (j - 5.5) * float(np.interp(i, (2, 6), (0.09, 0.04))), k * 0.035 - 0.01
    if part == "palm":
        return PALM_REACH[i - 6], 1.424 + (j - 5.5) * 0.026, k * float(np.interp(i, (6, 8), (0.017, 0.0205)))
    if part == "thumb":
        t = (k - 2) / 2
        base, tip = np.array([0.745, 1.418, 0.034]), np.array([0.804, 1.403, 0.086])
        x, y, z = base + (tip - base) * t
        return x + (i - 6.5) * 0.024, y + (j - 5.5) * 0.02, z - (i - 6.5) * 0.012
    z0, z1, length = FINGERS[part]
    t = (i - 8) / 2
    centre_column = int(part[-1]) - 2 + 0.5
    return 0.808 + t * length, 1.422 + (j - 5.5) * 0.016, z0 + (z1 - z0) * t + (k - centre_column) * 0.016


def place_control_mesh(cage: Cage, proportions: Proportions) -> np.ndarray:
    """Positions (V, 3) of the control mesh inside the body."""
    warp = Warp(proportions)
    total, count = np.zeros((len(cage.grid), 3)), np.zeros(len(cage.grid))
    for quad, label in zip(cage.quads, cage.labels, strict=True):
        right = label.endswith(".R")
        for vertex in quad:
            corner = cage.grid[vertex] * ([-1, 1, 1] if right else [1, 1, 1])
            x, y, z = _get_template_position(corner, label)
            total[vertex] += warp.point((-x if right else x, y, z))
            count[vertex] += 1
    return total / count[:, None]


def _list_solid_groups(label: str) -> set[str]:
    """The groups of solids whose union a part's skin lies on: its own, and those that it grows out of."""
    part, _, side = label.partition(".")
    side = "." + side
    if part in ("torso", "head"):
        return {"torso", "head", "leg.L", "leg.R", "arm.L", "arm.R"}
    if part in ("leg", "foot"):
        return {"torso", "leg" + side, "foot" + side}
    if part == "arm":
        return {"torso", "head", "arm" + side, "palm" + side}
    if part == "palm":
        return {"arm" + side, "palm" + side, "thumb" + side} | {f + side for f in FINGERS}
    return {"palm" + side, label}


def _mark_parts(count: int, quads: np.ndarray, face_label: np.ndarray, labels: int) -> np.ndarray:
    parts = np.zeros((count, labels), bool)
    for corner in quads.T:
        parts[corner, face_label] = True
    return parts


def _project_to_surface(points: np.ndarray, regions: list[tuple[np.ndarray, list[Loft]]]) -> np.ndarray:
    """Newton steps along the gradient towards the zero level of each region's solids."""
    out = points.copy()
    step = 1e-5
    for rows, parts in regions:
        p = out[rows]
        value = compute_distance(p, parts)
        gradient = np.stack([(compute_distance(p + step * axis, parts) - value) / step for axis in np.eye(3)], -1)
        square = np.clip((gradient**2).sum(-1), 0.25, None)
        move = -value / square
        length = np.abs(move) * np.sqrt(square)
        move *= np.minimum(1.0, 0.02 / np.maximum(length, 1e-12))
        out[rows] = p + gradient * move[:, None]
    return out


def compute_vertex_normals(points: np.ndarray, quads: np.ndarray) -> np.ndarray:
    """Area-weighted unit normals (V, 3)."""
    a, b, c, d = (points[quads[:, n]] for n in range(4))
    face = np.cross(c - a, d - b)
    out = np.zeros_like(points)
    for corner in quads.T:
        np.add.at(out, corner, face)
    return normalise(out)


def make_neighbour_average(quads: np.ndarray, count: int) -> csr_matrix:
    """Averaging over edge neighbours: (V, V) rows sum to 1."""
    edges = np.unique(np.sort(np.stack([quads, np.roll(quads, -1, 1)], -1).reshape(-1, 2), 1), axis=0)
    rows, cols = np.concatenate([edges, edges[:, ::-1]]).T
    weights = 1.0 / np.bincount(rows, minlength=count)[rows]
    return csr_matrix((weights, (rows, cols)), (count, count))


def make_skin(cage: Cage, chart_uv: np.ndarray, proportions: Proportions) -> Skin:
    """The skin of a body: two subdivisions of the cage, drawn onto the solids and evened out along the surface.

    ``chart_uv`` (F, 4, 2) are the control quads' texture coordinates.
    """
    points, quads, uv = place_control_mesh(cage, proportions), cage.quads, chart_uv
    names = sorted(set(cage.labels))
    face_label = np.array([names.index(label) for label in cage.labels])
    body = make_solids(proportions)
    for level in range(2):
        points, quads, uv = subdivide_catmull_clark(points, quads, uv)
        face_label = np.repeat(face_label, 4)
        parts = _mark_parts(len(points), quads, face_label, len(names))
        regions = []
        for pattern in np.unique(parts, axis=0):
            seen = set().union(*(_list_solid_groups(names[n]) for n in np.flatnonzero(pattern)))
            regions.append((np.flatnonzero((parts == pattern).all(1)), [s for s in body if s.group in seen]))
        average = make_neighbour_average(quads, len(points))
        for _ in range(PROJECTIONS):
            points = _project_to_surface(points, regions)
        for _ in range(RELAXATIONS if level else 4):
            slide = average @ points - points
            normal = compute_vertex_normals(points, quads)
            slide -= normal * (slide * normal).sum(1, keepdims=True)
            points = _project_to_surface(points + 0.5 * slide, regions)
    return Skin(points, quads, uv, parts, names)
