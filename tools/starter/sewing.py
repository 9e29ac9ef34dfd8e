"""Pieces of cloth and hair that follow a body: cut from its surface, or shaped freely around it.

Rest positions are metres with the pelvis joint as origin, Y up, facing +Z, as in the mannequin's file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.sparse import csr_matrix, vstack
from scipy.spatial import cKDTree

from latentman.blender_addon.character.body_model import BodyModel
from latentman.blender_addon.reference_shots.views import compute_vertex_normals
from latentman.shared.vectors import normalise

#: a freely shaped vertex moves as this many of the body's nearest vertices do on average
NEIGHBOURS = 12


@dataclass(frozen=True, eq=False)
class Piece:
    """A mesh beside the body's: ``points`` (V, 3) and ``faces`` (T, 3), where its patterns lie, ``rest`` (V, 3), and how its
    vertices move, ``binding`` (V, B): the share of each vertex of the body. ``weights`` (V, J) replace those that follow."""

    points: np.ndarray
    faces: np.ndarray
    rest: np.ndarray
    binding: csr_matrix
    weights: np.ndarray | None = None


class Mannequin:
    """A body to dress, with what is needed of it again and again."""

    def __init__(self, body: BodyModel) -> None:
        self.body = body

    @cached_property
    def normals(self) -> np.ndarray:
        """(B, 3) unit normals of the rest pose."""
        return compute_vertex_normals(self.body.v_template, self.body.faces)

    @cached_property
    def tree(self) -> cKDTree:
        """Finds the nearest vertices of the rest pose."""
        return cKDTree(self.body.v_template)

    def bind(self, points: np.ndarray) -> csr_matrix:
        """(V, B) how freely shaped points (V, 3) follow the body."""
        distance, index = self.tree.query(points, NEIGHBOURS)
        share = 1 / (distance + 0.02)
        share /= share.sum(1, keepdims=True)
        rows = np.repeat(np.arange(len(points)), NEIGHBOURS)
        return csr_matrix((share.ravel(), (rows, index.ravel())), shape=(len(points), len(self.body.v_template)))

    def shape_freely(
        self, points: np.ndarray, faces: np.ndarray, weights: np.ndarray | None = None, rest: np.ndarray | None = None
    ) -> Piece:
        """A piece of any form, points (V, 3) and triangles (T, 3), whose patterns lie at ``rest``, or where it is."""
        return Piece(points, faces, points if rest is None else rest, self.bind(points), weights)

    def cut(self, field: Callable[[np.ndarray], np.ndarray]) -> Piece:
        """The part of the surface where ``field``, of rest positions (N, 3), is above 0; its edge lies where that is 0."""
        body = self.body
        value = field(body.v_template)
        # a vertex on the edge itself would give triangles without an area
        value = np.where(np.abs(value) < 1e-6, 1e-6, value)
        sign = value > 0
        faces = body.faces[sign[body.faces].any(1)]
        whole = sign[faces].all(1)
        edges: dict[tuple[int, int], int] = {}
        ends: list[tuple[int, int]] = []

        def cross(a: int, b: int) -> int:
            """The new vertex on the edge from one within to one without."""
            key = (a, b)
            if key not in edges:
                edges[key] = len(body.v_template) + len(ends)
                ends.append(key)
            return edges[key]

        made: list[tuple[int, int, int]] = []
        for face in faces[~whole].tolist():
            within = [corner for corner in range(3) if sign[face[corner]]]
            if len(within) == 1:
                a, b, c = (face[(within[0] + k) % 3] for k in range(3))
                made.append((a, cross(a, b), cross(a, c)))
            else:
                without = next(corner for corner in range(3) if corner not in within)
                c, a, b = (face[(without + k) % 3] for k in range(3))
                ac, bc = cross(a, c), cross(b, c)
                made += [(a, b, bc), (a, bc, ac)]
        triangles = np.concatenate([faces[whole], np.array(made, np.int64).reshape(-1, 3)])
        used, index = np.unique(triangles, return_inverse=True)
        count = len(body.v_template)
        old, new = used[used < count], used[used >= count] - count
        pairs = np.array(ends, np.int64).reshape(-1, 2)[new]
        at = value[pairs[:, 0]] / (value[pairs[:, 0]] - value[pairs[:, 1]])
        rows = len(old) + np.arange(len(new))
        binding = csr_matrix(
            (
                np.concatenate([np.ones(len(old)), 1 - at, at]),
                (np.concatenate([np.arange(len(old)), rows, rows]), np.concatenate([old, pairs[:, 0], pairs[:, 1]])),
            ),
            shape=(len(used), count),
        )
        points = binding @ body.v_template
        return Piece(points, index.reshape(-1, 3), points, binding)

    def grow(
        self,
        field: Callable[[np.ndarray], np.ndarray],
        thickness: Callable[[np.ndarray], np.ndarray],
        smoothing: int = 0,
    ) -> Piece:
        """A shell over the surface where ``field`` is above 0, ``thickness`` metres (of rest positions) above it, closed along its
        edge. ``smoothing`` rounds of averaging take the body's relief from it."""
        flat = self.cut(field)
        outward = normalise(flat.binding @ self.normals)
        height = np.broadcast_to(thickness(flat.rest), (len(flat.points),))
        points = flat.points + outward * height[:, None]
        if smoothing and len(points):
            points = _smooth(points, flat.faces, smoothing)
            # never below the body
            below = height * 0.6 - ((points - flat.points) * outward).sum(1)
            points = points + outward * np.clip(below, 0, None)[:, None]
        return _close(replace(flat, points=points), flat.points)


