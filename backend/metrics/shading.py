"""What the changes of the surface's colours over a whole clip are made of: light, drift, other colours, flicker.

The surface is divided into cells a few pixels wide, whose mean colours are gathered frame by frame. A model of their changes is
then fitted: every cell has a colour of its own; the light brightens it by a smooth function of how the cell is turned, which
changes smoothly over the clip; and each frame may be brighter or have more contrast as a whole. The first is the costume, the
second *liveliness*, the third *drift*, and what is left is *unexplained*.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .frames import MeasuredFrame

NAN = float("nan")
#: side of a cell in typical pixel footprints, and the pixels that it must show in a frame to count
CELL, LEAST_PIXELS = 6.0, 12
#: what fits the light: functions of time, one more for every so many frames, and at most so many
FRAMES_A_CURVE, MOST_CURVES = 12, 5
#: observations that are fitted at most; of a longer clip every second, third ... cell is taken
MOST_OBSERVATIONS = 120_000
#: rounds in which cells' and frames' means are taken off in turn
ROUNDS = 12
#: a change of colour across the cell's own hue takes so many times itself off what counts as light
HUE_PENALTY = 2.0
#: frames of the window in which flicker is analysed, and the longest period that is fast, in frames
WINDOW, FAST_PERIOD = 16, 4.0


@dataclass(frozen=True)
class CellSeries:
    """N observations of C cells in F frames: ``frame`` and ``cell`` (N,) are numbers from 0, ``colour`` (N, 3) mean colours on the
    0..255 scale, ``normal`` (N, 3) mean normals or None where the passes have none, ``pixels`` (N,) what the mean was taken of."""

    frame: np.ndarray
    cell: np.ndarray
    colour: np.ndarray
    normal: np.ndarray | None
    pixels: np.ndarray


class CellGatherer:
    """Gathers cells from frames, which are added one after the other; it keeps some kilobytes of each."""

    def __init__(self) -> None:
        self._side = 0.0
        self._frames: list[tuple[int, np.ndarray, np.ndarray]] = []
        self._normals = True

    def add(self, frame: MeasuredFrame) -> None:
        """The next frame."""
        pixels = np.flatnonzero(frame.inner)
        if not len(pixels):
            return
        self._side = self._side or CELL * frame.footprint
        rows = frame.surface.row_of[pixels]
        key = np.column_stack([np.floor(frame.surface.key[rows] / self._side).astype(np.int32), frame.surface.ids[rows]])
        values = [frame.image.reshape(-1, 3)[pixels]]
        if frame.passes.normal is None:
            self._normals = False
        else:
            values.append(frame.passes.normal[0].reshape(-1, 3)[pixels].astype(np.float64))
        cells, where, count = np.unique(key, axis=0, return_inverse=True, return_counts=True)
        columns = np.concatenate(values, 1).T
        means = np.stack([np.bincount(where.ravel(), column, len(cells)) for column in columns], 1) / count[:, None]
        enough = count >= LEAST_PIXELS
        if enough.any():
            found = np.column_stack([means, count])[enough].astype(np.float32)
            self._frames.append((frame.number, cells[enough].astype(np.int32), found))

    def figures(self) -> dict[str, float]:
        """``measure_shading`` of what was gathered."""
        return measure_shading(self.series())

    def series(self) -> CellSeries | None:
        """What was gathered; None without any surface."""
        if not self._frames:
            return None
        _, cell = np.unique(np.concatenate([cells for _, cells, _ in self._frames]), axis=0, return_inverse=True)
        frame = np.concatenate([np.full(len(cells), number) for number, cells, _ in self._frames])
        if self._normals:
            found = np.concatenate([values for _, _, values in self._frames]).astype(np.float64)
            return CellSeries(frame, cell.ravel(), found[:, :3], found[:, 3:6], found[:, 6])
        found = np.concatenate([values[:, [0, 1, 2, -1]] for _, _, values in self._frames]).astype(np.float64)
        return CellSeries(frame, cell.ravel(), found[:, :3], None, found[:, 3])


def _choose_cells(series: CellSeries) -> CellSeries:
    """The observations of the cells that were seen more than once, of as many cells as can be fitted."""
    step = -(-len(series.cell) // MOST_OBSERVATIONS)
    kept = (np.bincount(series.cell)[series.cell] > 1) & (series.cell % step == 0)
    _, cell = np.unique(series.cell[kept], return_inverse=True)
    normal = None if series.normal is None else series.normal[kept]
    return CellSeries(series.frame[kept], cell.ravel(), series.colour[kept], normal, series.pixels[kept])


def _average(values: np.ndarray, groups: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(N, D) for each of N rows the weighted mean of its group's values."""
    total = np.maximum(np.bincount(groups, weights), 1e-12)
    return np.stack([(np.bincount(groups, weights * column) / total)[groups] for column in values.T], 1)


