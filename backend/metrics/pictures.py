"""Figures about pictures: whether there is detail, and whether the character is where the depth puts it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np
from scipy.ndimage import binary_dilation, binary_erosion, distance_transform_cdt, gaussian_filter, median_filter

from ...shared.passes import FramePasses
from .bands import find_window, smooth_inside
from .frames import LUMA, Images, MeasuredFrame, pair_with_passes, prepare_frames

#: pixels; what is finer than the first is grain or aliasing, what is coarser than the second is form, and than the last shading
BAND_SIGMAS = (0.8, 2.5, 6.0)
#: a reference with less than this many levels counts as having this many
LEAST_LEVEL = 0.05
#: colour bins along each channel, and pixels around the silhouette that are classified
BINS, RING = 12, 24
#: pixels by which a boundary may be off and still count as found
BOUNDARY_TOLERANCE = 2


class PictureContrast:
    """What the characters' pictures hold, over frames that are added one after the other: energies of three bands, contrast,
    colourfulness and brightness; all inside the silhouettes only."""

    def __init__(self) -> None:
        self._count, self._sums = 0, np.zeros(6)

    def add(self, frame: MeasuredFrame) -> None:
        """The next frame."""
        window = find_window(frame.inner, 1)
        inside, image = frame.inner[window], frame.image[window]
        if not inside.any():
            return
        levels = [image, *(smooth_inside(image, inside, sigma) for sigma in BAND_SIGMAS)]
        bands = [((finer - coarser)[inside] ** 2).mean(1).sum() for finer, coarser in pairwise(levels)]
        colours = image[inside]
        grey = colours @ LUMA
        self._sums += [*bands, grey.sum(), (grey**2).sum(), ((colours - grey[:, None]) ** 2).mean(1).sum()]
        self._count += int(inside.sum())

    def figures(self) -> dict[str, float]:
        """Levels: root mean squares of the ``grain``, ``detail`` and ``detail_coarse`` bands, of the brightness about its mean
        (``contrast``) and of the colours about their grey (``saturation``), and the mean brightness (``exposure``)."""
        if not self._count:
            return dict.fromkeys(("grain", "detail", "detail_coarse", "contrast", "saturation", "exposure"), float("nan"))
        grain, fine, coarse, grey, square, colour = self._sums / self._count
        return {
            "grain": float(np.sqrt(grain)),
            "detail": float(np.sqrt(fine)),
            "detail_coarse": float(np.sqrt(coarse)),
            "contrast": float(np.sqrt(max(square - grey**2, 0.0))),
            "saturation": float(np.sqrt(colour)),
            "exposure": float(grey),
        }


def measure_contrast(frames: Iterable[tuple[np.ndarray, FramePasses]]) -> dict[str, float]:
    """``PictureContrast.figures`` of frames (H, W, 3) uint8, each with its passes (1, H, W, ...), read one at a time."""
    found = PictureContrast()
    for frame in prepare_frames(frames):
        found.add(frame)
    return found.figures()


def compare_contrast(figures: dict[str, float], reference: dict[str, float]) -> dict[str, float]:
    """Two ``PictureContrast.figures`` as ratios: 1 is as much as the reference has."""
    return {name: value / max(reference[name], LEAST_LEVEL) for name, value in figures.items()}


def detail(images: Images, reference: Images, passes: FramePasses) -> float:
    """Contrast of fine detail against that of ``reference``, the per-frame run with the same seed: 1 is as much, a blur has
    less."""
    own, wanted = (measure_contrast(pair_with_passes(clip, passes)) for clip in (images, reference))
    return compare_contrast(own, wanted)["detail"]


class Segmentation:
    """Finds the characters by their colours alone; frames are added one after the other.

    A pixel within ``RING`` pixels of the mask belongs to the character when its colour is likelier inside the masks than around
    them, by histograms over the other frames of the clip, so that no frame is judged by itself.
    """

    def __init__(self) -> None:
        self._frames: list[tuple[tuple[int, ...], tuple[slice, slice], np.ndarray, np.ndarray, np.ndarray]] = []
        self._inside, self._outside = np.zeros(BINS**3), np.zeros(BINS**3)

    def add(self, frame: MeasuredFrame) -> None:
        """The next frame."""
        window = find_window(frame.mask, RING)
        mask = frame.mask[window]
        bins = (frame.image[window].astype(np.int64) * BINS // 256 * np.array([BINS * BINS, BINS, 1])).sum(-1).astype(np.uint16)
        ring = distance_transform_cdt(~mask, "taxicab") <= RING if mask.any() else np.zeros_like(mask)
        self._frames.append((frame.mask.shape, window, bins, mask, ring))
        self._inside += np.bincount(bins[mask], minlength=BINS**3)
        self._outside += np.bincount(bins[ring & ~mask], minlength=BINS**3)

    def iter_masks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """For each frame what was found and the mask, (H, W) bool."""
        for shape, window, bins, mask, ring in self._frames:
            found, whole = np.zeros(shape, bool), np.zeros(shape, bool)
            if mask.any():
                own_inside = np.bincount(bins[mask], minlength=BINS**3)
                own_outside = np.bincount(bins[ring & ~mask], minlength=BINS**3)
                alone = len(self._frames) == 1
                inside = self._inside - (0 if alone else own_inside) + 0.5
                outside = self._outside - (0 if alone else own_outside) + 0.5
                likely = inside / inside.sum() > outside / outside.sum()
                found[window] = median_filter(likely[bins] & ring, 3)
                whole[window] = mask
            yield found, whole

    def figures(self) -> dict[str, float]:
        """``silhouette_iou`` and ``boundary_f_measure``, see those; both are of what was added."""
        pairs = list(self.iter_masks())
        found, masks = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        return {"silhouette_iou": _mean_iou(found, masks), "boundary_f_measure": _mean_f_measure(found, masks)}


def segment_characters(images: Images, passes: FramePasses) -> np.ndarray:
    """(F, H, W) bool: the pixels of frames (F, H, W, 3) uint8 that look like the character, by ``Segmentation``."""
    found = Segmentation()
    for frame in prepare_frames(pair_with_passes(images, passes)):
        found.add(frame)
    return np.stack([mask for mask, _ in found.iter_masks()])


def _mean_iou(segmented: Iterable[np.ndarray], masks: Iterable[np.ndarray]) -> float:
    values = [
        (found & mask).sum() / max((found | mask).sum(), 1) for found, mask in zip(segmented, masks, strict=True) if mask.any()
    ]
    return float(np.mean(values)) if values else float("nan")


def silhouette_iou(segmented: np.ndarray, passes: FramePasses) -> float:
    """Mean over frames of the intersection over union of the masks and of ``segment_characters``.

    1 is a character that stands out sharply where it should be; noise scores about the fraction that the mask takes of its
    surroundings. NaN when no frame shows a character.
    """
    return _mean_iou(segmented, passes.mask > 0)


def _find_boundary(mask: np.ndarray) -> np.ndarray:
    """(H, W) bool: the pixels of a mask that touch the outside; the picture's own border does not count as outside."""
    return np.asarray(mask & ~binary_erosion(mask, border_value=1))


