"""A mesh's texture map as triangles: where on it each point of the surface lies, so that a look can become an image and back."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np

from .npy import read_npy, unpack_npz
from .shot import ShotError

#: the sides of an atlas in texels
MIN_SIZE, MAX_SIZE = 256, 4096
#: triangles of the largest mesh
MAX_TRIANGLES = 4_000_000
#: bytes of the largest file
MAX_BYTES = 512 << 20
#: makes one number of a cell
_KEY = np.array([1 << 40, 1 << 20, 1], np.int64)


@dataclass(frozen=True, eq=False)
class Charts:
    """The triangles of one or more surfaces: ``uv`` (T, 3, 2) float32 texture coordinates, ``rest`` (T, 3, 3) float32 rest
    positions in metres, ``surface`` (T,) uint16 the number of each triangle's surface, and the surfaces' names.

    ``size`` is the side in texels of the image that is made of each surface, ``keyframes`` are the places of the views that are
    made together.
    """

    uv: np.ndarray
    rest: np.ndarray
    surface: np.ndarray
    names: dict[int, str]
    size: int = 1024
    keyframes: tuple[int, ...] = ()

    @property
    def normals(self) -> np.ndarray:
        """(T, 3) float64 unit normals in the rest pose, 0 for triangles without area."""
        a, b, c = (self.rest[:, n].astype(np.float64) for n in range(3))
        across = np.cross(b - a, c - a)
        return np.asarray(across / np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-30))

    @property
    def area(self) -> np.ndarray:
        """(T,) float64 square metres in the rest pose."""
        a, b, c = (self.rest[:, n].astype(np.float64) for n in range(3))
        return np.asarray(np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2)

    def renumber(self, names: dict[int, str]) -> Charts:
        """The same triangles with the numbers that surfaces have in another shot; those of surfaces that it does not have are left
        out."""
        numbers = {name: number for number, name in names.items()}
        table = {old: numbers[name] for old, name in self.names.items() if name in numbers}
        known = np.isin(self.surface, list(table))
        surface = np.array([table[int(one)] for one in self.surface[known]], np.uint16)
        names = {new: self.names[old] for old, new in table.items()}
        return Charts(self.uv[known], self.rest[known], surface, names, self.size, self.keyframes)

    def arrays(self) -> dict[str, np.ndarray]:
        """As plain arrays by name."""
        return {
            "uv": self.uv,
            "rest": self.rest,
            "surface": self.surface,
            "chart_numbers": np.array(list(self.names), np.int64),
            "chart_names": np.array(list(self.names.values()), str),
            "size": np.array(self.size, np.int64),
            "keyframes": np.array(self.keyframes, np.int64),
        }

    def encode(self) -> bytes:
        """As an ``npz`` file without pickles; equal charts give equal bytes."""
        return encode_arrays(self.arrays())

    @classmethod
    def decode(cls, data: bytes) -> Charts:
        """The inverse of ``encode``. Raises ``ShotError`` for what is not such a file."""
        try:
            return cls.from_arrays(decode_arrays(data))
        except (ValueError, KeyError, TypeError) as error:
            raise ShotError(
                "charts", f"The description of the mesh's texture map cannot be read ({error}); dress again."
            ) from error

    @classmethod
    def from_arrays(cls, found: dict[str, np.ndarray]) -> Charts:
        """The inverse of ``arrays``. Raises ``ValueError`` or ``KeyError`` for arrays that no charts have."""
        uv, rest, surface = found["uv"], found["rest"], found["surface"]
        count = len(surface)
        size = int(found["size"])
        if (uv.dtype, rest.dtype, surface.dtype) != (np.float32, np.float32, np.uint16) or count > MAX_TRIANGLES:
            raise ValueError("its arrays are of other types")
        if uv.shape != (count, 3, 2) or rest.shape != (count, 3, 3) or surface.ndim != 1:
            raise ValueError("its arrays do not fit each other")
        if not (np.isfinite(uv).all() and np.isfinite(rest).all()):
            raise ValueError("it has places that are not numbers")
        if not MIN_SIZE <= size <= MAX_SIZE:
            raise ValueError(f"its image would have {size} texels along a side")
        names = dict(zip(found["chart_numbers"].tolist(), map(str, found["chart_names"].tolist()), strict=True))
        return cls(uv, rest, surface, names, size, tuple(found["keyframes"].tolist()))


def measure_likeness(one: Charts, other: Charts) -> float:
    """The fraction of the corners of one's triangles beside which the other has some, 0 to 1: near 1 for the same surface."""
    if not len(one.surface) or not len(other.surface):
        return 0.0
    corners = [charts.rest.reshape(-1, 3).astype(np.float64) for charts in (one, other)]
    side = float(np.linalg.norm(np.ptp(corners[0], axis=0))) / 200 or 1.0
    cells = [np.floor(points / side).astype(np.int64) for points in corners]
    offsets = np.stack(np.meshgrid(*[(-1, 0, 1)] * 3, indexing="ij"), -1).reshape(-1, 3)
    known = np.unique((cells[1][:, None] + offsets).reshape(-1, 3) @ _KEY)
    return float(np.isin(cells[0] @ _KEY, known).mean())


def encode_arrays(arrays: dict[str, np.ndarray]) -> bytes:
    """Arrays as an ``npz`` file; equal arrays give equal bytes."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def decode_arrays(data: bytes) -> dict[str, np.ndarray]:
    """The inverse of ``encode_arrays``. Raises ``ValueError`` for what is not such a file."""
    if len(data) > MAX_BYTES:
        raise ValueError(f"it has more than {MAX_BYTES >> 20} MB")
    return {name: read_npy(content) for name, content in unpack_npz(data).items()}
