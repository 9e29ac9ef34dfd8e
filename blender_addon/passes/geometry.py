"""The surfaces of one frame as they are rendered, as plain arrays: all that cameras, rasterisers and files need of a scene."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .camera import View

#: what tells a surface from all others, on every frame: the object's name, and for an instance who shows it and which one it is
Key = tuple[str, str, tuple[int, ...]]


@dataclass(frozen=True, eq=False)
class Shape:
    """A mesh in its object's space: ``points`` (V, 3) float32, the vertex of each corner (L,) int32, the first corner of each face
    (F,) int32, and each corner's normal (L, 3) float32.

    ``uvs`` holds texture coordinates (L, 2) float32 by the name of their map, the one that is rendered under ``""``.
    ``rest`` (V, 3) float32 are rest positions, None for what is rigid; ``parts`` (F,) float32 body parts, None for what has none;
    ``cuts`` (F,) float32 the numbers of the faces' cut-outs, 0 for whole ones, None where all are.
    """

    points: np.ndarray
    corners: np.ndarray
    starts: np.ndarray
    normals: np.ndarray
    uvs: dict[str, np.ndarray]
    rest: np.ndarray | None
    parts: np.ndarray | None
    cuts: np.ndarray | None
    #: the corners of triangles (T, 3) int32 and their faces (T,) int32, where they were wanted
    triangles: tuple[np.ndarray, np.ndarray] | None = None


@dataclass(frozen=True, eq=False)
class Surface:
    """A shape in the world: ``matrix`` (4, 4) of its object; ``character`` its character's number, 0 for a prop.

    ``metres_per_unit`` converts lengths of its rest positions. What lies behind a hole (``is_hole``) is not seen.
    """

    key: Key
    name: str
    character: int
    metres_per_unit: float
    matrix: np.ndarray
    shape: Shape
    is_hole: bool = False
    #: whether Cycles draws the object itself, because it shows more than this
    is_live: bool = False


@dataclass(frozen=True, eq=False)
class Strands:
    """Hair in its object's space: ``points`` (P, 3) float32 of all strands, one after the other from root to tip, and how many each
    strand has (C,) int32.

    ``radii`` (P,) float32; ``kinds`` (C,) int8 Blender's numbers for the kinds of curves, None where all are of its default kind;
    ``uvs`` (C, 2) float32 the roots' texture coordinates, None where they are not known; ``rest`` (P, 3) float32 rest positions,
    None for what is rigid.
    """

    points: np.ndarray
    counts: np.ndarray
    radii: np.ndarray | None
    kinds: np.ndarray | None
    uvs: np.ndarray | None
    rest: np.ndarray | None


@dataclass(frozen=True, eq=False)
class Hair:
    """Strands in the world, with the fields of ``Surface``. Hair that grows from a mesh's particles has the mesh's key."""

    key: Key
    name: str
    character: int
    metres_per_unit: float
    matrix: np.ndarray
    strands: Strands
    is_hole: bool = False


@dataclass(frozen=True, eq=False)
class FrameGeometry:
    """All surfaces of a frame, what the camera sees in pictures of several sizes (width, height), and each person's key points
    (18, 3) in the world by the character's number.

    ``live`` are objects that show more than these surfaces and hair: clouds of points, which only Cycles can draw.
    """

    views: dict[tuple[int, int], View]
    surfaces: tuple[Surface, ...]
    people: dict[int, np.ndarray]
    hair: tuple[Hair, ...] = ()
    live: tuple[Key, ...] = ()
    #: planar distances in metres of what surrounds the characters, (N,)
    surroundings: np.ndarray | None = None
    #: whether something lies under the characters' feet
    has_ground: bool = False

    @property
    def everything(self) -> tuple[Surface | Hair, ...]:
        """The surfaces and the hair."""
        return (*self.surfaces, *self.hair)

    def keep_characters(self) -> FrameGeometry:
        """The same frame without props."""
        names = {one.key for one in self.surfaces if one.character}
        return replace(
            self,
            surfaces=tuple(one for one in self.surfaces if one.character),
            hair=tuple(one for one in self.hair if one.character),
            live=tuple(key for key in self.live if key in names),
        )

    def find_character_points(self) -> np.ndarray:
        """(N, 3) world positions of all vertices of the characters."""
        found = [transform(one.matrix, one.shape.points) for one in self.surfaces if one.character and not one.is_hole]
        return np.concatenate(found) if found else np.empty((0, 3))


def place_vertices(surface: Surface, vertices: np.ndarray) -> np.ndarray:
    """(T, 3, 3) float64 world positions of triangles of a surface's ``vertices`` (T, 3)."""
    return np.asarray(transform(surface.matrix, surface.shape.points.astype(np.float64))[vertices])


def place_triangles(surface: Surface, corners: np.ndarray) -> np.ndarray:
    """(T, 3, 3) float64 world positions of a surface's triangles, whose ``corners`` (T, 3) are as in ``Shape.triangles``."""
    return place_vertices(surface, surface.shape.corners[corners])


def transform(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (N, 3) moved by a matrix (4, 4)."""
    return points @ matrix[:3, :3].T + matrix[:3, 3]
