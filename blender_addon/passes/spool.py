"""Frames on disk between their evaluation and their render, for scenes that must be evaluated in order."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from .geometry import FrameGeometry, Shape, Strands

#: the files of arrays by their names
Names = dict[str, Path]


class Spool:
    """Keeps frames in a folder of our own; arrays that are the same in several of them are stored once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True, parents=True)
        #: how many bytes the folder holds
        self.size = 0
        self._recent: dict[Path, np.ndarray] = {}
        #: by frame: its surfaces and hair without their arrays, and the files of those by name
        self._shapes: dict[int, tuple[FrameGeometry, list[Names], list[Names]]] = {}

    def __contains__(self, frame: int) -> bool:
        return frame in self._shapes

    def put(self, frame: int, geometry: FrameGeometry) -> None:
        """Store a frame; raises ``OSError`` when the disk is full."""
        shapes = [self._store_all(list_shape_arrays(one.shape)) for one in geometry.surfaces]
        strands = [self._store_all(list_strand_arrays(one.strands)) for one in geometry.hair]
        bare = replace(
            geometry,
            surfaces=tuple(replace(one, shape=EMPTY) for one in geometry.surfaces),
            hair=tuple(replace(one, strands=BALD) for one in geometry.hair),
        )
        self._shapes[frame] = bare, shapes, strands

    def get_stored(self, frame: int) -> tuple[FrameGeometry, list[Names], list[Names]]:
        """A frame without its arrays, and the files of those of its surfaces and of its hair."""
        return self._shapes[frame]

    def take(self, frame: int, bare: FrameGeometry, shapes: list[Names], strands: list[Names]) -> None:
        """Know a frame whose arrays lie in the folder already."""
        self._shapes[frame] = bare, shapes, strands

    def forget(self, frame: int) -> None:
        """Know a frame no longer; its arrays stay until the folder goes, as others may have them."""
        self._shapes.pop(frame, None)

    def get(self, frame: int) -> FrameGeometry:
        """The stored frame; raises ``KeyError`` when there is none."""
        geometry, of_shapes, of_strands = self._shapes[frame]
        shapes: dict[tuple[tuple[str, Path], ...], Shape] = {}
        surfaces = []
        paths = {path for names in (*of_shapes, *of_strands) for path in names.values()}
        # what does not change from frame to frame is not read again
        self._recent = {path: self._recent[path] if path in self._recent else np.load(path, allow_pickle=False) for path in paths}
        for n, surface in enumerate(geometry.surfaces):
            names = tuple(sorted(of_shapes[n].items()))
            if names not in shapes:
                shapes[names] = make_shape({name: self._recent[path] for name, path in names})
            surfaces.append(replace(surface, shape=shapes[names]))
        hair = [
            replace(one, strands=make_strands({name: self._recent[path] for name, path in names.items()}))
            for one, names in zip(geometry.hair, of_strands, strict=True)
        ]
        return replace(geometry, surfaces=tuple(surfaces), hair=tuple(hair))

    def _store_all(self, arrays: dict[str, np.ndarray]) -> Names:
        return {name: self._store(array) for name, array in arrays.items()}

    def _store(self, array: np.ndarray) -> Path:
        path = self.folder / f"{name_content(array)}.npy"
        if not path.exists():
            try:
                np.save(path, array)
            except OSError:
                # half an array must not be taken for it later
                path.unlink(missing_ok=True)
                raise
            self.size += array.nbytes
        return path


def name_content(array: np.ndarray) -> str:
    """A name that arrays with the same content, and no others, have."""
    content = hashlib.blake2b(np.ascontiguousarray(array).data, digest_size=16).hexdigest()
    return f"{content}-{array.dtype.str[1:]}-{'x'.join(map(str, array.shape))}"


def share_shapes(geometry: FrameGeometry) -> FrameGeometry:
    """The same frame, whose surfaces with the same shape have one object for it, as those of a stored frame have: Cycles draws
    instances of a mesh with other last bits than meshes of their own."""
    shapes: dict[tuple[tuple[str, str], ...], Shape] = {}
    surfaces = []
    for one in geometry.surfaces:
        names = tuple(sorted((name, name_content(array)) for name, array in list_shape_arrays(one.shape).items()))
        surfaces.append(replace(one, shape=shapes.setdefault(names, one.shape)))
    return replace(geometry, surfaces=tuple(surfaces))


_NONE = np.empty(0, np.float32)
EMPTY = Shape(_NONE, _NONE, _NONE, _NONE, {}, None, None, None)
BALD = Strands(_NONE, _NONE, None, None, None, None)
_PLAIN = ("points", "corners", "starts", "normals", "rest", "parts", "cuts")


def list_shape_arrays(shape: Shape) -> dict[str, np.ndarray]:
    """The arrays of a shape by name."""
    out = {name: getattr(shape, name) for name in _PLAIN}
    out |= {f"uv {name}": uv for name, uv in shape.uvs.items()}
    if shape.triangles is not None:
        out |= {"triangles": shape.triangles[0], "triangle faces": shape.triangles[1]}
    return {name: array for name, array in out.items() if array is not None}


def list_strand_arrays(strands: Strands) -> dict[str, np.ndarray]:
    """The arrays of strands by name."""
    names = ("points", "counts", "radii", "kinds", "uvs", "rest")
    return {name: getattr(strands, name) for name in names if getattr(strands, name) is not None}


def make_strands(arrays: dict[str, np.ndarray]) -> Strands:
    """Strands of ``list_strand_arrays``."""
    known = (arrays.get(name) for name in ("radii", "kinds", "uvs", "rest"))
    return Strands(arrays["points"], arrays["counts"], *known)


def make_shape(arrays: dict[str, np.ndarray]) -> Shape:
    """A shape of ``list_shape_arrays``."""
    triangles = (arrays["triangles"], arrays["triangle faces"]) if "triangles" in arrays else None
    return Shape(
        arrays["points"],
        arrays["corners"],
        arrays["starts"],
        arrays["normals"],
        {name[3:]: uv for name, uv in arrays.items() if name.startswith("uv ")},
        arrays.get("rest"),
        arrays.get("parts"),
        arrays.get("cuts"),
        triangles,
    )
