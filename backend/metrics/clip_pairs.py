"""Figures of pairs of frames over a whole clip: neighbours, and frames up to the clip's whole length apart.

A frame is compared with the one before and with one that is older. Only some frames are kept for that, whatever the clip's length.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from .frames import MeasuredFrame
from .pairs import PairFigures, Shift, compare_pair, paint_frozen

NAN = float("nan")
#: frames apart in which slow sliding is looked for: long enough to add up, short enough to know the texture again
SHORT_LAGS = (2, 4, 8)
#: squared percents below which there is no texture that could stay on the screen
LEAST_TEXTURE = 0.25
#: old frames that are kept at most
MOST_KEPT = 8
#: side of a cell of the surface in typical pixel footprints
CELL = 8.0


class SurfaceSums:
    """Sums of values over cells of the surface, added frame by frame."""

    def __init__(self, side: float, width: int) -> None:
        """``side`` of a cell in metres; ``width`` values for each point."""
        self._side, self.keys, self.values = side, np.empty((0, 4), np.int64), np.empty((0, width))

    def add(self, positions: np.ndarray, ids: np.ndarray, values: np.ndarray) -> None:
        """Values (N, width) at rest positions (N, 3) of surfaces ``ids`` (N,)."""
        keys = np.column_stack([np.floor(positions / self._side).astype(np.int64), ids])
        self.keys, where = np.unique(np.concatenate([self.keys, keys]), axis=0, return_inverse=True)
        values = np.concatenate([self.values, values])
        self.values = np.stack([np.bincount(where.ravel(), column, len(self.keys)) for column in values.T], 1)


class ClipPairs:
    """Pairs of a clip's frames, which are added one after the other."""

    def __init__(self) -> None:
        self.neighbours: list[PairFigures] = []
        self.older: list[PairFigures] = []
        self._jitter: list[tuple[float, float]] = []
        self._kept: dict[int, MeasuredFrame] = {}
        self._frozen: dict[int, np.ndarray] = {}
        self._spacing, self._footprint = max(SHORT_LAGS), 0.0
        self._slid: SurfaceSums | None = None

    def add(self, frame: MeasuredFrame) -> None:
        """The next frame."""
        if not self._footprint and frame.mask.any():
            self._footprint = frame.footprint
        self._kept[frame.number] = frame
        self._frozen[frame.number] = paint_frozen(frame, self._footprint or 1e-3)
        if frame.number - 1 in self._kept:
            figures, shift = self._compare(frame, frame.number - 1)
            self.neighbours.append(figures)
            self._jitter.append((shift.root_mean_square, float(shift.strength.sum())))
            self._add_shift(frame, shift, 1)
        other = self._choose_older(frame.number)
        if other is not None:
            figures, shift = self._compare(frame, other)
            self.older.append(figures)
            if figures.lag <= max(SHORT_LAGS):
                self._add_shift(frame, shift, figures.lag)
        self._forget(frame.number)

    def _compare(self, frame: MeasuredFrame, other: int) -> tuple[PairFigures, Shift]:
        return compare_pair(frame, self._kept[other], self._frozen[frame.number], self._frozen[other])

    def _choose_older(self, number: int) -> int | None:
        """A frame before the last one: in turn one of ``SHORT_LAGS`` and one of the old ones."""
        if number % 2:
            lag = SHORT_LAGS[number // 2 % len(SHORT_LAGS)]
            return number - lag if number - lag in self._kept else None
        old = sorted(n for n in self._kept if number - n > max(SHORT_LAGS))
        if not old:
            lag = SHORT_LAGS[number // 2 % len(SHORT_LAGS)]
            return number - lag if number - lag in self._kept else None
        return old[number // 2 % len(old)]

    def _forget(self, number: int) -> None:
        old = [n for n in self._kept if number - n >= max(SHORT_LAGS)]
        while sum(n % self._spacing == 0 for n in old) > MOST_KEPT:
            self._spacing *= 2
        for n in old:
            if n % self._spacing:
                del self._kept[n], self._frozen[n]

    def _add_shift(self, frame: MeasuredFrame, shift: Shift, lag: int) -> None:
        if self._slid is None:
            self._slid = SurfaceSums(CELL * self._footprint, 4)
        surface = frame.surface
        rows = surface.row_of[shift.here]
        moved = shift.vectors[:, :1] * surface.across[rows] + shift.vectors[:, 1:] * surface.down[rows]
        # a shift that goes on is the better known the farther the frames are apart
        weight = shift.strength * lag**2
        self._slid.add(surface.key[rows], surface.ids[rows], np.column_stack([moved / lag * weight[:, None], weight]))

    def _measure_cyclic(self, per_pair: list[float]) -> float:
        """The mean over the pairs, with that of the first frame and the last, which is also the longest way apart."""
        last = max(self._kept, default=0)
        if 0 in self._kept and last:
            closing, _ = self._compare(self._kept[0], last)
            self.older.append(replace(closing, lag=last))
            per_pair = [*per_pair, *([closing.error / closing.matched] if closing.matched else [])]
        return float(np.mean(per_pair)) if per_pair else NAN

    @property
    def footprint(self) -> float:
        """The typical size of a pixel on the surface in metres, in the first frame that shows one; 0 before it."""
        return self._footprint

    def measure_slide(self) -> float:
        """Pixels a frame by which the texture keeps sliding over the surface in the same direction; NaN without pairs."""
        if self._slid is None or not self._slid.values[:, 3].sum():
            return NAN
        weight = self._slid.values[:, 3]
        speed = self._slid.values[:, :3] / np.maximum(weight, 1e-9)[:, None] / self._footprint
        return float(np.sqrt((weight * (speed**2).sum(1)).sum() / weight.sum()))

    def figures(self) -> dict[str, float]:
        """The figures by name; see ``figures.FIGURES``. Called once, when all frames have been added."""
        pairs, per_pair = self.neighbours, [pair.error / pair.matched for pair in self.neighbours if pair.matched]
        known = [(value, weight) for value, weight in self._jitter if not np.isnan(value)]
        matched = sum(pair.matched for pair in pairs)
        return {
            "hmse": _ratio(pairs, "error", "matched"),
            "hmse_floor": _measure_floor(pairs),
            "hmse_relative": _ratio(pairs, "error", "contrast"),
            "hmse_texture": _ratio(pairs, "high", "matched"),
            "hmse_cyclic": self._measure_cyclic(per_pair),
            "hmse_p95": float(np.percentile(per_pair, 95)) if per_pair else NAN,
            "hmse_worst": max(per_pair, default=NAN),
            "matched_fraction": _ratio(pairs, "matched", "visible"),
            "rim_error": _ratio(pairs, "rim_error", "rim_matched"),
            "jitter": float(np.sqrt(np.average([v**2 for v, _ in known], weights=[w for _, w in known]))) if known else NAN,
            "slide": self.measure_slide(),
            "texture_change": _measure_texture_change([*pairs, *self.older]),
            "screen_lock": _measure_screen_lock([*pairs, *self.older]),
            "change_slope": measure_change_slope([*pairs, *self.older]) if matched else NAN,
        }


def _sum(pairs: Iterable[PairFigures], name: str) -> float:
    return float(sum(getattr(pair, name) for pair in pairs))


def _ratio(pairs: list[PairFigures], name: str, over: str) -> float:
    total = _sum(pairs, over)
    return _sum(pairs, name) / total if total else NAN


def _measure_floor(pairs: list[PairFigures]) -> float:
    """The hmse of a frozen texture that is as sharp as the clip, read between its pixels as the clip's is."""
    energy, matched = _sum(pairs, "floor_energy"), _sum(pairs, "matched")
    return _sum(pairs, "floor") / energy * _sum(pairs, "energy") / matched if energy and matched else NAN


def _measure_screen_lock(pairs: list[PairFigures]) -> float:
    """How much of the fine band stays on the screen where the surface moves on: what the same pixels have in common beyond what
    the same points have."""
    own, earlier, behind = (_sum(pairs, name) for name in ("own", "earlier", "behind"))
    if min(own, earlier, behind) < LEAST_TEXTURE * _sum(pairs, "moved") or not own * earlier * behind:
        return NAN
    stuck = _sum(pairs, "stuck") / np.sqrt(own * earlier)
    return float(stuck - _sum(pairs, "along") / np.sqrt(own * behind) * _sum(pairs, "between") / np.sqrt(earlier * behind))


def _measure_texture_change(pairs: list[PairFigures]) -> float:
    """How much of the texture has become another between frames at least half the longest way apart: 0 none, 1 all of it."""
    half = max((pair.lag for pair in pairs), default=0) / 2
    far = [pair for pair in pairs if pair.lag >= half]
    own, then = _sum(far, "texture"), _sum(far, "texture_then")
    if min(own, then) < LEAST_TEXTURE * _sum(far, "matched") or not own * then:
        return NAN
    return float(1 - _sum(far, "texture_both") / np.sqrt(own * then))


def measure_change(pairs: Iterable[PairFigures]) -> dict[int, float]:
    """lag -> the root mean square change of surface points over so many frames, in rising order."""
    out: dict[int, list[PairFigures]] = {}
    for pair in pairs:
        if pair.matched:
            out.setdefault(pair.lag, []).append(pair)
    return {lag: float(np.sqrt(_ratio(found, "error", "matched"))) for lag, found in sorted(out.items())}


def measure_change_slope(pairs: Iterable[PairFigures]) -> float:
    """Levels a frame by which the change of surface points grows with the frames between, by least squares over all lags beyond
    ``SHORT_LAGS`` (beyond 1 in a clip that is too short). NaN when there are fewer than two."""
    found = measure_change(pairs)
    lags = [lag for lag in found if lag > max(SHORT_LAGS)]
    lags = lags if len(lags) > 2 else [lag for lag in found if lag > 1]
    if len(lags) < 2:
        return NAN
    return float(np.polyfit(lags, [found[lag] for lag in lags], 1)[0])