def boundary_f_measure(segmented: np.ndarray, passes: FramePasses) -> float:
    """Mean over frames of the boundary F-measure of ``segment_characters`` against the masks: the harmonic mean of precision (the
    fraction of found boundary pixels within ``BOUNDARY_TOLERANCE`` of the mask's boundary) and recall (the other way round).

    1 is an outline in place, 0 one that is elsewhere. NaN when no frame shows a character's outline.
    """
    return _mean_f_measure(segmented, passes.mask > 0)


def _mean_f_measure(segmented: Iterable[np.ndarray], masks: Iterable[np.ndarray]) -> float:
    values = []
    for found, mask in zip(segmented, masks, strict=True):
        wanted, seen = _find_boundary(mask), _find_boundary(found)
        if not wanted.any():
            continue
        near_wanted, near_seen = (binary_dilation(line, iterations=BOUNDARY_TOLERANCE) for line in (wanted, seen))
        precision = (seen & near_wanted).sum() / max(seen.sum(), 1)
        recall = (wanted & near_seen).sum() / wanted.sum()
        values.append(2 * precision * recall / max(precision + recall, 1e-9))
    return float(np.mean(values)) if values else float("nan")


class BoundaryContrast:
    """Mean colour gradient on the masks' boundaries over the mean gradient 4 to 12 pixels away from them; frames are added one
    after the other."""

    def __init__(self) -> None:
        self._sums = np.zeros(4)

    def add(self, frame: MeasuredFrame) -> None:
        """The next frame."""
        edge = binary_dilation(frame.mask) & binary_dilation(~frame.mask)
        if not edge.any():
            return
        window = find_window(edge, 14)
        line, smooth = edge[window], gaussian_filter(frame.image[window], (1.0, 1.0, 0))
        slope = np.sqrt(sum(np.square(np.gradient(smooth, axis=axis)) for axis in (0, 1))).sum(-1)
        away = distance_transform_cdt(~line, "taxicab")
        band = (away > 4) & (away <= 12)
        self._sums += [slope[line].sum(), line.sum(), slope[band].sum(), band.sum()]

    def figures(self) -> dict[str, float]:
        """``boundary_contrast``, see ``ratio``."""
        return {"boundary_contrast": self.ratio}

    @property
    def ratio(self) -> float:
        """Above 1 where edges of the pictures lie on the boundaries, 1 for pictures that do not follow the masks. NaN without
        boundaries."""
        at_edge, edges, near, nears = self._sums
        return float((at_edge / edges) / max(near / nears, 1e-9)) if edges and nears else float("nan")


def boundary_contrast(images: Images, passes: FramePasses) -> float:
    """``BoundaryContrast.ratio`` of a whole clip: frames (F, H, W, 3) uint8 with their passes."""
    found = BoundaryContrast()
    for frame in prepare_frames(pair_with_passes(images, passes)):
        found.add(frame)
    return found.ratio
