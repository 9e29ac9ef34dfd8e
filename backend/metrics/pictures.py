"""Figures about pictures: whether there is detail, and whether the character is where the depth puts it."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_dilation, binary_erosion, gaussian_filter, median_filter

from ...shared.passes import FramePasses
from .surface import erode_masks

#: pixels; what is finer than the first is aliasing, what is coarser than the second is shading
DETAIL_SIGMAS = (0.8, 2.5)
#: colour bins along each channel, and pixels around the silhouette that are classified
BINS, RING = 12, 24
#: pixels by which a boundary may be off and still count as found
BOUNDARY_TOLERANCE = 2


def compute_detail_energy(images: np.ndarray, passes: FramePasses) -> float:
    """Mean squared value of the band between two Gaussians (``DETAIL_SIGMAS``) inside the characters, on the 0..255 scale."""
    masks = erode_masks(passes)
    total, count = 0.0, 0
    for image, mask in zip(images.astype(np.float64), masks, strict=True):
        for channel in range(3):
            fine, coarse = (gaussian_filter(image[..., channel], sigma) for sigma in DETAIL_SIGMAS)
            total += float(((fine - coarse)[mask] ** 2).sum())
        count += 3 * int(mask.sum())
    return total / count if count else float("nan")


def detail(images: np.ndarray, reference: np.ndarray, passes: FramePasses) -> float:
    """Contrast of fine detail against that of ``reference``, the per-frame run with the same seed: 1 is as much, a blur has less.

    It is the root of the ratio of both ``compute_detail_energy``.
    """
    return float(np.sqrt(compute_detail_energy(images, passes) / max(compute_detail_energy(reference, passes), 1e-9)))


def segment_characters(images: np.ndarray, passes: FramePasses) -> np.ndarray:
    """(F, H, W) bool: the pixels that look like the character by their colour alone.

    A pixel within ``RING`` pixels of the mask belongs to the character when its colour is likelier inside the masks than around
    them, by histograms over the other frames of the clip, so that no frame is judged by itself.
    """
    bins = (images.astype(np.int64) * BINS // 256 * np.array([BINS * BINS, BINS, 1])).sum(-1)
    masks = passes.mask > 0
    rings = np.stack([binary_dilation(mask, iterations=RING) for mask in masks])
    out = np.zeros(masks.shape, bool)
    for n, (mask, ring) in enumerate(zip(masks, rings, strict=True)):
        if not mask.any():
            continue
        others = np.arange(len(masks)) != n if len(masks) > 1 else np.ones(1, bool)
        inside = np.bincount(bins[others][masks[others]], minlength=BINS**3) + 0.5
        outside = np.bincount(bins[others][rings[others] & ~masks[others]], minlength=BINS**3) + 0.5
        likely = inside / inside.sum() > outside / outside.sum()
        out[n] = median_filter(likely[bins[n]] & ring, 3)
    return out


def silhouette_iou(segmented: np.ndarray, passes: FramePasses) -> float:
    """Mean over frames of the intersection over union of the masks and of ``segment_characters``.

    1 is a character that stands out sharply where it should be; noise scores about the fraction that the mask takes of its
    surroundings. NaN when no frame shows a character.
    """
    values = [
        (found & mask).sum() / max((found | mask).sum(), 1)
        for found, mask in zip(segmented, passes.mask > 0, strict=True)
        if mask.any()
    ]
    return float(np.mean(values)) if values else float("nan")


def _find_boundary(mask: np.ndarray) -> np.ndarray:
    """(H, W) bool: the pixels of a mask that touch the outside; the picture's own border does not count as outside."""
    return np.asarray(mask & ~binary_erosion(mask, border_value=1))


def boundary_f_measure(segmented: np.ndarray, passes: FramePasses) -> float:
    """Mean over frames of the boundary F-measure of ``segment_characters`` against the masks: the harmonic mean of precision (the
    fraction of found boundary pixels within ``BOUNDARY_TOLERANCE`` of the mask's boundary) and recall (the other way round).

    1 is an outline in place, 0 one that is elsewhere. NaN when no frame shows a character's outline.
    """
    values = []
    for found, mask in zip(segmented, passes.mask > 0, strict=True):
        wanted, seen = _find_boundary(mask), _find_boundary(found)
        if not wanted.any():
            continue
        near_wanted, near_seen = (binary_dilation(line, iterations=BOUNDARY_TOLERANCE) for line in (wanted, seen))
        precision = (seen & near_wanted).sum() / max(seen.sum(), 1)
        recall = (wanted & near_seen).sum() / wanted.sum()
        values.append(2 * precision * recall / max(precision + recall, 1e-9))
    return float(np.mean(values)) if values else float("nan")


def boundary_contrast(images: np.ndarray, passes: FramePasses) -> float:
    """Mean colour gradient on the masks' boundaries over the mean gradient 4 to 12 pixels away from them: above 1 where edges of
    the pictures lie on the boundaries, 1 for pictures that do not follow the masks. NaN without boundaries."""
    at_edge, near, edges, nears = 0.0, 0.0, 0, 0
    for image, mask in zip(images.astype(np.float64), passes.mask > 0, strict=True):
        smooth = np.stack([gaussian_filter(image[..., c], 1.0) for c in range(3)], -1)
        slope = np.sqrt(sum(np.square(np.gradient(smooth, axis=axis)) for axis in (0, 1))).sum(-1)
        edge = binary_dilation(mask) & binary_dilation(~mask)
        band = binary_dilation(edge, iterations=12) & ~binary_dilation(edge, iterations=4)
        at_edge, near = at_edge + float(slope[edge].sum()), near + float(slope[band].sum())
        edges, nears = edges + int(edge.sum()), nears + int(band.sum())
    return (at_edge / edges) / max(near / nears, 1e-9) if edges and nears else float("nan")