def _regress_frames(values: np.ndarray, base: np.ndarray, frame: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(N, D) for each of N rows what a constant and a multiple of ``base`` (N,), chosen for each frame, explain of values (N,
    D)."""
    mean = _average(np.column_stack([base, values]), frame, weights)
    centred, rest = base - mean[:, 0], values - mean[:, 1:]
    square = np.bincount(frame, weights * centred**2)
    slope = [(np.bincount(frame, weights * centred * column) / np.maximum(square, 1e-9))[frame] for column in rest.T]
    return mean[:, 1:] + np.stack(slope, 1) * centred[:, None]


def _compute_harmonics(series: CellSeries) -> np.ndarray:
    """(N, 8) spherical harmonics of the normals without the constant one, not normalised; (N, 0) without normals."""
    if series.normal is None:
        return np.empty((len(series.cell), 0))
    x, y, z = (series.normal / np.maximum(np.linalg.norm(series.normal, axis=1, keepdims=True), 1e-9)).T
    return np.stack([x, y, z, x * y, y * z, x * z, x * x - y * y, 3 * z * z - 1], 1)


def _make_light_features(series: CellSeries, base: np.ndarray) -> np.ndarray:
    """(N, D): how lights of every direction brighten a cell (spherical harmonics of its normal up to the second order, times its
    own brightness), times smooth curves over the clip."""
    turned = _compute_harmonics(series) * base[:, None]
    count = int(series.frame.max()) + 1
    curves = min(MOST_CURVES, 1 + count // FRAMES_A_CURVE)
    time = np.cos(np.pi * np.arange(curves) * (series.frame[:, None] + 0.5) / count)
    return (turned[:, :, None] * time[:, None, :]).reshape(len(base), -1)


def _partial_out(values: np.ndarray, series: CellSeries, base: np.ndarray) -> np.ndarray:
    """Values (N, D) without what the cell, and the frame with the cell's brightness ``base`` (N,), explain."""
    out = values
    for _ in range(ROUNDS):
        out = out - _average(out, series.cell, series.pixels)
        out = out - _regress_frames(out, base, series.frame, series.pixels)
    return out - _average(out, series.cell, series.pixels)


def _solve(features: np.ndarray, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(D, K) coefficients by least squares; directions that the features hardly have count for nothing."""
    scale = np.sqrt((weights[:, None] * features**2).mean(0)) + 1e-9
    scaled = features / scale
    gram = (scaled * weights[:, None]).T @ scaled / weights.sum()
    product = (scaled * weights[:, None]).T @ values / weights.sum()
    return np.linalg.solve(gram + 1e-4 * np.eye(len(gram)), product) / scale[:, None]


def _root_mean_square(values: np.ndarray, weights: np.ndarray) -> float:
    return float(np.sqrt(np.average((values**2).mean(1) if values.ndim == 2 else values**2, weights=weights)))


def measure_flicker(residual: np.ndarray, series: CellSeries) -> dict[float, float]:
    """period in frames -> root mean square level of the cells' changes (N, 3) with it, in windows of ``WINDOW`` frames through
    which a cell is seen (fewer in a short clip); empty for clips under six frames."""
    count = int(series.frame.max()) + 1
    window = min(WINDOW, count)
    if window < 6:
        return {}
    taper, power, weight = np.hanning(window + 2)[1:-1], np.zeros(window // 2 + 1), 0.0
    line = np.linspace(-1, 1, window)
    for start in range(0, count - window + 1, max(window // 2, 1)):
        rows = np.flatnonzero((series.frame >= start) & (series.frame < start + window))
        whole = rows[np.bincount(series.cell[rows], minlength=int(series.cell.max()) + 1)[series.cell[rows]] == window]
        if not len(whole):
            continue
        whole = whole[np.lexsort((series.frame[whole], series.cell[whole]))]
        block = residual[whole].reshape(-1, window, 3)
        block = block - block.mean(1, keepdims=True)
        block = block - ((block * line[:, None]).sum(1, keepdims=True) / (line**2).sum()) * line[:, None]
        found = np.abs(np.fft.rfft(block * taper[:, None], axis=1)) ** 2 / (window * (taper**2).sum())
        # what the real transform leaves out are the mirrored frequencies
        found[:, 1 : (window + 1) // 2] *= 2
        pixels = series.pixels[whole].reshape(-1, window).mean(1)
        power += (found.mean(2) * pixels[:, None]).sum(0)
        weight += float(pixels.sum())
    if not weight:
        return {}
    return {window / n: float(np.sqrt(power[n] / weight)) for n in range(1, window // 2 + 1)}


def measure_shading(series: CellSeries | None) -> dict[str, float]:
    """``liveliness``, ``drift``, ``recolouring``, ``unexplained_change``, ``flicker_fast`` and ``flicker_slow`` in levels (drift in
    levels a frame); see ``figures.FIGURES``. NaN where nothing is seen twice, and liveliness without normals."""
    names = ("liveliness", "drift", "recolouring", "unexplained_change", "flicker_fast", "flicker_slow")
    nothing = dict.fromkeys(names, NAN)
    if series is None:
        return nothing
    series = _choose_cells(series)
    if not len(series.cell):
        return nothing
    mean = _average(series.colour, series.cell, series.pixels)
    base, change = mean.mean(1), series.colour - mean
    hue = mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-9)
    along = (change * hue).sum(1)
    across = change - along[:, None] * hue
    # what goes with a change of hue is no light
    lit = np.sign(along) * np.maximum(np.abs(along) - HUE_PENALTY * np.linalg.norm(across, axis=1), 0.0) * hue.mean(1)
    explained = NAN
    if series.normal is not None:
        features = _partial_out(_make_light_features(series, base), series, base)
        target = _partial_out(lit[:, None], series, base)
        explained = _root_mean_square(features @ _solve(features, target, series.pixels)[:, 0], series.pixels)
    rest, offsets = _take_light(series)
    # of all changes: a light that flickers is no better than a colour that does
    flicker = measure_flicker(change, series)
    fast = [level**2 for period, level in flicker.items() if period < FAST_PERIOD]
    slow = [level**2 for period, level in flicker.items() if period >= FAST_PERIOD]
    return {
        "liveliness": explained,
        "drift": _measure_slope(offsets),
        "recolouring": _root_mean_square(across, series.pixels) * np.sqrt(3.0),
        "unexplained_change": _root_mean_square(rest, series.pixels),
        "flicker_fast": float(np.sqrt(sum(fast))) if fast else NAN,
        "flicker_slow": float(np.sqrt(sum(slow))) if slow else NAN,
    }


def _take_light(series: CellSeries) -> tuple[np.ndarray, np.ndarray]:
    """(N, 3) the changes of the cells' colours that no white light explains, and (F, 3) what is added to all colours in each frame
    beside the light, NaN in frames that show too little.

    A light multiplies the colours that there are, so that it leaves black black; what is added is known apart from it where the
    costume has light and dark colours. A lamp that stands still comes first, for the whole clip; then each frame has one of its
    own.
    """
    harmonics, weights = _compute_harmonics(series), series.pixels
    count = int(series.frame.max()) + 1
    order = np.argsort(series.frame, kind="stable")
    rows = np.split(order, np.searchsorted(series.frame[order], np.arange(1, count)))
    offsets, rest = np.full((count, 3), NAN), np.zeros_like(series.colour)
    added = np.zeros((count, 3))
    for _ in range(ROUNDS // 2):
        base = _average(series.colour - added[series.frame], series.cell, weights)
        change = series.colour - base
        change = change - _fit_still_lamp(series, harmonics, base, change - added[series.frame])
        for n, own in enumerate(rows):
            if len(own) < 8:
                continue
            lights = np.concatenate([np.ones((len(own), 1)), harmonics[own]], 1)
            # one line for each cell and channel
            features = (base[own][:, :, None] * lights[:, None, :]).reshape(-1, lights.shape[1])
            constant, weight = np.tile(np.eye(3), (len(own), 1)) * 100, np.repeat(weights[own], 3)
            target = change[own].reshape(-1, 1)
            solved = _solve(np.concatenate([features, constant], 1), target, weight)
            offsets[n] = solved[-3:, 0] * 100
            rest[own] = (target - features @ _solve(features, target, weight)).reshape(-1, 3)
        offsets -= np.nanmean(offsets, 0) if not np.isnan(offsets).all() else 0.0
        added = np.nan_to_num(offsets)
    return rest, offsets


def _fit_still_lamp(series: CellSeries, harmonics: np.ndarray, base: np.ndarray, change: np.ndarray) -> np.ndarray:
    """(N, 3) what one lamp for the whole clip makes of the cells' turning."""
    if not harmonics.shape[1]:
        return np.zeros_like(change)
    features = [harmonics * base[:, channel : channel + 1] for channel in range(3)]
    turned = np.concatenate([values - _average(values, series.cell, series.pixels) for values in features])
    solved = _solve(turned, change.T.reshape(-1, 1), np.tile(series.pixels, 3))
    return np.asarray((turned @ solved[:, 0]).reshape(3, -1).T)


def _measure_slope(offsets: np.ndarray) -> float:
    """Levels a frame by which offsets (F, 3) keep rising or falling: the root mean square over the channels; NaN for fewer than
    three frames."""
    known = np.flatnonzero(~np.isnan(offsets[:, 0]))
    return float(np.sqrt((np.polyfit(known, offsets[known], 1)[0] ** 2).mean())) if len(known) > 2 else NAN
