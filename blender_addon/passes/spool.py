"""Frames on disk between their evaluation and their render, for scenes that must be evaluated in order."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from .geometry import FrameGeometry, Shape


class Spool:
    """Keeps frames in a folder of our own; arrays that are the same in several of them are stored once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)
        #: how many bytes the folder holds
        self.size = 0
        self._recent: dict[Path, np.ndarray] = {}
        #: by frame: its surfaces without their arrays, and the files of those by name
        self._shapes: dict[int, tuple[FrameGeometry, dict[int, dict[str, Path]]]] = {}

    def __contains__(self, frame: int) -> bool:
        return frame in self._shapes

    def put(self, frame: int, geometry: FrameGeometry) -> None:
        """Store a frame; raises ``OSError`` when the disk is full."""
        stored: dict[int, dict[str, Path]] = {}
        surfaces = []
        for n, surface in enumerate(geometry.surfaces):
            stored[n] = {name: self._store(array) for name, array in _list_arrays(surface.shape).items()}
            surfaces.append(replace(surface, shape=_EMPTY))
        self._shapes[frame] = replace(geometry, surfaces=tuple(surfaces)), stored

    def get(self, frame: int) -> FrameGeometry:
        """The stored frame; raises ``KeyError`` when there is none."""
        geometry, stored = self._shapes[frame]
        shapes: dict[tuple[tuple[str, Path], ...], Shape] = {}
        surfaces = []
        paths = {path for names in stored.values() for path in names.values()}
        # what does not change from frame to frame is not read again
        self._recent = {path: self._recent[path] if path in self._recent else np.load(path) for path in paths}
        for n, surface in enumerate(geometry.surfaces):
            names = tuple(sorted(stored[n].items()))
            if names not in shapes:
                shapes[names] = _make_shape({name: self._recent[path] for name, path in names})
            surfaces.append(replace(surface, shape=shapes[names]))
        return replace(geometry, surfaces=tuple(surfaces))

    def _store(self, array: np.ndarray) -> Path:
        content = hashlib.blake2b(np.ascontiguousarray(array).data, digest_size=16).hexdigest()
        path = self._folder / f"{content}-{array.dtype.str[1:]}-{'x'.join(map(str, array.shape))}.npy"
        if not path.exists():
            np.save(path, array)
            self.size += array.nbytes
        return path


_NONE = np.empty(0, np.float32)
_EMPTY = Shape(_NONE, _NONE, _NONE, _NONE, {}, None, None, None)
_PLAIN = ("points", "corners", "starts", "normals", "rest", "parts", "cuts")


def _list_arrays(shape: Shape) -> dict[str, np.ndarray]:
    out = {name: getattr(shape, name) for name in _PLAIN}
    out |= {f"uv {name}": uv for name, uv in shape.uvs.items()}
    if shape.triangles is not None:
        out |= {"triangles": shape.triangles[0], "triangle faces": shape.triangles[1]}
    return {name: array for name, array in out.items() if array is not None}


def _make_shape(arrays: dict[str, np.ndarray]) -> Shape:
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
