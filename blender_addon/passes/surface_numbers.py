"""Which surface a pixel shows: the numbers of surfaces in a render, and what is known of each."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ...shared import shot
from .camera import View
from .geometry import FrameGeometry, Hair, Key, Surface
from .reading import BACKGROUND

#: the largest pass index of Blender
MAX_NUMBER = 32767


class SurfaceNumbers:
    """The numbers of surfaces in the object index pass: those given come first, others in the order in which they are met."""

    def __init__(self, first: Iterable[tuple[Key, int]]) -> None:
        self.by_key: dict[Key, int] = dict(first)
        self._given = len(self.by_key)
        #: the name for people and the character's number, 0 for a prop, of what was met, by number
        self.names: dict[int, tuple[str, int]] = {}

    def add(self, key: Key, name: str, character: int) -> int:
        """The number of a surface, the same on every frame. Raises ``ShotError`` when there are more than can be told apart."""
        number = self.reserve(key)
        self.names[number] = name, character
        return number

    def reserve(self, key: Key) -> int:
        """The number of a surface of which no more is known yet. Raises ``ShotError`` as ``add`` does."""
        if key not in self.by_key:
            if len(self.by_key) >= MAX_NUMBER:
                raise shot.ShotError("scene", f"The scene shows more than {MAX_NUMBER} objects; hide some of them from the render.")
            self.by_key[key] = len(self.by_key) + 1
        return self.by_key[key]

    def number_again(self, keys: Iterable[Key]) -> None:
        """Number the surfaces that were given first, then ``keys`` in their order, and forget what was met meanwhile."""
        self.names.clear()
        for key in list(self.by_key)[self._given :]:
            del self.by_key[key]
        for key in keys:
            self.reserve(key)

    def add_all(self, surfaces: Iterable[Surface | Hair]) -> None:
        """Number surfaces that have no number yet."""
        for one in surfaces:
            self.add(one.key, one.name, one.character)


def name_pixels(
    found: dict[str, np.ndarray],
    geometry: FrameGeometry,
    numbers: SurfaceNumbers,
    own_scales: dict[int, float],
    metres_per_unit: float,
) -> dict[str, np.ndarray]:
    """Passes (H, W, ...) as ``read_passes`` returns them, with characters and object numbers in place of pass indices and lengths
    in metres.

    Behind holes there is nothing. ``own_scales`` are metres in a unit of surfaces that are not in ``geometry``, by number.
    """
    found, by_key = dict(found), numbers.by_key
    index = found.pop("index")
    holes = [by_key[one.key] for one in geometry.everything if one.is_hole]
    if holes:
        kept = ~np.isin(index, holes)
        index = index * kept
        for name, pixels in found.items():
            found[name] = np.where(kept.reshape(kept.shape + (1,) * (pixels.ndim - 2)), pixels, pixels.dtype.type(0))
        found["depth"][~kept] = BACKGROUND
    size = len(by_key) + 1
    characters, metres = np.zeros(size, np.uint8), np.ones(size, np.float32)
    for number, (_, character) in numbers.names.items():
        characters[number] = character
    for number, scale in (own_scales | {by_key[one.key]: one.metres_per_unit for one in geometry.everything}).items():
        metres[number] = scale
    found["object_index"] = index.astype(np.uint16)
    found["mask"] = characters[index]
    found["part"] = found["part"] * (found["mask"] > 0)
    found["rest_position"] = found["rest_position"] * metres[index][..., None]
    if "position" in found:
        found["position"] = found["position"] * np.float32(metres_per_unit)
    return found


def find_ways_back(geometry: FrameGeometry, before: FrameGeometry) -> dict[Key, np.ndarray]:
    """The steps (P, 3) float32 by which the points of hair lie elsewhere on the frame before, in the space of its object; hair with
    other strands moves as its object does."""
    former = {one.key: one.strands for one in before.hair}
    return {
        one.key: former[one.key].points - one.strands.points
        for one in geometry.hair
        if one.key in former and np.array_equal(former[one.key].counts, one.strands.counts)
    }


def find_former_places(
    index: np.ndarray,
    previous: np.ndarray,
    position: np.ndarray,
    geometry: FrameGeometry,
    before: FrameGeometry,
    by_key: dict[Key, int],
) -> np.ndarray:
    """(H, W, 3) where in the world each pixel's point was on the frame before, in Blender's units.

    ``previous`` (H, W, 3) are points in the spaces of their surfaces, which ``index`` (H, W) numbers. Of what Cycles draws itself
    only the ``position`` (H, W, 3) is known: such a point moves as its object does.
    """
    matrices, back = (np.tile(np.eye(4), (len(by_key) + 1, 1, 1)) for _ in range(2))
    for matrix, frame in ((matrices, before), (back, geometry)):
        for surface in frame.everything:
            if surface.key in by_key:
                matrix[by_key[surface.key]] = surface.matrix
    live = [by_key[key] for key in geometry.live if key in by_key]
    is_live = np.isin(index, live)
    points = previous.astype(np.float64)
    if live:
        inverse = np.linalg.inv(back[index[is_live]])
        points[is_live] = np.einsum("nab,nb->na", inverse[:, :3, :3], position[is_live]) + inverse[:, :3, 3]
    return np.einsum("hwab,hwb->hwa", matrices[index][..., :3, :3], points) + matrices[index][..., :3, 3]


def compute_motion(places: np.ndarray, seen: np.ndarray, view: View, left: int, top: int) -> np.ndarray:
    """(H, W, 2) float32 the way in pixels (right, down) to where ``places`` (H, W, 3) were in the view of the frame before; 0 where
    nothing is ``seen`` (H, W). ``left`` and ``top`` are where these pixels begin in the picture."""
    out = np.zeros((*seen.shape, 2), np.float32)
    rows, cols = np.nonzero(seen)
    out[rows, cols] = view.project(places[rows, cols]) - np.stack([cols + left, rows + top], 1) - 0.5
    return out
