"""UV: limbs, torso and head unrolled like tubes, everything else face by face, packed without overlap.

Every chart is a union of grid squares laid out with the mean lengths of their rows and columns, so no two triangles of
the atlas can overlap.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from .polycube import Cage

PADDING = 0.006
#: part -> (axis the tube runs along, the two axes around it, where the unrolling starts as the angle in turns)
TUBES = {
    "torso": (1, (0, 2), 0.75),
    "head": (1, (0, 2), 0.75),
    "leg": (1, (0, 2), 0.75),
    "arm": (0, (2, 1), 0.75),
    "thumb": (2, (0, 1), 0.75),
}
UP_AXES = {0: (2, 1), 1: (0, 2), 2: (0, 1)}


def _number_side_faces(cells: np.ndarray, around: tuple[int, int], start: float) -> dict[tuple[int, int, int], int]:
    """Number the side faces of a tube in the order of their angle; keys are (cell a, cell b, outward direction)."""
    a, b = around
    low, high = cells.min(0), cells.max(0)
    centre = (low + high + 1) / 2
    faces = []
    for axis in (a, b):
        for sign in (0, 1):
            other = b if axis == a else a
            for position in range(low[other], high[other] + 1):
                middle = np.zeros(3)
                middle[axis] = (high[axis] + 1) if sign else low[axis]
                middle[other] = position + 0.5
                angle = np.arctan2(middle[b] - centre[b], middle[a] - centre[a]) / (2 * np.pi)
                cell = {axis: int(high[axis] if sign else low[axis]), other: int(position)}
                faces.append(((angle - start) % 1.0, (cell[a], cell[b], 2 * axis + sign)))
    return {key: n for n, (_, key) in enumerate(sorted(faces))}


def _unroll_tube(cage: Cage, rows: np.ndarray, part: str) -> dict[int, np.ndarray]:
    """Unrolled grid coordinates (4, 2) of the side faces among ``rows``; end caps are left to ``_find_flat_charts``."""
    along, around, start = TUBES[part]
    numbers = _number_side_faces(cage.cell[rows], around, start)
    out = {}
    for row in rows:
        cell, axis = cage.cell[row], int(cage.axis[row])
        key = (int(cell[around[0]]), int(cell[around[1]]), axis)
        if axis // 2 == along or key not in numbers:
            continue
        column = numbers[key]
        corners = cage.grid[cage.quads[row]]
        across = next(n for n in around if n != axis // 2)
        # the corner that the unrolling meets first is the one on the previous face's side
        angles = np.arctan2(*(corners - (cage.cell[rows].min(0) + cage.cell[rows].max(0) + 1) / 2)[:, around[::-1]].T)
        reference = angles.mean() if np.ptp(angles) < np.pi else np.pi
        later = (angles - reference + np.pi) % (2 * np.pi) - np.pi > 0
        assert len(set(corners[later, across])) == 1
        out[row] = np.stack([column + later.astype(float), corners[:, along].astype(float)], 1)
    return out


def _find_flat_charts(cage: Cage, rows: list[int]) -> list[dict[int, np.ndarray]]:
    """Connected coplanar faces as charts, each {face: (4, 2) grid coordinates}."""
    by_edge = defaultdict(list)
    for row in rows:
        quad = cage.quads[row]
        for a, b in zip(quad, np.roll(quad, -1), strict=True):
            by_edge[tuple(sorted((a, b)))].append(row)
    charts, left = [], set(rows)
    while left:
        stack, members = [left.pop()], []
        while stack:
            row = stack.pop()
            members.append(row)
            quad = cage.quads[row]
            for a, b in zip(quad, np.roll(quad, -1), strict=True):
                for other in by_edge[tuple(sorted((a, b)))]:
                    if other in left and cage.axis[other] == cage.axis[row]:
                        left.discard(other)
                        stack.append(other)
        axes = UP_AXES[int(cage.axis[members[0]]) // 2]
        mirror = -1.0 if cage.axis[members[0]] in (1, 2, 4) else 1.0
        charts.append({row: cage.grid[cage.quads[row]][:, axes] * [mirror, 1.0] for row in sorted(members)})
    return charts


def _make_charts(cage: Cage) -> list[dict[int, np.ndarray]]:
    charts: list[dict[int, np.ndarray]] = []
    taken: set[int] = set()
    labels = np.array(cage.labels)
    for label in sorted(set(cage.labels)):
        part = label.split(".")[0]
        if part in TUBES:
            chart = _unroll_tube(cage, np.flatnonzero(labels == label), part)
            charts.append(chart)
            taken.update(chart)
    return charts + _find_flat_charts(cage, [row for row in range(len(labels)) if row not in taken])


def _scale_chart(chart: dict[int, np.ndarray], lengths: np.ndarray) -> dict[int, np.ndarray]:
    """Replace unit squares by the mean 3D lengths of each column and row; ``lengths`` (F, 4) are quad side lengths."""
    sizes: list[dict[int, list[float]]] = [defaultdict(list), defaultdict(list)]
    for row, square in chart.items():
        for side in range(4):
            delta = square[(side + 1) % 4] - square[side]
            direction = int(np.argmax(np.abs(delta)))
            start = int(min(square[side][direction], square[(side + 1) % 4][direction]))
            sizes[direction][start].append(lengths[row, side])
    positions = []
    for direction in range(2):
        low, high = min(sizes[direction]), max(sizes[direction])
        steps = [float(np.mean(sizes[direction][n])) for n in range(low, high + 1)]
        positions.append((low, np.concatenate([[0.0], np.cumsum(steps)])))
    return {
        row: np.stack([positions[d][1][(square[:, d] - positions[d][0]).astype(int)] for d in range(2)], 1)
        for row, square in chart.items()
    }


def _compute_signed_area(quad: np.ndarray) -> float:
    x, y = quad.T
    return float(x @ np.roll(y, -1) - np.roll(x, -1) @ y) / 2


def _pack(sizes: np.ndarray, scale: float) -> np.ndarray | None:
    """Lower-left corners (N, 2) of boxes on shelves in the unit square, or None when they do not fit."""
    corners = np.zeros((len(sizes), 2))
    x = y = PADDING
    shelf = 0.0
    for n in np.argsort(-sizes[:, 1], kind="stable"):
        w, h = sizes[n] * scale
        if x + w + PADDING > 1:
            x, y, shelf = PADDING, y + shelf + PADDING, 0.0
        if x + w + PADDING > 1 or y + h + PADDING > 1:
            return None
        corners[n] = x, y
        x, shelf = x + w + PADDING, max(shelf, h)
    return corners


def lay_out(cage: Cage, points: np.ndarray) -> np.ndarray:
    """Texture coordinates (F, 4, 2) in [0, 1] of the control quads; ``points`` (V, 3) set the charts' proportions."""
    corners = points[cage.quads]
    lengths = np.linalg.norm(np.roll(corners, -1, 1) - corners, axis=-1)
    charts = [_scale_chart(chart, lengths) for chart in _make_charts(cage)]
    # a tall chart wastes its shelf: lay every chart on its long side
    charts = [
        {row: s[:, ::-1] * [1, -1] if tall else s for row, s in chart.items()}
        for chart in charts
        for tall in [np.ptp(np.concatenate(list(chart.values())), 0) @ [-1, 1] > 0]
    ]
    # anticlockwise in the atlas where the surface is anticlockwise, so that no chart shows a texture mirrored
    charts = [
        {row: s * ([-1, 1] if _compute_signed_area(next(iter(chart.values()))) < 0 else [1, 1]) for row, s in chart.items()}
        for chart in charts
    ]
    boxes = [np.concatenate(list(chart.values())) for chart in charts]
    sizes = np.array([np.ptp(box, 0) for box in boxes])
    low, high = 0.01, 5.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if _pack(sizes, middle) is not None else (low, middle)
    places = _pack(sizes, low)
    assert places is not None
    out = np.empty((len(cage.quads), 4, 2))
    for chart, box, place in zip(charts, boxes, places, strict=True):
        for row, square in chart.items():
            out[row] = place + (square - box.min(0)) * low
    return out
