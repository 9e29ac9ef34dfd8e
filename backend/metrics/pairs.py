"""Two frames compared by the surface points that both show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from ..video.correspondence import find_reference_pixels, match
from .bands import find_window, smooth_inside
from .frames import BAND_SIGMA, LUMA, MeasuredFrame
from .sampling import sample_cubic, sample_linear_inside

#: pixels; standard deviation of the window in which a shift of the texture is found
SHIFT_SIGMA = 4.0
#: pixels; what is coarser counts as shading where shifts of the texture are looked for
TEXTURE_SIGMA = 2.5
#: level below which a surface is too dark to have a texture
DARKEST = 8.0
#: squared percents a pixel, added where the texture says little about its own shift
SHIFT_NOISE = 1.0
#: pixels that a point must have moved on the screen before what stays behind on the screen can be told from what moves along
SCREEN_MOTION = 4.0
#: pixels by which a point read between pixels may miss
READING_ERROR = 0.2
#: squared levels that count as contrast where a picture has none
ROUNDING = 1.0
#: waves of the frozen texture that a clip's floor is measured with, and their lengths in pixels' footprints
WAVES, WAVE_LENGTHS = 24, (4.0, 12.0)


@dataclass(frozen=True)
class MatchedPoints:
    """Surface points that two frames show: ``here`` (N,) flat pixels of the later frame, ``places`` (N, 2) where they are in the
    earlier one (x, y, the first pixel's centre at 0.5), ``there`` (N,) the pixels that hold the places."""

    here: np.ndarray
    places: np.ndarray
    there: np.ndarray

    def keep(self, chosen: np.ndarray) -> MatchedPoints:
        """Some of the points, by (N,) bool."""
        return MatchedPoints(self.here[chosen], self.places[chosen], self.there[chosen])


@dataclass(frozen=True)
class PairFigures:
    """What a pair of frames gives; sums are over its matched pixels and means over the three channels, on the 0..255 scale.

    ``lag`` frames lie between them; ``matched`` of ``visible`` pixels inside the silhouettes were matched. ``error`` is the sum of
    squared differences, ``floor`` that of a frozen texture whose fine band has ``floor_energy`` where the clip's has ``energy``,
    ``contrast`` of twice the variance around each pixel; ``low`` and ``high`` the errors of both bands, divided at ``BAND_SIGMA``.
    ``rim_error`` and ``rim_matched`` are of the edge that the rest leaves out. ``texture``, ``texture_then`` and ``texture_both``
    are the squares of the textures in both frames and their product. Of the ``moved`` points, which went elsewhere on the screen,
    products of the texture summed: with itself (``own``, ``earlier``, ``behind``), with the same point earlier (``along``), with
    the same pixel earlier (``stuck``), and of these two (``between``).
    """

    lag: int
    matched: int
    visible: int
    error: float = 0.0
    floor: float = 0.0
    floor_energy: float = 0.0
    energy: float = 0.0
    contrast: float = 0.0
    low: float = 0.0
    high: float = 0.0
    rim_error: float = 0.0
    rim_matched: int = 0
    moved: int = 0
    own: float = 0.0
    earlier: float = 0.0
    behind: float = 0.0
    along: float = 0.0
    texture: float = 0.0
    texture_then: float = 0.0
    texture_both: float = 0.0
    stuck: float = 0.0
    between: float = 0.0


def find_matched_points(now: MeasuredFrame, then: MeasuredFrame) -> MatchedPoints:
    """The points of the characters that both frames show."""
    here, places = match(now.surface, then.surface, *now.mask.shape)
    points = MatchedPoints(here, places, find_reference_pixels(places, *now.mask.shape))
    return points.keep(now.mask.ravel()[points.here] & then.mask.ravel()[points.there])


def find_inner(points: MatchedPoints, now: MeasuredFrame, then: MeasuredFrame) -> np.ndarray:
    """(N,) bool: the points that lie inside the edges in both frames and can be read between the pixels of the earlier one.

    That is tried with the rest position, which is known: where it comes out wrong, at the edge of an arm before the body, colours
    would as well.
    """
    inside = now.inner.ravel()[points.here] & then.inner.ravel()[points.there]
    rows = now.surface.row_of[points.here]
    read = sample_cubic(then.passes.rest_position[0], points.places)
    size = np.maximum(np.linalg.norm(now.surface.across[rows], axis=1), np.linalg.norm(now.surface.down[rows], axis=1))
    apart = np.linalg.norm(read - now.surface.key[rows], axis=1)
    return np.asarray(inside & (apart <= READING_ERROR * np.maximum(size, now.footprint)))


def sum_squared_differences(now: MeasuredFrame, then: MeasuredFrame, inner: MatchedPoints) -> float:
    """The sum over points of the mean squared difference of the channels, the earlier frame read between its pixels."""
    return float(((now.image.reshape(-1, 3)[inner.here] - sample_cubic(then.image, inner.places)) ** 2).mean(1).sum())


def paint_frozen(frame: MeasuredFrame, footprint: float) -> np.ndarray:
    """(H, W, 1) grey levels 0..255 of a texture that is fixed to the surface, sampled once a pixel and rounded as a picture is.

    ``footprint`` is the size of a pixel on the surface in metres, the same for all frames of a clip."""
    random = np.random.default_rng(0)
    low, high = np.log(WAVE_LENGTHS)
    lengths = np.exp(random.uniform(low, high, WAVES)) * footprint
    directions = random.normal(size=(3, WAVES))
    directions *= 2 * np.pi / lengths / np.linalg.norm(directions, axis=0)
    values = np.cos(frame.surface.key @ directions + random.uniform(0, 2 * np.pi, WAVES)).sum(1) * 8
    out = np.full(frame.mask.size, 128.0)
    out[frame.surface.pixels] = np.round(128 + values)
    return out.reshape(*frame.mask.shape, 1)


@dataclass(frozen=True)
class Shift:
    """By how much the texture slid against the surface: at pixels ``here`` (N,) of the later frame, ``vectors`` (N, 2) in pixels to
    the right and down, and ``strength`` (N,) how much the texture there says about it."""

    here: np.ndarray
    vectors: np.ndarray
    strength: np.ndarray

    @property
    def root_mean_square(self) -> float:
        """Pixels; places that say more count more. NaN where no place says anything."""
        total = float(self.strength.sum())
        return float(np.sqrt((self.strength * (self.vectors**2).sum(1)).sum() / total)) if total > 0 else float("nan")


def find_shift(now: np.ndarray, change: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(H, W, 2) pixels to the right and down by which the texture ``now`` (H, W) has slid when it has changed by ``change``, and
    (H, W) how much is known about it, over the pixels ``seen`` (H, W) bool.

    In a window around each pixel the shift is solved from the slopes by least squares (Lucas and Kanade 1981).
    """
    # a slope across the border of what is seen is no slope of the texture
    inside = seen & np.roll(seen, 1, 0) & np.roll(seen, -1, 0) & np.roll(seen, 1, 1) & np.roll(seen, -1, 1)
    slopes = np.gradient(now - 0.5 * change)
    dy, dx, gone = (np.where(inside, values, 0.0) for values in (*slopes, change))
    products = np.stack([dx * dx, dx * dy, dy * dy, dx * gone, dy * gone, inside], -1)
    xx, xy, yy, xe, ye, weight = np.moveaxis(gaussian_filter(products, (SHIFT_SIGMA, SHIFT_SIGMA, 0)), -1, 0)
    # the smaller eigenvalue: how much the texture says about a shift in any direction
    strength = np.where(inside, (xx + yy) / 2 - np.sqrt(((xx - yy) / 2) ** 2 + xy**2), 0.0)
    xx, yy = xx + SHIFT_NOISE * weight, yy + SHIFT_NOISE * weight
    determinant = np.where(inside, xx * yy - xy**2, 1.0)
    return -np.stack([xe * yy - ye * xy, ye * xx - xe * xy], -1) / determinant[..., None], np.maximum(strength, 0.0)


def _measure_edges(now: MeasuredFrame, then: MeasuredFrame, edge: MatchedPoints) -> tuple[float, int]:
    colours = sample_linear_inside(then.image, then.mask, edge.places)
    known = ~np.isnan(colours[:, 0])
    error = ((now.image.reshape(-1, 3)[edge.here[known]] - colours[known]) ** 2).mean(1)
    return float(error.sum()), int(known.sum())


def compare_pair(now: MeasuredFrame, then: MeasuredFrame, own_frozen: np.ndarray, frozen: np.ndarray) -> tuple[PairFigures, Shift]:
    """Compare a frame with an earlier one; the last two are what ``paint_frozen`` gives for them."""
    points = find_matched_points(now, then)
    readable = find_inner(points, now, then)
    inner = points.keep(readable)
    lag, visible, matched = now.number - then.number, int(now.inner.sum()), len(inner.here)
    rim_error, rim_matched = _measure_edges(now, then, points.keep(~readable))
    if not matched:
        nothing = Shift(inner.here, np.empty((0, 2)), np.empty(0))
        return PairFigures(lag, 0, visible, rim_error=rim_error, rim_matched=rim_matched), nothing
    shape, window = now.mask.shape, find_window(now.inner, 4)
    seen = np.zeros(shape, bool)
    seen.ravel()[inner.here] = True
    within = seen[window]

    def scatter(values: np.ndarray) -> np.ndarray:
        """Values (N, C) of the points as a picture of the window."""
        out = np.zeros((shape[0] * shape[1], values.shape[1]))
        out[inner.here] = values
        return out.reshape(*shape, -1)[window]

    read = sample_cubic(np.concatenate([then.image, frozen], 2), inner.places)
    own = now.image.reshape(-1, 3)[inner.here]
    change = own - read[:, :3]
    coarse_change = smooth_inside(scatter(change), within, BAND_SIGMA)[within]
    # the same pixels of the screen, where the surface under them has moved on
    moved = np.hypot(inner.places[:, 0] - inner.here % shape[1] - 0.5, inner.places[:, 1] - inner.here // shape[1] - 0.5)
    left = then.inner.ravel()[inner.here] & (moved >= SCREEN_MOTION)
    grey = np.stack([own @ LUMA, read[:, :3] @ LUMA, then.image.reshape(-1, 3)[inner.here] @ LUMA], 1)
    # the last picture is known only where the earlier frame's inside covers these pixels
    texture = _find_texture(grey[:, :2], scatter, within, within)
    behind = _find_texture(grey, scatter, within, within & then.inner[window])
    contrast = smooth_inside(scatter((own - smooth_inside(scatter(own), within, BAND_SIGMA)[within]) ** 2), within, SHIFT_SIGMA)
    # the window keeps the order of the points, which ``match`` gives by rising pixels
    now_texture, change_texture = scatter(texture[:, :1])[..., 0], scatter(texture[:, :1] - texture[:, 1:])[..., 0]
    vectors, strength = find_shift(now_texture, change_texture, within)
    here, along, stuck = _limit(behind[left]).T
    limited = _limit(texture)
    return PairFigures(
        lag,
        matched,
        visible,
        error=float((change**2).mean(1).sum()),
        floor=float(((own_frozen.reshape(-1)[inner.here] - read[:, 3]) ** 2).sum()),
        floor_energy=float((_sharpen(own_frozen, now.inner)[seen] ** 2).sum()),
        energy=float((_sharpen(now.image, now.inner)[seen] ** 2).mean(-1).sum()),
        contrast=float(2 * contrast[within].mean(-1).sum()) + ROUNDING * matched,
        moved=int(left.sum()),
        low=float((coarse_change**2).mean(1).sum()),
        high=float(((change - coarse_change) ** 2).mean(1).sum()),
        rim_error=rim_error,
        rim_matched=rim_matched,
        own=float(here @ here),
        earlier=float(stuck @ stuck),
        behind=float(along @ along),
        along=float(here @ along),
        texture=float(limited[:, 0] @ limited[:, 0]),
        texture_then=float(limited[:, 1] @ limited[:, 1]),
        texture_both=float(limited[:, 0] @ limited[:, 1]),
        stuck=float(here @ stuck),
        between=float(stuck @ along),
    ), Shift(inner.here, vectors[within], strength[within])


def _find_texture(
    grey: np.ndarray, scatter: Callable[[np.ndarray], np.ndarray], within: np.ndarray, support: np.ndarray
) -> np.ndarray:
    """(N, C) levels of the texture of brightnesses (N, C): by how many percent a point is brighter than its surroundings in
    ``support``, so that a light that changes does not change it."""
    mean = smooth_inside(scatter(grey), support, TEXTURE_SIGMA)[within]
    return np.where(mean > DARKEST, 100 * (grey / np.maximum(mean, DARKEST) - 1), 0.0)


def _limit(values: np.ndarray) -> np.ndarray:
    """Values (N, C) with those cut that are far from usual: the edges of limbs, which are no texture."""
    if not len(values):
        return values
    usual = 3 * np.median(np.abs(values), axis=0)
    return np.clip(values, -usual, usual)


def _sharpen(values: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """What pixels (H, W, C) differ from their four neighbours' mean, inside a silhouette: what reading between pixels gets
    wrong."""
    mean = sum(np.roll(values, step, axis) for axis in (0, 1) for step in (-1, 1)) / 4
    return np.where(inside[..., None], values - mean, 0.0)
