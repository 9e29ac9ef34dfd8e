"""Where a new character can stand: as near as possible to where it is wanted, free of what stands there. Nothing here uses bpy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: metres: what reaches less far above the feet is ground that one stands on; the gap that is left beside what stands there
STEP, GAP = 0.1, 0.1
#: metres: what would move a character further than that surrounds it, like a room or a landscape; and the longest way in all
MOST_FOR_ONE, MOST = 2.0, 8.0
#: obstacles that are looked at
_MOST_OBSTACLES = 60


@dataclass(frozen=True)
class Obstacle:
    """A bounding box: ``low`` and ``high`` (3,) metres, Z up."""

    name: str
    low: tuple[float, float, float]
    high: tuple[float, float, float]


@dataclass(frozen=True)
class Place:
    """How far a character moves along X and Y, metres; which obstacles made it move (``avoided``), and which it stands within
    nevertheless (``within``), because they surround it or because there is no free place near."""

    shift: tuple[float, float]
    avoided: tuple[str, ...] = ()
    within: tuple[str, ...] = ()

    @property
    def distance(self) -> float:
        """Metres moved."""
        return float(np.hypot(*self.shift))


def find_free_place(low: Sequence[float], high: Sequence[float], obstacles: Sequence[Obstacle]) -> Place:
    """The place nearest to where the box from ``low`` to ``high`` (3,) stands at which it overlaps no obstacle, moved along X and
    Y. Of equally near places that towards -Y counts, where the front view looks from."""
    standing = [one for one in obstacles if one.high[2] > low[2] + STEP and one.low[2] < high[2]]
    here = [one for one in standing if _is_in(_widen(one, low, high), (0.0, 0.0))]
    # what surrounds the character is not left
    surroundings = [one for one in here if _surrounds(one, low, high)]
    within = tuple(one.name for one in surroundings)
    others = {one: _widen(one, low, high) for one in standing if one not in surroundings}
    known = [one for one in here if one in others]
    shift = (0.0, 0.0)
    while known and len(known) <= _MOST_OBSTACLES:
        found = _find_nearest([others[one] for one in known])
        if found is None:
            break
        shift = found
        new = [one for one, area in others.items() if one not in known and _is_in(area, shift)]
        if not new:
            if np.hypot(*shift) > MOST:
                break
            return Place(shift, tuple(one.name for one in known), within)
        known += new
    if not known:
        return Place((0.0, 0.0), (), within)
    return Place((0.0, 0.0), (), (*within, *(one.name for one in here if one in others)))


def _widen(one: Obstacle, low: Sequence[float], high: Sequence[float]) -> np.ndarray:
    """(2, 2): the shifts (low, high) along X and Y between which the box overlaps an obstacle, with the gap."""
    return np.array([[one.low[axis] - high[axis] - GAP, one.high[axis] - low[axis] + GAP] for axis in (0, 1)]).T


def _is_in(area: np.ndarray, shift: tuple[float, float]) -> bool:
    return bool((area[0] + 1e-6 < shift).all() and (area[1] - 1e-6 > shift).all())


def _surrounds(one: Obstacle, low: Sequence[float], high: Sequence[float]) -> bool:
    """Whether an obstacle is so large that a character in it belongs there, wherever in it that stands."""
    centre = [(low[axis] + high[axis]) / 2 for axis in (0, 1)]
    stands_in = all(one.low[axis] < centre[axis] < one.high[axis] for axis in (0, 1))
    area = _widen(one, low, high)
    return stands_in and bool((area[1] - area[0]).min() / 2 > MOST_FOR_ONE)


def _find_nearest(areas: Sequence[np.ndarray]) -> tuple[float, float] | None:
    """The shortest shift that lies in none of the areas: its coordinates are 0 or an edge of one."""
    edges = [sorted({0.0, *(float(area[side][axis]) for area in areas for side in (0, 1))}) for axis in (0, 1)]
    shifts = np.stack(np.meshgrid(*edges, indexing="ij"), -1).reshape(-1, 2)
    taken = np.zeros(len(shifts), bool)
    for area in areas:
        taken |= ((area[0] + 1e-6 < shifts) & (area[1] - 1e-6 > shifts)).all(1)
    free = shifts[~taken]
    if not len(free):
        return None
    # by length, then towards -Y, then towards -X
    order = np.lexsort((free[:, 0], free[:, 1], np.hypot(*free.T).round(6)))
    return float(free[order[0]][0]), float(free[order[0]][1])


def explain_place(place: Place) -> str:
    """A sentence about where the character stands; empty where it stands where it was wanted, free."""
    parts = []
    if place.distance > 0:
        parts.append(f"It stands {place.distance:.1f} m beside the 3D cursor, free of {_list_names(place.avoided)}.")
    if place.within:
        parts.append(f"It stands within the bounds of {_list_names(place.within)}.")
    return " ".join(parts)


def _list_names(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown
