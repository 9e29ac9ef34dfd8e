"""Topology: the body as unit cells on an integer grid, whose outer faces become the control quads.

Cells of different fingers, or of different legs, touch without being joined; a grid point is therefore split into as
many vertices as there are groups of cells joined through faces around it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

Cell = tuple[int, int, int]

TORSO_ROWS, LEG_ROWS, SHOULDER_ROW = 6, 6, 5
FINGER_START, THUMB_COLUMN = 8, 6


def make_cells() -> dict[Cell, str]:
    """Every cell with the label of its part; (i, j, k) grow to the left, up and to the front."""
    out: dict[Cell, str] = {}

    def fill(label: str, i: range, j: range, k: range) -> None:
        out.update({cell: label for cell in product(i, j, k)})

    fill("torso", range(-2, 2), range(TORSO_ROWS), range(-1, 1))
    fill("head", range(-1, 1), range(TORSO_ROWS, TORSO_ROWS + 4), range(-1, 1))
    half: dict[Cell, str] = {}
    out, body = half, out
    fill("leg", range(0, 2), range(-LEG_ROWS, 0), range(-1, 1))
    fill("foot", range(0, 2), range(-LEG_ROWS - 1, -LEG_ROWS), range(-1, 3))
    row = range(SHOULDER_ROW, SHOULDER_ROW + 1)
    fill("arm", range(2, 6), row, range(-1, 1))
    fill("palm", range(6, FINGER_START), row, range(-2, 2))
    for number in range(4):
        fill(f"finger{number}", range(FINGER_START, FINGER_START + 2), row, range(number - 2, number - 1))
    fill("thumb", range(THUMB_COLUMN, THUMB_COLUMN + 1), row, range(2, 4))
    for (i, j, k), label in half.items():
        body[i, j, k] = label + ".L"
        body[-1 - i, j, k] = label + ".R"
    return body


def are_joined(a: str, b: str) -> bool:
    """Whether two touching cells share their common face, so that no skin lies between them."""
    if a == b:
        return True
    if a.startswith("finger") and b.startswith("finger"):
        return False
    return a[-2:] == b[-2:] or "." not in a or "." not in b


@dataclass(frozen=True)
class Cage:
    """Control mesh: quads with outward winding.

    ``grid`` (V, 3) integer grid points, ``quads`` (F, 4) vertex indices, ``cell`` (F, 3) the cell behind each quad,
    ``axis`` (F,) 0..5 for the outward directions -i +i -j +j -k +k, ``labels`` the part names of the cells.
    """

    grid: np.ndarray
    quads: np.ndarray
    cell: np.ndarray
    axis: np.ndarray
    labels: list[str]


def _number_groups(corner: Cell, body: dict[Cell, str]) -> dict[Cell, int]:
    """Number the face-connected groups of the cells around a grid point."""
    i, j, k = corner
    around = [(i + di, j + dj, k + dk) for di, dj, dk in product((-1, 0), repeat=3)]
    open_cells = {c for c in around if c in body}
    groups: dict[Cell, int] = {}
    while open_cells:
        stack, number = [open_cells.pop()], len(set(groups.values()))
        while stack:
            cell = stack.pop()
            groups[cell] = number
            near = [
                c
                for c in open_cells
                if sum(abs(a - b) for a, b in zip(c, cell, strict=True)) == 1 and are_joined(body[c], body[cell])
            ]
            open_cells.difference_update(near)
            stack += near
    return groups


def make_cage() -> Cage:
    """The control mesh of the whole body; closed, genus 0."""
    body = make_cells()
    groups: dict[Cell, dict[Cell, int]] = {}
    vertices: dict[tuple[Cell, int], int] = {}
    quads: list[list[int]] = []
    owners: list[Cell] = []
    axes: list[int] = []
    for cell in sorted(body):
        for axis, sign in product(range(3), (0, 1)):
            step = [0, 0, 0]
            step[axis] = 1 if sign else -1
            neighbour = (cell[0] + step[0], cell[1] + step[1], cell[2] + step[2])
            if neighbour in body and are_joined(body[cell], body[neighbour]):
                continue
            a, b = (axis + 1) % 3, (axis + 2) % 3
            ring = [(0, 0), (1, 0), (1, 1), (0, 1)]
            quad = []
            for da, db in ring if sign else ring[::-1]:
                corner = list(cell)
                corner[axis] += sign
                corner[a] += da
                corner[b] += db
                key = (corner[0], corner[1], corner[2])
                group = groups.setdefault(key, {}) or groups[key]
                if not group:
                    group.update(_number_groups(key, body))
                quad.append(vertices.setdefault((key, group[cell]), len(vertices)))
            quads.append(quad)
            owners.append(cell)
            axes.append(2 * axis + sign)
    grid = np.array([corner for corner, _ in vertices])
    labels = [body[cell] for cell in owners]
    return Cage(grid, np.array(quads), np.array(owners), np.array(axes), labels)


def subdivide_catmull_clark(
    points: np.ndarray, quads: np.ndarray, corners: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Subdivide a mesh of quads once.

    ``points`` (V, 3), ``quads`` (F, 4), ``corners`` (F, 4, D) per-corner values that are split linearly. Returns the
    new points, quads (4F, 4) and corners (4F, 4, D); the four children of face f are 4f..4f+3.
    """
    count, faces = len(points), len(quads)
    face_points = points[quads].mean(1)
    ends = np.stack([quads, np.roll(quads, -1, 1)], -1).reshape(-1, 2)
    edges, edge_of = np.unique(np.sort(ends, 1), axis=0, return_inverse=True)
    edge_of = edge_of.reshape(faces, 4)
    edge_faces = np.zeros((len(edges), 3))
    np.add.at(edge_faces, edge_of.ravel(), np.repeat(face_points, 4, 0))
    middles = points[edges].mean(1)
    edge_points = (points[edges].sum(1) + edge_faces) / 4
    valence = np.bincount(quads.ravel(), minlength=count)[:, None]
    q, r = np.zeros_like(points), np.zeros_like(points)
    np.add.at(q, quads.ravel(), np.repeat(face_points, 4, 0))
    np.add.at(r, edges.ravel(), np.repeat(middles, 2, 0))
    new = (q / valence + 2 * r / valence + (valence - 3) * points) / valence
    face_ids = np.arange(faces) + count + len(edges)
    edge_ids = edge_of + count
    children = np.stack([quads, edge_ids, np.broadcast_to(face_ids[:, None], quads.shape), np.roll(edge_ids, 1, 1)], -1)
    middle = (corners + np.roll(corners, -1, 1)) / 2
    centre = np.broadcast_to(corners.mean(1, keepdims=True), corners.shape)
    new_corners = np.stack([corners, middle, centre, np.roll(middle, 1, 1)], 2)
    return (np.concatenate([new, edge_points, face_points]), children.reshape(-1, 4), new_corners.reshape(faces * 4, 4, -1))