def _smooth(points: np.ndarray, faces: np.ndarray, rounds: int) -> np.ndarray:
    """Move vertices to the mean of those around them; those on the edge stay."""
    pairs = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    pairs = np.concatenate([pairs, pairs[:, ::-1]])
    near = csr_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(points), len(points)))
    near.data[:] = 1
    share = np.maximum(np.asarray(near.sum(1)).ravel(), 1)[:, None]
    fixed = np.zeros(len(points), bool)
    fixed[find_edge(faces).ravel()] = True
    for _ in range(rounds):
        points = np.where(fixed[:, None], points, (points + near @ points / share) / 2)
    return points


def find_edge(faces: np.ndarray) -> np.ndarray:
    """(E, 2) the edges that belong to one triangle alone, in its direction."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    most = int(faces.max(initial=0)) + 1
    there = edges[:, 0] * most + edges[:, 1]
    back = edges[:, 1] * most + edges[:, 0]
    return edges[~np.isin(there, back)]


def _close(piece: Piece, below: np.ndarray) -> Piece:
    """Add a strip from the edge of a shell down to the points ``below`` (V, 3)."""
    edge = find_edge(piece.faces)
    if not len(edge):
        return piece
    corners, index = np.unique(edge, return_inverse=True)
    low = len(piece.points) + index.reshape(-1, 2)
    strip = np.concatenate([np.stack([edge[:, 1], edge[:, 0], low[:, 0]], 1), np.stack([edge[:, 1], low[:, 0], low[:, 1]], 1)])
    return replace(
        piece,
        points=np.concatenate([piece.points, below[corners]]),
        faces=np.concatenate([piece.faces, strip]),
        rest=np.concatenate([piece.rest, piece.rest[corners]]),
        binding=vstack([piece.binding, piece.binding[corners]]).tocsr(),
    )


def make_sheet(rows: int, columns: int, *, closed: bool = False) -> np.ndarray:
    """(T, 3) triangles of a sheet whose vertex (r, c) is r * columns + c; a ``closed`` one is a tube."""
    r, c = np.meshgrid(np.arange(rows - 1), np.arange(columns if closed else columns - 1), indexing="ij")
    r, c = r.ravel(), c.ravel()
    beside = (c + 1) % columns
    a, b, d, e = r * columns + c, r * columns + beside, (r + 1) * columns + c, (r + 1) * columns + beside
    return np.concatenate([np.stack([a, d, b], 1), np.stack([b, d, e], 1)])


def make_ball(middle: Sequence[float], radii: Sequence[float], rows: int = 10, columns: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Points (V, 3) and triangles of an ellipsoid."""
    up, around = np.meshgrid(np.linspace(0, np.pi, rows), np.linspace(0, 2 * np.pi, columns, endpoint=False), indexing="ij")
    unit = np.stack([np.sin(up) * np.sin(around), np.cos(up), np.sin(up) * np.cos(around)], -1).reshape(-1, 3)
    return np.asarray(middle) + unit * np.asarray(radii), make_sheet(rows, columns, closed=True)


def sew(body: BodyModel, pieces: Sequence[Piece]) -> BodyModel:
    """The body with all pieces as one model: its vertices and triangles first, then those of each piece. Texture coordinates are
    left out, and no piece moves a joint."""
    if not pieces:
        return replace(body, uv=None, uv_faces=None)
    binding = vstack([piece.binding for piece in pieces]).tocsr()
    weights = binding @ body.weights
    faces, start = [body.faces], len(body.v_template)
    for piece in pieces:
        faces.append(piece.faces + start)
        if piece.weights is not None:
            first = start - len(body.v_template)
            weights[first : first + len(piece.points)] = piece.weights
        start += len(piece.points)
    count = start - len(body.v_template)
    shapes, poses = body.shapedirs, body.posedirs
    return replace(
        body,
        v_template=np.concatenate([body.v_template, *(piece.points for piece in pieces)]),
        faces=np.concatenate(faces),
        weights=np.concatenate([body.weights, weights]),
        joint_regressor=np.concatenate([body.joint_regressor, np.zeros((len(body.joint_regressor), count))], 1),
        shapedirs=np.concatenate([shapes, (binding @ shapes.reshape(len(shapes), -1)).reshape(count, *shapes.shape[1:])]),
        posedirs=np.concatenate([poses, (binding @ poses.reshape(len(poses), -1)).reshape(count, *poses.shape[1:])]),
        uv=None,
        uv_faces=None,
    )
