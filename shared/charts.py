"""A mesh's texture map as triangles: where on it each point of the surface lies, so that a look can become an image and back."""

from __future__ import annotations

import io
from collections.abc import Iterator
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
#: the largest texture coordinate, and the largest coordinate in metres
MAX_PLACE = 1e7
#: points along a triangle's edge by which surfaces are compared, and of all triangles together, at most
MOST_STEPS, MOST_POINTS = 256, 20_000_000
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
        out. Surfaces of one name, as of instances, get the numbers of that name in their order."""
        numbers: dict[str, list[int]] = {}
        for number, name in names.items():
            numbers.setdefault(name, []).append(number)
        table = {old: numbers[name].pop(0) for old, name in self.names.items() if numbers.get(name)}
        known = np.isin(self.surface, list(table))
        surface = np.array([table[int(one)] for one in self.surface[known]], np.uint16)
        names = {new: self.names[old] for old, new in table.items()}
        return Charts(self.uv[known], self.rest[known], surface, names, self.size, self.keyframes)

    def select(self, number: int) -> Charts:
        """One of the surfaces alone."""
        own = self.surface == number
        return Charts(self.uv[own], self.rest[own], self.surface[own], {number: self.names[number]}, self.size)

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
        if count > MAX_TRIANGLES:
            raise ValueError(f"it has {count} triangles, more than {MAX_TRIANGLES}")
        if (uv.dtype, rest.dtype, surface.dtype) != (np.float32, np.float32, np.uint16):
            raise ValueError("its arrays are of other types")
        if uv.shape != (count, 3, 2) or rest.shape != (count, 3, 3) or surface.ndim != 1:
            raise ValueError("its arrays do not fit each other")
        if not (np.isfinite(uv).all() and np.isfinite(rest).all()):
            raise ValueError("it has places that are not numbers")
        if max(np.abs(uv).max(initial=0), np.abs(rest).max(initial=0)) > MAX_PLACE:
            raise ValueError("it has places that are absurdly far away")
        if not MIN_SIZE <= size <= MAX_SIZE:
            raise ValueError(f"its image would have {size} texels along a side")
        numbers, called, keyframes = (found[name] for name in ("chart_numbers", "chart_names", "keyframes"))
        if numbers.dtype.kind not in "iu" or numbers.ndim != 1 or numbers.shape != called.shape or keyframes.ndim != 1:
            raise ValueError("its surfaces' names do not fit their numbers")
        if len(np.unique(numbers)) < len(numbers) or not ((numbers >= 0) & (numbers <= 0xFFFF)).all():
            raise ValueError("its surfaces have numbers that none can have")
        names = dict(zip(numbers.tolist(), map(str, called.tolist()), strict=True))
        return cls(uv, rest, surface, names, size, tuple(keyframes.tolist()))


def measure_likeness(one: Charts, other: Charts) -> float:
    """The fraction of the corners of one's triangles beside which the other's surface lies, 0 to 1: near 1 for the same surface,
    whatever triangles it is divided into."""
    if not len(one.surface) or not len(other.surface):
        return 0.0
    corners = one.rest.reshape(-1, 3).astype(np.float64)
    low, high = corners.min(0), corners.max(0)
    side = float(np.linalg.norm(high - low)) / 200 or 1.0
    rest = other.rest.astype(np.float64)
    near = ((rest.max(1) >= low - side) & (rest.min(1) <= high + side)).all(1)
    if not near.any():
        return 0.0
    offsets = np.stack(np.meshgrid(*[(-1, 0, 1)] * 3, indexing="ij"), -1).reshape(-1, 3)
    own = np.floor((corners - low) / side).astype(np.int64) @ _KEY
    found = np.unique(np.concatenate([np.unique(some) for some in _iter_keys(rest[near], low, high, side)]))
    return float(np.isin(own, (found[:, None] + offsets @ _KEY).ravel()).mean())


def _iter_keys(rest: np.ndarray, low: np.ndarray, high: np.ndarray, side: float) -> Iterator[np.ndarray]:
    """The keys of the cells of ``side`` metres, from ``low`` on and up to ``high``, that triangles (T, 3, 3) pass through."""
    edges = np.linalg.norm(rest - np.roll(rest, 1, 1), axis=2).max(1)
    steps = np.ceil(np.minimum(edges / side, MOST_STEPS)).clip(1)
    # of a mesh with very many large triangles fewer points are looked at
    steps = np.ceil(steps * min(1.0, float(np.sqrt(MOST_POINTS / (steps**2).sum())))).astype(int)
    for count in np.unique(steps):
        u, v = (axis.ravel() for axis in np.meshgrid(np.arange(count + 1), np.arange(count + 1), indexing="ij"))
        u, v = (axis[u + v <= count] / count for axis in (u, v))
        weights = np.stack([1 - u - v, u, v], 1)
        chosen = np.flatnonzero(steps == count)
        for rows in np.array_split(chosen, len(chosen) * len(u) // (1 << 20) + 1):
            points = np.einsum("pc,tcd->tpd", weights, rest[rows]).reshape(-1, 3)
            inside = ((points >= low - side) & (points <= high + side)).all(1)
            yield np.floor((points[inside] - low) / side).astype(np.int64) @ _KEY


def match_surfaces(one: Charts, other: Charts, least: float) -> dict[int, int]:
    """The number in ``other`` of each surface of ``one``, as far as they are alike by ``least`` at least (``measure_likeness``,
    either way): surfaces of one name first, then any. A surface that is there several times is matched as often."""
    table: dict[int, int] = {}
    mine, theirs = ({number: charts.select(number) for number in charts.names} for charts in (one, other))
    for only_named in (True, False):
        for number, own in mine.items():
            for candidate, its in theirs.items():
                named = one.names[number] == other.names[candidate]
                if number in table or candidate in table.values() or (only_named and not named) or not _have_one_size(own, its):
                    continue
                if min(measure_likeness(own, its), measure_likeness(its, own)) >= least:
                    table[number] = candidate
    return table


def _have_one_size(one: Charts, other: Charts) -> bool:
    """Whether surfaces extend about equally far, which is quickly seen."""
    if not len(one.surface) or not len(other.surface):
        return False
    corners = [charts.rest.reshape(-1, 3) for charts in (one, other)]
    low, high = (np.stack([getattr(points, end)(0) for points in corners]) for end in ("min", "max"))
    extent = float(np.linalg.norm(high[0] - low[0]))
    return bool((np.abs(np.concatenate([np.diff(low, axis=0), np.diff(high, axis=0)])) <= 0.1 * extent).all())


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
